/* SPDX-License-Identifier: MIT
 * NV formats: the tensor's scale and its edge cases, the block's E4M3 factor, and the signal to noise ratio
 * of normal data. */
#include "format_case.h"
#include "slow_formats.h"

#include "base/half.h"
#include "base/rng.h"
#include "formats/block_format.h"

static void only_two_levels_share_a_float(void **state)
{
    (void)state;
    static const char *const names[] = {
        "nvfp4", "nvint4",       "nvint4-asym", "nvfp4-exact", "nvint4-exact", "nvint4-exact-asym",
        "mxfp4", "mxint8-exact", "int4-g32",    "f32"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        lb_format f = must_parse(names[i]);
        const float x[3] = {1.0f, -8.0f, 3.0f}, before = f.tensor_scale;
        assert_int_equal(lb_format_has_tensor_scale(&f), i < 3);
        assert_int_equal(lb_format_tensor_bytes(&f, 5, 64),
                         5 * lb_format_row_bytes(&f, 64) + (i < 3 ? 4 : 0));
        lb_format_bind(&f, x, 3);
        if (i < 3)
            assert_true(f.tensor_scale == 8.0f / (f.element->max * 448.0f));
        else
            assert_true(f.tensor_scale == before);
    }
}

static void check_bound(const float *x, size_t n, float want)
{
    static const char *const names[] = {"nvfp4", "nvint4"};
    for (int i = 0; i < 2; i++) {
        lb_format f = must_parse(names[i]);
        const slow_format slow = {.element = &slow_elements[i ? SLOW_INT4 : SLOW_E2M1]};
        f.tensor_scale = -5.0f;
        lb_format_bind(&f, x, n);
        assert_true(f.tensor_scale == slow_tensor_scale(&slow, x, n));
        if (want > 0.0f && i == 0)
            assert_true(f.tensor_scale == want);
        assert_true(f.tensor_scale >= FLT_MIN && isfinite(f.tensor_scale));
    }
}

static void tensor_scales(void **state)
{
    (void)state;
    const float zero[4] = {0.0f, -0.0f, 0.0f, 0.0f}, unit[3] = {1.0f, -2688.0f, 5.0f};
    check_bound(zero, 4, 1.0f); /* any would do; it must not be 0 */
    check_bound(zero, 0, 1.0f);
    check_bound(unit, 3, 1.0f); /* 6 * 448 */
    check_bound((const float[]){1e-45f}, 1, FLT_MIN); /* held to the least normal float */
    check_bound((const float[]){1e-35f, -2e-35f}, 2, FLT_MIN);
    check_bound((const float[]){FLT_MAX, 1.0f}, 2, 0.0f);
    check_bound((const float[]){NAN, INFINITY, -INFINITY, 2688.0f}, 4, 1.0f); /* what is finite counts */
    check_bound((const float[]){NAN, INFINITY}, 2, 1.0f);
    lb_rng rng;
    lb_rng_seed(&rng, 1);
    for (int i = 0; i < 20000; i++) {
        float x[3];
        for (int k = 0; k < 3; k++)
            x[k] = lb_float_from_bits((uint32_t)lb_rng_u64(&rng));
        check_bound(x, 3, 0.0f);
    }
}

/* Over many binades of blocks within one tensor, tiny and huge tensors: against double. */
static void block_factors(void **state)
{
    (void)state;
    static const char *const names[] = {"nvfp4", "nvint4"};
    static const double sizes[] = {1.0, 1e-40, 1e-36, 1e-20, 1e20, 1e38};
    lb_rng rng;
    lb_rng_seed(&rng, 2);
    for (int i = 0; i < 2; i++) {
        slow_format slow = {.element = &slow_elements[i ? SLOW_INT4 : SLOW_E2M1],
                            .rule = SLOW_TWO_LEVEL,
                            .nv = true,
                            .block = 16};
        slow.grids = slow_grids_of(slow.element, false);
        for (int round = 0; round < 3000; round++) {
            enum { N = 160 };
            float x[N], params[2 * N / 16], values[N], want_values[16];
            uint8_t codes[N], want[16];
            lb_format f = must_parse(names[i]);
            for (size_t k = 0; k < N; k++)
                x[k] = (float)(sizes[round % 6] * (2.0 * lb_rng_uniform(&rng) - 1.0) *
                               pow(2.0, -1.5 * (double)(k / 16)));
            lb_format_bind(&f, x, N);
            lb_format_encode_row(&f, x, NULL, N, LB_FIT_RANGE, codes, params);
            lb_format_decode_row(&f, codes, params, N, values);
            for (size_t g = 0; g < N / 16; g++) {
                float factor;
                const float scale = slow_scale(&slow, f.tensor_scale, x + 16 * g, 16, &factor);
                assert_true(params[2 * g + LB_BLOCK_SCALE] == scale);
                assert_true(params[2 * g + LB_NV_BLOCK_FACTOR] == factor);
                slow_round(&slow, scale, x + 16 * g, 16, want, want_values);
                assert_memory_equal(codes + 16 * g, want, 16);
                assert_memory_equal(values + 16 * g, want_values, sizeof want_values);
            }
        }
    }
}

/* The tensor's largest value is exact; a block below 2^-10 of the largest factor's step is zeros, at 2^-10
 * still (a tie, to even), and above it is not. */
static void a_small_block_is_flushed(void **state)
{
    (void)state;
    static const struct {
        double relative; /* of the block to what factor 1 stands for */
        bool zero;
    } cases[] = {{0x1p-10, true}, {0x1.0002p-10, false}, {0x1.fffep-11, true}, {0x1p-9, false}, {0.0, true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lb_format f = must_parse("nvfp4");
        float x[32] = {0}, params[4], values[32];
        uint8_t codes[32], bytes[16], scales[2];
        x[3] = -2688.0f; /* tensor scale 1 */
        x[20] = (float)(6.0 * cases[i].relative);
        lb_format_bind(&f, x, 32);
        assert_true(f.tensor_scale == 1.0f);
        lb_format_encode_row(&f, x, NULL, 32, LB_FIT_RANGE, codes, params);
        lb_format_decode_row(&f, codes, params, 32, values);
        f.ops->pack(&f, codes, params, 32, (uint8_t *const[]){bytes, scales});
        assert_true(values[3] == -2688.0f);
        assert_int_equal(scales[0], 0x7e);
        assert_int_equal(scales[1] == 0, cases[i].zero);
        assert_int_equal(values[20] == 0.0f, cases[i].zero);
    }
}

/* A factor rounded down: the largest value saturates instead of wrapping into the sign. */
static void saturation(void **state)
{
    (void)state;
    lb_format f = must_parse("nvint4-asym"), symmetric = must_parse("nvint4");
    f.tensor_scale = symmetric.tensor_scale = 0x1p-9f; /* so that 448 is the most: a scale of 0.875 */
    const float x[4] = {100.0f, -100.0f, 7.0f * 0.875f, -8.0f * 0.875f};
    float params[2];
    uint8_t codes[4];
    lb_format_encode_row(&f, x, NULL, 4, LB_FIT_RANGE, codes, params);
    assert_true(params[LB_BLOCK_SCALE] == 0.875f);
    assert_memory_equal(codes, ((const uint8_t[]){7, 8, 7, 8}), 4);
    lb_format_encode_row(&symmetric, x, NULL, 4, LB_FIT_RANGE, codes, params);
    assert_memory_equal(codes, ((const uint8_t[]){7, 9, 7, 9}), 4);
}

/* Signal to noise of normal data, sigma 1: an independent simulation's numbers. */
static void signal_to_noise_of_normal_data(void **state)
{
    (void)state;
    static const normal_case want[] = {{"nvfp4", 20.44}, {"nvint4", 21.28}};
    check_normal_data(want, sizeof want / sizeof *want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_two_levels_share_a_float),
        cmocka_unit_test(tensor_scales),
        cmocka_unit_test(block_factors),
        cmocka_unit_test(a_small_block_is_flushed),
        cmocka_unit_test(saturation),
        cmocka_unit_test(signal_to_noise_of_normal_data),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
