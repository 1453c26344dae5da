/* SPDX-License-Identifier: MIT
 * LB_THEORY_GRID of qsnr_theory.h: the expected rounding error of a block, integrated over the grid of an
 * element and over the positions that a scale can have between powers of two. */
#ifndef LB_ANALYZE_QSNR_GRID_H
#define LB_ANALYZE_QSNR_GRID_H

#include <stddef.h>

#include "formats/format.h"

/* Expected |x - round(x)|^2 / |x|^2 of a block of `block` normal values, the largest of which has been moved
 * so that the block's crest factor is `crest`. NaN outside 1 < crest < sqrt(block), for blocks of less than 4,
 * and for a format that is no block format. */
double lb_grid_noise(const lb_format *format, double crest, size_t block);

#endif
