/* SPDX-License-Identifier: MIT
 * MX formats: the scale rules against exact arithmetic, E8M0 as stored, the ends of the range, and the signal
 * to noise ratio of normal data. */
#include "format_case.h"
#include "slow_formats.h"

#include "base/half.h"
#include "base/rng.h"
#include "formats/block_format.h"

static const lb_element *const elements[SLOW_ELEMENTS] = {&lb_e4m3, &lb_e5m2, &lb_e2m3, &lb_e3m2,
                                                          &lb_e2m1, &lb_int8, &lb_int6, &lb_int4};
static const lb_scale_rule rules[] = {LB_SCALE_CEIL, LB_SCALE_OCP, LB_SCALE_EVEN, LB_SCALE_ROUND,
                                      LB_SCALE_FLOOR};
enum { RULES = sizeof rules / sizeof *rules };
static const slow_rule slow_rules[RULES] = {SLOW_CEIL, SLOW_OCP, SLOW_EVEN, SLOW_ROUND, SLOW_FLOOR};

static void check_exponent(int element, int rule, float amax)
{
    const int want = slow_exponent(&slow_elements[element], slow_rules[rule], amax);
    const int got = lb_mx_exponent(elements[element], rules[rule], lb_float_bits(amax));
    if (got != want)
        fail_msg("%s, rule %d, %a: got 2^%d, wanted 2^%d", elements[element]->name, rule, (double)amax, got,
                 want);
}

/* amax, where it is a finite float, and its neighbours. */
static void check_around(int element, int rule, double amax)
{
    if (amax > (double)FLT_MAX)
        return;
    float x = (float)amax;
    for (int i = 0; i < 3; i++)
        x = nextafterf(x, 0.0f);
    for (int i = 0; i < 7 && isfinite(x); i++, x = nextafterf(x, INFINITY))
        check_exponent(element, rule, x);
}

static void exponents_are_exact(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 1);
    for (int e = 0; e < SLOW_ELEMENTS; e++) {
        for (int rule = 0; rule < RULES; rule++) {
            check_exponent(e, rule, 0.0f);
            check_exponent(e, rule, FLT_MAX);
            check_exponent(e, rule, nextafterf(FLT_MAX, 0.0f));
            for (int k = -149; k <= 127; k++) {
                const double max = slow_elements[e].max,
                             to_top = ldexp(1.0, k - slow_elements[e].max_exponent);
                check_around(e, rule, ldexp(1.0, k));
                check_around(e, rule, max * to_top);
                check_around(e, rule, max * to_top * sqrt(2.0)); /* where "round" changes */
                check_around(e, rule, max * to_top * sqrt(0.5));
                for (unsigned kept = 1; kept < 8; kept++) /* where "even" carries into the next binade */
                    check_around(e, rule, ldexp(2.0 - ldexp(0.5, -(int)kept), k));
            }
            for (uint32_t fraction = 0; fraction < 1u << 23; fraction += 97) /* one binade, densely */
                check_exponent(e, rule, lb_float_from_bits(0x3f800000u | fraction));
            for (uint32_t subnormal = 1; subnormal < 1u << 23; subnormal += 1 + subnormal / 8)
                check_exponent(e, rule, lb_float_from_bits(subnormal));
            for (int i = 0; i < 20000; i++)
                check_exponent(e, rule, lb_float_from_bits((uint32_t)lb_rng_below(&rng, 0x7f800000u)));
        }
    }
}

/* The default rule clips nothing, and the next smaller scale would clip. */
static void the_default_rule_is_tight(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 2);
    for (int e = 0; e < SLOW_ELEMENTS; e++) {
        for (int i = 0; i < 20000; i++) {
            const float amax = lb_float_from_bits((uint32_t)lb_rng_below(&rng, 0x7f800000u));
            const int k = lb_mx_exponent(elements[e], LB_SCALE_CEIL, lb_float_bits(amax));
            const double max = slow_elements[e].max;
            assert_true((double)amax <= ldexp(max, k));
            assert_true(k == -127 || (double)amax > ldexp(max, k - 1));
        }
    }
}

/* A byte c is 2^(c - 127), both ways, for all that there are. */
static void every_scale_byte(void **state)
{
    (void)state;
    const lb_format f = must_parse("mxint8");
    for (unsigned byte = 0; byte < 255; byte++) {
        uint8_t code = 1, packed = 0, scale = (uint8_t)byte, back = 0xee;
        float params = -1.0f, value;
        assert_int_equal(
            f.ops->unpack(&f, (const uint8_t *const[]){&code, &scale}, 1, &packed, &params, NULL), LB_OK);
        assert_true((double)params == ldexp(1.0, (int)byte - 127));
        f.ops->value(&f, &params, &code, 1, &value);
        assert_true((double)value == ldexp(1.0, (int)byte - 127));
        f.ops->pack(&f, &code, &params, 1, (uint8_t *const[]){&packed, &back});
        assert_int_equal(back, byte);
    }
}

/* Zeros: the least scale and zeros of their own sign; values too small for the least scale: the nearest of
 * its grid; the largest float survives by the rules that do not clip. */
static void the_ends_of_the_range(void **state)
{
    (void)state;
    static const char *const names[SLOW_ELEMENTS] = {"mxfp8-e4m3", "mxfp8-e5m2", "mxfp6-e2m3", "mxfp6-e3m2",
                                                     "mxfp4",      "mxint8",     "mxint6",     "mxint4"};
    for (int e = 0; e < SLOW_ELEMENTS; e++) {
        const lb_format f = must_parse(names[e]);
        const float step = (float)ldexp(slow_decode(&slow_elements[e], 1), -127);
        float x[4] = {0.0f, -0.0f, 0.0f, 0.0f}, params, values[4];
        uint8_t codes[4], bytes[4], scale;
        lb_format_encode_row(&f, x, NULL, 4, LB_FIT_RANGE, codes, &params);
        lb_format_decode_row(&f, codes, &params, 4, values);
        assert_true(params == 0x1p-127f);
        for (int i = 0; i < 4; i++)
            assert_true(values[i] == 0.0f &&
                        (slow_is_int(&slow_elements[e]) || signbit(values[i]) == signbit(x[i])));
        f.ops->pack(&f, codes, &params, 4, (uint8_t *const[]){bytes, &scale});
        assert_int_equal(scale, 0);

        const float small[4] = {step, 0.75f * step, 0.25f * step, -step};
        lb_format_encode_row(&f, small, NULL, 4, LB_FIT_RANGE, codes, &params);
        lb_format_decode_row(&f, codes, &params, 4, values);
        assert_true(params == 0x1p-127f);
        assert_true(values[0] == step && values[1] == step && values[2] == 0.0f && values[3] == -step);

        const float large[4] = {FLT_MAX, -FLT_MAX, 1.0f, 0.0f};
        lb_format_encode_row(&f, large, NULL, 4, LB_FIT_RANGE, codes, &params);
        lb_format_decode_row(&f, codes, &params, 4, values);
        assert_true(isfinite(params) && params > 0.0f);
        assert_true(values[2] == 0.0f && values[3] == 0.0f);
        assert_true(values[0] > 0.0f &&
                    values[0] == -values[1]); /* may round up to infinity, as 2^128 does */
    }
}

/* Signal to noise of normal data, sigma 1: an independent simulation's numbers (16.8 million samples). */
static void signal_to_noise_of_normal_data(void **state)
{
    (void)state;
    static const normal_case want[] = {
        {"mxfp8-e4m3", 31.52},     {"mxfp8-e5m2", 25.55},     {"mxfp6-e2m3", 30.96}, {"mxfp6-e3m2", 25.55},
        {"mxfp4", 18.75},          {"mxint8", 41.62},         {"mxint6", 29.43},     {"mxint4", 16.84},
        {"mxfp8-e4m3-ocp", 30.64}, {"mxfp6-e2m3-ocp", 30.94}, {"mxfp4-ocp", 18.78},  {"mxint8-ocp", 41.67},
        {"mxint6-ocp", 29.63},     {"mxint4-ocp", 17.56},     {"mxfp4-even", 19.02}, {"mxint8-exact", 45.44},
        {"mxint6-exact", 33.19},   {"mxint4-exact", 20.26},   {"mxfp4-exact", 19.91}};
    check_normal_data(want, sizeof want / sizeof *want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exponents_are_exact),
        cmocka_unit_test(the_default_rule_is_tight),
        cmocka_unit_test(every_scale_byte),
        cmocka_unit_test(the_ends_of_the_range),
        cmocka_unit_test(signal_to_noise_of_normal_data),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
