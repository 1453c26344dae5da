/* SPDX-License-Identifier: MIT
 *
 * Which layer gets which of several formats, such that all together stay within a budget of bits. Layers that
 * runtimes fuse, because they share an input (q k v, gate up), get the same one unless they are untied. Layers that
 * a rule decides on neither get a choice nor count.
 */
#ifndef LB_QUANTIZE_ALLOCATE_H
#define LB_QUANTIZE_ALLOCATE_H

#include "model/config.h"
#include "quantize/recipe.h"

/* plan [layers * LB_BLOCK_LINEARS]: the recipe's way. scores [candidates, layers * LB_BLOCK_LINEARS] are those of
 * sensitivity.h, for the ways that go by them; of all plans within the budget the sum of scores is the least.
 * NULL: not known yet; the plan is one of that size. LB_EINVAL when there is no layer to decide on, or the target
 * is not within what the candidates can average. */
lb_status lb_allocate_plan(const lb_config *config, const lb_recipe *recipe, const double *scores,
                           lb_format *plan, lb_error *err);

/* Whether a rule decides on that layer of a block, and the plan does not. */
bool lb_allocate_is_ruled(const lb_recipe *recipe, size_t block, unsigned which);

/* Whether that way goes by scores. */
bool lb_allocate_needs_scores(lb_allocate how);

#endif
