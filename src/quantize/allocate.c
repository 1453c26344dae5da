/* SPDX-License-Identifier: MIT */
#include "quantize/allocate.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "quantize/knapsack.h"

/* What is decided on: groups of layers that get one format. */
typedef struct choices {
    const lb_recipe *recipe;
    size_t count; /* groups */
    size_t *group_of; /* [layers * LB_BLOCK_LINEARS] its group; SIZE_MAX: a rule decides */
    lb_knapsack_option *table; /* [count, candidates] bytes, and sums of scores */
    size_t *chosen; /* [count] */
    uint64_t weights;
} choices;

static void choices_free(choices *c)
{
    lb_free(c->group_of);
    lb_free(c->table);
    lb_free(c->chosen);
}

bool lb_allocate_needs_scores(lb_allocate how)
{
    return how == LB_ALLOCATE_FISHER || how == LB_ALLOCATE_DELTALOSS;
}

bool lb_allocate_is_ruled(const lb_recipe *recipe, size_t block, unsigned which)
{
    char name[128];
    lb_linear_name(block, which, name, sizeof name);
    return lb_recipe_format(recipe, name, NULL, NULL) != NULL;
}

/* The group of a layer: that of the ones before it in its block which share its input, or the next. */
static size_t find_group(const choices *c, size_t layer)
{
    const size_t which = layer % LB_BLOCK_LINEARS;
    for (size_t back = 1; !c->recipe->allocation.untied && back <= which; back++) {
        if (lb_block_linears[which - back].stage != lb_block_linears[which].stage)
            break;
        if (c->group_of[layer - back] != SIZE_MAX)
            return c->group_of[layer - back];
    }
    return c->count;
}

static lb_status choices_create(const lb_config *config, const lb_recipe *recipe, const double *scores,
                                choices *out, lb_error *err)
{
    const size_t layers = config->layers * LB_BLOCK_LINEARS, options = recipe->allocation.candidate_count;
    choices c = {.recipe = recipe};
    lb_status st = LB_OK;
    LB_GO(lb_alloc_array(&c.group_of, layers, sizeof *c.group_of, "allocation of bits", err));
    LB_GO(lb_alloc_array(&c.table, layers * options, sizeof *c.table, "allocation of bits", err));
    LB_GO(lb_alloc_array(&c.chosen, layers, sizeof *c.chosen, "allocation of bits", err));
    memset(c.table, 0, layers * options * sizeof *c.table);
    for (size_t i = 0; i < layers; i++) {
        size_t rows, cols;
        const unsigned which = (unsigned)(i % LB_BLOCK_LINEARS);
        c.group_of[i] = SIZE_MAX;
        if (lb_allocate_is_ruled(recipe, i / LB_BLOCK_LINEARS, which))
            continue;
        c.group_of[i] = find_group(&c, i);
        c.count += c.group_of[i] == c.count;
        lb_linear_shape(config, which, &rows, &cols);
        c.weights += (uint64_t)rows * cols;
        for (size_t k = 0; k < options; k++) {
            lb_knapsack_option *o = &c.table[c.group_of[i] * options + k];
            o->cost += lb_format_tensor_bytes(&recipe->allocation.candidates[k], rows, cols);
            o->loss += scores ? scores[k * layers + i] : 0.0;
        }
    }
    if (c.count == 0)
        st = lb_fail(err, LB_EINVAL, "rules decide on every layer: there is nothing to allocate bits to");
    if (st == LB_OK) {
        *out = c;
        c = (choices){0};
    }
done:
    choices_free(&c);
    return st;
}

/* Bytes that the target allows: rounded, so that the least and the most that are possible can be named. */
static uint64_t budget_of(const choices *c)
{
    return (uint64_t)(c->recipe->allocation.target_bits * (double)c->weights / 8.0 + 0.5);
}

static lb_status check_range(const choices *c, lb_error *err)
{
    const double target = c->recipe->allocation.target_bits, weights = (double)c->weights;
    uint64_t least, most;
    lb_knapsack_range(c->table, c->count, c->recipe->allocation.candidate_count, &least, &most);
    const uint64_t budget = budget_of(c);
    if (budget >= least && budget <= most)
        return LB_OK;
    if (least == most)
        return lb_fail(err, LB_EINVAL,
                       "a target of %g bits per weight is out of reach: these candidates all take %.6g",
                       target, 8.0 * (double)least / weights);
    /* rounded inwards, so that what is named can be asked for */
    return lb_fail(
        err, LB_EINVAL,
        "a target of %g bits per weight is out of reach: these candidates can average %.4f to %.4f", target,
        ceil(8e4 * (double)least / weights) / 1e4, floor(8e4 * (double)most / weights) / 1e4);
}

/* From one end on, groups get the dearest candidate that the budget still has room for. */
static void choose_from_one_end(choices *c, bool head)
{
    const size_t options = c->recipe->allocation.candidate_count;
    uint64_t left = budget_of(c);
    for (size_t g = 0; g < c->count; g++) {
        const lb_knapsack_option *o = &c->table[g * options];
        c->chosen[g] = 0;
        for (size_t k = 1; k < options; k++)
            if (o[k].cost < o[c->chosen[g]].cost)
                c->chosen[g] = k;
        left -= o[c->chosen[g]].cost;
    }
    for (size_t i = 0; i < c->count; i++) {
        const size_t g = head ? i : c->count - 1 - i;
        const lb_knapsack_option *o = &c->table[g * options];
        left += o[c->chosen[g]].cost;
        for (size_t k = 0; k < options; k++)
            if (o[k].cost <= left && o[k].cost > o[c->chosen[g]].cost)
                c->chosen[g] = k;
        left -= o[c->chosen[g]].cost;
    }
}

lb_status lb_allocate_plan(const lb_config *config, const lb_recipe *recipe, const double *scores,
                           lb_format *plan, lb_error *err)
{
    const lb_allocation *a = &recipe->allocation;
    choices c;
    lb_status st = LB_OK;
    LB_TRY(choices_create(config, recipe, scores, &c, err));
    LB_GO(check_range(&c, err));
    if (lb_allocate_needs_scores(a->how) && scores)
        LB_GO(lb_knapsack_solve(c.table, c.count, a->candidate_count, budget_of(&c), c.chosen, err));
    else
        choose_from_one_end(&c, a->how != LB_ALLOCATE_TAIL);
    for (size_t i = 0; i < config->layers * LB_BLOCK_LINEARS; i++)
        plan[i] = c.group_of[i] == SIZE_MAX ? recipe->format : a->candidates[c.chosen[c.group_of[i]]];
done:
    choices_free(&c);
    return st;
}
