/* SPDX-License-Identifier: MIT
 * See qsnr_grid.h. Lengths are in units of the block's largest magnitude, so that the other values u, the
 * body, lie in [0, 1], and a block of g values with crest factor k has the energy g / k^2. */
#include "analyze/qsnr_grid.h"

#include <math.h>

#include "formats/block_format.h"

enum {
    PIECES = 1024,
    MAX_TILT = 200,
    MAX_STEPS = 60,
    PHASES = 32, /* of powers of two; the noise is smooth between steps of the rule */
    FACTOR_PHASES = 512, /* of E4M3 factors, of which an octave has eight */
    LARGEST_PHASES = 1024,
    HALF_WIDTHS = 512 /* of the integral over the normal distribution, out to 8 sigma */
};

/* The body's density, constant on PIECES equal pieces of [0, end], and its moments from 0 to each piece. */
typedef struct body {
    double end, width;
    double p[PIECES];
    double moment[PIECES + 1][3]; /* of u^0, u^1, u^2 */
} body;

static double normal_within(double x)
{
    return erf(x * 0.70710678118654752);
}

/* The root mean square of g normal values without the largest of them. */
static double rms_of_smaller(double g)
{
    const double h = 8.0 / HALF_WIDTHS;
    double largest_square = 0.0; /* E max^2 = integral of 2 x P(max > x) */
    for (int i = 0; i < HALF_WIDTHS; i++) {
        const double x = (i + 0.5) * h;
        largest_square += 2.0 * x * (1.0 - pow(normal_within(x), g)) * h;
    }
    return sqrt((g - largest_square) / (g - 1.0));
}

/* One value of g - 1 on a sphere of radius^2 = radius2 (normal values of known energy), not the largest of g
 * in the place where it came from. */
static double untilted_density(double u, double radius2, double g, double to_normal)
{
    const double inside = 1.0 - u * u / radius2;
    if (inside <= 0.0)
        return 0.0;
    return pow(inside, 0.5 * (g - 4.0)) * (1.0 - pow(normal_within(u * to_normal), g - 1.0));
}

static double tilted(const body *b, const double *base, double tilt, int piece)
{
    const double u = (piece + 0.5) / PIECES;
    return base[piece] * exp(-tilt * u * u) * b->width;
}

/* Mean square of the tilted density, and how fast that falls with the tilt. */
static double mean_square(const body *b, const double *base, double tilt, double *slope)
{
    double total = 0.0, square = 0.0, fourth = 0.0;
    for (int i = 0; i < PIECES; i++) {
        const double u = (i + 0.5) * b->width, p = tilted(b, base, tilt, i);
        const double u2 = u * u + b->width * b->width / 12.0;
        total += p;
        square += p * u2;
        fourth += p * u2 * u2;
    }
    square /= total;
    *slope = (fourth / total - square * square) / (b->end * b->end);
    return square;
}

/* The tilt with that mean square: Newton's steps, which bisection replaces where they lead out. */
static double find_tilt(const body *b, const double *base, double wanted)
{
    double low = -MAX_TILT, high = MAX_TILT, tilt = 0.0;
    for (int i = 0; i < MAX_STEPS; i++) {
        double slope;
        const double over = mean_square(b, base, tilt, &slope) - wanted;
        if (over > 0.0)
            low = tilt;
        else
            high = tilt;
        const double step = over / slope;
        const double next = tilt + step > low && tilt + step < high ? tilt + step : 0.5 * (low + high);
        if (fabs(next - tilt) < 1e-9)
            break;
        tilt = next;
    }
    return tilt;
}

/* Values may not exceed the largest, yet their energy is given: the density that differs least from the
 * untilted one and has the right mean square is that one times exp(-tilt u^2). */
static void make_body(double crest, double g, body *b)
{
    const double radius2 = (g - crest * crest) / (crest * crest), wanted = radius2 / (g - 1.0);
    const double to_normal = rms_of_smaller(g) / sqrt(wanted);
    double base[PIECES], mass = 0.0;
    b->end = radius2 < 1.0 ? sqrt(radius2) : 1.0;
    b->width = b->end / PIECES;
    for (int i = 0; i < PIECES; i++)
        base[i] = untilted_density((i + 0.5) * b->width, radius2, g, to_normal);
    const double tilt = find_tilt(b, base, wanted);
    for (int i = 0; i < PIECES; i++)
        mass += tilted(b, base, tilt, i);
    for (int k = 0; k < 3; k++)
        b->moment[0][k] = 0.0;
    for (int i = 0; i < PIECES; i++) {
        const double u = (i + 0.5) * b->width, p = tilted(b, base, tilt, i) / mass;
        b->p[i] = p / b->width;
        b->moment[i + 1][0] = b->moment[i][0] + p;
        b->moment[i + 1][1] = b->moment[i][1] + p * u;
        b->moment[i + 1][2] = b->moment[i][2] + p * (u * u + b->width * b->width / 12.0);
    }
}

/* Moments of the body from 0 to u. */
static void moments_to(const body *b, double u, double out[3])
{
    const double at = u / b->width;
    if (at >= PIECES) {
        for (int k = 0; k < 3; k++)
            out[k] = b->moment[PIECES][k];
        return;
    }
    const int i = (int)at;
    const double begin = i * b->width;
    out[0] = b->moment[i][0] + b->p[i] * (u - begin);
    out[1] = b->moment[i][1] + b->p[i] * (u * u - begin * begin) / 2.0;
    out[2] = b->moment[i][2] + b->p[i] * (u * u * u - begin * begin * begin) / 3.0;
}

static double grid_value(const lb_element *e, unsigned code)
{
    return code > e->max_code ? (double)e->max + 1.0 : (double)lb_element_decode(e, (uint8_t)code);
}

/* Mean square error of the body with that scale; the grid ends at the magnitude code `last`. */
static double body_noise(const body *b, const lb_element *e, unsigned last, double scale)
{
    double total = 0.0, begin = 0.0, before[3] = {0.0, 0.0, 0.0};
    for (unsigned code = 0; code <= last && begin < b->end; code++) {
        const double value = scale * grid_value(e, code);
        const double end = code < last ? 0.5 * (value + scale * grid_value(e, code + 1)) : b->end;
        double to[3];
        moments_to(b, end, to);
        total +=
            (to[2] - before[2]) - 2.0 * value * (to[1] - before[1]) + value * value * (to[0] - before[0]);
        for (int k = 0; k < 3; k++)
            before[k] = to[k];
        begin = end;
    }
    return total;
}

static double largest_noise(const lb_element *e, float low_max, double scale)
{
    double total = 0.0;
    for (int sign = -1; sign <= 1; sign += 2) {
        const uint8_t code = lb_element_encode(e, low_max, (float)(sign / scale));
        const double error = sign - scale * (double)lb_element_decode(e, code);
        total += 0.5 * error * error;
    }
    return total;
}

/* The scale of a block whose largest magnitude is 2^octaves, over that magnitude. */
static double scale_at(const lb_format *format, double octaves)
{
    const lb_element *e = format->element;
    const float largest = (float)exp2(octaves);
    if (format->rule == LB_SCALE_EXACT)
        return 1.0 / (double)e->max;
    if (format->rule == LB_SCALE_TWO_LEVEL) { /* in the middle of E4M3's range */
        const float tensor = 1.0f / (16.0f * e->max);
        return (double)(lb_nv_factor(e, tensor, lb_float_bits(largest)) * tensor / largest);
    }
    return exp2(lb_mx_exponent(e, format->rule, lb_float_bits(largest))) / (double)largest;
}

/* Where in [0, 1) octaves the rule's exponent steps up: integration begins there, since the noise is smooth
 * from there on for an octave. */
static double step_of_rule(const lb_format *format)
{
    if (format->rule == LB_SCALE_EXACT || format->rule == LB_SCALE_TWO_LEVEL)
        return 0.0;
    const uint32_t first = lb_float_bits(1.0f), end = lb_float_bits(2.0f);
    const int below = lb_mx_exponent(format->element, format->rule, first);
    uint32_t low = first, high = end;
    while (high - low > 1) {
        const uint32_t middle = low + (high - low) / 2;
        if (lb_mx_exponent(format->element, format->rule, middle) == below)
            low = middle;
        else
            high = middle;
    }
    return high == end ? 0.0 : log2((double)lb_float_from_bits(high));
}

double lb_grid_noise(const lb_format *format, double crest, size_t block)
{
    const lb_element *e = format->element;
    const double g = (double)block;
    body b;
    if (!e || block < 4 || !(crest > 1.0 && crest * crest < g))
        return NAN;
    make_body(crest, g, &b);
    const double first = step_of_rule(format);
    const int phases = format->rule == LB_SCALE_TWO_LEVEL ? FACTOR_PHASES : PHASES;
    double of_body = 0.0, of_largest = 0.0;
    for (int i = 0; i < phases; i++) {
        const double scale = scale_at(format, first + (i + 0.5) / phases);
        const double up = body_noise(&b, e, e->max_code, scale);
        of_body += format->symmetric ? up : 0.5 * (up + body_noise(&b, e, e->max_code + 1, scale));
    }
    for (int i = 0; i < LARGEST_PHASES; i++)
        of_largest +=
            largest_noise(e, lb_block_low_max(format), scale_at(format, first + (i + 0.5) / LARGEST_PHASES));
    return ((g - 1.0) * of_body / phases + of_largest / LARGEST_PHASES) * crest * crest / g;
}
