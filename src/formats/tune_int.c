/* SPDX-License-Identifier: MIT
 * Learned rounding of the integer formats (tune.h; arXiv:2309.05516, and 2512.04746 for the multiplier).
 *
 *   symmetric    scale = -max(alpha * -low, beta * high) / 2^(bits-1), negative where the low side is smaller
 *   asymmetric   scale = (beta * high - alpha * low) / (2^bits - 1),  zero = round(-alpha * low / scale)
 *   multiplier   scale = beta * start's scale, zero = start's zero
 */
#include <math.h>

#include "formats/int.h"
#include "formats/int_round.h"
#include "formats/tune.h"

/* A group's scale and zero, and their derivatives by the factors. */
typedef struct grid {
    float scale, zero;
    float low, high; /* of code - zero */
    float scale_by_alpha, scale_by_beta;
    float zero_by_scale, zero_by_alpha;
} grid;

/* As storage holds it; a factor of 0 leaves the least scale, since from none no gradient leads back. */
static float trained_scale(float scale, bool negative)
{
    const float most = 65504.0f, least = 0x1p-24f;
    float magnitude = fabsf(scale);
    magnitude = magnitude > most ? most : magnitude < least ? least : magnitude;
    return lb_int_storable_scale(negative ? -magnitude : magnitude);
}

/* low <= 0 <= high: the group's extremes, not both 0. */
static void clip_symmetric(const lb_tune_group *g, float low, float high, grid *out)
{
    const float half = out->zero, below = -g->factors[LB_TUNE_ALPHA] * low,
                above = g->factors[LB_TUNE_BETA] * high;
    const bool negative = above >= below;
    /* Only the larger side determines the scale; both by halves where they are equal. */
    const float share = above == below ? 0.5f : 1.0f;
    out->scale = trained_scale((negative ? above : below) / half, negative);
    if (negative)
        out->scale_by_beta = -share * high / half;
    if (!negative || share < 1.0f)
        out->scale_by_alpha = share * (negative ? low : -low) / half;
}

static void clip_asymmetric(const lb_tune_group *g, float low, float high, float top, grid *out)
{
    out->scale =
        trained_scale((g->factors[LB_TUNE_BETA] * high - g->factors[LB_TUNE_ALPHA] * low) / top, false);
    out->zero = lb_int_round_within(-g->factors[LB_TUNE_ALPHA] * low / out->scale, 0.0f, top);
    out->scale_by_beta = high / top;
    out->scale_by_alpha = -low / top;
    out->zero_by_scale = g->factors[LB_TUNE_ALPHA] * low / (out->scale * out->scale);
    out->zero_by_alpha = -low / out->scale;
}

static grid find_grid(const lb_format *format, const lb_tune_group *g)
{
    const float top = (float)((1u << format->bits) - 1);
    grid out = {.zero = format->symmetric ? (float)(1u << (format->bits - 1)) : 0.0f};
    if (g->start) {
        const float start = g->start[LB_INT_SCALE];
        out.zero = g->start[LB_INT_ZERO];
        if (start != 0.0f)
            out.scale = trained_scale(g->factors[LB_TUNE_BETA] * start, start < 0.0f);
        out.scale_by_beta = start;
    } else {
        float low = 0.0f, high = 0.0f;
        for (size_t i = 0; i < g->n; i++) {
            low = g->w[i] < low ? g->w[i] : low;
            high = g->w[i] > high ? g->w[i] : high;
        }
        if (low < high && format->symmetric)
            clip_symmetric(g, low, high, &out);
        else if (low < high)
            clip_asymmetric(g, low, high, top, &out);
    }
    out.low = -out.zero;
    out.high = top - out.zero;
    return out;
}

static void forward_int(const lb_format *format, const lb_tune_group *g, float *params, uint8_t *codes,
                        float *values)
{
    const grid c = find_grid(format, g);
    const float inverse = c.scale == 0.0f ? 0.0f : 1.0f / c.scale;
    params[LB_INT_SCALE] = c.scale;
    params[LB_INT_ZERO] = c.zero;
    for (size_t i = 0; codes && i < g->n; i++)
        codes[i] = (uint8_t)(lb_int_round_within(g->w[i] * inverse + g->v[i], c.low, c.high) + c.zero);
    for (size_t i = 0; values && i < g->n; i++)
        values[i] = c.scale * lb_int_round_within(g->w[i] * inverse + g->v[i], c.low, c.high);
}

static void backward_int(const lb_format *format, const lb_tune_group *g, const float *d,
                         lb_tune_gradient *gradient)
{
    const grid c = find_grid(format, g);
    const float inverse = c.scale == 0.0f ? 0.0f : 1.0f / c.scale;
    double by_scale = 0.0, by_zero = 0.0;
    for (size_t i = 0; i < g->n; i++) {
        const float x = g->w[i] * inverse;
        /* One further than the range on both sides is enough to see that it was left. */
        const float rounded = lb_int_round_within(x + g->v[i], c.low - 1.0f, c.high + 1.0f);
        const float inside = rounded >= c.low && rounded <= c.high ? 1.0f : 0.0f;
        const float code = rounded < c.low ? c.low : rounded > c.high ? c.high : rounded;
        const float by_value = d[i];
        gradient->v[i] = by_value * c.scale * inside;
        by_scale += (double)(by_value * (code - inside * x));
        by_zero += (double)(by_value * c.scale * (inside - 1.0f));
    }
    by_scale += by_zero * (double)c.zero_by_scale;
    gradient->factors[LB_TUNE_BETA] = (float)(by_scale * (double)c.scale_by_beta);
    gradient->factors[LB_TUNE_ALPHA] =
        (float)(by_scale * (double)c.scale_by_alpha + by_zero * (double)c.zero_by_alpha);
}

unsigned lb_tune_scale_factors(const lb_format *format)
{
    (void)format;
    return LB_TUNE_SCALE_FACTORS;
}

const lb_tune_ops lb_tune_int = {
    .factors = lb_tune_scale_factors, .forward = forward_int, .backward = backward_int};
