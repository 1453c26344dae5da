/* SPDX-License-Identifier: MIT
 *
 * Rounding that can be learned (SignRound, arXiv:2309.05516 and 2512.04746): a group's values as a function
 * of an offset for each weight and of factors on the group's parameters, and straight-through gradients of it.
 *
 *   value = scale * clip(round(w / scale + v))
 *
 * forward rounds exactly as storage does: scales are of their stored type, codes are within their range, and
 * unpacking what was packed gives the same values. backward takes rounding, of elements and of scales, to be
 * the identity, and clip to pass gradients on inside its range (bounds included) only:
 *
 *   d value / d v = scale * inside;   d value / d scale = code - inside * w / scale
 *
 * The scale comes from the group's extremes, which alpha (the low one) and beta (the high one, or the largest
 * magnitude where there is one side only) shrink; or it is beta times a scale that was found beforehand. Bit planes
 * have one for the whole grid and one for each plane (tune_planes.c).
 */
#ifndef LB_FORMATS_TUNE_H
#define LB_FORMATS_TUNE_H

#include "formats/format.h"

/* The factors of formats with a scale. */
enum { LB_TUNE_ALPHA, LB_TUNE_BETA, LB_TUNE_SCALE_FACTORS };
enum { LB_TUNE_MOST_FACTORS = 5 };

typedef struct lb_tune_group {
    const float *w, *v; /* [n] */
    size_t n;
    const float *start; /* [format->params] that factors multiply; NULL: alpha and beta clip */
    float factors[LB_TUNE_MOST_FACTORS]; /* >= 0; 1: as `start` or the extremes say */
} lb_tune_group;

typedef struct lb_tune_gradient {
    float *v; /* [n], set */
    float factors[LB_TUNE_MOST_FACTORS]; /* set */
} lb_tune_gradient;

typedef struct lb_tune_ops {
    unsigned (*factors)(const lb_format *format); /* how many there are */
    /* params [format->params]; codes [n] and values [n] may be NULL. */
    void (*forward)(const lb_format *format, const lb_tune_group *group, float *params, uint8_t *codes,
                    float *values);
    /* d [n]: gradient with respect to the values; may be gradient->v. */
    void (*backward)(const lb_format *format, const lb_tune_group *group, const float *d,
                     lb_tune_gradient *gradient);
} lb_tune_ops;

/* What `factors` of formats with a scale is. */
unsigned lb_tune_scale_factors(const lb_format *format);

extern const lb_tune_ops lb_tune_int, lb_tune_block, lb_tune_planes;

#endif
