/* SPDX-License-Identifier: MIT
 * The block kernels of every available level, the scale rules in their form for kernels, and rows of a matrix
 * cast by every kind of format. */
#include "kernels/block_codec_cases.h"

#include <stdlib.h>

#include "base/thread.h"
#include "kernels/block_codec.h"
#include "kernels/cast.h"

static void block_kernels(void **state)
{
    (void)state;
    for (unsigned level = LB_CPU_REF; level <= LB_CPU_BEST; level++) {
        const lb_kernels *kernels = lb_kernels_get((lb_cpu_level)level);
        if ((unsigned)kernels->level == level)
            codec_check_all(kernels, false);
    }
}

/* Every pattern of 16 leading bits as the one large value of a block, and as all of its values. */
static void every_bfloat16(void **state)
{
    (void)state;
    static slow_format formats[SLOW_MOST_FORMATS];
    const size_t count = slow_list_formats(formats);
    enum { N = 1024 };
    float x[N];
    for (unsigned level = LB_CPU_REF; level <= LB_CPU_BEST; level++) {
        const lb_kernels *kernels = lb_kernels_get((lb_cpu_level)level);
        for (size_t k = 0; (unsigned)kernels->level == level && k < count; k++) {
            lb_format f;
            assert_int_equal(lb_format_parse(formats[k].name, &f, NULL), LB_OK);
            for (uint32_t first = 0; first < 1 << 16; first += N) {
                for (uint32_t i = 0; i < N; i++)
                    x[i] = lb_bf16_to_float((uint16_t)(k % 2 ? first + i : (first + i) * 40503u));
                lb_format_bind(&f, x, N);
                codec_check(kernels, &f, x, N);
            }
        }
    }
}

/* (largest + bias) >> 23 changes where lb_mx_exponent does. */
static void biases_stand_for_rules(void **state)
{
    (void)state;
#define ADDRESS(name, ...) &lb_##name,
    static const lb_element *const elements[] = {LB_ELEMENTS(ADDRESS)};
    lb_rng rng;
    lb_rng_seed(&rng, 3);
    for (size_t e = 0; e < sizeof elements / sizeof *elements; e++) {
        for (int rule = LB_SCALE_CEIL; rule <= LB_SCALE_FLOOR; rule++) {
            const int64_t bias = lb_mx_bias(elements[e], (lb_scale_rule)rule);
            const int of_max = (int)(lb_float_bits(elements[e]->max) >> 23);
            for (uint32_t i = 0; i < (1u << 23) + 200000u; i++) { /* a whole binade, and any floats */
                const uint32_t largest =
                    i < 1u << 23 ? 0x3f800000u + i : (uint32_t)lb_rng_below(&rng, 0x7f800000u);
                const int64_t sum = (int64_t)largest + bias;
                const int k = (int)((sum < 0 ? 0 : sum) >> 23) - of_max;
                if (lb_mx_exponent(elements[e], (lb_scale_rule)rule, largest) != (k < -127  ? -127
                                                                                  : k > 127 ? 127
                                                                                            : k))
                    fail_msg("%s, rule %d, 0x%08x: the bias gives %d", elements[e]->name, rule, largest, k);
            }
        }
    }
}

/* What lb_cast_rows should do to one row, by the formats' operations alone. */
static void slow_cast(const lb_format *format, bool bind, float *x, size_t cols)
{
    lb_format f = *format;
    uint8_t *codes = malloc(cols);
    float *params = malloc((cols + 1) * LB_FORMAT_MAX_PARAMS * sizeof *params);
    assert_true(codes && params);
    if (bind)
        lb_format_bind(&f, x, cols);
    lb_format_encode_row(&f, x, NULL, cols, LB_FIT_RANGE, codes, params);
    lb_format_decode_row(&f, codes, params, cols, x);
    free(codes);
    free(params);
}

static void check_cast(const char *name, bool bind, size_t rows, size_t cols, lb_rng *rng)
{
    lb_format f;
    assert_int_equal(lb_format_parse(name, &f, NULL), LB_OK);
    const size_t n = rows * cols;
    float *x = malloc((n + 1) * sizeof *x), *want = malloc((n + 1) * sizeof *want);
    float *got = malloc((n + 1) * sizeof *got);
    assert_true(x && want && got);
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            x[r * cols + c] = (float)(lb_rng_normal(rng) * pow(10.0, (double)(r % 5) - 3.0));
    x[n] = 1234.5f;
    if (!bind)
        lb_format_bind(&f, x, n);
    memcpy(want, x, (n + 1) * sizeof *x);
    for (size_t r = 0; r < rows && !lb_format_is_float(&f); r++)
        slow_cast(&f, bind, want + r * cols, cols);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(name, "f16") == 0)
            want[i] = lb_f16_to_float(lb_f16_from_float(x[i]));
        if (strcmp(name, "bf16") == 0)
            want[i] = lb_bf16_to_float(lb_bf16_from_float(x[i]));
    }
    for (unsigned level = LB_CPU_REF; level <= LB_CPU_BEST; level++) {
        for (unsigned threads = 1; threads <= 3; threads++) {
            memcpy(got, x, (n + 1) * sizeof *x);
            lb_thread_set_count(threads);
            assert_int_equal(
                lb_cast_rows(lb_kernels_get((lb_cpu_level)level), &f, bind, got, rows, cols, NULL), LB_OK);
            assert_memory_equal(got, want, (n + 1) * sizeof *x);
        }
    }
    lb_thread_set_count(0);
    free(x);
    free(want);
    free(got);
}

static void rows_are_cast(void **state)
{
    (void)state;
    static const char *const names[] = {
        "f32",         "f16",       "bf16",           "int4-g32", "int8-row", "int3-g128-asym",
        "mxfp8",       "mxint4",    "mxfp6-e3m2-ocp", "nvfp4",    "nvint4",   "mxint8-exact",
        "nvint4-asym", "mxfp4-even"};
    static const size_t shapes[][2] = {{1, 1},    {3, 31}, {40, 576}, {7, 1000},
                                       {70, 333}, {1, 0},  {0, 64},   {2, 20000}};
    lb_rng rng;
    lb_rng_seed(&rng, 4);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
            for (int bind = 0; bind < 2; bind++)
                check_cast(names[i], bind == 1, shapes[s][0], shapes[s][1], &rng);
}

/* By row, a token's activations do not depend on the tokens beside it; by tensor they do. */
static void a_row_may_be_its_own_tensor(void **state)
{
    (void)state;
    float together[2][64], alone[64], by_tensor[2][64];
    lb_format f, bound;
    lb_error err;
    assert_int_equal(lb_format_parse("nvfp4", &f, NULL), LB_OK);
    lb_rng rng;
    lb_rng_seed(&rng, 5);
    for (size_t i = 0; i < 64; i++) {
        together[0][i] = alone[i] = by_tensor[0][i] = (float)lb_rng_normal(&rng);
        together[1][i] = by_tensor[1][i] = (float)(5000.0 * lb_rng_normal(&rng));
    }
    const lb_kernels *kernels = lb_kernels_get(LB_CPU_BEST);
    bound = f;
    lb_format_bind(&bound, by_tensor[0], 128);
    assert_int_equal(lb_cast_rows(kernels, &f, true, together[0], 2, 64, &err), LB_OK);
    assert_int_equal(lb_cast_rows(kernels, &f, true, alone, 1, 64, &err), LB_OK);
    assert_int_equal(lb_cast_rows(kernels, &bound, false, by_tensor[0], 2, 64, &err), LB_OK);
    assert_memory_equal(together[0], alone, sizeof alone);
    assert_memory_not_equal(by_tensor[0], alone, sizeof alone);
}

static void what_is_not_finite(void **state)
{
    (void)state;
    static const char *const names[] = {"int4-g32", "int5-g32-asym", "mxfp4", "mxint8-ocp", "mxint4-exact"};
    lb_error err;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        for (int bad = 0; bad < 3; bad++) {
            float x[96];
            lb_format f;
            assert_int_equal(lb_format_parse(names[i], &f, NULL), LB_OK);
            for (int k = 0; k < 96; k++)
                x[k] = (float)k - 48.0f;
            x[40] = bad == 0 ? NAN : bad == 1 ? INFINITY : -INFINITY;
            assert_int_equal(lb_cast_rows(lb_kernels_get(LB_CPU_BEST), &f, true, x, 1, 96, &err), LB_OK);
            for (int k = 0; k < 96; k++)
                assert_int_equal(isnan(x[k]) != 0, k / 32 == 1);
        }
    }
    lb_format f;
    float x[16] = {1.0f};
    assert_int_equal(lb_format_parse("nvfp4", &f, NULL), LB_OK);
    const float bad[] = {0.0f, -1.0f, NAN, INFINITY};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        f.tensor_scale = bad[i];
        assert_int_equal(lb_cast_rows(lb_kernels_get(LB_CPU_BEST), &f, false, x, 1, 16, &err), LB_EINVAL);
        assert_non_null(strstr(err.msg, "nvfp4"));
        assert_int_equal(lb_cast_rows(lb_kernels_get(LB_CPU_BEST), &f, true, x, 1, 16, &err), LB_OK);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(block_kernels),
        cmocka_unit_test(every_bfloat16),
        cmocka_unit_test(biases_stand_for_rules),
        cmocka_unit_test(rows_are_cast),
        cmocka_unit_test(a_row_may_be_its_own_tensor),
        cmocka_unit_test(what_is_not_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
