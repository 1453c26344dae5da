/* SPDX-License-Identifier: MIT
 * Learned rounding of MX and NV formats (tune.h; arXiv:2512.04746): beta multiplies the magnitude that the
 * block's scale follows from, or the scale found beforehand; blocks have no side for alpha.
 *
 *   MX   scale = 2^k, k by the format's rule from beta * largest magnitude, plus what `start` is away from it
 *   NV   scale = E4M3(beta * factor) * tensor
 *
 * Scales are rounded to powers of two or to E4M3; straight through, d scale / d beta = scale / beta.
 *
 * An offset counts in units of the element, not in steps of its grid, which are wider for larger elements:
 * large ones of a float format thus move less. Steps were tried, and were worse at 4 bits.
 */
#include <float.h>
#include <math.h>

#include "formats/block_format.h"
#include "formats/tune.h"

/* No product with a factor in 0..2 may become an infinity, nor vanish: from no scale no gradient leads back. */
static float times(float factor, float x)
{
    const float y = (factor < 0x1p-10f ? 0x1p-10f : factor) * x;
    return y > FLT_MAX / 2.0f ? FLT_MAX / 2.0f : y;
}

/* As E4M3 holds it; its least number rather than nothing. */
static float block_factor(float x)
{
    const float rounded = lb_element_decode(&lb_e4m3, lb_element_encode(&lb_e4m3, lb_e4m3.max, x));
    return rounded == 0.0f && x > 0.0f ? 0x1p-9f : rounded;
}

static void find_scale(const lb_format *format, const lb_tune_group *g, float *params)
{
    const lb_element *e = format->element;
    const uint32_t bits = lb_block_largest(g->w, g->n);
    const float largest = lb_float_from_bits(bits);
    if (bits == 0 || bits >= 0x7f800000u) { /* nothing to train */
        lb_block_fit(format, g->w, NULL, g->n, LB_FIT_RANGE, params);
    } else if (format->rule == LB_SCALE_TWO_LEVEL) {
        const float factor =
            g->start ? g->start[LB_NV_BLOCK_FACTOR] : largest / e->max / format->tensor_scale;
        params[LB_NV_BLOCK_FACTOR] = block_factor(times(g->factors[LB_TUNE_BETA], factor));
        params[LB_BLOCK_SCALE] = params[LB_NV_BLOCK_FACTOR] * format->tensor_scale;
    } else if (format->rule == LB_SCALE_EXACT) {
        params[LB_BLOCK_SCALE] =
            times(g->factors[LB_TUNE_BETA], g->start ? g->start[LB_BLOCK_SCALE] : largest / e->max);
    } else {
        int k = lb_mx_exponent(e, format->rule, lb_float_bits(times(g->factors[LB_TUNE_BETA], largest)));
        if (g->start) { /* both are powers of two */
            const int found = g->start[LB_BLOCK_SCALE] > 0.0f ? ilogbf(g->start[LB_BLOCK_SCALE]) : -127;
            k += found - lb_mx_exponent(e, format->rule, bits);
        }
        params[LB_BLOCK_SCALE] = lb_power_of_two(k < -127 ? -127 : k > 127 ? 127 : k);
    }
}

/* Division, as lb_block_round has it. */
static float scaled(float w, float scale)
{
    return scale == 0.0f ? 0.0f : w / scale;
}

static void forward_block(const lb_format *format, const lb_tune_group *g, float *params, uint8_t *codes,
                          float *values)
{
    const float low = lb_block_low_max(format);
    find_scale(format, g, params);
    const float scale = params[LB_BLOCK_SCALE];
    for (size_t i = 0; i < g->n; i++) {
        const uint8_t code = lb_element_encode(format->element, low, scaled(g->w[i], scale) + g->v[i]);
        if (codes)
            codes[i] = code;
        if (values)
            values[i] = scale * lb_element_decode(format->element, code);
    }
}

static void backward_block(const lb_format *format, const lb_tune_group *g, const float *d,
                           lb_tune_gradient *gradient)
{
    const float low = lb_block_low_max(format), high = format->element->max;
    float params[LB_FORMAT_MAX_PARAMS];
    double by_scale = 0.0;
    find_scale(format, g, params);
    const float scale = params[LB_BLOCK_SCALE];
    for (size_t i = 0; i < g->n; i++) {
        const float x = scaled(g->w[i], scale), t = x + g->v[i];
        const float inside = t >= -low && t <= high ? 1.0f : 0.0f;
        const float element = lb_element_decode(format->element, lb_element_encode(format->element, low, t));
        const float by_value = d[i];
        gradient->v[i] = by_value * scale * inside;
        by_scale += (double)(by_value * (inside > 0.0f ? element - x : element));
    }
    gradient->factors[LB_TUNE_ALPHA] = 0.0f;
    gradient->factors[LB_TUNE_BETA] =
        (float)(by_scale * (double)scale /
                (double)(g->factors[LB_TUNE_BETA] > 1e-6f ? g->factors[LB_TUNE_BETA] : 1e-6f));
}

const lb_tune_ops lb_tune_block = {
    .factors = lb_tune_scale_factors, .forward = forward_block, .backward = backward_block};
