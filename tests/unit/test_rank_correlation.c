/* SPDX-License-Identifier: MIT
 * Ranks against the textbook's formula where there are no ties, and against counting where there are. */
#include "near_value.h"

#include <math.h>

#include "analyze/rank_correlation.h"
#include "base/alloc.h"
#include "base/rng.h"

static double rho_of(const double *x, const double *y, size_t n)
{
    lb_error err;
    double rho;
    if (lb_rank_correlation(x, y, n, &rho, &err) != LB_OK)
        fail_msg("%s", err.msg);
    return rho;
}

/* How many are less, and half of those that are equal: the rank from 0, shared by equals. */
static double slow_rank(const double *x, size_t n, size_t i)
{
    double rank = -0.5;
    for (size_t k = 0; k < n; k++)
        rank += x[k] < x[i] ? 1.0 : x[k] == x[i] ? 0.5 : 0.0;
    return rank;
}

static double slow_rho(const double *x, const double *y, size_t n)
{
    double sx = 0, sy = 0, xx = 0, yy = 0, xy = 0;
    for (size_t i = 0; i < n; i++) {
        const double a = slow_rank(x, n, i), b = slow_rank(y, n, i);
        sx += a, sy += b, xx += a * a, yy += b * b, xy += a * b;
    }
    const double m = (double)n;
    return (m * xy - sx * sy) / sqrt((m * xx - sx * sx) * (m * yy - sy * sy));
}

static void follows_the_definition(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 3);
    for (size_t n = 3; n < 40; n++) {
        double x[40], y[40];
        for (size_t i = 0; i < n; i++) { /* with ties */
            x[i] = (double)lb_rng_below(&rng, 10);
            y[i] = x[i] + (double)lb_rng_below(&rng, 8);
        }
        x[0] = -1.0; /* never all equal */
        y[1] = 99.0;
        near_value(rho_of(x, y, n), slow_rho(x, y, n), 1e-12);
    }
    const double x[] = {1, 2, 3, 4, 5}, cubes[] = {1, 8, 27, 64, 125}, falling[] = {9, 7, 5, 3, 1};
    near_value(rho_of(x, cubes, 5), 1.0, 1e-15);
    near_value(rho_of(x, falling, 5), -1.0, 1e-15);
    /* 1 - 6 sum d^2 / (n (n^2 - 1)) with d = 1 1 0 0 0 */
    const double swapped[] = {2, 1, 3, 4, 5};
    near_value(rho_of(x, swapped, 5), 1.0 - 6.0 * 2.0 / (5.0 * 24.0), 1e-15);
}

static void what_is_unknown_is_left_out(void **state)
{
    (void)state;
    const double x[] = {1, NAN, 2, 3, INFINITY, 4}, y[] = {1, 0, 2, 3, 0, NAN};
    near_value(rho_of(x, y, 6), 1.0, 1e-15);
    assert_true(isnan(rho_of(x, y, 3)));
    const double same[] = {5, 5, 5, 5};
    assert_true(isnan(rho_of(same, x, 4)));
    assert_true(isnan(rho_of(x, y, 0)));
    lb_error err;
    double rho;
    lb_alloc_fail_at(1);
    assert_int_equal(lb_rank_correlation(x, y, 6, &rho, &err), LB_ENOMEM);
    lb_alloc_fail_at(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(follows_the_definition),
                                       cmocka_unit_test(what_is_unknown_is_left_out)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
