/* SPDX-License-Identifier: MIT
 * How activations are rounded to integers of -most .. most, for the portable kernels: NaN counts as 0, an infinity as
 * the largest float, and entries whose scale would be subnormal as 0. */
#ifndef LB_KERNELS_ACTIVATION_H
#define LB_KERNELS_ACTIVATION_H

#include <float.h>
#include <math.h>
#include <stddef.h>

/* max|x| / most; 0 where that is subnormal. */
static inline float lb_activation_scale(const float *x, size_t n, float most)
{
    float largest = 0.0f;
    for (size_t i = 0; i < n; i++) {
        float magnitude = fabsf(x[i]);
        if (magnitude > largest) /* false for NaN */
            largest = magnitude;
    }
    const float scale = (largest < FLT_MAX ? largest : FLT_MAX) / most;
    return scale >= FLT_MIN ? scale : 0.0f;
}

/* x in steps of the scale whose inverse is given, half to even. */
static inline int lb_activation_code(float x, float inverse, float most)
{
    float scaled = x * inverse;
    if (!(scaled == scaled))
        scaled = 0.0f;
    if (scaled > most)
        scaled = most;
    if (scaled < -most)
        scaled = -most;
    return (int)lrintf(scaled);
}

#endif
