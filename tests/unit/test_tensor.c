/* SPDX-License-Identifier: MIT
 * Tensors: sizes, sorting, rows as floats, and every block format against saved golden values. */
#include "near.h"

#include <stdlib.h>

#include "base/half.h"
#include "base/json.h"
#include "io/tensor.h"
#include "io/tensor_blocks.h"

static void dtype_table(void **state)
{
    (void)state;
    for (int d = 0; d < LB_DTYPE_COUNT; d++) {
        const char *name = lb_dtype_name((lb_dtype)d);
        assert_non_null(name);
        size_t block = lb_dtype_block_elems((lb_dtype)d);
        bool blocks = name[0] == 'Q' || strstr(name, "FP4");
        size_t wanted = !blocks ? 1 : strstr(name, "_K") ? 256 : strcmp(name, "NVFP4") == 0 ? 64 : 32;
        assert_int_equal(block, wanted);
    }
    assert_int_equal(lb_dtype_block_bytes(LB_DTYPE_I64), 8);
    assert_int_equal(lb_dtype_block_bytes(LB_DTYPE_Q6_K), 210);
    assert_int_equal(lb_dtype_block_bytes(LB_DTYPE_MXFP4), 17);
    assert_int_equal(lb_dtype_block_bytes(LB_DTYPE_NVFP4), 36);
}

static void shape_of(const size_t *shape, unsigned rank, size_t rows, size_t cols)
{
    lb_tensor t = {.name = (char[]){"t"}, .dtype = LB_DTYPE_F32, .rank = rank};
    for (unsigned i = 0; i < rank; i++)
        t.shape[i] = shape[i];
    assert_int_equal(lb_tensor_measure(&t, "f", NULL), LB_OK);
    assert_int_equal(lb_tensor_rows(&t), rows);
    assert_int_equal(lb_tensor_cols(&t), cols);
    assert_int_equal(lb_tensor_elems(&t), rows * cols);
    assert_int_equal(t.bytes, 4 * rows * cols);
}

static void shapes(void **state)
{
    (void)state;
    shape_of(NULL, 0, 1, 1);
    shape_of((size_t[]){7}, 1, 1, 7);
    shape_of((size_t[]){3, 5}, 2, 3, 5);
    shape_of((size_t[]){2, 3, 5}, 3, 6, 5);
    shape_of((size_t[]){2, 3, 5, 7}, 4, 30, 7);
    shape_of((size_t[]){0, 5}, 2, 0, 5);
    shape_of((size_t[]){5, 0}, 2, 5, 0);
}

static void shapes_too_large(void **state)
{
    (void)state;
    const size_t big = (size_t)1 << 40;
    lb_error err;
    lb_tensor t = {.name = (char[]){"w"}, .dtype = LB_DTYPE_U8, .rank = 3, .shape = {big, big, 0}};
    assert_int_equal(lb_tensor_measure(&t, "f", &err), LB_EFORMAT);
    assert_string_equal(err.msg, "f: tensor \"w\": its dimensions multiply to more than memory");
    t = (lb_tensor){.name = (char[]){"w"}, .dtype = LB_DTYPE_I64, .rank = 1, .shape = {(size_t)1 << 61}};
    assert_int_equal(lb_tensor_measure(&t, "f", &err), LB_EFORMAT);
    t = (lb_tensor){.name = (char[]){"w"}, .dtype = LB_DTYPE_Q5_1, .rank = 2, .shape = {2, 48}};
    assert_int_equal(lb_tensor_measure(&t, "f", &err), LB_EFORMAT);
    assert_string_equal(err.msg,
                        "f: tensor \"w\": rows of 48 elements, not a multiple of Q5_1's block of 32");
}

/* Hexadecimal digits as bytes; returns how many. */
static size_t from_hex(const char *hex, uint8_t *out)
{
    size_t n = strlen(hex) / 2;
    for (size_t i = 0; i < n; i++) {
        unsigned byte;
        assert_int_equal(sscanf(hex + 2 * i, "%2x", &byte), 1);
        out[i] = (uint8_t)byte;
    }
    return n;
}

static void golden_blocks(void **state)
{
    (void)state;
    static const struct {
        const char *file;
        lb_dtype dtype;
    } cases[] = {
        {"q4_0", LB_DTYPE_Q4_0}, {"q4_1", LB_DTYPE_Q4_1}, {"q5_0", LB_DTYPE_Q5_0}, {"q5_1", LB_DTYPE_Q5_1},
        {"q8_0", LB_DTYPE_Q8_0}, {"q2_k", LB_DTYPE_Q2_K}, {"q3_k", LB_DTYPE_Q3_K}, {"q4_k", LB_DTYPE_Q4_K},
        {"q5_k", LB_DTYPE_Q5_K}, {"q6_k", LB_DTYPE_Q6_K},
        {"mxfp4", LB_DTYPE_MXFP4}, {"nvfp4", LB_DTYPE_NVFP4},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        char path[64];
        json_t *golden;
        snprintf(path, sizeof path, "tests/golden/gguf/%s.json", cases[c].file);
        assert_int_equal(lb_json_load(path, 1 << 20, &golden, NULL), LB_OK);
        json_t *blocks = json_object_get(golden, "blocks");
        json_t *values = json_object_get(golden, "float32_bits");
        const char *type = json_string_value(json_object_get(golden, "type"));
        assert_string_equal(type, lb_dtype_name(cases[c].dtype));
        assert_true(json_array_size(blocks) >= 3);
        for (size_t i = 0; i < json_array_size(blocks); i++) {
            uint8_t block[210], bits[1024];
            float got[256];
            size_t bytes = from_hex(json_string_value(json_array_get(blocks, i)), block);
            size_t size = from_hex(json_string_value(json_array_get(values, i)), bits);
            assert_int_equal(bytes, lb_dtype_block_bytes(cases[c].dtype));
            assert_int_equal(size, 4 * lb_dtype_block_elems(cases[c].dtype));
            lb_tensor_blocks_decode(cases[c].dtype, block, 1, got);
            assert_memory_equal(got, bits, size);
        }
        json_decref(golden);
    }
}

/* Rows of several blocks: each begins where its index says, and any range of rows can be had. */
static void rows_of_blocks(void **state)
{
    (void)state;
    static const lb_dtype types[] = {LB_DTYPE_Q4_1, LB_DTYPE_Q8_0,  LB_DTYPE_Q4_K,
                                     LB_DTYPE_Q6_K, LB_DTYPE_MXFP4, LB_DTYPE_NVFP4};
    enum { ROWS = 5, BLOCKS = 3 };
    for (size_t c = 0; c < sizeof types / sizeof *types; c++) {
        uint8_t raw[ROWS * BLOCKS * 210];
        float got[ROWS * BLOCKS * 256], want[256];
        size_t elems = lb_dtype_block_elems(types[c]), bytes = lb_dtype_block_bytes(types[c]);
        for (size_t i = 0; i < sizeof raw; i++)
            raw[i] = (uint8_t)(i * 37 % 61); /* no f16 among these is infinite */
        lb_tensor t = {.name = (char[]){"t"}, .dtype = types[c], .rank = 3,
                       .shape = {ROWS, 1, BLOCKS * elems}, .data = raw};
        assert_int_equal(lb_tensor_measure(&t, "f", NULL), LB_OK);
        assert_int_equal(t.bytes, ROWS * BLOCKS * bytes);
        assert_int_equal(lb_tensor_read(&t, 2, 3, got, NULL), LB_OK);
        for (size_t b = 0; b < 3 * BLOCKS; b++) {
            lb_tensor_blocks_decode(types[c], raw + (2 * BLOCKS + b) * bytes, 1, want);
            same_array(got + b * elems, want, elems);
        }
    }
}

/* Floats at an odd address, as a file may have them. */
static void plain_types(void **state)
{
    (void)state;
    const float values[6] = {0.0f, -1.5f, 65504.0f, 0x1p-24f, INFINITY, 3.0f};
    uint8_t raw[1 + sizeof values];
    float got[6], rounded[6];
    lb_tensor t = {.name = (char[]){"t"}, .dtype = LB_DTYPE_F32, .rank = 2, .shape = {3, 2}, .data = raw + 1};
    memcpy(raw + 1, values, sizeof values);
    assert_int_equal(lb_tensor_read(&t, 0, 3, got, NULL), LB_OK);
    same_array(got, values, 6);
    assert_int_equal(lb_tensor_read(&t, 1, 1, got, NULL), LB_OK);
    same_array(got, values + 2, 2);
    for (int bf16 = 0; bf16 < 2; bf16++) {
        for (size_t i = 0; i < 6; i++) {
            uint16_t h = bf16 ? lb_bf16_from_float(values[i]) : lb_f16_from_float(values[i]);
            memcpy(raw + 1 + 2 * i, &h, 2);
            rounded[i] = bf16 ? lb_bf16_to_float(h) : lb_f16_to_float(h);
        }
        t.dtype = bf16 ? LB_DTYPE_BF16 : LB_DTYPE_F16;
        assert_int_equal(lb_tensor_read(&t, 0, 3, got, NULL), LB_OK);
        same_array(got, rounded, 6);
    }
}

/* All 256 codes by the definition of OCP's 8-bit floats, in double. */
static void eight_bit_floats(void **state)
{
    (void)state;
    uint8_t raw[256];
    float got[256];
    double want[256];
    for (int e5m2 = 0; e5m2 < 2; e5m2++) {
        const int fraction_bits = e5m2 ? 2 : 3, bias = e5m2 ? 15 : 7, top = e5m2 ? 31 : 15;
        for (int i = 0; i < 256; i++) {
            const int exponent = (i & 127) >> fraction_bits, fraction = i & ((1 << fraction_bits) - 1);
            const double one = exponent ? ldexp(1.0, fraction_bits) : 0.0;
            double value = ldexp(one + fraction, (exponent ? exponent : 1) - bias - fraction_bits);
            if (exponent == top && e5m2)
                value = fraction ? (double)NAN : (double)INFINITY;
            else if (exponent == top && fraction == 7)
                value = (double)NAN;
            raw[i] = (uint8_t)i;
            want[i] = i & 128 ? -value : value;
        }
        lb_tensor t = {.name = (char[]){"t"}, .dtype = e5m2 ? LB_DTYPE_F8_E5M2 : LB_DTYPE_F8_E4M3, .rank = 2,
                       .shape = {4, 64}, .data = raw};
        assert_int_equal(lb_tensor_measure(&t, "f", NULL), LB_OK);
        assert_int_equal(t.bytes, 256);
        assert_int_equal(lb_tensor_read(&t, 0, 4, got, NULL), LB_OK);
        same_array(got, want, 256);
        assert_true(signbit(got[128]) && !signbit(got[0]));
        assert_int_equal(lb_tensor_read(&t, 2, 1, got, NULL), LB_OK);
        same_array(got, want + 128, 64);
    }
}

/* OCP's NaN, which GGUF's reference takes for a number: whole blocks of it, and nothing beside them. */
static void nan_blocks(void **state)
{
    (void)state;
    uint8_t raw[3 * 17];
    float got[96];
    memset(raw, 0x22, sizeof raw); /* elements of 1 */
    raw[0] = 127;
    raw[17] = 255;
    raw[34] = 128;
    lb_tensor t = {.name = (char[]){"t"}, .dtype = LB_DTYPE_MXFP4, .rank = 1, .shape = {96}, .data = raw};
    assert_int_equal(lb_tensor_read(&t, 0, 1, got, NULL), LB_OK);
    for (size_t i = 0; i < 96; i++)
        assert_true(i / 32 == 1 ? isnan(got[i]) : got[i] == (i < 32 ? 1.0f : 2.0f));
}

/* The tensor's float, which may lie at any address, is one multiplication. */
static void scaled_tensor(void **state)
{
    (void)state;
    enum { ROWS = 4, COLS = 128 };
    uint8_t raw[ROWS * COLS / 64 * 36], odd[5];
    float plain[ROWS * COLS], got[ROWS * COLS];
    const float scale = -0.3f;
    for (size_t i = 0; i < sizeof raw; i++)
        raw[i] = (uint8_t)(i * 37 + 50);
    memcpy(odd + 1, &scale, 4);
    lb_tensor t = {.name = (char[]){"t"}, .dtype = LB_DTYPE_NVFP4, .rank = 2, .shape = {ROWS, COLS},
                   .data = raw};
    assert_int_equal(lb_tensor_read(&t, 0, ROWS, plain, NULL), LB_OK);
    assert_true(plain[0] != 0.0f);
    t.scale = odd + 1;
    for (size_t heads = 0; heads <= 2; heads += 2) { /* two heads of two rows: their order is the same */
        t.interleaved_heads = heads;
        assert_int_equal(lb_tensor_read(&t, 0, ROWS, got, NULL), LB_OK);
        for (size_t i = 0; i < ROWS * COLS; i++)
            assert_true(got[i] == plain[i] * scale);
    }
}

static void refusals(void **state)
{
    (void)state;
    lb_error err;
    float got[8] = {7.0f};
    const uint8_t raw[64] = {0};
    lb_tensor t = {.name = (char[]){"t"}, .dtype = LB_DTYPE_F32, .rank = 2, .shape = {4, 2}, .data = raw};
    assert_int_equal(lb_tensor_read(&t, 3, 2, got, &err), LB_EINVAL);
    assert_int_equal(lb_tensor_read(&t, SIZE_MAX, 2, got, &err), LB_EINVAL);
    assert_int_equal(lb_tensor_read(&t, 2, SIZE_MAX, got, &err), LB_EINVAL);
    assert_int_equal(lb_tensor_read(&t, 4, 0, got, &err), LB_OK);
    assert_true(got[0] == 7.0f);
    for (lb_dtype d = LB_DTYPE_U8; d <= LB_DTYPE_I64; d++) {
        t.dtype = d;
        assert_int_equal(lb_tensor_read(&t, 0, 1, got, &err), LB_EUNSUPPORTED);
        assert_non_null(strstr(err.msg, lb_dtype_name(d)));
    }
    t.dtype = LB_DTYPE_F32;
    t.interleaved_heads = 3;
    assert_int_equal(lb_tensor_read(&t, 0, 1, got, &err), LB_EINVAL);
}

/* What the converter does, written as it describes itself: reshape to [heads, 2, pairs], swap the two
 * inner axes. Reading must undo it, whole, row by row, and for a bias. */
static void interleaved_heads(void **state)
{
    (void)state;
    enum { HEADS = 3, PAIRS = 4, ROWS = HEADS * 2 * PAIRS, COLS = 2 };
    float hf[ROWS * COLS], stored[ROWS * COLS], got[ROWS * COLS], hf_bias[ROWS], stored_bias[ROWS];
    for (int i = 0; i < ROWS * COLS; i++)
        hf[i] = (float)i;
    for (int head = 0; head < HEADS; head++)
        for (int half = 0; half < 2; half++)
            for (int pair = 0; pair < PAIRS; pair++) {
                int from = (head * 2 + half) * PAIRS + pair, to = (head * PAIRS + pair) * 2 + half;
                memcpy(stored + to * COLS, hf + from * COLS, COLS * sizeof *hf);
                hf_bias[from] = stored_bias[to] = (float)from;
            }
    lb_tensor t = {.name = (char[]){"q"}, .dtype = LB_DTYPE_F32, .rank = 2, .shape = {ROWS, COLS},
                   .data = (const uint8_t *)stored, .interleaved_heads = HEADS};
    assert_int_equal(lb_tensor_read(&t, 0, ROWS, got, NULL), LB_OK);
    same_array(got, hf, ROWS * COLS);
    for (size_t row = 0; row < ROWS; row++) {
        assert_int_equal(lb_tensor_read(&t, row, 1, got, NULL), LB_OK);
        same_array(got, hf + row * COLS, COLS);
    }
    lb_tensor bias = {.name = (char[]){"b"}, .dtype = LB_DTYPE_F32, .rank = 1, .shape = {ROWS},
                      .data = (const uint8_t *)stored_bias, .interleaved_heads = HEADS};
    assert_int_equal(lb_tensor_read(&bias, 0, 1, got, NULL), LB_OK);
    same_array(got, hf_bias, ROWS);
}

static void sort_and_find(void **state)
{
    (void)state;
    lb_error err;
    lb_tensor tensors[] = {{.name = (char[]){"c"}}, {.name = (char[]){"a"}}, {.name = (char[]){"b"}}};
    lb_tensor_set set = {.tensors = tensors, .count = 3};
    assert_int_equal(lb_tensors_sort(tensors, 3, "f", &err), LB_OK);
    assert_string_equal(tensors[0].name, "a");
    assert_string_equal(tensors[2].name, "c");
    assert_ptr_equal(lb_tensor_find(&set, "b"), &tensors[1]);
    assert_null(lb_tensor_find(&set, "d"));
    assert_null(lb_tensor_find(&(lb_tensor_set){0}, "a"));
    tensors[2].name[0] = 'a';
    assert_int_equal(lb_tensors_sort(tensors, 3, "f", &err), LB_EFORMAT);
    assert_string_equal(err.msg, "f: two tensors are named \"a\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dtype_table),   cmocka_unit_test(shapes),
        cmocka_unit_test(shapes_too_large), cmocka_unit_test(golden_blocks),
        cmocka_unit_test(rows_of_blocks), cmocka_unit_test(plain_types),
        cmocka_unit_test(eight_bit_floats), cmocka_unit_test(nan_blocks),
        cmocka_unit_test(scaled_tensor), cmocka_unit_test(refusals),
        cmocka_unit_test(interleaved_heads), cmocka_unit_test(sort_and_find),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
