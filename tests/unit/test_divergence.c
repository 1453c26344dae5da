/* SPDX-License-Identifier: MIT
 * Scores of one position against sums written out in long double. */
#include "near.h"

#include "base/rng.h"
#include "eval/divergence.h"

enum { MOST = 300 };

static void fill(lb_rng *rng, float *logits, size_t n, double spread)
{
    for (size_t i = 0; i < n; i++)
        logits[i] = (float)(spread * lb_rng_normal(rng));
}

/* Softmax over the entries `chosen` (NULL: all n), in long double. */
static void softmax(const float *logits, const size_t *chosen, size_t n, long double *p)
{
    long double largest = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++)
        largest = fmaxl(largest, (long double)logits[chosen ? chosen[i] : i]);
    for (size_t i = 0; i < n; i++)
        sum += p[i] = expl((long double)logits[chosen ? chosen[i] : i] - largest);
    for (size_t i = 0; i < n; i++)
        p[i] /= sum;
}

static long double slow_divergence(const float *p, const float *q, const size_t *chosen, size_t n)
{
    long double a[MOST], b[MOST], total = 0;
    softmax(p, chosen, n, a);
    softmax(q, chosen, n, b);
    for (size_t i = 0; i < n; i++)
        total += a[i] > 0 ? a[i] * (logl(a[i]) - logl(b[i])) : 0;
    return total;
}

static void sums_are_those_of_long_double(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 3);
    for (int round = 0; round < 200; round++) {
        float p[MOST], q[MOST];
        const size_t n = 1 + (size_t)lb_rng_below(&rng, MOST);
        const double spread = round % 3 == 0 ? 0.1 : round % 3 == 1 ? 3.0 : 30.0;
        size_t p_best, q_best, best = 0;
        fill(&rng, p, n, spread);
        fill(&rng, q, n, spread);
        const double p_norm = lb_log_sum_exp(p, n, &p_best), q_norm = lb_log_sum_exp(q, n, &q_best);
        long double sum = 0;
        for (size_t i = 0; i < n; i++) {
            best = p[i] > p[best] ? i : best;
            sum += expl((long double)p[i]);
        }
        assert_int_equal(p_best, best);
        assert_true(fabsl((long double)p_norm - logl(sum)) < 1e-12L * (1 + fabsl(logl(sum))));
        const double kl = lb_divergence(p, p_norm, q, q_norm, n);
        const long double want = slow_divergence(p, q, NULL, n);
        assert_true(fabsl((long double)kl - want) < 1e-11L * (1 + want));
        assert_true(lb_divergence(p, p_norm, p, p_norm, n) < 1e-12);
    }
}

static void the_largest_are_those_of_a_sort(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 4);
    for (int round = 0; round < 300; round++) {
        float logits[MOST];
        size_t top[MOST], order[MOST];
        const size_t n = 1 + (size_t)lb_rng_below(&rng, MOST), count = 1 + (size_t)lb_rng_below(&rng, n);
        for (size_t i = 0; i < n; i++)
            logits[i] = (float)lb_rng_below(&rng, round % 2 ? 5 : 1000); /* many equal ones, or few */
        for (size_t i = 0; i < n; i++) { /* insertion sort, stable */
            size_t at = i;
            for (; at > 0 && logits[order[at - 1]] < logits[i]; at--)
                order[at] = order[at - 1];
            order[at] = i;
        }
        lb_largest_logits(logits, n, count, top);
        for (size_t k = 0; k < count; k++)
            assert_int_equal(top[k], order[k]);
    }
}

static void divergence_among_some_is_renormalized(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 5);
    for (int round = 0; round < 200; round++) {
        float p[MOST], q[MOST];
        size_t top[25];
        fill(&rng, p, MOST, 4.0);
        fill(&rng, q, MOST, 4.0);
        lb_largest_logits(p, MOST, 25, top);
        const long double want = slow_divergence(p, q, top, 25);
        assert_true(fabsl((long double)lb_divergence_among(p, q, top, 25) - want) < 1e-11L * (1 + want));
        assert_true(lb_divergence_among(p, p, top, 25) < 1e-12);
    }
}

/* A NaN must come out as one: as 0 it would pass for a perfect match. */
static void a_nan_stays_a_nan(void **state)
{
    (void)state;
    const float p[2] = {0, 1}, q[2] = {NAN, 1};
    const size_t top[2] = {1, 0};
    size_t best;
    const double p_norm = lb_log_sum_exp(p, 2, &best), q_norm = lb_log_sum_exp(q, 2, &best);
    assert_true(isnan(lb_divergence(p, p_norm, q, q_norm, 2)));
    assert_true(isnan(lb_divergence_among(p, q, top, 2)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_those_of_long_double),
        cmocka_unit_test(the_largest_are_those_of_a_sort),
        cmocka_unit_test(divergence_among_some_is_renormalized),
        cmocka_unit_test(a_nan_stays_a_nan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
