/* SPDX-License-Identifier: MIT
 * The scales and minima of a K block. Every step of the search keeps what it finds only if the weighted squared error
 * of the rounded weights is less: a grid alone (several starts, then codes and least squares in turn), the integers
 * that its scale and minimum become (those next to them, too), the block's two floats (least squares again). */
#include <math.h>
#include <string.h>

#include "formats/int_round.h"
#include "formats/k_blocks.h"

/* Some weights, and what errors in them cost. */
typedef struct sample {
    const lb_k_type *type;
    const float *w, *importance; /* importance NULL: all the same */
    size_t n;
} sample;

typedef struct grid {
    float scale, minimum;
} grid;

static double cost_of(const sample *s, size_t i)
{
    return s->importance ? (double)s->importance[i] : 1.0;
}

/* code - offset of the nearest level. */
static float integer_at(const sample *s, grid g, size_t i)
{
    const float low = (float)-lb_k_offset(s->type), top = (float)((1u << s->type->bits) - 1) + low;
    return g.scale != 0.0f ? lb_int_round_within((s->w[i] + g.minimum) / g.scale, low, top) : 0.0f;
}

static double error_of(const sample *s, grid g)
{
    double error = 0.0;
    for (size_t i = 0; i < s->n; i++) {
        const double d = (double)(g.scale * integer_at(s, g, i) - g.minimum - s->w[i]);
        error += cost_of(s, i) * d * d;
    }
    return error;
}

/* From the extremes: of all weights where there is a minimum, which is never above zero; of the largest magnitude,
 * which gets the code that has no opposite, where there is none. `share` < 1 clips. */
static grid by_range(const sample *s, float share)
{
    float low = 0.0f, high = 0.0f;
    for (size_t i = 0; i < s->n; i++) {
        low = s->w[i] < low ? s->w[i] : low;
        high = s->w[i] > high ? s->w[i] : high;
    }
    if (s->type->symmetric)
        return (grid){-share * (high > -low ? high : low) / (float)lb_k_offset(s->type), 0.0f};
    return (grid){share * (high - low) / (float)((1u << s->type->bits) - 1), -share * low};
}

/* The scale and minimum that fit the nearest levels of g best; false where that says nothing. */
static bool refit(const sample *s, grid g, grid *out)
{
    double h = 0.0, hq = 0.0, hqq = 0.0, hw = 0.0, hqw = 0.0;
    for (size_t i = 0; i < s->n; i++) {
        const double cost = cost_of(s, i), q = (double)integer_at(s, g, i), w = (double)s->w[i];
        h += cost;
        hq += cost * q;
        hqq += cost * q * q;
        hw += cost * w;
        hqw += cost * q * w;
    }
    if (!(hqq > 0.0))
        return false;
    double scale = hqw / hqq, minimum = 0.0;
    const double determinant = h * hqq - hq * hq;
    if (!s->type->symmetric && determinant > 1e-9 * h * hqq) {
        minimum = (hq * hqw - hqq * hw) / determinant;
        scale = (h * hqw - hq * hw) / determinant;
        if (minimum < 0.0) {
            minimum = 0.0;
            scale = hqw / hqq;
        }
    }
    *out = (grid){(float)scale, (float)minimum};
    return s->type->symmetric || scale > 0.0;
}

static grid search_grid(const sample *s)
{
    enum { STARTS = 12, ROUNDS = 4 };
    grid best = by_range(s, 1.0f);
    double least = error_of(s, best);
    for (int start = 0; start < STARTS; start++) {
        grid g = by_range(s, 1.05f - 0.05f * (float)start);
        double before = HUGE_VAL;
        for (int round = 0; round < ROUNDS && refit(s, g, &g); round++) {
            const double error = error_of(s, g);
            if (error < least) {
                least = error;
                best = g;
            }
            if (!(error < before))
                break;
            before = error;
        }
    }
    return best;
}

/* ---- A block ----------------------------------------------------------------------------------------- */

/* A block's integers and floats. */
typedef struct block {
    float d, dmin;
    int scale[LB_K_MOST_GRIDS], minimum[LB_K_MOST_GRIDS];
} block;

static grid grid_at(const block *b, unsigned g)
{
    return (grid){b->d * (float)b->scale[g], b->dmin * (float)b->minimum[g]};
}

static sample sample_at(const sample *all, unsigned g)
{
    const size_t n = LB_K_BLOCK / all->type->grids;
    return (sample){all->type, all->w + g * n, all->importance ? all->importance + g * n : NULL, n};
}

static int nearest_integer(float x, float unit, int low, int high)
{
    return unit != 0.0f ? (int)lb_int_round_within(x / unit, (float)low, (float)high) : 0;
}

/* Grids whose largest scale (and minimum) gets the largest integer, times `share`. */
static block from_grids(const lb_k_type *t, const grid *grids, float share)
{
    block b = {0};
    float scale = 0.0f, minimum = 0.0f;
    for (unsigned g = 0; g < t->grids; g++) {
        scale = fabsf(grids[g].scale) > scale ? fabsf(grids[g].scale) : scale;
        minimum = grids[g].minimum > minimum ? grids[g].minimum : minimum;
    }
    b.d = lb_int_storable_scale(fminf(share * scale / (float)t->scale_high, 65504.0f));
    if (!t->symmetric)
        b.dmin = lb_int_storable_scale(fminf(share * minimum / (float)t->minimum_high, 65504.0f));
    for (unsigned g = 0; g < t->grids; g++) {
        b.scale[g] = nearest_integer(grids[g].scale, b.d, t->scale_low, t->scale_high);
        b.minimum[g] = nearest_integer(grids[g].minimum, b.dmin, 0, t->minimum_high);
    }
    return b;
}

static double block_error(const sample *all, const block *b)
{
    double error = 0.0;
    for (unsigned g = 0; g < all->type->grids; g++) {
        const sample s = sample_at(all, g);
        error += error_of(&s, grid_at(b, g));
    }
    return error;
}

/* The integers beside a grid's own, where they are better. */
static void better_integers(const sample *all, block *b)
{
    enum { REACH = 2 };
    const lb_k_type *t = all->type;
    for (unsigned g = 0; g < t->grids; g++) {
        const sample s = sample_at(all, g);
        const int scale = b->scale[g], minimum = b->minimum[g], down_reach = t->symmetric ? 0 : REACH;
        double least = error_of(&s, grid_at(b, g));
        for (int by = -REACH; by <= REACH; by++) {
            for (int down = -down_reach; down <= down_reach; down++) {
                block other = *b;
                other.scale[g] = scale + by;
                other.minimum[g] = minimum + down;
                if (other.scale[g] < t->scale_low || other.scale[g] > t->scale_high || other.minimum[g] < 0 ||
                    other.minimum[g] > t->minimum_high)
                    continue;
                const double error = error_of(&s, grid_at(&other, g));
                if (error < least) {
                    least = error;
                    b->scale[g] = other.scale[g];
                    b->minimum[g] = other.minimum[g];
                }
            }
        }
    }
}

/* d and dmin that fit the nearest levels best: value = d * (scale q) - dmin * minimum. */
static block better_floats(const sample *all, const block *from)
{
    double aa = 0.0, ab = 0.0, bb = 0.0, aw = 0.0, bw = 0.0;
    for (unsigned g = 0; g < all->type->grids; g++) {
        const sample s = sample_at(all, g);
        for (size_t i = 0; i < s.n; i++) {
            const double cost = cost_of(&s, i), w = (double)s.w[i], b = -(double)from->minimum[g];
            const double a = (double)from->scale[g] * (double)integer_at(&s, grid_at(from, g), i);
            aa += cost * a * a;
            ab += cost * a * b;
            bb += cost * b * b;
            aw += cost * a * w;
            bw += cost * b * w;
        }
    }
    block out = *from;
    const double determinant = aa * bb - ab * ab;
    double d = aa > 0.0 ? aw / aa : 0.0, dmin = (double)from->dmin;
    if (determinant > 1e-9 * aa * bb) {
        d = (bb * aw - ab * bw) / determinant;
        dmin = (aa * bw - ab * aw) / determinant;
    }
    if (!(d > 0.0) || dmin < 0.0 || d > 65504.0 || dmin > 65504.0)
        return out;
    out.d = lb_int_storable_scale((float)d);
    out.dmin = lb_int_storable_scale((float)dmin);
    return out;
}

static void search_block(const sample *all, const grid *grids, block *best)
{
    static const float shares[] = {1.0f, 0.97f, 0.94f, 1.03f};
    enum { ROUNDS = 3 };
    double least = block_error(all, best);
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++) {
        block b = from_grids(all->type, grids, shares[i]);
        double before = HUGE_VAL;
        for (int round = 0; round < ROUNDS; round++) {
            better_integers(all, &b);
            const block refitted = better_floats(all, &b);
            const double with = block_error(all, &refitted), without = block_error(all, &b);
            if (with < without)
                b = refitted;
            const double error = fmin(with, without);
            if (error < least) {
                least = error;
                *best = b;
            }
            if (!(error < before))
                break;
            before = error;
        }
    }
}

void lb_k_fit(const lb_format *format, const float *w, const float *importance, size_t n, lb_fit how,
              float *params)
{
    const lb_k_type *t = lb_k_type_of(format);
    const sample all = {t, w, importance, n};
    grid grids[LB_K_MOST_GRIDS];
    for (unsigned g = 0; g < t->grids; g++) {
        const sample s = sample_at(&all, g);
        grids[g] = by_range(&s, 1.0f);
    }
    block b = from_grids(t, grids, 1.0f);
    if (how == LB_FIT_SEARCH) {
        for (unsigned g = 0; g < t->grids; g++) {
            const sample s = sample_at(&all, g);
            grids[g] = search_grid(&s);
        }
        search_block(&all, grids, &b);
    }
    for (unsigned g = 0; g < t->grids; g++) {
        const grid at = grid_at(&b, g);
        params[g * LB_K_GRID_PARAMS + LB_K_SCALE] = at.scale;
        params[g * LB_K_GRID_PARAMS + LB_K_MINIMUM] = at.minimum;
    }
    params[t->grids * LB_K_GRID_PARAMS] = b.d;
    params[t->grids * LB_K_GRID_PARAMS + 1] = b.dmin;
}
