/* SPDX-License-Identifier: MIT
 * The exact knapsack against all choices there are, and against the textbook's table over budgets. */
#include "near.h"

#include <stdlib.h>

#include "base/rng.h"
#include "quantize/knapsack.h"

enum { MOST_ITEMS = 160, MOST_OPTIONS = 5 };

static double total_loss(const lb_knapsack_option *table, size_t items, size_t options, const size_t *chosen)
{
    double loss = 0.0;
    for (size_t i = 0; i < items; i++)
        loss += table[i * options + chosen[i]].loss;
    return loss;
}

static uint64_t total_cost(const lb_knapsack_option *table, size_t items, size_t options,
                           const size_t *chosen)
{
    uint64_t cost = 0;
    for (size_t i = 0; i < items; i++)
        cost += table[i * options + chosen[i]].cost;
    return cost;
}

/* The least loss of all choices within the budget. */
static double try_all(const lb_knapsack_option *table, size_t items, size_t options, uint64_t budget)
{
    if (items == 0)
        return 0.0;
    double best = HUGE_VAL;
    for (size_t k = 0; k < options; k++) {
        if (table[k].cost > budget)
            continue;
        const double loss =
            table[k].loss + try_all(table + options, items - 1, options, budget - table[k].cost);
        best = loss < best ? loss : best;
    }
    return best;
}

/* best[b]: the least loss of all items so far at a cost of at most b. */
static double fill_table(const lb_knapsack_option *table, size_t items, size_t options, size_t budget)
{
    double *best = calloc(budget + 1, sizeof *best), *next = calloc(budget + 1, sizeof *next);
    assert_non_null(best);
    assert_non_null(next);
    for (size_t i = 0; i < items; i++) {
        for (size_t b = 0; b <= budget; b++) {
            next[b] = HUGE_VAL;
            for (size_t k = 0; k < options; k++) {
                const lb_knapsack_option *o = &table[i * options + k];
                if (o->cost <= b && o->loss + best[b - o->cost] < next[b])
                    next[b] = o->loss + best[b - o->cost];
            }
        }
        double *swap = best;
        best = next;
        next = swap;
    }
    const double loss = best[budget];
    free(best);
    free(next);
    return loss;
}

static void solved(const lb_knapsack_option *table, size_t items, size_t options, uint64_t budget,
                   double want)
{
    size_t chosen[MOST_ITEMS];
    lb_error err;
    if (lb_knapsack_solve(table, items, options, budget, chosen, &err) != LB_OK)
        fail_msg("%s", err.msg);
    assert_true(total_cost(table, items, options, chosen) <= budget);
    const double got = total_loss(table, items, options, chosen);
    if (fabs(got - want) > 1e-9 * fabs(want))
        fail_msg("%zu items of %zu options, budget %llu: a loss of %.17g, best is %.17g", items, options,
                 (unsigned long long)budget, got, want);
}

static void equals_the_best_of_all_choices(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 7);
    for (size_t round = 0; round < 600; round++) {
        lb_knapsack_option table[7 * MOST_OPTIONS];
        uint64_t least, most;
        const size_t items = 1 + lb_rng_below(&rng, 7), options = 1 + lb_rng_below(&rng, MOST_OPTIONS);
        const uint64_t grain = round % 3 == 0 ? 1000003 : round % 3 == 1 ? 10 : 3; /* the last: many ties */
        for (size_t i = 0; i < items * options; i++)
            table[i] = (lb_knapsack_option){lb_rng_below(&rng, grain),
                                            round % 2 ? (double)lb_rng_below(&rng, 5) : lb_rng_uniform(&rng)};
        lb_knapsack_range(table, items, options, &least, &most);
        for (int k = 0; k <= 4; k++) {
            const uint64_t budget = least + (most - least) * (uint64_t)k / 4;
            solved(table, items, options, budget, try_all(table, items, options, budget));
        }
    }
}

/* As many layers as models have, of few shapes, whose losses span orders of magnitude. */
static void equals_the_table_over_budgets(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 8);
    static lb_knapsack_option table[MOST_ITEMS * 4];
    for (size_t round = 0; round < 4; round++) {
        uint64_t least, most;
        for (size_t i = 0; i < MOST_ITEMS; i++) {
            const uint64_t size = (const uint64_t[]){3, 1, 8, 4}[i % 4];
            double loss = exp(3.0 * lb_rng_normal(&rng)) * (double)size;
            for (size_t k = 0; k < 4; k++) {
                table[i * 4 + k] = (lb_knapsack_option){size * (2 + k) + (round == 2 ? i % 3 : 0), loss};
                loss *= round == 3 ? 0.5 : 0.1 + 0.3 * lb_rng_uniform(&rng);
            }
        }
        lb_knapsack_range(table, MOST_ITEMS, 4, &least, &most);
        for (uint64_t budget = least; budget <= most; budget += (most - least) / 5)
            solved(table, MOST_ITEMS, 4, budget, fill_table(table, MOST_ITEMS, 4, (size_t)budget));
    }
}

/* An option that loses nothing beside ones that lose a lot: the best choices are told apart from the loss of all others
 * by differences that float sums hardly hold. */
static void solves_what_can_lose_nothing(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 9);
    for (size_t round = 0; round < 3000; round++) {
        lb_knapsack_option table[8 * 3];
        uint64_t least, most;
        const size_t items = 1 + lb_rng_below(&rng, 8), options = 2 + lb_rng_below(&rng, 2);
        for (size_t i = 0; i < items; i++) {
            const uint64_t size = 64 * (1 + lb_rng_below(&rng, 4));
            const double loss = exp(8.0 * lb_rng_normal(&rng));
            table[i * options] = (lb_knapsack_option){size * 2, loss};
            table[i * options + 1] = (lb_knapsack_option){size * 4, loss * (round % 2 ? 1e-9 : 0.07)};
            if (options == 3)
                table[i * options + 2] = (lb_knapsack_option){size * 16, 0.0};
        }
        lb_knapsack_range(table, items, options, &least, &most);
        for (uint64_t k = 0; k <= 3; k++) {
            const uint64_t budget = most - (most - least) * k / 8;
            size_t chosen[8];
            lb_error err;
            const double want = try_all(table, items, options, budget);
            if (lb_knapsack_solve(table, items, options, budget, chosen, &err) != LB_OK)
                fail_msg("%s", err.msg);
            assert_true(total_cost(table, items, options, chosen) <= budget);
            /* as exact as sums of the largest losses are */
            double largest = 0.0;
            for (size_t i = 0; i < items; i++)
                largest += table[i * options].loss;
            assert_true(total_loss(table, items, options, chosen) <= want + 1e-13 * largest);
        }
    }
}

/* Where everything loses the same, nothing is spent for nothing. */
static void takes_the_cheapest_of_equals(void **state)
{
    (void)state;
    const lb_knapsack_option table[] = {{5, 1.0}, {3, 1.0}, {9, 1.0}, {4, 0.0}, {8, 0.0}, {2, 0.0}};
    size_t chosen[2];
    lb_error err;
    assert_int_equal(lb_knapsack_solve(table, 2, 3, 100, chosen, &err), LB_OK);
    assert_int_equal(chosen[0], 1);
    assert_int_equal(chosen[1], 2);
}

static void refuses_what_cannot_be(void **state)
{
    (void)state;
    const lb_knapsack_option table[] = {{5, 1.0}, {3, 2.0}};
    size_t chosen[1];
    lb_error err;
    assert_int_equal(lb_knapsack_solve(table, 1, 2, 2, chosen, &err), LB_EINVAL);
    assert_string_equal(err.msg, "a budget of 2 is less than the 3 of the cheapest choices");
    assert_int_equal(lb_knapsack_solve(table, 1, 2, 3, chosen, &err), LB_OK);
    assert_int_equal(chosen[0], 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_the_best_of_all_choices), cmocka_unit_test(equals_the_table_over_budgets),
        cmocka_unit_test(solves_what_can_lose_nothing),   cmocka_unit_test(takes_the_cheapest_of_equals),
        cmocka_unit_test(refuses_what_cannot_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
