/* SPDX-License-Identifier: MIT
 *
 * The multiple-choice knapsack: one option for every item, the least total loss within a budget. Exact.
 *
 * Partial choices that cost more than another and lose as much are dropped (Nemhauser and Ullmann 1969), and
 * so are those that even the linear relaxation of what remains cannot bring below a choice that is known.
 */
#ifndef LB_QUANTIZE_KNAPSACK_H
#define LB_QUANTIZE_KNAPSACK_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef struct lb_knapsack_option {
    uint64_t cost;
    double loss; /* finite, >= 0 */
} lb_knapsack_option;

/* What every item's cheapest, and dearest, option cost together. `table` is [items, options]. */
void lb_knapsack_range(const lb_knapsack_option *table, size_t items, size_t options, uint64_t *least,
                       uint64_t *most);

/* chosen [items]: the option of each. Of choices with equal loss the cheapest. LB_EINVAL when the budget is less
 * than the least that is possible. */
lb_status lb_knapsack_solve(const lb_knapsack_option *table, size_t items, size_t options, uint64_t budget,
                            size_t *chosen, lb_error *err);

#endif
