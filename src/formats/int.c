/* SPDX-License-Identifier: MIT
 * See int.h for the format; the search follows arXiv:2512.04746 (symmetric grid of scales weighted by
 * channel importance), to which a least-squares polish of the winner and the asymmetric case are ours. */
#include "formats/int.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/bits.h"
#include "formats/int_round.h"
#include "formats/linear_format.h"
#include "formats/tune.h"

static bool parse_int(const char *name, lb_format *out)
{
    unsigned bits;
    size_t group;
    int used = 0;
    if (sscanf(name, "int%1u-row%n", &bits, &used) == 1 && used > 0)
        group = 0;
    else if (sscanf(name, "int%1u-g%4zu%n", &bits, &group, &used) != 2 || used == 0)
        return false;
    const char *rest = name + used;
    bool symmetric = *rest == '\0' || strcmp(rest, "-sym") == 0;
    if (!symmetric && strcmp(rest, "-asym") != 0)
        return false;
    if (bits < 2 || bits > 8 || !(group == 0 || group == 32 || group == 64 || group == 128 || group == 256))
        return false;
    *out = (lb_format){
        .ops = &lb_int_format, .bits = bits, .group = group, .symmetric = symmetric, .params = LB_INT_PARAMS};
    char size[16] = "row";
    if (group)
        snprintf(size, sizeof size, "g%zu", group);
    snprintf(out->name, sizeof out->name, "int%u-%s%s", bits, size, symmetric ? "" : "-asym");
    /* sscanf forgives blanks, signs and leading zeros; a name must be spelled as it is printed. */
    return strncmp(name, out->name, (size_t)used) == 0;
}

typedef struct extremes {
    float low, high; /* low <= 0 <= high */
} extremes;

static extremes find_extremes(const float *w, size_t n)
{
    extremes e = {0.0f, 0.0f};
    for (size_t i = 0; i < n; i++) {
        e.low = w[i] < e.low ? w[i] : e.low;
        e.high = w[i] > e.high ? w[i] : e.high;
    }
    return e;
}

static void fit_range(const lb_format *format, extremes e, float *params)
{
    if (format->symmetric) {
        float half = (float)(1u << (format->bits - 1));
        float largest = e.high >= -e.low ? e.high : e.low;
        params[LB_INT_SCALE] = lb_int_storable_scale(-largest / half);
        params[LB_INT_ZERO] = half;
        return;
    }
    float top = (float)((1u << format->bits) - 1);
    float scale = lb_int_storable_scale((e.high - e.low) / top);
    params[LB_INT_SCALE] = scale;
    params[LB_INT_ZERO] = scale == 0.0f ? 0.0f : lb_int_round_within(-e.low / scale, 0.0f, top);
}

/* The best candidate so far, and what the candidates are judged on. */
typedef struct search {
    const float *w, *importance;
    size_t n;
    float top; /* largest code */
    double best_error;
    float *best_params; /* scale, zero */
} search;

/* Loops over a fixed buffer that compilers vectorise: this is where the search spends its time. Sums of
 * STRIDE floats are joined in double. */
enum { STRIDE = 64 };

static double sum_stride(const float *terms)
{
    float lanes[8] = {0};
    for (size_t i = 0; i < STRIDE; i += 8)
        for (size_t k = 0; k < 8; k++)
            lanes[k] += terms[i + k];
    double total = 0.0;
    for (size_t k = 0; k < 8; k++)
        total += (double)lanes[k];
    return total;
}

static double weighted_error(const search *s, float scale, float zero)
{
    const float inverse = 1.0f / scale, low = -zero, high = s->top - zero;
    float terms[STRIDE];
    double total = 0.0;
    for (size_t begin = 0; begin < s->n; begin += STRIDE) {
        const size_t count = s->n - begin < STRIDE ? s->n - begin : STRIDE;
        const float *w = s->w + begin;
        for (size_t i = count; i < STRIDE; i++)
            terms[i] = 0.0f;
        for (size_t i = 0; i < count; i++) {
            const float d = lb_int_round_within(w[i] * inverse, low, high) * scale - w[i];
            terms[i] = d * d;
        }
        if (s->importance) {
            for (size_t i = 0; i < count; i++)
                terms[i] *= s->importance[begin + i];
        }
        total += sum_stride(terms);
    }
    return total;
}

/* Keeps the candidate if it is the best so far; returns its error. */
static double try_candidate(search *s, float scale, float zero)
{
    scale = lb_int_storable_scale(scale);
    if (scale == 0.0f || !isfinite(1.0f / scale))
        return HUGE_VAL;
    double error = weighted_error(s, scale, zero);
    if (error < s->best_error) {
        s->best_error = error;
        s->best_params[LB_INT_SCALE] = scale;
        s->best_params[LB_INT_ZERO] = zero;
    }
    return error;
}

/* Given the winner's codes, the scale that fits them best in the weighted least-squares sense; new
 * codes follow from a new scale, so a few rounds. */
static void polish(search *s)
{
    for (int round = 0; round < 3; round++) {
        float scale = s->best_params[LB_INT_SCALE], zero = s->best_params[LB_INT_ZERO];
        double before = s->best_error, wq = 0.0, qq = 0.0;
        if (scale == 0.0f)
            return;
        for (size_t i = 0; i < s->n; i++) {
            double h = s->importance ? (double)s->importance[i] : 1.0;
            double q = (double)lb_int_round_within(s->w[i] / scale, -zero, s->top - zero);
            wq += h * q * (double)s->w[i];
            qq += h * q * q;
        }
        if (qq > 0.0)
            try_candidate(s, (float)(wq / qq), zero);
        if (!(s->best_error < before))
            return;
    }
}

/* Candidates 1/scale = -(half - step * i) / largest for |i| <= reach, on the side of the largest weight
 * and, where the extra negative code matters, on the other side too. The error is smooth enough at a
 * distance of a few steps to look at every third candidate first and then around the best of those
 * (not at 7 and 8 bits). */
static void search_symmetric(const lb_format *format, extremes e, search *s)
{
    const float half = s->best_params[LB_INT_ZERO];
    const float largest = e.high >= -e.low ? e.high : e.low;
    const int reach = format->bits == 2 ? 90 : 99;
    const float step = format->bits == 2 ? 0.01f : 0.0075f * half;
    const int sides = format->bits <= 4 ? 2 : 1;
    const int coarse = format->bits <= 6 ? 3 : 1;
    for (int side = 0; side < sides; side++) {
        const float m = side == 0 ? largest : -largest;
        double least = HUGE_VAL;
        int best = 0;
        for (int i = -reach; i <= reach; i += coarse) {
            const double error = try_candidate(s, -m / (half - step * (float)i), half);
            if (error < least) {
                least = error;
                best = i;
            }
        }
        for (int i = best - coarse + 1; i < best + coarse; i++) {
            if (i != best)
                try_candidate(s, -m / (half - step * (float)i), half);
        }
    }
}

/* Shrunk ranges, each with the zeros around the one that the range implies (2 bits: all four). */
static void search_asymmetric(const lb_format *format, extremes e, search *s)
{
    enum { STEPS = 80 };
    for (int i = 0; i < STEPS; i++) {
        float shrink = 1.1f - (float)i * 0.01f;
        float scale = (e.high - e.low) * shrink / s->top;
        float centre = lb_int_round_within(-e.low * shrink / scale, 0.0f, s->top);
        float reach = format->bits == 2 ? 3.0f : 1.0f;
        for (float zero = centre - reach; zero <= centre + reach; zero += 1.0f) {
            if (zero >= 0.0f && zero <= s->top)
                try_candidate(s, scale, zero);
        }
    }
}

static void fit_int(const lb_format *format, const float *w, const float *importance, size_t n, lb_fit how,
                    float *params)
{
    extremes e = find_extremes(w, n);
    fit_range(format, e, params);
    if (how == LB_FIT_RANGE || params[LB_INT_SCALE] == 0.0f)
        return;
    search s = {.w = w,
                .importance = importance,
                .n = n,
                .top = (float)((1u << format->bits) - 1),
                .best_params = params};
    s.best_error = weighted_error(&s, params[LB_INT_SCALE], params[LB_INT_ZERO]);
    if (format->symmetric)
        search_symmetric(format, e, &s);
    else
        search_asymmetric(format, e, &s);
    polish(&s);
}

static void round_int(const lb_format *format, const float *params, const float *w, size_t n, uint8_t *codes)
{
    const float scale = params[LB_INT_SCALE], zero = params[LB_INT_ZERO];
    const float top = (float)((1u << format->bits) - 1);
    const float inverse = scale == 0.0f ? 0.0f : 1.0f / scale;
    for (size_t i = 0; i < n; i++)
        codes[i] = (uint8_t)(lb_int_round_within(w[i] * inverse, -zero, top - zero) + zero);
}

static void value_int(const lb_format *format, const float *params, const uint8_t *codes, size_t n, float *w)
{
    (void)format;
    const float scale = params[LB_INT_SCALE], zero = params[LB_INT_ZERO];
    for (size_t i = 0; i < n; i++)
        w[i] = scale * ((float)codes[i] - zero);
}

enum { PART_CODES, PART_SCALES, PART_ZEROS };

static unsigned parts_of_row(const lb_format *format, size_t cols, lb_format_part out[LB_FORMAT_MAX_PARTS])
{
    size_t groups = lb_format_groups(format, cols);
    out[PART_CODES] = (lb_format_part){"codes", 1, lb_bits_bytes(cols, format->bits)};
    out[PART_SCALES] = (lb_format_part){"scales", 2, groups * 2};
    if (format->symmetric)
        return 2;
    out[PART_ZEROS] = (lb_format_part){"zeros", 1, lb_bits_bytes(groups, format->bits)};
    return 3;
}

/* Zeros are packed like codes; groups are few, so a code at a time through a small window. */
static void pack_zeros(const lb_format *format, const float *params, size_t groups, uint8_t *out)
{
    memset(out, 0, lb_bits_bytes(groups, format->bits));
    for (size_t g = 0; g < groups; g++) {
        unsigned zero = (unsigned)params[g * LB_INT_PARAMS + LB_INT_ZERO];
        for (unsigned b = 0; b < format->bits; b++) {
            size_t at = g * format->bits + b;
            out[at / 8] = (uint8_t)(out[at / 8] | ((zero >> b) & 1u) << (at % 8));
        }
    }
}

static unsigned unpack_zero(const lb_format *format, const uint8_t *bytes, size_t g)
{
    unsigned zero = 0;
    for (unsigned b = 0; b < format->bits; b++) {
        size_t at = g * format->bits + b;
        zero |= ((unsigned)bytes[at / 8] >> (at % 8) & 1u) << b;
    }
    return zero;
}

static void pack_int(const lb_format *format, const uint8_t *codes, const float *params, size_t cols,
                     uint8_t *const *parts)
{
    size_t groups = lb_format_groups(format, cols);
    lb_bits_pack(codes, cols, format->bits, parts[PART_CODES]);
    for (size_t g = 0; g < groups; g++)
        lb_f16_write(params[g * LB_INT_PARAMS + LB_INT_SCALE], parts[PART_SCALES] + 2 * g);
    if (!format->symmetric)
        pack_zeros(format, params, groups, parts[PART_ZEROS]);
}

static lb_status unpack_int(const lb_format *format, const uint8_t *const *parts, size_t cols, uint8_t *codes,
                            float *params, lb_error *err)
{
    size_t groups = lb_format_groups(format, cols);
    lb_bits_unpack(parts[PART_CODES], cols, format->bits, codes);
    for (size_t g = 0; g < groups; g++) {
        const float scale = lb_f16_read(parts[PART_SCALES] + 2 * g);
        if (!isfinite(scale))
            return lb_fail(err, LB_EFORMAT, "the scale of group %zu is %g, not a finite number", g,
                           (double)scale);
        params[g * LB_INT_PARAMS + LB_INT_SCALE] = scale;
        params[g * LB_INT_PARAMS + LB_INT_ZERO] = format->symmetric
                                                      ? (float)(1u << (format->bits - 1))
                                                      : (float)unpack_zero(format, parts[PART_ZEROS], g);
    }
    return LB_OK;
}

/* The scale is the one coefficient; zeros stay. */
static unsigned count_coefficients(const lb_format *format)
{
    (void)format;
    return 1;
}

static void basis_int(const lb_format *format, const float *params, float *out)
{
    for (unsigned k = 0; k < 1u << format->bits; k++)
        out[k] = (float)k - params[LB_INT_ZERO];
}

static void get_scale(const lb_format *format, const float *params, float *coefficients)
{
    (void)format;
    coefficients[0] = params[LB_INT_SCALE];
}

static void set_scale(const lb_format *format, const float *coefficients, float *params)
{
    (void)format;
    params[LB_INT_SCALE] = lb_int_storable_scale(coefficients[0]);
}

static const lb_linear_format_ops linear_int = {
    .count = count_coefficients, .basis = basis_int, .get = get_scale, .set = set_scale};

const lb_format_ops lb_int_format = {
    .family = "int",
    .syntax = "intB-gG[-asym] or intB-row[-asym] with B = 2..8 and G = 32, 64, 128, 256",
    .parse = parse_int,
    .fit = fit_int,
    .round = round_int,
    .value = value_int,
    .parts = parts_of_row,
    .pack = pack_int,
    .unpack = unpack_int,
    .tune = &lb_tune_int,
    .linear = &linear_int,
};
