/* SPDX-License-Identifier: MIT
 * Block formats with every suffix against tests/slow_formats.h: rounding of every bfloat16 at given scales
 * and in blocks, short last blocks, storage and what it refuses, both ranges of integers, the search. */
#include "near.h"
#include "slow_formats.h"

#include <stdlib.h>

#include "base/half.h"
#include "base/rng.h"
#include "formats/block_format.h"

enum { ALL = 1 << 16, MOST_PARAMS = 2 * ALL / 16, GUARD = 4 };

static slow_format formats[SLOW_MOST_FORMATS];
static size_t count;
static float every[ALL], shuffled[ALL]; /* all bfloat16 */

static int list_formats(void **state)
{
    (void)state;
    count = slow_list_formats(formats);
    for (uint32_t i = 0; i < ALL; i++) {
        every[i] = lb_bf16_to_float((uint16_t)i);
        shuffled[i] = lb_bf16_to_float((uint16_t)(i * 40503u + 12345u)); /* an odd factor: a permutation */
    }
    return 0;
}

static lb_format parse(const slow_format *slow)
{
    lb_format f;
    lb_error err;
    if (lb_format_parse(slow->name, &f, &err) != LB_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(f.group, slow->block);
    assert_int_equal(f.bits, slow_bits(slow->element));
    return f;
}

static bool same_float(float a, float b)
{
    return (isnan(a) && isnan(b)) || lb_float_bits(a) == lb_float_bits(b);
}

/* Codes and values of x [n] for one scale. */
static void check_codes(const slow_format *slow, float scale, const float *x, const uint8_t *codes,
                        const float *values, size_t n)
{
    static uint8_t want[ALL];
    static float want_values[ALL];
    slow_round(slow, scale, x, n, want, want_values);
    for (size_t i = 0; i < n; i++) {
        if (codes[i] != want[i] || !same_float(values[i], want_values[i]))
            fail_msg("%s at scale %a, %a: got code 0x%02x, %a; wanted 0x%02x, %a", slow->name, (double)scale,
                     (double)x[i], codes[i], (double)values[i], want[i], (double)want_values[i]);
    }
}

/* A power of two for MX; anything for the rules that divide. 0 is the scale of a block too small for one. */
static void every_bfloat16_at_given_scales(void **state)
{
    (void)state;
    static const float scales[] = {1.0f,   0x1p-127f, 0x1p127f,      0x1p-126f,    0x1p-9f,
                                   0x1p7f, 0.0f,      0.0123456789f, 3.3333333f,   0x1.fffffep-3f,
                                   1e-38f, 1e-45f,    7.1e30f,       0x1.800002p4f};
    enum { SCALES = sizeof scales / sizeof *scales, POWERS = 6 };
    static uint8_t codes[ALL];
    static float values[ALL], x[ALL];
    size_t n = 0;
    for (size_t i = 0; i < ALL; i++)
        if (!isnan(every[i])) /* infinities saturate where a block's scale is given */
            x[n++] = every[i];
    assert_int_equal(n, ALL - 2 * 127);
    for (size_t k = 0; k < count; k++) {
        const lb_format f = parse(&formats[k]);
        const bool divides = formats[k].rule == SLOW_EXACT || formats[k].rule == SLOW_TWO_LEVEL;
        if (formats[k].rule != SLOW_CEIL && !divides)
            continue; /* rules do not matter here */
        for (size_t s = 0; s < (divides ? SCALES : POWERS); s++) {
            const float params[2] = {scales[s], scales[s]};
            f.ops->round(&f, params, x, n, codes);
            f.ops->value(&f, params, codes, n, values);
            check_codes(&formats[k], scales[s], x, codes, values, n);
        }
    }
}

/* Fit, round, value, pack, unpack of a row; `exact_bytes` in buffers that a sanitizer watches. */
static void check_row(const slow_format *slow, const lb_format *f, const float *x, size_t n)
{
    const size_t groups = lb_format_groups(f, n);
    static float params[MOST_PARAMS + GUARD], values[ALL + GUARD];
    static uint8_t codes[ALL + GUARD];
    memset(codes, 0xa5, n + GUARD);
    for (size_t i = 0; i < GUARD; i++)
        params[groups * f->params + i] = values[n + i] = -77.0f;
    lb_format_encode_row(f, x, NULL, n, LB_FIT_RANGE, codes, params);
    lb_format_decode_row(f, codes, params, n, values);
    for (size_t i = 0; i < GUARD; i++) {
        assert_int_equal(codes[n + i], 0xa5);
        assert_true(params[groups * f->params + i] == -77.0f && values[n + i] == -77.0f);
    }
    for (size_t g = 0; g < groups; g++) {
        const size_t at = g * slow->block, size = n - at < slow->block ? n - at : slow->block;
        float factor;
        const float scale = slow_scale(slow, f->tensor_scale, x + at, size, &factor);
        const float *p = params + g * f->params;
        if (!same_float(p[LB_BLOCK_SCALE], scale))
            fail_msg("%s, block %zu: scale %a, wanted %a", slow->name, g, (double)p[LB_BLOCK_SCALE],
                     (double)scale);
        if (slow->rule == SLOW_TWO_LEVEL)
            assert_true(same_float(p[LB_NV_BLOCK_FACTOR], factor));
        check_codes(slow, scale, x + at, codes + at, values + at, size);
    }
}

static void every_bfloat16_in_blocks(void **state)
{
    (void)state;
    static const float tensors[] = {1.0f, 0.001f, FLT_MIN, 3e30f};
    for (size_t k = 0; k < count; k++) {
        lb_format f = parse(&formats[k]);
        lb_format_bind(&f, every, ALL);
        check_row(&formats[k], &f, every, ALL);
        check_row(&formats[k], &f, shuffled, ALL);
        for (size_t t = 0; lb_format_has_tensor_scale(&f) && t < sizeof tensors / sizeof *tensors; t++) {
            f.tensor_scale = tensors[t];
            check_row(&formats[k], &f, every, ALL);
        }
    }
}

/* What is stored is what the definition says, bit by bit, and comes back. */
static void check_storage(const slow_format *slow, const lb_format *f, const float *x, size_t n)
{
    const size_t groups = lb_format_groups(f, n), bits = slow_bits(slow->element);
    const size_t scale_bytes = slow->rule == SLOW_EXACT ? 4 : 1;
    lb_format_part parts[LB_FORMAT_MAX_PARTS];
    assert_int_equal(f->ops->parts(f, n, parts), 2);
    assert_string_equal(parts[0].name, "codes");
    assert_string_equal(parts[1].name, "scales");
    assert_int_equal(parts[0].row_bytes, (n * bits + 7) / 8);
    assert_int_equal(parts[1].row_bytes, groups * scale_bytes);
    assert_int_equal(parts[1].elem_bytes, scale_bytes);
    uint8_t *codes = malloc(n), *back = malloc(n + 1);
    float *params = malloc(groups * f->params * sizeof *params);
    float *params_back = malloc(groups * f->params * sizeof *params);
    uint8_t *const packed[2] = {malloc(parts[0].row_bytes), malloc(parts[1].row_bytes)};
    assert_true(codes && back && params && params_back && packed[0] && packed[1]);
    lb_format_encode_row(f, x, NULL, n, LB_FIT_RANGE, codes, params);
    f->ops->pack(f, codes, params, n, packed);
    for (size_t i = 0; i < parts[0].row_bytes * 8; i++) {
        const unsigned bit = (unsigned)packed[0][i / 8] >> (i % 8) & 1u;
        assert_int_equal(bit, i < n * bits ? (unsigned)codes[i / bits] >> (i % bits) & 1u : 0u);
    }
    for (size_t g = 0; g < groups; g++) {
        const uint8_t *stored = packed[1] + g * scale_bytes;
        float scale = 0.0f;
        if (slow->rule == SLOW_EXACT)
            scale = lb_float_from_bits((uint32_t)stored[0] | (uint32_t)stored[1] << 8 |
                                       (uint32_t)stored[2] << 16 | (uint32_t)stored[3] << 24);
        else if (slow->nv)
            scale = (float)(slow_decode(&slow_elements[SLOW_E4M3], *stored) * (double)f->tensor_scale);
        else
            scale = (float)ldexp(1.0, *stored - 127);
        assert_true(same_float(scale, params[g * f->params + LB_BLOCK_SCALE]));
    }
    back[n] = 0x5a;
    assert_int_equal(
        f->ops->unpack(f, (const uint8_t *const[]){packed[0], packed[1]}, n, back, params_back, NULL), LB_OK);
    assert_memory_equal(back, codes, n);
    assert_int_equal(back[n], 0x5a);
    for (size_t i = 0; i < groups * f->params; i++)
        assert_true(same_float(params_back[i], params[i]));
    free(codes);
    free(back);
    free(params);
    free(params_back);
    free(packed[0]);
    free(packed[1]);
}

static void fill(lb_rng *rng, float *x, size_t n, double size)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(size * lb_rng_normal(rng));
}

static void every_length(void **state)
{
    (void)state;
    static const double sizes[] = {1.0, 1e-42, 1e37, 0.0, 3e-5};
    lb_rng rng;
    lb_rng_seed(&rng, 4);
    float x[100];
    for (size_t k = 0; k < count; k++) {
        for (size_t n = 1; n <= 100; n++) {
            lb_format f = parse(&formats[k]);
            fill(&rng, x, n, sizes[n % 5]);
            lb_format_bind(&f, x, n);
            check_row(&formats[k], &f, x, n);
            check_storage(&formats[k], &f, x, n);
        }
    }
}

/* A NaN or an infinity: the whole block is NaN, its neighbours are as if they stood alone. */
static void what_is_not_finite_spoils_its_block_alone(void **state)
{
    (void)state;
    static const uint32_t bad[] = {0x7fc00000u, 0xffc00000u, 0x7f800001u, 0x7f800000u, 0xff800000u};
    lb_rng rng;
    lb_rng_seed(&rng, 5);
    for (size_t k = 0; k < count; k++) {
        const size_t block = formats[k].block, n = 3 * block + 5;
        for (size_t at = 0; at < n; at += 7) {
            float x[120], values[120], params[20];
            uint8_t codes[120], bytes[120], scales[40];
            lb_format f = parse(&formats[k]), plain = f;
            fill(&rng, x, n, 1.0);
            x[at] = 0.0f;
            lb_format_bind(&plain, x, n);
            x[at] = lb_float_from_bits(bad[at % 5]);
            lb_format_bind(&f, x, n);
            assert_true(f.tensor_scale == plain.tensor_scale);
            check_row(&formats[k], &f, x, n);
            lb_format_encode_row(&f, x, NULL, n, at % 2 ? LB_FIT_RANGE : LB_FIT_SEARCH, codes, params);
            lb_format_decode_row(&f, codes, params, n, values);
            for (size_t i = 0; i < n; i++) {
                assert_int_equal(isnan(values[i]) != 0, i / block == at / block);
                if (i / block == at / block)
                    assert_int_equal(codes[i], 0);
            }
            f.ops->pack(&f, codes, params, n, (uint8_t *const[]){bytes, scales});
            const uint8_t *stored = scales + at / block * (formats[k].rule == SLOW_EXACT ? 4 : 1);
            if (formats[k].rule == SLOW_EXACT)
                assert_true(stored[3] == 0x7f && stored[2] == 0xc0 && stored[1] == 0 && stored[0] == 0);
            else
                assert_int_equal(*stored, formats[k].nv ? 0x7f : 0xff);
            lb_error err;
            assert_int_equal(
                f.ops->unpack(&f, (const uint8_t *const[]){bytes, scales}, n, codes, params, &err),
                LB_EFORMAT);
        }
    }
}

static void check_refused(const lb_format *f, const uint8_t *codes, const uint8_t *scales, size_t n,
                          const char *part)
{
    uint8_t back[64];
    float params[8];
    lb_error err = {.msg = ""};
    const lb_status st = f->ops->unpack(f, (const uint8_t *const[]){codes, scales}, n, back, params, &err);
    if (st != LB_EFORMAT || !strstr(err.msg, part))
        fail_msg("%s: status %d, \"%s\", wanted a refusal with \"%s\"", f->name, (int)st, err.msg, part);
}

/* The bits of the code at column `at` of a row that stores `bits` bits each. */
static void store_code(uint8_t *row, unsigned bits, size_t at, unsigned code)
{
    for (size_t i = 0; i < bits; i++) {
        const size_t bit = at * bits + i;
        row[bit / 8] = (uint8_t)((row[bit / 8] & ~(1u << bit % 8)) | (code >> i & 1u) << bit % 8);
    }
}

/* Every byte as a scale, and every code, in a row of one block and a short one. */
static void storage_refuses_what_is_out_of_range(void **state)
{
    (void)state;
    for (size_t k = 0; k < count; k++) {
        const lb_format f = parse(&formats[k]);
        const slow_format *slow = &formats[k];
        const size_t n = 2 * slow->block - 3, column = slow->block + 1;
        uint8_t codes[64] = {0}, scales[8] = {0}, back[64];
        float params[8];
        for (unsigned byte = 0; byte < 256 && slow->rule != SLOW_EXACT; byte++) {
            const bool fine = slow->nv ? byte < 0x7f : byte < 0xff;
            scales[1] = (uint8_t)byte;
            if (!fine)
                check_refused(&f, codes, scales, n, "block 1");
            else
                assert_int_equal(
                    f.ops->unpack(&f, (const uint8_t *const[]){codes, scales}, n, back, params, NULL), LB_OK);
        }
        scales[1] = 0;
        static const float bad_floats[] = {NAN, -NAN, INFINITY, -INFINITY, -1.0f, -1e-45f};
        for (size_t i = 0; slow->rule == SLOW_EXACT && i < 6; i++) {
            memcpy(scales + 4, &bad_floats[i], 4);
            check_refused(&f, codes, scales, n, "block 1");
        }
        memset(scales, 0, sizeof scales);
        for (unsigned code = 0; code < 1u << f.bits; code++) {
            const double value = slow_decode(slow->element, code);
            const bool below = slow_is_int(slow->element) && !slow->asymmetric && value < -slow->element->max;
            char place[32];
            snprintf(place, sizeof place, "column %zu", column);
            store_code(codes, f.bits, column, code);
            if (below || !isfinite(value)) {
                check_refused(&f, codes, scales, n, place);
                continue;
            }
            assert_int_equal(
                f.ops->unpack(&f, (const uint8_t *const[]){codes, scales}, n, back, params, NULL), LB_OK);
            assert_int_equal(back[column], code);
        }
    }
}

/* -2^(b-1): never in the symmetric range; used in the other where it is nearest, which makes the mean error
 * negative, the paper's reason for the symmetric one. Values of either sign around the largest one, so that
 * the scales are 1: MX by the OCP rule, NV by a block factor that has reached its end. */
static void the_asymmetric_range_is_biased(void **state)
{
    (void)state;
    enum { N = 32 * 4000 };
    static float x[N], values[N], params[2 * N / 16];
    static uint8_t codes[N];
    lb_rng rng;
    lb_rng_seed(&rng, 6);
    size_t seen = 0;
    for (size_t k = 0; k < count; k++) {
        lb_format f = parse(&formats[k]);
        if (!slow_is_int(formats[k].element) ||
            formats[k].rule != (formats[k].nv ? SLOW_TWO_LEVEL : SLOW_OCP))
            continue;
        seen++;
        for (size_t i = 0; i < N; i++)
            x[i] = (float)((lb_rng_below(&rng, 2) ? 1.0 : -1.0) *
                           (formats[k].element->max + 2.0 * lb_rng_uniform(&rng) - 1.0));
        f.tensor_scale = 1.0f / 448.0f;
        lb_format_encode_row(&f, x, NULL, N, LB_FIT_RANGE, codes, params);
        lb_format_decode_row(&f, codes, params, N, values);
        double error = 0.0, square = 0.0, lowest = 0.0;
        for (size_t i = 0; i < N; i++) {
            const double d = (double)values[i] - (double)x[i];
            error += d;
            square += d * d;
            lowest += codes[i] == 1u << (f.bits - 1);
        }
        const double mean = error / N,
                     spread = sqrt(square) / N; /* of the mean, were the errors independent */
        if (formats[k].asymmetric) {
            assert_true(lowest > 0);
            assert_true(mean < -0.1 && mean > -0.15); /* an eighth each of -3/4 and -1/4 */
        } else {
            assert_true(lowest == 0);
            assert_true(fabs(mean) < 5.0 * spread);
        }
    }
    assert_int_equal(seen, 8);
}

static double weighted(const float *x, const float *importance, const float *values, size_t n)
{
    double total = 0.0;
    for (size_t i = 0; i < n; i++)
        total += (importance ? (double)importance[i] : 1.0) * pow((double)values[i] - (double)x[i], 2.0);
    return total;
}

/* The search ends at a scale that can be stored, never at a worse one than the rule's, and at a better one
 * for most blocks of most formats. */
static void search_is_never_worse(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 7);
    size_t better = 0, blocks = 0;
    for (size_t k = 0; k < count; k++) {
        for (int round = 0; round < 200; round++) {
            float x[96], importance[96], by_range[96], by_search[96], range[12], search[12], stored[12];
            uint8_t codes[96], bytes[96], scales[24], back[96];
            lb_format f = parse(&formats[k]);
            const size_t n = 1 + (size_t)lb_rng_below(&rng, 96), groups = lb_format_groups(&f, n);
            fill(&rng, x, n, pow(10.0, 81.0 * lb_rng_uniform(&rng) - 44.0));
            for (size_t i = 0; i < n; i++)
                importance[i] = (float)exp(lb_rng_normal(&rng));
            const float *weights = round % 2 ? importance : NULL;
            lb_format_bind(&f, x, n);
            lb_format_encode_row(&f, x, weights, n, LB_FIT_RANGE, codes, range);
            lb_format_decode_row(&f, codes, range, n, by_range);
            lb_format_encode_row(&f, x, weights, n, LB_FIT_SEARCH, codes, search);
            lb_format_decode_row(&f, codes, search, n, by_search);
            for (size_t g = 0; g < groups; g++) {
                const size_t at = g * f.group, size = lb_format_group_size(&f, n, g);
                const double a = weighted(x + at, weights ? weights + at : NULL, by_range + at, size);
                const double b = weighted(x + at, weights ? weights + at : NULL, by_search + at, size);
                if (b > a * (1.0 + 1e-12))
                    fail_msg("%s: the search's error %g is above the rule's %g", formats[k].name, b, a);
                better += b < a;
                blocks++;
            }
            f.ops->pack(&f, codes, search, n, (uint8_t *const[]){bytes, scales});
            assert_int_equal(
                f.ops->unpack(&f, (const uint8_t *const[]){bytes, scales}, n, back, stored, NULL), LB_OK);
            assert_memory_equal(back, codes, n);
            for (size_t i = 0; i < groups * f.params; i++)
                assert_true(lb_float_bits(stored[i]) == lb_float_bits(search[i]));
        }
    }
    assert_true(better > blocks / 3);
}

/* v[i] = 0.1 (i - 15): signal to noise as computed independently of this library, to 4 decimals. */
static void a_vector_that_anyone_can_check(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        double db;
    } want[] = {{"mxfp8-e4m3", 32.1531}, {"mxfp8-e5m2", 25.6523}, {"mxfp6-e2m3", 32.0587},
                {"mxfp6-e3m2", 25.6523}, {"mxfp4", 19.4575},      {"mxint8", 46.4123},
                {"mxint6", 34.3712},     {"mxint4", 22.3300},     {"nvfp4", 19.7666},
                {"nvint4", 23.4504}};
    float v[32], values[32], params[4];
    uint8_t codes[32];
    for (int i = 0; i < 32; i++)
        v[i] = (float)(0.1 * (i - 15));
    for (size_t k = 0; k < sizeof want / sizeof *want; k++) {
        lb_format f;
        assert_int_equal(lb_format_parse(want[k].name, &f, NULL), LB_OK);
        lb_format_bind(&f, v, 32);
        lb_format_encode_row(&f, v, NULL, 32, LB_FIT_RANGE, codes, params);
        lb_format_decode_row(&f, codes, params, 32, values);
        double signal = 0.0, noise = 0.0;
        for (int i = 0; i < 32; i++) {
            signal += pow((double)v[i], 2.0);
            noise += pow((double)values[i] - (double)v[i], 2.0);
        }
        const double db = 10.0 * log10(signal / noise);
        if (fabs(db - want[k].db) > 0.0005)
            fail_msg("%s: %.4f dB, wanted %.4f", want[k].name, db, want[k].db);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_bfloat16_at_given_scales),
        cmocka_unit_test(every_bfloat16_in_blocks),
        cmocka_unit_test(every_length),
        cmocka_unit_test(what_is_not_finite_spoils_its_block_alone),
        cmocka_unit_test(storage_refuses_what_is_out_of_range),
        cmocka_unit_test(the_asymmetric_range_is_biased),
        cmocka_unit_test(search_is_never_worse),
        cmocka_unit_test(a_vector_that_anyone_can_check),
    };
    return cmocka_run_group_tests(tests, list_formats, NULL);
}
