/* SPDX-License-Identifier: MIT
 * f16 and bf16 against a slow, obvious version: all values listed in order, the nearest one found by
 * comparing distances in double, ties to the even code. */
#include "near.h"

#include "base/half.h"
#include "base/rng.h"

/* What the bits mean, straight from IEEE 754: (-1)^s 2^(e - bias) 1.m, for any split of 16 bits. */
static double value_of(uint32_t bits, int exponent_bits, int mantissa_bits)
{
    int sign = (int)(bits >> 15) & 1;
    int exponent = (int)(bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
    int mantissa = (int)bits & ((1 << mantissa_bits) - 1);
    int bias = (1 << (exponent_bits - 1)) - 1;
    double magnitude;
    if (exponent == (1 << exponent_bits) - 1)
        magnitude = mantissa ? (double)NAN : (double)INFINITY;
    else if (exponent == 0)
        magnitude = ldexp(mantissa, 1 - bias - mantissa_bits);
    else
        magnitude = ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
    return sign ? -magnitude : magnitude;
}

/* The code nearest to x >= 0 by bisection over all finite codes, ties to even; `top` is the code of
 * infinity, which takes over half a step above the largest finite value. */
static uint32_t nearest(double x, int exponent_bits, int mantissa_bits)
{
    uint32_t top = ((1u << exponent_bits) - 1) << mantissa_bits;
    uint32_t low = 0, high = top;
    while (high - low > 1) {
        uint32_t middle = (low + high) / 2;
        if (value_of(middle, exponent_bits, mantissa_bits) <= x)
            low = middle;
        else
            high = middle;
    }
    double below = value_of(low, exponent_bits, mantissa_bits);
    double above = high == top ? 2 * below - value_of(low - 1, exponent_bits, mantissa_bits)
                               : value_of(high, exponent_bits, mantissa_bits);
    if (x - below == above - x)
        return low & 1 ? high : low;
    return x - below < above - x ? low : high;
}

static void every_f16_has_its_value(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        double got = (double)lb_f16_to_float((uint16_t)h), want = value_of(h, 5, 10);
        assert_true(isnan(want) ? isnan(got) : got == want && signbit(got) == signbit(want));
    }
}

static void every_bf16_has_its_value(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        double got = (double)lb_bf16_to_float((uint16_t)h), want = value_of(h, 8, 7);
        assert_true(isnan(want) ? isnan(got) : got == want && signbit(got) == signbit(want));
    }
}

static void every_16_bit_value_survives_a_round_trip(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        if (!isnan(lb_f16_to_float((uint16_t)h)))
            assert_int_equal(lb_f16_from_float(lb_f16_to_float((uint16_t)h)), h);
        else
            assert_true(isnan(lb_f16_to_float(lb_f16_from_float(lb_f16_to_float((uint16_t)h)))));
        if (!isnan(lb_bf16_to_float((uint16_t)h)))
            assert_int_equal(lb_bf16_from_float(lb_bf16_to_float((uint16_t)h)), h);
        else
            assert_true(isnan(lb_bf16_to_float(lb_bf16_from_float(lb_bf16_to_float((uint16_t)h)))));
    }
}

static void check_rounding(float x)
{
    if (isnan(x))
        return;
    uint32_t sign = signbit(x) ? 0x8000 : 0;
    double magnitude = fabs((double)x);
    uint32_t f16 = isinf(x) ? 0x7c00 : nearest(magnitude, 5, 10);
    uint32_t bf16 = isinf(x) ? 0x7f80 : nearest(magnitude, 8, 7);
    if (lb_f16_from_float(x) != (sign | f16) || lb_bf16_from_float(x) != (sign | bf16))
        fail_msg("%a gives f16 %04x and bf16 %04x, wanted %04x and %04x", (double)x, lb_f16_from_float(x),
                 lb_bf16_from_float(x), sign | f16, sign | bf16);
}

/* Around every f16 and bf16 value, and around the midpoint to its successor: where rounding decides. */
static void rounding_at_every_boundary(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        uint16_t code = (uint16_t)h;
        float f16 = lb_f16_to_float(code);
        float next = lb_f16_to_float((uint16_t)(code + 1));
        float middle = 0.5f * (f16 + next);
        check_rounding(middle);
        check_rounding(nextafterf(middle, INFINITY));
        check_rounding(nextafterf(middle, -INFINITY));
        for (uint32_t low = 0x7ffe; low <= 0x8002; low++)
            check_rounding(lb_float_from_bits(h << 16 | low));
        check_rounding(lb_float_from_bits(h << 16 | 1));
    }
}

static void rounding_of_random_bits(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 1);
    for (int i = 0; i < 300000; i++)
        check_rounding(lb_float_from_bits((uint32_t)lb_rng_u64(&rng)));
}

static void edges(void **state)
{
    (void)state;
    assert_int_equal(lb_f16_from_float(65504.0f), 0x7bff);
    assert_int_equal(lb_f16_from_float(65519.996f), 0x7bff);
    assert_int_equal(lb_f16_from_float(65520.0f), 0x7c00);
    assert_int_equal(lb_f16_from_float(-1e30f), 0xfc00);
    assert_int_equal(lb_f16_from_float(0x1p-24f), 0x0001);
    assert_int_equal(lb_f16_from_float(0x1p-25f), 0x0000);
    assert_int_equal(lb_f16_from_float(-0.0f), 0x8000);
    assert_int_equal(lb_bf16_from_float(3.4028235e38f), 0x7f80);
    assert_true(isnan(lb_f16_to_float(lb_f16_from_float(NAN))));
    /* a NaN whose payload sits in the bits that are cut off must not turn into infinity */
    assert_true(isnan(lb_bf16_to_float(lb_bf16_from_float(lb_float_from_bits(0x7f800001u)))));
    assert_true(isnan(lb_f16_to_float(lb_f16_from_float(lb_float_from_bits(0xff800001u)))));
}

static void round_to_f16_saturates(void **state)
{
    (void)state;
    assert_true(lb_round_to_f16(1e9f) == 65504.0f);
    assert_true(lb_round_to_f16(-INFINITY) == -65504.0f);
    assert_true(lb_round_to_f16(0.1f) == lb_f16_to_float(0x2e66));
    assert_true(isnan(lb_round_to_f16(NAN)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_f16_has_its_value),
        cmocka_unit_test(every_bf16_has_its_value),
        cmocka_unit_test(every_16_bit_value_survives_a_round_trip),
        cmocka_unit_test(rounding_at_every_boundary),
        cmocka_unit_test(rounding_of_random_bits),
        cmocka_unit_test(edges),
        cmocka_unit_test(round_to_f16_saturates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
