/* SPDX-License-Identifier: MIT */
#include "quantize/knapsack.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

/* A step of the linear relaxation: an item's option is exchanged for a dearer one. */
typedef struct upgrade {
    size_t item, option;
    uint64_t cost; /* more than before, > 0 */
    double gain; /* less loss than before, > 0 */
} upgrade;

/* A choice for the first items. */
typedef struct state {
    uint64_t cost;
    double loss;
    uint32_t parent; /* the state of one item less that it continues */
    uint32_t option;
} state;

typedef struct layer {
    state *states; /* by rising cost and falling loss */
    size_t count;
} layer;

typedef struct solver {
    const lb_knapsack_option *table;
    size_t items, options;
    uint64_t budget;
    size_t *cheapest; /* [items] option */
    uint64_t *tail_cost; /* [items + 1] of the cheapest options from this item on */
    double *tail_loss;
    upgrade *upgrades; /* of all items, best gain for its cost first */
    size_t upgrade_count;
    double bound; /* the loss of a choice that is known */
    layer *layers; /* [items + 1] */
} solver;

static const lb_knapsack_option *option_of(const solver *s, size_t item, size_t option)
{
    return &s->table[item * s->options + option];
}

void lb_knapsack_range(const lb_knapsack_option *table, size_t items, size_t options, uint64_t *least,
                       uint64_t *most)
{
    *least = *most = 0;
    for (size_t i = 0; i < items; i++) {
        uint64_t low = UINT64_MAX, high = 0;
        for (size_t k = 0; k < options; k++) {
            const uint64_t cost = table[i * options + k].cost;
            low = cost < low ? cost : low;
            high = cost > high ? cost : high;
        }
        *least += low;
        *most += high;
    }
}

static size_t find_cheapest(const solver *s, size_t item)
{
    size_t best = 0;
    for (size_t k = 1; k < s->options; k++) {
        const lb_knapsack_option *a = option_of(s, item, k), *b = option_of(s, item, best);
        if (a->cost < b->cost || (a->cost == b->cost && a->loss < b->loss))
            best = k;
    }
    return best;
}

/* The lower convex hull of an item's options over cost, from its cheapest one on. */
static void add_upgrades(solver *s, size_t item)
{
    size_t at = s->cheapest[item];
    for (;;) {
        const lb_knapsack_option *from = option_of(s, item, at);
        size_t best = s->options;
        double steepest = 0.0;
        for (size_t k = 0; k < s->options; k++) {
            const lb_knapsack_option *to = option_of(s, item, k);
            if (to->cost <= from->cost || to->loss >= from->loss)
                continue;
            const double slope = (from->loss - to->loss) / (double)(to->cost - from->cost);
            if (slope > steepest || (slope == steepest && to->cost > option_of(s, item, best)->cost)) {
                steepest = slope;
                best = k;
            }
        }
        if (best == s->options)
            return;
        const lb_knapsack_option *to = option_of(s, item, best);
        s->upgrades[s->upgrade_count++] = (upgrade){item, best, to->cost - from->cost, from->loss - to->loss};
        at = best;
    }
}

static int by_worth(const void *left, const void *right)
{
    const upgrade *a = left, *b = right;
    const double x = a->gain / (double)a->cost, y = b->gain / (double)b->cost;
    if (x != y)
        return x > y ? -1 : 1;
    return a->item != b->item ? (a->item < b->item ? -1 : 1) : a->option < b->option ? -1 : 1;
}

static lb_status prepare(solver *s, lb_error *err)
{
    static const char *const what = "allocation of bits";
    LB_TRY(lb_alloc_array(&s->cheapest, s->items, sizeof *s->cheapest, what, err));
    LB_TRY(lb_alloc_array(&s->tail_cost, s->items + 1, sizeof *s->tail_cost, what, err));
    LB_TRY(lb_alloc_array(&s->tail_loss, s->items + 1, sizeof *s->tail_loss, what, err));
    LB_TRY(lb_alloc_array(&s->upgrades, s->items * s->options, sizeof *s->upgrades, what, err));
    LB_TRY(lb_alloc_array(&s->layers, s->items + 1, sizeof *s->layers, what, err));
    memset(s->layers, 0, (s->items + 1) * sizeof *s->layers);
    s->tail_cost[s->items] = 0;
    s->tail_loss[s->items] = 0.0;
    for (size_t i = s->items; i-- > 0;) {
        s->cheapest[i] = find_cheapest(s, i);
        s->tail_cost[i] = s->tail_cost[i + 1] + option_of(s, i, s->cheapest[i])->cost;
        s->tail_loss[i] = s->tail_loss[i + 1] + option_of(s, i, s->cheapest[i])->loss;
        add_upgrades(s, i);
    }
    qsort(s->upgrades, s->upgrade_count, sizeof *s->upgrades, by_worth);
    return LB_OK;
}

/* A good choice to begin with: upgrades in order of their worth, where they fit. */
static double greedy(const solver *s, size_t *chosen)
{
    uint64_t left = s->budget - s->tail_cost[0];
    double loss = 0.0;
    memcpy(chosen, s->cheapest, s->items * sizeof *chosen);
    for (size_t u = 0; u < s->upgrade_count; u++) {
        const upgrade *up = &s->upgrades[u];
        const lb_knapsack_option *from = option_of(s, up->item, chosen[up->item]);
        const lb_knapsack_option *to = option_of(s, up->item, up->option);
        const uint64_t more = to->cost - from->cost; /* from may lie before the hull's last corner */
        if (more > left)
            continue;
        left -= more;
        chosen[up->item] = up->option;
    }
    for (size_t i = 0; i < s->items; i++)
        loss += option_of(s, i, chosen[i])->loss;
    return loss;
}

/* What the items from one on lose at least, by what there is to spend: a piecewise linear function. */
typedef struct relaxation {
    double base; /* all cheapest */
    uint64_t *cost; /* [corners + 1] beyond the cheapest */
    double *gain;
    size_t corners, at; /* the first corner that is out of reach */
} relaxation;

static lb_status relaxation_create(const solver *s, size_t first, relaxation *out, lb_error *err)
{
    relaxation r = {.base = s->tail_loss[first]};
    lb_status st = LB_OK;
    LB_GO(lb_alloc_array(&r.cost, s->upgrade_count + 1, sizeof *r.cost, "allocation of bits", err));
    LB_GO(lb_alloc_array(&r.gain, s->upgrade_count + 1, sizeof *r.gain, "allocation of bits", err));
    r.cost[0] = 0;
    r.gain[0] = 0.0;
    for (size_t u = 0; u < s->upgrade_count; u++) {
        if (s->upgrades[u].item < first)
            continue;
        r.corners++;
        r.cost[r.corners] = r.cost[r.corners - 1] + s->upgrades[u].cost;
        r.gain[r.corners] = r.gain[r.corners - 1] + s->upgrades[u].gain;
    }
    r.at = r.corners + 1;
    *out = r;
    r = (relaxation){0};
done:
    lb_free(r.cost);
    lb_free(r.gain);
    return st;
}

/* `spare` beyond what the cheapest options cost; it must not rise from call to call. */
static double relaxed(relaxation *r, uint64_t spare)
{
    while (r->cost[r->at - 1] > spare)
        r->at--;
    const size_t last = r->at - 1;
    double gain = r->gain[last];
    if (last < r->corners)
        gain += (r->gain[last + 1] - r->gain[last]) *
                ((double)(spare - r->cost[last]) / (double)(r->cost[last + 1] - r->cost[last]));
    return r->base - gain;
}

static int by_cost(const void *left, const void *right)
{
    const state *a = left, *b = right;
    if (a->cost != b->cost)
        return a->cost < b->cost ? -1 : 1;
    if (a->loss != b->loss)
        return a->loss < b->loss ? -1 : 1;
    if (a->parent != b->parent)
        return a->parent < b->parent ? -1 : 1;
    return a->option < b->option ? -1 : a->option > b->option;
}

/* Drops the states that cannot become the best choice. */
static lb_status prune(const solver *s, size_t next, layer *l, size_t count, lb_error *err)
{
    /* Sums in another order differ in their last bits, and what is taken from the largest is as inexact as that. */
    const double slack = 1e-12 * s->tail_loss[0];
    double least = HUGE_VAL;
    relaxation rest;
    LB_TRY(relaxation_create(s, next, &rest, err));
    for (size_t i = 0; i < count; i++) {
        const state *x = &l->states[i];
        if (x->loss >= least)
            continue;
        least = x->loss;
        if (least + relaxed(&rest, s->budget - s->tail_cost[next] - x->cost) <= s->bound + slack)
            l->states[l->count++] = *x;
    }
    lb_free(rest.cost);
    lb_free(rest.gain);
    if (l->count == 0)
        return lb_fail(err, LB_EINVAL, "allocation of bits: losses are too large to be added up");
    if (l->count < UINT32_MAX)
        return LB_OK;
    return lb_fail(err, LB_ENOMEM, "allocation of bits: too many choices are equally good");
}

/* Every state with every option of the next item, as far as there is money for what comes after. */
static lb_status extend(const solver *s, size_t item, lb_error *err)
{
    const layer *from = &s->layers[item];
    layer *to = &s->layers[item + 1];
    size_t count = 0;
    LB_TRY(
        lb_alloc_array(&to->states, from->count * s->options, sizeof *to->states, "allocation of bits", err));
    for (size_t i = 0; i < from->count; i++) {
        for (size_t k = 0; k < s->options; k++) {
            const lb_knapsack_option *o = option_of(s, item, k);
            const uint64_t cost = from->states[i].cost + o->cost;
            if (cost <= s->budget - s->tail_cost[item + 1])
                to->states[count++] = (state){cost, from->states[i].loss + o->loss, (uint32_t)i, (uint32_t)k};
        }
    }
    qsort(to->states, count, sizeof *to->states, by_cost);
    return prune(s, item + 1, to, count, err);
}

static void backtrack(const solver *s, size_t *chosen)
{
    /* By rising cost and falling loss: the last has the least loss, and no cheaper one has as little. */
    size_t at = s->layers[s->items].count - 1;
    for (size_t i = s->items; i-- > 0;) {
        const state *last = &s->layers[i + 1].states[at];
        chosen[i] = last->option;
        at = last->parent;
    }
}

lb_status lb_knapsack_solve(const lb_knapsack_option *table, size_t items, size_t options, uint64_t budget,
                            size_t *chosen, lb_error *err)
{
    solver s = {.table = table, .items = items, .options = options, .budget = budget};
    state start = {0};
    uint64_t least, most;
    lb_status st = LB_OK;
    lb_knapsack_range(table, items, options, &least, &most);
    if (budget < least)
        return lb_fail(err, LB_EINVAL, "a budget of %llu is less than the %llu of the cheapest choices",
                       (unsigned long long)budget, (unsigned long long)least);
    LB_GO(prepare(&s, err));
    s.bound = greedy(&s, chosen);
    s.layers[0] = (layer){&start, 1};
    for (size_t i = 0; i < items; i++)
        LB_GO(extend(&s, i, err));
    backtrack(&s, chosen);
done:
    for (size_t i = 1; s.layers && i <= items; i++)
        lb_free(s.layers[i].states);
    lb_free(s.layers);
    lb_free(s.upgrades);
    lb_free(s.tail_loss);
    lb_free(s.tail_cost);
    lb_free(s.cheapest);
    return st;
}
