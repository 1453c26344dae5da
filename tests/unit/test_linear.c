/* SPDX-License-Identifier: MIT
 * A linear layer in memory: what is kept as it is on disk must mean what the float path reads. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/half.h"
#include "base/rng.h"
#include "formats/block_format.h"
#include "model/linear.h"

enum { HEADS = 4, HEAD_DIM = 6, ROWS = HEADS * HEAD_DIM, COLS = 20, TOKENS = 3 };

/* A matrix as GGUF stores query rows: within a head, row 2j+h holds row h * HEAD_DIM/2 + j. */
static void interleaved_rows(lb_dtype dtype)
{
    static uint16_t stored[ROWS * COLS];
    float wanted[ROWS * COLS], x[TOKENS * COLS], y[TOKENS * ROWS], row[COLS];
    lb_error err = {0};
    lb_rng rng;
    lb_rng_seed(&rng, 7);
    for (size_t head = 0; head < HEADS; head++) {
        for (size_t i = 0; i < HEAD_DIM; i++) {
            const size_t from = head * HEAD_DIM + 2 * (i % (HEAD_DIM / 2)) + i / (HEAD_DIM / 2);
            for (size_t c = 0; c < COLS; c++) {
                const float value = (float)lb_rng_normal(&rng);
                const uint16_t bits =
                    dtype == LB_DTYPE_F16 ? lb_f16_from_float(value) : lb_bf16_from_float(value);
                stored[from * COLS + c] = bits;
                wanted[(head * HEAD_DIM + i) * COLS + c] =
                    dtype == LB_DTYPE_F16 ? lb_f16_to_float(bits) : lb_bf16_to_float(bits);
            }
        }
    }
    lb_tensor tensor = {.dtype = dtype,
                        .rank = 2,
                        .shape = {ROWS, COLS},
                        .data = (const uint8_t *)stored,
                        .bytes = sizeof stored,
                        .interleaved_heads = HEADS};
    lb_weight weight = {.name = "q", .rows = ROWS, .cols = COLS, .tensor = &tensor};
    for (size_t i = 0; i < TOKENS * COLS; i++)
        x[i] = (float)lb_rng_normal(&rng);
    for (int how = LB_LOAD_FLOAT; how <= LB_LOAD_NATIVE; how++) {
        lb_linear l;
        assert_int_equal(lb_linear_load(&weight, NULL, (lb_load)how, &l, &err), LB_OK);
        const lb_kernels *kernels = lb_kernels_get(LB_CPU_BEST);
        for (size_t r = 0; r < ROWS; r++) {
            lb_linear_row(kernels, &l, r, row);
            assert_memory_equal(row, wanted + r * COLS, sizeof row);
        }
        assert_int_equal(lb_linear_apply(kernels, &l, x, TOKENS, y, &err), LB_OK);
        for (size_t t = 0; t < TOKENS; t++) {
            for (size_t r = 0; r < ROWS; r++) {
                double sum = 0.0, size = 0.0;
                for (size_t c = 0; c < COLS; c++) {
                    sum += (double)wanted[r * COLS + c] * (double)x[t * COLS + c];
                    size += fabs((double)wanted[r * COLS + c] * (double)x[t * COLS + c]);
                }
                assert_true(fabs(sum - (double)y[t * ROWS + r]) <= 2.0 * sqrt(COLS) * 0x1p-24 * size);
            }
        }
        lb_linear_free(&l);
    }
}

static void interleaved_half_rows_are_put_in_order(void **state)
{
    (void)state;
    interleaved_rows(LB_DTYPE_F16);
    interleaved_rows(LB_DTYPE_BF16);
}

/* ---- Layers of block formats ------------------------------------------------------------------------- */

enum { PACKED_ROWS = 37, PACKED_COLS = 75, PACKED_BYTES = PACKED_ROWS * PACKED_COLS };

/* A layer as a checkpoint has it. */
typedef struct packed_layer {
    lb_weight weight;
    lb_tensor tensors[LB_FORMAT_MAX_PARTS];
    uint8_t bytes[LB_FORMAT_MAX_PARTS][4 * PACKED_BYTES];
    float values[PACKED_BYTES]; /* decoded */
} packed_layer;

static void pack_layer(packed_layer *l, const char *format, const float *w)
{
    uint8_t codes[PACKED_COLS];
    float params[PACKED_COLS * 2];
    lb_format_part parts[LB_FORMAT_MAX_PARTS];
    l->weight = (lb_weight){.name = "layer", .rows = PACKED_ROWS, .cols = PACKED_COLS};
    lb_format *f = &l->weight.format;
    assert_int_equal(lb_format_parse(format, f, NULL), LB_OK);
    lb_format_bind(f, w, PACKED_BYTES);
    l->weight.part_count = f->ops->parts(f, PACKED_COLS, parts);
    for (size_t row = 0; row < PACKED_ROWS; row++) {
        uint8_t *to[LB_FORMAT_MAX_PARTS];
        for (unsigned i = 0; i < l->weight.part_count; i++)
            to[i] = l->bytes[i] + row * parts[i].row_bytes;
        lb_format_encode_row(f, w + row * PACKED_COLS, NULL, PACKED_COLS, LB_FIT_RANGE, codes, params);
        lb_format_decode_row(f, codes, params, PACKED_COLS, l->values + row * PACKED_COLS);
        f->ops->pack(f, codes, params, PACKED_COLS, to);
    }
    for (unsigned i = 0; i < l->weight.part_count; i++) {
        l->tensors[i] = (lb_tensor){.data = l->bytes[i], .bytes = PACKED_ROWS * parts[i].row_bytes};
        l->weight.parts[i] = &l->tensors[i];
    }
}

/* x in whole steps of a scale of 1, which rounding to 8 bits, or to 10 beside bit planes, leaves as it is. What is
 * left is the rounding of sums of floats: fewer than PACKED_COLS + 4 of 2^-24 in any order. */
static void check_products(const packed_layer *packed, const lb_linear *l, lb_rng *rng)
{
    const lb_kernels *kernels = lb_kernels_get(LB_CPU_BEST);
    const unsigned most = strncmp(packed->weight.format.name, "bp", 2) == 0 ? 511 : 127;
    float x[2 * PACKED_COLS], y[2 * PACKED_ROWS], one[PACKED_ROWS];
    lb_qvec *vector;
    for (size_t i = 0; i < 2 * PACKED_COLS; i++)
        x[i] = i % PACKED_COLS % 32 == 5 ? (float)most : (float)lb_rng_below(rng, 2 * most + 1) - (float)most;
    assert_int_equal(lb_qvec_create(1, PACKED_COLS, &vector, NULL), LB_OK);
    lb_linear_decode(kernels, l, x, 1, vector, false, one);
    assert_int_equal(lb_linear_apply(kernels, l, x, 2, y, NULL), LB_OK);
    for (size_t i = 0; i < 2 * PACKED_ROWS; i++) {
        double sum = 0.0, size = 0.0;
        for (size_t c = 0; c < PACKED_COLS; c++) {
            const double term = (double)packed->values[i % PACKED_ROWS * PACKED_COLS + c] *
                                (double)x[i / PACKED_ROWS * PACKED_COLS + c];
            sum += term;
            size += fabs(term);
        }
        const double bound = (PACKED_COLS + 4.0) * 0x1.01p-24 * size + 0x1p-120;
        assert_true(fabs(sum - (double)y[i]) <= bound);
        if (i < PACKED_ROWS)
            assert_true(fabs(sum - (double)one[i]) <= bound);
    }
    lb_qvec_destroy(vector);
}

static void check_packed(const packed_layer *packed, lb_rng *rng, bool quantized, lb_dense_type type)
{
    const lb_kernels *kernels = lb_kernels_get(LB_CPU_BEST);
    for (int how = LB_LOAD_FLOAT; how <= LB_LOAD_NATIVE; how++) {
        lb_linear l;
        lb_error err = {0};
        float row[PACKED_COLS];
        if (lb_linear_load(&packed->weight, NULL, (lb_load)how, &l, &err) != LB_OK)
            fail_msg("%s", err.msg);
        assert_int_equal(l.quantized != NULL, how == LB_LOAD_NATIVE && quantized);
        assert_int_equal(l.encoded, how == LB_LOAD_NATIVE);
        if (how == LB_LOAD_NATIVE && !quantized)
            assert_int_equal(l.type, type);
        for (size_t r = 0; r < PACKED_ROWS; r++) {
            lb_linear_row(kernels, &l, r, row);
            for (size_t c = 0; c < PACKED_COLS; c++)
                assert_true(row[c] == packed->values[r * PACKED_COLS + c]);
        }
        check_products(packed, &l, rng);
        lb_linear_free(&l);
    }
}

static void every_format_with_codes_loads_as_it_is(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool quantized;
        lb_dense_type type;
    } rows[] = {
        {"mxfp8-e4m3", false, LB_DENSE_BF16},
        {"mxfp8-e5m2", false, LB_DENSE_BF16},
        {"mxfp6-e3m2", false, LB_DENSE_BF16},
        {"mxfp8-e4m3-exact", false, LB_DENSE_F32},
        {"mxfp6-e3m2-ocp", false, LB_DENSE_BF16},
        {"mxfp6-e2m3", true, 0},
        {"mxfp6-e2m3-exact", true, 0},
        {"mxfp4", true, 0},
        {"mxfp4-even", true, 0},
        {"mxfp4-exact", true, 0},
        {"mxint8", true, 0},
        {"mxint8-asym", true, 0},
        {"mxint6", true, 0},
        {"mxint6-ocp", true, 0},
        {"mxint4", true, 0},
        {"mxint4-exact-asym", true, 0},
        {"nvfp4", true, 0},
        {"nvfp4-exact", true, 0},
        {"nvint4", true, 0},
        {"nvint4-asym", true, 0},
        {"int4-g32", true, 0},
        {"int3-g64-asym", true, 0},
        {"bp1-row", true, 0},
        {"bp2-g64", true, 0},
        {"bp3-g32", true, 0},
        {"bp4-g256", true, 0},
    };
    static packed_layer packed;
    float w[PACKED_BYTES];
    lb_rng rng;
    lb_rng_seed(&rng, 8);
    for (size_t i = 0; i < PACKED_BYTES; i++)
        w[i] = i / PACKED_COLS == 3 ? 0.0f : (float)(0.05 * lb_rng_normal(&rng));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        pack_layer(&packed, rows[i].name, w);
        check_packed(&packed, &rng, rows[i].quantized, rows[i].type);
    }
}

/* bfloat16 has a float's exponents, but at their very bottom fewer bits. */
static void what_bfloat16_cannot_hold_becomes_float32(void **state)
{
    (void)state;
    static packed_layer packed;
    float w[PACKED_BYTES] = {0};
    lb_rng rng;
    lb_rng_seed(&rng, 9);
    w[7] = 0x1p-128f; /* its block's scale is 2^-127 */
    w[8] = 0x1p-136f; /* one step */
    pack_layer(&packed, "mxfp8-e4m3", w);
    assert_true(packed.values[8] == 0x1p-136f);
    check_packed(&packed, &rng, false, LB_DENSE_F32);
}

static void bad_rows_and_lack_of_memory_are_told(void **state)
{
    (void)state;
    static packed_layer packed;
    float w[PACKED_BYTES] = {0};
    static const char *const names[] = {"mxint4", "mxfp8-e4m3", "nvfp4"};
    for (size_t i = 0; i < 3; i++) {
        lb_linear l;
        lb_error err = {0};
        pack_layer(&packed, names[i], w);
        for (size_t k = 1; k <= 3; k++) {
            lb_alloc_fail_at(k);
            assert_int_equal(lb_linear_load(&packed.weight, NULL, LB_LOAD_NATIVE, &l, &err), LB_ENOMEM);
        }
        lb_alloc_fail_at(0);
        packed.bytes[1][7] = 0xff;
        assert_int_equal(lb_linear_load(&packed.weight, NULL, LB_LOAD_NATIVE, &l, &err), LB_EFORMAT);
        assert_non_null(strstr(err.msg, "layer"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(interleaved_half_rows_are_put_in_order),
                                       cmocka_unit_test(every_format_with_codes_loads_as_it_is),
                                       cmocka_unit_test(what_bfloat16_cannot_hold_becomes_float32),
                                       cmocka_unit_test(bad_rows_and_lack_of_memory_are_told)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
