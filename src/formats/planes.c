/* SPDX-License-Identifier: MIT
 * See planes.h for the format. The fit alternates between the nearest levels and the coefficients that fit them
 * best, as Lloyd and Max do for free levels, from several uniform grids. */
#include "formats/planes.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/half.h"
#include "formats/linear_format.h"
#include "formats/tune.h"

enum { LEVELS = 1 << LB_PLANES_MOST, COEFFICIENTS = LB_PLANES_MOST + 1 };

static bool parse_planes(const char *name, lb_format *out)
{
    unsigned planes;
    size_t group;
    int used = 0;
    if (sscanf(name, "bp%1u-row%n", &planes, &used) == 1 && used > 0)
        group = 0;
    else if (sscanf(name, "bp%1u-g%4zu%n", &planes, &group, &used) != 2 || used == 0)
        return false;
    if (planes < 1 || planes > LB_PLANES_MOST || name[used] != '\0' ||
        !(group == 0 || group == 32 || group == 64 || group == 128 || group == 256))
        return false;
    *out = (lb_format){.ops = &lb_planes_format, .bits = planes, .group = group, .params = planes + 1};
    if (group)
        snprintf(out->name, sizeof out->name, "bp%u-g%zu", planes, group);
    else
        snprintf(out->name, sizeof out->name, "bp%u-row", planes);
    /* sscanf forgives blanks, signs and leading zeros; a name must be spelled as it is printed. */
    return strcmp(name, out->name) == 0;
}

static float storable(double x)
{
    return lb_round_to_f16((float)x);
}

/* levels [2^planes] of params. */
static void find_levels(const lb_format *format, const float *params, float *levels)
{
    levels[0] = params[0];
    for (unsigned i = 0; i < format->bits; i++)
        for (unsigned k = 0; k < 1u << i; k++)
            levels[(1u << i) + k] = levels[k] + params[i + 1];
}

static uint8_t nearest(const float *levels, unsigned count, float w)
{
    unsigned best = 0;
    float least = fabsf(w - levels[0]);
    for (unsigned k = 1; k < count; k++) {
        const float distance = fabsf(w - levels[k]);
        if (distance < least) {
            least = distance;
            best = k;
        }
    }
    return (uint8_t)best;
}

static void round_planes(const lb_format *format, const float *params, const float *w, size_t n,
                         uint8_t *codes)
{
    float levels[LEVELS];
    find_levels(format, params, levels);
    for (size_t i = 0; i < n; i++)
        codes[i] = nearest(levels, 1u << format->bits, w[i]);
}

static void value_planes(const lb_format *format, const float *params, const uint8_t *codes, size_t n,
                         float *w)
{
    float levels[LEVELS];
    find_levels(format, params, levels);
    for (size_t i = 0; i < n; i++)
        w[i] = levels[codes[i]];
}

/* ---- Fit --------------------------------------------------------------------------------------------- */

static void uniform_grid(const lb_format *format, double low, double high, float *params)
{
    const double step = (high - low) / (double)((1u << format->bits) - 1);
    params[0] = storable(low);
    for (unsigned i = 0; i < format->bits; i++)
        params[i + 1] = storable(step * (double)(1u << i));
}

typedef struct group {
    const lb_format *format;
    const float *w, *importance; /* importance NULL: all the same */
    size_t n;
} group;

/* The nearest levels, each bit's weighted sums, and the error: a [count, count], b [count] of the normal equations. */
static double assign(const group *g, const float *params, double *a, double *b)
{
    const unsigned count = g->format->bits + 1, level_count = 1u << g->format->bits;
    double error = 0.0, weights[LEVELS] = {0}, sums[LEVELS] = {0};
    float levels[LEVELS];
    find_levels(g->format, params, levels);
    for (size_t i = 0; i < g->n; i++) {
        const uint8_t code = nearest(levels, level_count, g->w[i]);
        const double h = g->importance ? (double)g->importance[i] : 1.0;
        const double d = (double)g->w[i] - (double)levels[code];
        error += h * d * d;
        weights[code] += h;
        sums[code] += h * (double)g->w[i];
    }
    memset(a, 0, count * count * sizeof *a);
    memset(b, 0, count * sizeof *b);
    for (unsigned k = 0; k < level_count; k++) {
        const unsigned bits = k << 1 | 1; /* the first coefficient is in all */
        for (unsigned i = 0; i < count; i++) {
            if (!(bits >> i & 1))
                continue;
            b[i] += sums[k];
            for (unsigned j = 0; j < count; j++)
                a[i * count + j] += bits >> j & 1 ? weights[k] : 0.0;
        }
    }
    return error;
}

/* From a grid to the nearest place where neither codes nor coefficients can be bettered alone. */
static void descend(const group *g, float *params, double *best_error, float *best_params)
{
    enum { ROUNDS = 25 };
    const unsigned count = g->format->bits + 1;
    double a[COEFFICIENTS * COEFFICIENTS], b[COEFFICIENTS], x[COEFFICIENTS], last = HUGE_VAL;
    for (int round = 0; round < ROUNDS; round++) {
        const double error = assign(g, params, a, b);
        if (error < *best_error) {
            *best_error = error;
            memcpy(best_params, params, count * sizeof *params);
        }
        if (!(error < last))
            return;
        last = error;
        if (!lb_solve_normal(count, a, b, 1e-9 * a[0], x))
            return;
        for (unsigned i = 0; i < count; i++)
            params[i] = storable(x[i]);
    }
}

static void fit_planes(const lb_format *format, const float *w, const float *importance, size_t n, lb_fit how,
                       float *params)
{
    static const double shares[] = {1.0, 0.85, 0.7, 0.55, 0.4};
    double low = (double)w[0], high = (double)w[0], best = HUGE_VAL;
    for (size_t i = 1; i < n; i++) {
        low = (double)w[i] < low ? (double)w[i] : low;
        high = (double)w[i] > high ? (double)w[i] : high;
    }
    uniform_grid(format, low, high, params);
    if (how == LB_FIT_RANGE || low == high)
        return;
    const group g = {format, w, importance, n};
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++) {
        float start[COEFFICIENTS];
        uniform_grid(format, low * shares[i], high * shares[i], start);
        descend(&g, start, &best, params);
    }
}

/* ---- Coefficients ------------------------------------------------------------------------------------ */

static unsigned count_coefficients(const lb_format *format)
{
    return format->bits + 1;
}

static void basis_planes(const lb_format *format, const float *params, float *out)
{
    (void)params;
    const unsigned count = format->bits + 1;
    for (unsigned k = 0; k < 1u << format->bits; k++) {
        out[k * count] = 1.0f;
        for (unsigned i = 1; i < count; i++)
            out[k * count + i] = (float)(k >> (i - 1) & 1);
    }
}

static void get_coefficients(const lb_format *format, const float *params, float *coefficients)
{
    memcpy(coefficients, params, format->params * sizeof *params);
}

static void set_coefficients(const lb_format *format, const float *coefficients, float *params)
{
    for (unsigned i = 0; i <= format->bits; i++)
        params[i] = storable((double)coefficients[i]);
}

static const lb_linear_format_ops linear_planes = {
    .count = count_coefficients, .basis = basis_planes, .get = get_coefficients, .set = set_coefficients};

/* ---- Storage ----------------------------------------------------------------------------------------- */

enum { PART_PLANES, PART_COEFFICIENTS };

static size_t plane_bytes(size_t cols)
{
    return (cols + 7) / 8;
}

static unsigned parts_of_row(const lb_format *format, size_t cols, lb_format_part out[LB_FORMAT_MAX_PARTS])
{
    out[PART_PLANES] = (lb_format_part){"codes", 1, format->bits * plane_bytes(cols)};
    out[PART_COEFFICIENTS] =
        (lb_format_part){"coefficients", 2, lb_format_groups(format, cols) * format->params * 2};
    return 2;
}

static void pack_planes(const lb_format *format, const uint8_t *codes, const float *params, size_t cols,
                        uint8_t *const *parts)
{
    const size_t bytes = plane_bytes(cols), coefficients = lb_format_groups(format, cols) * format->params;
    memset(parts[PART_PLANES], 0, format->bits * bytes);
    for (unsigned p = 0; p < format->bits; p++) {
        uint8_t *plane = parts[PART_PLANES] + p * bytes;
        for (size_t i = 0; i < cols; i++)
            plane[i / 8] = (uint8_t)(plane[i / 8] | (codes[i] >> p & 1) << (i % 8));
    }
    for (size_t i = 0; i < coefficients; i++)
        lb_f16_write(params[i], parts[PART_COEFFICIENTS] + 2 * i);
}

static lb_status unpack_planes(const lb_format *format, const uint8_t *const *parts, size_t cols,
                               uint8_t *codes, float *params, lb_error *err)
{
    const size_t bytes = plane_bytes(cols), coefficients = lb_format_groups(format, cols) * format->params;
    for (size_t i = 0; i < cols; i++) {
        unsigned code = 0;
        for (unsigned p = 0; p < format->bits; p++)
            code |= (unsigned)(parts[PART_PLANES][p * bytes + i / 8] >> (i % 8) & 1) << p;
        codes[i] = (uint8_t)code;
    }
    for (size_t i = 0; i < coefficients; i++) {
        params[i] = lb_f16_read(parts[PART_COEFFICIENTS] + 2 * i);
        if (!isfinite(params[i]))
            return lb_fail(err, LB_EFORMAT, "coefficient %zu of group %zu is %g, not a finite number",
                           i % format->params, i / format->params, (double)params[i]);
    }
    return LB_OK;
}

const lb_format_ops lb_planes_format = {
    .family = "bp",
    .syntax = "bpK-gG or bpK-row with K = 1..4 bit planes and G = 32, 64, 128, 256",
    .parse = parse_planes,
    .fit = fit_planes,
    .round = round_planes,
    .value = value_planes,
    .parts = parts_of_row,
    .pack = pack_planes,
    .unpack = unpack_planes,
    .tune = &lb_tune_planes,
    .linear = &linear_planes,
};
