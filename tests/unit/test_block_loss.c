/* SPDX-License-Identifier: MIT
 * The loss of a block's reconstruction against a sort. */
#include "near.h"

#include <stdlib.h>

#include "base/rng.h"
#include "base/thread.h"
#include "quantize/block_loss.h"

enum { SEQUENCES = 3, LENGTH = 11, HIDDEN = 130, TOKENS = SEQUENCES * LENGTH, N = TOKENS * HIDDEN };

typedef struct entry {
    double size;
    size_t at;
} entry;

static int larger_first(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    if (x->size != y->size)
        return x->size > y->size ? -1 : 1;
    return x->at < y->at ? -1 : 1;
}

static void check(size_t sequences, size_t hidden, bool filter, bool ties)
{
    lb_rng rng;
    lb_error err;
    lb_block_loss loss;
    static float target[N], y[N], given[N];
    static double want[N];
    static entry entries[N];
    const size_t n = sequences * LENGTH * hidden, counting = sequences * (LENGTH - 1) * hidden;
    double sum, want_sum = 0.0;
    lb_rng_seed(&rng, 5 + sequences * hidden);
    for (size_t i = 0; i < n; i++) {
        target[i] = ties ? 0.0f : (float)lb_rng_normal(&rng);
        given[i] = ties ? (float)(lb_rng_below(&rng, 5)) - 2.0f : (float)lb_rng_normal(&rng);
        const bool last = i / hidden % LENGTH == LENGTH - 1;
        want[i] = last ? 0.0 : (double)(given[i] - target[i]);
        entries[i] = (entry){fabs(want[i]), i};
    }
    qsort(entries, n, sizeof *entries, larger_first);
    const size_t dropped = counting / 1000 > 1 ? counting / 1000 : 1;
    for (size_t i = 0; filter && i < dropped; i++)
        want[entries[i].at] = 0.0;
    for (size_t i = 0; i < n; i++)
        want_sum += want[i] * want[i];
    assert_int_equal(lb_block_loss_create(SEQUENCES, LENGTH, hidden, filter, &loss, &err), LB_OK);
    for (unsigned threads = 1; threads <= 3; threads++) {
        lb_thread_set_count(threads);
        memcpy(y, given, n * sizeof *y);
        lb_block_loss_find(&loss, sequences, target, y, &sum);
        same_array(y, want, n);
        near_array(&sum, &want_sum, 1, 1e-12 * want_sum);
    }
    lb_thread_set_count(0);
    lb_block_loss_free(&loss);
}

static void sums_of_what_counts(void **state)
{
    (void)state;
    for (int filter = 0; filter < 2; filter++) {
        for (int ties = 0; ties < 2; ties++) {
            check(3, 130, filter, ties); /* drops 3 */
            check(1, 130, filter, ties);
            check(2, 1, filter, ties); /* drops 1 of 20 */
        }
    }
}

/* What is not finite is told, not filtered away as the largest. */
static void errors_that_are_not_finite_are_told(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t k = 0; k < 6; k++) {
        lb_error err;
        lb_block_loss loss;
        float target[4 * 2] = {0}, y[4 * 2] = {0};
        double sum;
        assert_int_equal(lb_block_loss_create(1, 4, 2, true, &loss, &err), LB_OK);
        float *const where = k < 3 ? target : y;
        where[3] = bad[k % 3];
        lb_block_loss_find(&loss, 1, target, y, &sum);
        assert_true(!isfinite(sum));
        lb_block_loss_free(&loss);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_of_what_counts),
        cmocka_unit_test(errors_that_are_not_finite_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
