/* SPDX-License-Identifier: MIT
 * Every code of every element against its value from the definition, and encoding against a search of the
 * whole grid. */
#include "near.h"
#include "slow_formats.h"

#include "base/half.h"
#include "base/rng.h"
#include "formats/element.h"

static const lb_element *const elements[SLOW_ELEMENTS] = {&lb_e4m3, &lb_e5m2, &lb_e2m3, &lb_e3m2,
                                                          &lb_e2m1, &lb_int8, &lb_int6, &lb_int4};

static void every_code(void **state)
{
    (void)state;
    for (int i = 0; i < SLOW_ELEMENTS; i++) {
        const slow_element *slow = &slow_elements[i];
        assert_string_equal(elements[i]->name, slow->name);
        assert_int_equal(elements[i]->bits, slow_bits(slow));
        for (unsigned code = 0; code < 1u << slow_bits(slow); code++) {
            const double want = slow_decode(slow, code);
            const float got = lb_element_decode(elements[i], (uint8_t)code);
            if (isnan(want) ? !isnan(got) : lb_float_bits(got) != lb_float_bits((float)want))
                fail_msg("%s code 0x%02x: got %g, wanted %g", slow->name, code, (double)got, want);
        }
    }
}

/* The tables that people quote: E2M1 whole, and the ends of the others. */
static void published_values(void **state)
{
    (void)state;
    static const float e2m1[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    for (uint8_t code = 0; code < 8; code++) {
        assert_true(lb_element_decode(&lb_e2m1, code) == e2m1[code]);
        assert_true(lb_element_decode(&lb_e2m1, code | 8) == -e2m1[code]);
    }
    static const struct {
        const lb_element *e;
        unsigned code;
        double value;
    } ends[] = {{&lb_e4m3, 0x7e, 448},
                {&lb_e4m3, 0x08, 0x1p-6},
                {&lb_e4m3, 0x01, 0x1p-9},
                {&lb_e4m3, 0x38, 1},
                {&lb_e5m2, 0x7b, 57344},
                {&lb_e5m2, 0x04, 0x1p-14},
                {&lb_e5m2, 0x01, 0x1p-16},
                {&lb_e5m2, 0x3c, 1},
                {&lb_e5m2, 0x7c, (double)INFINITY},
                {&lb_e5m2, 0xfc, -(double)INFINITY},
                {&lb_e2m3, 0x1f, 7.5},
                {&lb_e2m3, 0x01, 0.125},
                {&lb_e3m2, 0x1f, 28},
                {&lb_e3m2, 0x01, 0.0625},
                {&lb_int8, 0x81, -127},
                {&lb_int8, 0x80, -128},
                {&lb_int6, 0x20, -32},
                {&lb_int4, 0x9, -7}};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        assert_true((double)lb_element_decode(ends[i].e, (uint8_t)ends[i].code) == ends[i].value);
    static const uint8_t nans[] = {0x7d, 0x7e, 0x7f, 0xfd, 0xfe, 0xff};
    for (size_t i = 0; i < sizeof nans; i++)
        assert_true(isnan(lb_element_decode(&lb_e5m2, nans[i])));
    assert_true(isnan(lb_element_decode(&lb_e4m3, 0x7f)) && isnan(lb_element_decode(&lb_e4m3, 0xff)));
}

static void fields_say_what_the_codes_do(void **state)
{
    (void)state;
    for (int i = 0; i < SLOW_ELEMENTS; i++) {
        const lb_element *e = elements[i];
        const slow_element *slow = &slow_elements[i];
        assert_true((double)e->max == slow->max);
        assert_true(slow_decode(slow, e->max_code) == slow->max);
        assert_int_equal(e->twos_complement, slow_is_int(slow));
        assert_int_equal(ilogb((double)e->max), slow->max_exponent);
        for (unsigned magnitude = 0; magnitude < 1u << (e->bits - 1); magnitude++) {
            const double value = slow_decode(slow, magnitude);
            assert_int_equal(magnitude >= e->nan_code, isnan(value));
            assert_int_equal(magnitude == e->infinity_code, isinf(value));
            assert_int_equal(magnitude <= e->max_code, isfinite(value));
        }
    }
}

static void check_encode(int element, bool asymmetric, const slow_grids *grids, float y)
{
    const lb_element *e = elements[element];
    const float low = asymmetric ? e->max + 1.0f : e->max;
    const unsigned want = slow_encode(grids, (double)y);
    const unsigned got = lb_element_encode(e, low, y);
    if (got != want)
        fail_msg("%s%s of %a: got code 0x%02x, wanted 0x%02x", e->name, asymmetric ? " asymmetric" : "",
                 (double)y, got, want);
}

/* Every bfloat16, the neighbourhood of every value and of every tie, and random floats. */
static void encode_is_the_nearest(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 3);
    for (int i = 0; i < SLOW_ELEMENTS; i++) {
        for (int asymmetric = 0; asymmetric <= elements[i]->twos_complement; asymmetric++) {
            const slow_grids grids = slow_grids_of(&slow_elements[i], asymmetric == 1);
            for (unsigned bits = 0; bits < 1u << 16; bits++) {
                const float y = lb_bf16_to_float((uint16_t)bits);
                if (!isnan(y)) /* infinities saturate */
                    check_encode(i, asymmetric == 1, &grids, y);
            }
            for (int side = 0; side < 2; side++) {
                const slow_grid *grid = &grids.side[side];
                for (int k = 0; k + 1 < grid->count; k++) {
                    const float tie = (float)((grid->values[k] + grid->values[k + 1]) / 2.0);
                    const float sign = side ? -1.0f : 1.0f;
                    check_encode(i, asymmetric == 1, &grids, sign * tie);
                    check_encode(i, asymmetric == 1, &grids, sign * nextafterf(tie, 0.0f));
                    check_encode(i, asymmetric == 1, &grids, sign * nextafterf(tie, INFINITY));
                    check_encode(i, asymmetric == 1, &grids, sign * (float)grid->values[k]);
                }
            }
            for (int k = 0; k < 200000; k++) {
                const uint32_t any = (uint32_t)lb_rng_u64(&rng);
                const uint32_t near = (any & 0x83ffffffu) | (118u + any % 24u) << 23; /* 2^-9 to 2^15 */
                if ((any & 0x7fffffffu) <= 0x7f800000u)
                    check_encode(i, asymmetric == 1, &grids, lb_float_from_bits(any));
                check_encode(i, asymmetric == 1, &grids, lb_float_from_bits(near));
            }
        }
    }
}

/* Every finite code is the code of its value; so is every code of a NaN's sign and zero's. */
static void encode_undoes_decode(void **state)
{
    (void)state;
    for (int i = 0; i < SLOW_ELEMENTS; i++) {
        const lb_element *e = elements[i];
        for (unsigned code = 0; code < 1u << e->bits; code++) {
            const float value = lb_element_decode(e, (uint8_t)code);
            if (isfinite(value))
                assert_int_equal(lb_element_encode(e, e->max + 1.0f, value), code);
        }
    }
}

static void ties_of_e2m1(void **state)
{
    (void)state;
    static const float ties[][2] = {{0.25f, 0}, {0.75f, 1}, {1.25f, 1}, {1.75f, 2},
                                    {2.5f, 2},  {3.5f, 4},  {5.0f, 4}};
    for (size_t i = 0; i < sizeof ties / sizeof *ties; i++)
        for (int sign = -1; sign <= 1; sign += 2)
            assert_true(
                lb_element_decode(&lb_e2m1, lb_element_encode(&lb_e2m1, 6.0f, (float)sign * ties[i][0])) ==
                (float)sign * ties[i][1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code),
        cmocka_unit_test(published_values),
        cmocka_unit_test(fields_say_what_the_codes_do),
        cmocka_unit_test(encode_is_the_nearest),
        cmocka_unit_test(encode_undoes_decode),
        cmocka_unit_test(ties_of_e2m1),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
