/* SPDX-License-Identifier: MIT
 *
 * Integer formats int2..int8: value = scale * (code - zero), codes 0 .. 2^bits - 1.
 *
 * Symmetric (the default): zero = 2^(bits-1) is fixed, and the scale has a sign, so that the code
 * range -2^(bits-1) .. 2^(bits-1)-1 can spend its extra negative code on the side where the group's
 * largest weight lies ("full range", arXiv:2309.05516). Asymmetric ("-asym"): scale > 0 and an integer
 * zero of `bits` bits. Scales are f16 in both. "-sym" may be spelled out; canonical names leave it away.
 *
 * A group's parameters, in this order: scale, zero.
 */
#ifndef LB_FORMATS_INT_H
#define LB_FORMATS_INT_H

#include "formats/format.h"

enum { LB_INT_SCALE = 0, LB_INT_ZERO = 1, LB_INT_PARAMS = 2 };

extern const lb_format_ops lb_int_format;

#endif
