/* SPDX-License-Identifier: MIT
 * Block formats from their definitions, slowly and in double: what tests compare the library with. Sources:
 * OCP OFP8, OCP MX v1.0 and arXiv:2510.25602 sections 2 and 3. Nothing here looks at the library's tables.
 * For programs of one file: everything is static inline. */
#ifndef LB_TESTS_SLOW_FORMATS_H
#define LB_TESTS_SLOW_FORMATS_H

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef enum slow_specials {
    SLOW_NO_SPECIALS,
    SLOW_ONE_NAN, /* all ones is NaN, and there is no infinity */
    SLOW_IEEE /* the highest exponent is infinity and NaNs */
} slow_specials;

typedef struct slow_element {
    const char *name;
    unsigned exponent_bits, fraction_bits; /* no exponent bits: a two's complement integer */
    int bias;
    slow_specials specials;
    double max;
    int max_exponent; /* floor(log2(max)) */
} slow_element;

enum {
    SLOW_E4M3,
    SLOW_E5M2,
    SLOW_E2M3,
    SLOW_E3M2,
    SLOW_E2M1,
    SLOW_INT8,
    SLOW_INT6,
    SLOW_INT4,
    SLOW_ELEMENTS
};

static const slow_element slow_elements[SLOW_ELEMENTS] = {
    {"e4m3", 4, 3, 7, SLOW_ONE_NAN, 448, 8},     {"e5m2", 5, 2, 15, SLOW_IEEE, 57344, 15},
    {"e2m3", 2, 3, 1, SLOW_NO_SPECIALS, 7.5, 2}, {"e3m2", 3, 2, 3, SLOW_NO_SPECIALS, 28, 4},
    {"e2m1", 2, 1, 1, SLOW_NO_SPECIALS, 6, 2},   {"int8", 0, 7, 0, SLOW_NO_SPECIALS, 127, 6},
    {"int6", 0, 5, 0, SLOW_NO_SPECIALS, 31, 4},  {"int4", 0, 3, 0, SLOW_NO_SPECIALS, 7, 2},
};

static inline unsigned slow_bits(const slow_element *e)
{
    return 1 + e->exponent_bits + e->fraction_bits;
}

static inline bool slow_is_int(const slow_element *e)
{
    return e->exponent_bits == 0;
}

/* The value of a code. */
static inline double slow_decode(const slow_element *e, unsigned code)
{
    const unsigned bits = slow_bits(e);
    if (slow_is_int(e))
        return (double)code - (code >> (bits - 1) ? (double)(1u << bits) : 0.0);
    const double sign = code >> (bits - 1) ? -1.0 : 1.0;
    const int exponent = (int)(code >> e->fraction_bits & ((1u << e->exponent_bits) - 1u));
    const int fraction = (int)(code & ((1u << e->fraction_bits) - 1u));
    const bool highest = exponent == (1 << e->exponent_bits) - 1;
    if (e->specials == SLOW_IEEE && highest)
        return fraction ? (double)NAN : sign * (double)INFINITY;
    if (e->specials == SLOW_ONE_NAN && highest && fraction == (1 << e->fraction_bits) - 1)
        return (double)NAN;
    const int M = (int)e->fraction_bits;
    if (exponent == 0)
        return sign * ldexp(fraction, 1 - e->bias - M);
    return sign * ldexp(fraction + (1 << M), exponent - e->bias - M);
}

/* The values on the side of y that may be used, by magnitude, and their codes; all of it searched. */
typedef struct slow_grid {
    double values[130];
    unsigned codes[130];
    int count;
} slow_grid;

static inline slow_grid slow_grid_of(const slow_element *e, bool asymmetric, bool negative)
{
    slow_grid grid = {.count = 0};
    for (unsigned code = 0; code < 1u << slow_bits(e); code++) {
        const double value = slow_decode(e, code);
        const bool side = slow_is_int(e) ? (negative ? value <= 0 : value >= 0)
                                         : (code >> (slow_bits(e) - 1) & 1u) == negative;
        if (!side || !isfinite(value) || (fabs(value) > e->max && !asymmetric))
            continue;
        int at = grid.count++;
        for (; at > 0 && grid.values[at - 1] > fabs(value); at--) {
            grid.values[at] = grid.values[at - 1];
            grid.codes[at] = grid.codes[at - 1];
        }
        grid.values[at] = fabs(value);
        grid.codes[at] = code;
    }
    return grid;
}

/* The code of the value nearest to y, of two equally near the even one; beyond the last value the last. */
static inline unsigned slow_nearest(const slow_grid *grid, double y)
{
    const double magnitude = fabs(y);
    int low = 0, high = grid->count - 1; /* values[low] <= magnitude < values[high], or an end */
    if (magnitude >= grid->values[high])
        return grid->codes[high];
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (grid->values[middle] <= magnitude)
            low = middle;
        else
            high = middle;
    }
    const double halfway = (grid->values[low] + grid->values[high]) / 2.0; /* exact */
    if (magnitude == halfway)
        return grid->codes[low] % 2 == 0 ? grid->codes[low] : grid->codes[high];
    return magnitude < halfway ? grid->codes[low] : grid->codes[high];
}

/* Both sides of an element's values, made once. */
typedef struct slow_grids {
    slow_grid side[2];
} slow_grids;

static inline slow_grids slow_grids_of(const slow_element *e, bool asymmetric)
{
    return (slow_grids){{slow_grid_of(e, asymmetric, false), slow_grid_of(e, asymmetric, true)}};
}

static inline unsigned slow_encode(const slow_grids *grids, double y)
{
    return slow_nearest(&grids->side[signbit(y) != 0], y);
}

/* ---- Formats ---------------------------------------------------------------------------------------- */

typedef enum slow_rule {
    SLOW_CEIL,
    SLOW_OCP,
    SLOW_EVEN,
    SLOW_ROUND,
    SLOW_FLOOR,
    SLOW_EXACT,
    SLOW_TWO_LEVEL,
    SLOW_MX_RULES = SLOW_TWO_LEVEL
} slow_rule;

typedef struct slow_format {
    char name[32];
    const slow_element *element;
    slow_rule rule;
    bool asymmetric, nv;
    size_t block;
    slow_grids grids;
} slow_format;

enum { SLOW_MOST_FORMATS = 80 };

static inline size_t slow_add_format(slow_format *f, const char *name, const char *rule, bool asymmetric)
{
    f->asymmetric = asymmetric;
    f->grids = slow_grids_of(f->element, asymmetric);
    snprintf(f->name, sizeof f->name, "%s%s%s", name, rule, asymmetric ? "-asym" : "");
    return 1;
}

/* Every block format there is, with every suffix. Returns how many. */
static inline size_t slow_list_formats(slow_format *out)
{
    static const char *const mx[SLOW_ELEMENTS] = {"mxfp8-e4m3", "mxfp8-e5m2", "mxfp6-e2m3", "mxfp6-e3m2",
                                                  "mxfp4",      "mxint8",     "mxint6",     "mxint4"};
    static const char *const rules[SLOW_MX_RULES] = {"", "-ocp", "-even", "-round", "-floor", "-exact"};
    size_t count = 0;
    for (int e = 0; e < SLOW_ELEMENTS; e++) {
        for (int rule = 0; rule < SLOW_MX_RULES; rule++) {
            for (int asym = 0; asym <= slow_is_int(&slow_elements[e]); asym++) {
                out[count] =
                    (slow_format){.element = &slow_elements[e], .rule = (slow_rule)rule, .block = 32};
                count += slow_add_format(&out[count], mx[e], rules[rule], asym == 1);
            }
        }
    }
    for (int e = 0; e < 2; e++) {
        for (int exact = 0; exact < 2; exact++) {
            for (int asym = 0; asym <= e; asym++) {
                out[count] = (slow_format){.element = &slow_elements[e ? SLOW_INT4 : SLOW_E2M1],
                                           .rule = exact ? SLOW_EXACT : SLOW_TWO_LEVEL,
                                           .nv = true,
                                           .block = 16};
                count +=
                    slow_add_format(&out[count], e ? "nvint4" : "nvfp4", exact ? "-exact" : "", asym == 1);
            }
        }
    }
    return count;
}

/* The scale rules in exact arithmetic: 24-bit magnitudes, their squares and powers of two fit into a long
 * double. log2 is only compared with, by the powers themselves. */
static inline int slow_exponent(const slow_element *e, slow_rule rule, float amax)
{
    const long double a = (long double)amax, max = (long double)e->max;
    if (amax == 0.0f)
        return -127;
    int k = ilogbl(a) - e->max_exponent - 4; /* below any answer */
    if (rule == SLOW_CEIL) { /* least k with amax <= max 2^k */
        while (a > ldexpl(max, k))
            k++;
    } else if (rule == SLOW_FLOOR) { /* largest k with max 2^k <= amax */
        while (ldexpl(max, k + 1) <= a)
            k++;
    } else if (rule == SLOW_ROUND) { /* (amax / max)^2 from 2^(2k - 1) to 2^(2k + 1) */
        while (ldexpl(max * max, 2 * k + 1) <= a * a)
            k++;
    } else {
        int exponent;
        long double fraction = 2.0L * frexpl(a, &exponent); /* 1 <= fraction < 2 */
        exponent--;
        if (rule == SLOW_EVEN) {
            const int kept = slow_is_int(e) ? (int)e->fraction_bits - 1 : (int)e->fraction_bits;
            fraction = floorl(ldexpl(fraction, kept) + 0.5L);
            exponent += fraction == ldexpl(2.0L, kept);
        }
        k = exponent - e->max_exponent;
    }
    return k < -127 ? -127 : k > 127 ? 127 : k;
}

/* a / b as a float: from the quotient in double, since 53 >= 2 * 24 + 2 bits round twice to the same. */
static inline float slow_quotient(double a, double b)
{
    return (float)(a / b);
}

static inline float slow_tensor_scale(const slow_format *f, const float *x, size_t n)
{
    double largest = 0.0;
    for (size_t i = 0; i < n; i++)
        if (isfinite(x[i]))
            largest = fmax(largest, fabs((double)x[i]));
    if (largest == 0.0)
        return 1.0f;
    return fmaxf(slow_quotient(largest, f->element->max * 448.0), FLT_MIN);
}

/* The scale of a block as a float, NaN where it holds what is not finite; NV: also its E4M3 factor. */
static inline float slow_scale(const slow_format *f, float tensor, const float *x, size_t n, float *factor)
{
    float amax = 0.0f;
    *factor = 0.0f;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(x[i]))
            return *factor = NAN;
        amax = fmaxf(amax, fabsf(x[i]));
    }
    if (f->rule == SLOW_EXACT)
        return *factor = slow_quotient((double)amax, f->element->max);
    if (f->rule != SLOW_TWO_LEVEL)
        return (float)ldexp(1.0, slow_exponent(f->element, f->rule, amax));
    static slow_grids e4m3;
    if (e4m3.side[0].count == 0)
        e4m3 = slow_grids_of(&slow_elements[SLOW_E4M3], false);
    const float ratio = slow_quotient((double)slow_quotient((double)amax, f->element->max), (double)tensor);
    *factor = (float)slow_decode(&slow_elements[SLOW_E4M3], slow_encode(&e4m3, (double)ratio));
    return (float)((double)*factor * (double)tensor);
}

/* A block's codes and values for a scale. */
static inline void slow_round(const slow_format *f, float scale, const float *x, size_t n, uint8_t *codes,
                              float *values)
{
    for (size_t i = 0; i < n; i++) {
        const bool none = isnan(scale) || scale == 0.0f;
        codes[i] =
            none ? 0 : (uint8_t)slow_encode(&f->grids, (double)slow_quotient((double)x[i], (double)scale));
        values[i] = (float)((double)scale * slow_decode(f->element, codes[i]));
    }
}

#endif
