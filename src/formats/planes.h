/* SPDX-License-Identifier: MIT
 *
 * Bit planes on a variable grid (arXiv:2602.04163): bp1..bp4.
 *
 *   value = c_0 + sum over planes i of c_i * b_i,   b_i in {0, 1} the i-th bit of the code
 *
 * with K + 1 coefficients of its own for every group of a row, each an f16. The grid of an asymmetric integer format
 * is the special case c_i = 2^(i-1) * scale. Levels need not be in the order of their codes, and may coincide.
 * Stored plane by plane.
 *
 * A group's parameters, in this order: c_0 .. c_K.
 */
#ifndef LB_FORMATS_PLANES_H
#define LB_FORMATS_PLANES_H

#include "formats/format.h"

enum { LB_PLANES_MOST = 4 };

extern const lb_format_ops lb_planes_format;

#endif
