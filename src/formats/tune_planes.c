/* SPDX-License-Identifier: MIT
 * Learned rounding of bit planes (tune.h; ours): one factor for all coefficients, which widens or narrows the grid, and
 * one more for each plane, which bends it; and an offset moves a weight along the levels in their order, which are not
 * evenly spaced:
 *
 *   c_0 = factor_0 start_0,   c_k = factor_0 factor_k start_k
 *   L_0 <= L_1 <= ... the levels: c_0 and a subset of the others
 *   t = place of w among the levels, linear between them and beyond the ends;   value = L at round(t + v)
 *
 * Straight through, with B the subset that makes a level, likewise interpolated, and L' the gap between neighbours:
 *
 *   d value / d v = L'(t + v) inside;   d value / d c = B(code) - inside * L'(t + v) / L'(t) * B(t)
 *
 * which on an even grid is what integers have. Without `start` the coefficients are those of the even grid between the
 * group's extremes.
 */
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "formats/planes.h"
#include "formats/tune.h"

enum { MOST_LEVELS = 1 << LB_PLANES_MOST };

/* Levels in ascending order. */
typedef struct ladder {
    unsigned count, coefficients;
    float level[MOST_LEVELS];
    uint8_t code[MOST_LEVELS];
} ladder;

/* Where a number lies: `rung` and the next one, `part` of the way between them; less than 0 or more than 1 beyond the
 * ends. */
typedef struct place {
    unsigned rung;
    float part, gap;
} place;

/* As storage holds it. */
static float trained(float factor, float start)
{
    const float most = 65504.0f, c = factor * start;
    return lb_round_to_f16(c > most ? most : c < -most ? -most : c);
}

static ladder find_ladder(const lb_format *format, const lb_tune_group *g, float *start, float *params)
{
    ladder l = {.count = 1u << format->bits, .coefficients = format->bits + 1};
    uint8_t codes[MOST_LEVELS];
    float levels[MOST_LEVELS];
    if (g->start)
        memcpy(start, g->start, l.coefficients * sizeof *start);
    else
        format->ops->fit(format, g->w, NULL, g->n, LB_FIT_RANGE, start);
    params[0] = trained(g->factors[0], start[0]);
    for (unsigned k = 1; k < l.coefficients; k++)
        params[k] = trained(g->factors[0] * g->factors[k], start[k]);
    for (unsigned i = 0; i < l.count; i++)
        codes[i] = (uint8_t)i;
    format->ops->value(format, params, codes, l.count, levels);
    for (unsigned i = 0; i < l.count; i++) {
        unsigned at = i;
        for (; at > 0 && l.level[at - 1] > levels[i]; at--) {
            l.level[at] = l.level[at - 1];
            l.code[at] = l.code[at - 1];
        }
        l.level[at] = levels[i];
        l.code[at] = codes[i];
    }
    return l;
}

static place place_between(const ladder *l, unsigned rung)
{
    return (place){.rung = rung, .gap = l->level[rung + 1] - l->level[rung]};
}

static place place_of(const ladder *l, float w)
{
    unsigned rung = 0;
    while (rung + 2 < l->count && w >= l->level[rung + 1])
        rung++;
    place p = place_between(l, rung);
    p.part = p.gap > 0.0f ? (w - l->level[rung]) / p.gap : 0.0f;
    return p;
}

/* p moved by an offset of so many rungs. */
static place moved(const ladder *l, place p, float offset)
{
    const float last = (float)(l->count - 2), t = (float)p.rung + (p.part + offset);
    /* Within a gap nothing is lost to the rung that is added. */
    const float whole = p.part + offset >= 0.0f && p.part + offset < 1.0f ? (float)p.rung : floorf(t);
    const float rung = whole < 0.0f ? 0.0f : whole > last ? last : whole;
    place to = place_between(l, (unsigned)rung);
    to.part = whole == (float)p.rung ? p.part + offset : t - rung;
    return to;
}

/* The nearest rung, ties to the lower one; whether it is on the ladder. */
static unsigned nearest_rung(const ladder *l, place p, bool *inside)
{
    const bool up = p.part > 0.5f;
    *inside = (p.rung > 0 || p.part >= -0.5f) && (p.rung + 2 < l->count || p.part <= 1.5f);
    return p.rung + up;
}

static unsigned count_factors(const lb_format *format)
{
    return format->bits + 1;
}

static void forward_planes(const lb_format *format, const lb_tune_group *g, float *params, uint8_t *codes,
                           float *values)
{
    float start[LB_FORMAT_MAX_PARAMS];
    const ladder l = find_ladder(format, g, start, params);
    for (size_t i = 0; (codes || values) && i < g->n; i++) {
        bool inside;
        const unsigned rung = nearest_rung(&l, moved(&l, place_of(&l, g->w[i]), g->v[i]), &inside);
        if (codes)
            codes[i] = l.code[rung];
        if (values)
            values[i] = l.level[rung];
    }
}

/* Coefficient k's share of a level. */
static float share(const ladder *l, unsigned rung, unsigned k)
{
    return k == 0 ? 1.0f : (float)(l->code[rung] >> (k - 1) & 1);
}

static void backward_planes(const lb_format *format, const lb_tune_group *g, const float *d,
                            lb_tune_gradient *gradient)
{
    float start[LB_FORMAT_MAX_PARAMS], params[LB_FORMAT_MAX_PARAMS];
    double by_coefficient[LB_FORMAT_MAX_PARAMS] = {0};
    const ladder l = find_ladder(format, g, start, params);
    for (size_t i = 0; i < g->n; i++) {
        const place from = place_of(&l, g->w[i]), to = moved(&l, from, g->v[i]);
        const float by_value = d[i];
        bool inside;
        const unsigned rung = nearest_rung(&l, to, &inside);
        const float ratio = inside && from.gap > 0.0f ? to.gap / from.gap : 0.0f;
        gradient->v[i] = inside ? by_value * to.gap : 0.0f;
        for (unsigned k = 0; k < l.coefficients; k++) {
            const float low = share(&l, from.rung, k), high = share(&l, from.rung + 1, k);
            by_coefficient[k] +=
                (double)(by_value * (share(&l, rung, k) - ratio * (low + from.part * (high - low))));
        }
    }
    double by_all = by_coefficient[0] * (double)start[0];
    for (unsigned k = 1; k < l.coefficients; k++) {
        const double by = by_coefficient[k] * (double)start[k];
        by_all += by * (double)g->factors[k];
        gradient->factors[k] = (float)(by * (double)g->factors[0]);
    }
    gradient->factors[0] = (float)by_all;
}

const lb_tune_ops lb_tune_planes = {
    .factors = count_factors, .forward = forward_planes, .backward = backward_planes};
