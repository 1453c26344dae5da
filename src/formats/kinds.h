/* SPDX-License-Identifier: MIT
 *
 * Formats of which a group has elements of two kinds, few with many levels and many with few (sq.h). Which are of which
 * kind is chosen before the group's parameters are fitted, and from then on an element's code says it: no code
 * belongs to both kinds. So `round` looks at the code that it replaces, and keeps its kind. */
#ifndef LB_FORMATS_KINDS_H
#define LB_FORMATS_KINDS_H

#include "formats/format.h"

enum { LB_KINDS_MOST_GROUP = 256 }; /* elements in a group of such a format */

typedef struct lb_kinds_ops {
    /* The elements with the largest w^2 * score become high, exactly as many as the format says, earlier ones where
     * some are equal: codes [n], each the zero of its kind. score [n] > 0, NULL: 1 everywhere. */
    void (*choose)(const lb_format *format, const float *w, const float *score, size_t n, uint8_t *codes);
    /* lb_format_ops.fit for elements of the kinds that codes [n] say. */
    void (*fit)(const lb_format *format, const float *w, const float *importance, const uint8_t *codes,
                size_t n, lb_fit how, float *params);
} lb_kinds_ops;

/* Bits a weight, without scales and without what says which elements are high. */
static inline double lb_kinds_nominal_bits(const lb_format *format)
{
    const double high = (double)format->high_count / (double)format->group;
    return high * (double)format->high_bits + (1.0 - high) * (double)format->low_bits;
}

#endif
