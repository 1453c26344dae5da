/* SPDX-License-Identifier: MIT
 * Products of rows and vectors on every level, and what rows of keys and values are made by. */
#include "kernels/rows_cases.h"

#include <float.h>

#include "kernels/kernel_tables.h"

static void rows_beside_vectors(void **state)
{
    (void)state;
    for (size_t i = 0; i < table_count; i++)
        check_all_rows(tables[i]);
}

static void narrowing(void **state)
{
    (void)state;
    enum { COUNT = 4099 };
    static float in[COUNT];
    static uint16_t want[COUNT], got[COUNT + 1];
    const float special[] = {0.0f,      -0.0f,    65504.0f, 65519.0f, 65520.0f,  1e30f,   -1e30f,  INFINITY,
                             -INFINITY, 0x1p-24f, 0x1p-25f, 0x1p-26f, -0x1p-14f, 2049.0f, 2051.0f, NAN};
    lb_rng rng;
    lb_rng_seed(&rng, 31);
    for (size_t i = 0; i < COUNT; i++)
        in[i] = i < sizeof special / sizeof *special
                    ? special[i]
                    : (float)(lb_rng_normal(&rng) * ldexp(1.0, (int)lb_rng_below(&rng, 40) - 25));
    for (size_t i = 0; i < COUNT;
         i++) /* from the definition: the nearest, infinities at the end of the range */
        want[i] = isnan(in[i]) ? 0 : lb_f16_from_float(lb_round_to_f16(in[i]));
    for (size_t t = 0; t < table_count; t++) {
        for (size_t n = 0; n < COUNT; n = n < 40 ? n + 1 : n * 3) {
            const size_t from = n % 5;
            memset(got, 0x5a, sizeof got);
            tables[t]->f32_to_f16(in + from, got, n);
            assert_int_equal(got[n], 0x5a5a);
            for (size_t i = 0; i < n; i++) {
                if (isnan(in[from + i]))
                    assert_true((got[i] & 0x7fff) > 0x7c00);
                else
                    assert_int_equal(got[i], want[from + i]);
            }
        }
    }
}

static void encoding_to_bytes(void **state)
{
    (void)state;
    enum { MOST = 300 };
    float x[MOST], scales[2];
    int8_t codes[2][MOST + 1];
    lb_rng rng;
    lb_rng_seed(&rng, 32);
    for (size_t n = 1; n < MOST; n += 1 + n / 9) {
        float largest = 0.0f;
        for (size_t i = 0; i < n; i++) {
            x[i] = (float)lb_rng_normal(&rng) * (n % 4 ? 2.0f : 1e-37f);
            largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
        }
        for (size_t t = 0; t < table_count; t++) {
            memset(codes[t != 0], 0x33, sizeof codes[0]);
            tables[t]->int8_encode(x, n, codes[t != 0], &scales[t != 0]);
            assert_int_equal(codes[t != 0][n], 0x33);
        }
        assert_true(table_count == 1 || (scales[0] == scales[1] && memcmp(codes[0], codes[1], n) == 0));
        assert_true(scales[0] == (largest / 127.0f >= FLT_MIN ? largest / 127.0f : 0.0f));
        for (size_t i = 0; i < n; i++) /* to the nearest, but for the rounding of the inverse */
            assert_true(fabs((double)x[i] - (double)scales[0] * codes[0][i]) <=
                        (scales[0] > 0.0f ? 0.50002 * (double)scales[0] : (double)fabsf(x[i])));
    }
    x[0] = NAN;
    x[1] = INFINITY;
    x[2] = -INFINITY;
    for (size_t t = 0; t < table_count; t++) {
        tables[t]->int8_encode(x, 3, codes[0], scales);
        assert_true(codes[0][0] == 0 && codes[0][1] == 127 && codes[0][2] == -127 && isfinite(scales[0]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_beside_vectors),
        cmocka_unit_test(narrowing),
        cmocka_unit_test(encoding_to_bytes),
    };
    return cmocka_run_group_tests(tests, find_tables, NULL);
}
