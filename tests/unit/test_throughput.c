/* SPDX-License-Identifier: MIT
 * The model of two precisions' throughput: the numbers that arXiv:2512.05409's readers give, a slow count of cycles,
 * and measured rates that are possible. */
#include "near.h"

#include "analyze/throughput.h"

/* So many channels, one a cycle in high precision and r in low, one unit or two. */
static double cycles(double share, double ratio, bool parallel)
{
    const double channels = 1e6, high = (1.0 - share) * channels;
    const double low = (parallel ? channels : share * channels) / ratio;
    return parallel ? fmax(high, low) : high + low;
}

static void models_count_cycles(void **state)
{
    (void)state;
    for (double share = 0.0; share <= 1.0; share += 0.0625) {
        for (double ratio = 1.0; ratio <= 8.0; ratio += 0.5) {
            near_array(((double[]){lb_serial_speedup(share, ratio), lb_parallel_speedup(share, ratio)}),
                       ((double[]){1e6 / cycles(share, ratio, false), 1e6 / cycles(share, ratio, true)}), 2,
                       1e-9);
            const bool hidden = share >= lb_parallel_share(ratio) - 1e-12;
            assert_true((fabs(lb_parallel_speedup(share, ratio) - ratio) < 1e-9) == hidden);
        }
    }
    near_array(
        ((double[]){lb_serial_speedup(0.75, 2), lb_serial_speedup(0.875, 2), lb_serial_speedup(0.9375, 2)}),
        ((double[]){1.60, 1.78, 1.88}), 3, 0.005);
    near_array(((double[]){lb_parallel_share(4), lb_parallel_share(1)}), ((double[]){0.75, 0.0}), 2, 1e-12);
}

static void rates_are_measured(void **state)
{
    (void)state;
    lb_throughput t;
    lb_error err;
    assert_int_equal(lb_throughput_measure(lb_kernels_get(LB_CPU_BEST), &t, &err), LB_OK);
    const double rates[] = {t.w8a8, t.w4a8, t.w4a4, t.mixed[0], t.mixed[1], t.mixed[2], t.mixed[3]};
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++)
        assert_true(rates[i] > 1e5 && rates[i] < 1e15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(models_count_cycles),
        cmocka_unit_test(rates_are_measured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
