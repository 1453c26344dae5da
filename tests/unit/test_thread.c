/* SPDX-License-Identifier: MIT
 * The parallel loop: every index once, chunk bounds that do not know the number of threads, nesting. */
#include "near.h"

#include <stdatomic.h>

#include "base/thread.h"

enum { MOST = 1000 };

typedef struct record {
    size_t n, grain;
    atomic_uint visits[MOST];
    atomic_bool wrong_bounds;
} record;

static void visit(void *arg, size_t begin, size_t end)
{
    record *r = arg;
    size_t want_end = r->n - begin < r->grain ? r->n : begin + r->grain;
    if (begin % r->grain != 0 || end != want_end || begin >= end)
        atomic_store(&r->wrong_bounds, true);
    for (size_t i = begin; i < end && i < MOST; i++)
        atomic_fetch_add(&r->visits[i], 1);
}

static void every_index_once_in_fixed_chunks(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 2, 7, 8, 9, 63, 64, 65, 999, 1000};
    static const size_t grains[] = {1, 2, 3, 8, 64, 1000, 5000};
    for (unsigned threads = 1; threads <= 5; threads += 2) {
        lb_thread_set_count(threads);
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            for (size_t g = 0; g < sizeof grains / sizeof *grains; g++) {
                record r = {.n = sizes[s], .grain = grains[g]};
                lb_parallel_for(r.n, r.grain, visit, &r);
                assert_false(atomic_load(&r.wrong_bounds));
                for (size_t i = 0; i < MOST; i++)
                    assert_int_equal(atomic_load(&r.visits[i]), i < r.n);
            }
        }
    }
    lb_thread_set_count(0);
}

static void a_grain_of_zero_is_one(void **state)
{
    (void)state;
    record r = {.n = 10, .grain = 1};
    lb_parallel_for(10, 0, visit, &r);
    assert_false(atomic_load(&r.wrong_bounds));
    for (size_t i = 0; i < 10; i++)
        assert_int_equal(atomic_load(&r.visits[i]), 1);
}

typedef struct sums {
    const float *x;
    double part[64];
} sums;

static void add_chunk(void *arg, size_t begin, size_t end)
{
    sums *s = arg;
    double total = 0;
    for (size_t i = begin; i < end; i++)
        total += (double)s->x[i];
    s->part[begin / 100] = total;
}

static void sums_do_not_depend_on_the_thread_count(void **state)
{
    (void)state;
    static float x[5000];
    double first = 0;
    for (size_t i = 0; i < 5000; i++)
        x[i] = 1.0f / (float)(i + 1);
    for (unsigned threads = 1; threads <= 8; threads++) {
        sums s = {.x = x};
        double total = 0;
        lb_thread_set_count(threads);
        lb_parallel_for(5000, 100, add_chunk, &s);
        for (int c = 0; c < 50; c++)
            total += s.part[c];
        if (threads == 1)
            first = total;
        assert_true(total == first); /* the same bits */
    }
    lb_thread_set_count(0);
}

static void inner(void *arg, size_t begin, size_t end)
{
    atomic_fetch_add((atomic_size_t *)arg, end - begin);
}

static void outer(void *arg, size_t begin, size_t end)
{
    for (size_t i = begin; i < end; i++)
        lb_parallel_for(10, 3, inner, arg);
}

static void a_loop_inside_a_loop_is_complete(void **state)
{
    (void)state;
    atomic_size_t count = 0;
    lb_thread_set_count(4);
    lb_parallel_for(20, 1, outer, &count);
    assert_int_equal(atomic_load(&count), 200);
    lb_thread_set_count(0);
}

static void the_count_can_be_set_and_reset(void **state)
{
    (void)state;
    assert_true(lb_thread_available() >= 1);
    assert_int_equal(lb_thread_count(), lb_thread_available());
    lb_thread_set_count(3);
    assert_int_equal(lb_thread_count(), 3);
    lb_thread_set_count(0);
    assert_int_equal(lb_thread_count(), lb_thread_available());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_index_once_in_fixed_chunks),
        cmocka_unit_test(a_grain_of_zero_is_one),
        cmocka_unit_test(sums_do_not_depend_on_the_thread_count),
        cmocka_unit_test(a_loop_inside_a_loop_is_complete),
        cmocka_unit_test(the_count_can_be_set_and_reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
