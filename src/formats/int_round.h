/* SPDX-License-Identifier: MIT
 * Rounding that the integer formats' fit (int.c) and their training (tune_int.c) share. */
#ifndef LB_FORMATS_INT_ROUND_H
#define LB_FORMATS_INT_ROUND_H

#include "base/half.h"

/* The nearest integer to x, ties to even, held to [low, high] (integers of at most 2^21). Adding and
 * taking away 1.5 * 2^23 leaves a float no room for a fraction; plain C that every compiler
 * vectorises, where rintf needs SSE4.1. */
static inline float lb_int_round_within(float x, float low, float high)
{
    const float no_fraction = 12582912.0f;
    x = x < low ? low : x;
    x = x > high ? high : x;
    return (x + no_fraction) - no_fraction;
}

/* A scale that storage can hold: f16, and not zero unless it was. */
static inline float lb_int_storable_scale(float scale)
{
    float rounded = lb_round_to_f16(scale);
    if (rounded == 0.0f && scale != 0.0f)
        rounded = scale > 0.0f ? 0x1p-24f : -0x1p-24f;
    return rounded;
}

#endif
