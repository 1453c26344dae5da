/* SPDX-License-Identifier: MIT
 *
 * GGUF's K types as formats: blocks of 256 weights, cut into grids of 16 or 32 that have a small integer for a scale
 * (and one for a minimum) each; the block has a float for all its scales (and one for its minima).
 *
 *   value = d * scale * (code - offset) - dmin * minimum
 *
 *          bits   grids      scale, minimum        offset   stored bits a weight
 *   q2_k     2    16 of 16   4, 4 bits             0        2.625
 *   q3_k     3    16 of 16   6 bits, signed; none  4        3.4375
 *   q4_k     4    8 of 32    6, 6                  0        4.5
 *   q5_k     5    8 of 32    6, 6                  0        5.5
 *   q6_k     6    16 of 16   8 bits, signed; none  32       6.5625
 *
 * Stored as GGUF has them, byte for byte: one part, a row's blocks. A row has whole blocks only.
 *
 * Parameters of a group, in this order: of each grid d * scale and dmin * minimum; then d and dmin. So a grid is an
 * integer format's group, and `round` and `value` of some elements take the parameters from their grid's on
 * (lb_format_grid). */
#ifndef LB_FORMATS_K_BLOCKS_H
#define LB_FORMATS_K_BLOCKS_H

#include "formats/format.h"

enum { LB_K_BLOCK = 256, LB_K_MOST_GRIDS = 16, LB_K_SCALE = 0, LB_K_MINIMUM = 1, LB_K_GRID_PARAMS = 2 };

extern const lb_format_ops lb_k_format;

typedef struct lb_k_type {
    const char *name; /* of the format: "q4_k" */
    unsigned bits, grids;
    bool symmetric; /* scales have signs, and there are no minima */
    int scale_low, scale_high; /* range of the integers */
    int minimum_high;
    size_t block_bytes;
} lb_k_type;

/* The type of a format of this family. */
const lb_k_type *lb_k_type_of(const lb_format *format);

/* What is taken off a code. */
static inline int lb_k_offset(const lb_k_type *type)
{
    return type->symmetric ? 1 << (type->bits - 1) : 0;
}

/* lb_format_ops.fit (k_fit.c): grids one by one, then their scales to integers; LB_FIT_SEARCH goes over both again,
 * each time for the least weighted squared error. */
void lb_k_fit(const lb_format *format, const float *w, const float *importance, size_t n, lb_fit how,
              float *params);

#endif
