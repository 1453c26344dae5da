/* SPDX-License-Identifier: MIT
 * What cmocka lacks: arrays of floats compared within a stated bound, with a message that says where
 * the first bad element is, what it is, and how far off in units in the last place (ULP).
 *
 *     near_array(got, want, n, bound)       |got[i] - want[i]| <= bound
 *     near_array_by(got, want, n, bounds)   the same with one bound per element (double)
 *     same_array(got, want, n)              the same values: bound 0, NaN equals NaN, -0 equals +0
 *
 * got and want are arrays of float or double, each its own. A NaN is near nothing but, in same_array,
 * another NaN. Infinities are near themselves. */
#ifndef LB_TESTS_NEAR_H
#define LB_TESTS_NEAR_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* u = 2^-24, half the distance from 1 to the next float: the unit of error bounds. A float sum of n
 * products in any order is within 2 sqrt(n) U24 sum|a_i b_i| of the exact one, in practice. */
#define U24 0x1p-24

static inline double lb_near_at(const void *array, size_t size, size_t i)
{
    if (size == sizeof(float))
        return (double)((const float *)array)[i];
    return ((const double *)array)[i];
}

/* Floats between a and b, as steps along the number line. */
static inline double lb_near_ulps(float a, float b)
{
    int32_t x, y;
    memcpy(&x, &a, sizeof x);
    memcpy(&y, &b, sizeof y);
    int64_t i = x < 0 ? -(int64_t)(x & INT32_MAX) : x;
    int64_t k = y < 0 ? -(int64_t)(y & INT32_MAX) : y;
    return fabs((double)(i - k));
}

static inline void lb_near_check(const void *got, size_t got_size, const void *want, size_t want_size,
                                 size_t n, double bound, const double *bounds, bool nan_is_nan,
                                 const char *expression, const char *file, int line)
{
    size_t bad = 0, first = 0;
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        double a = lb_near_at(got, got_size, i), b = lb_near_at(want, want_size, i);
        double off = fabs(a - b);
        bool fine = a == b || off <= (bounds ? bounds[i] : bound) || (nan_is_nan && isnan(a) && isnan(b));
        if (fine)
            continue;
        if (bad++ == 0)
            first = i;
        if (off > worst)
            worst = off;
    }
    if (bad == 0)
        return;
    double a = lb_near_at(got, got_size, first), b = lb_near_at(want, want_size, first);
    print_error("%s: %zu of %zu elements are off (worst by %.3g); first [%zu] is %.9g, wanted %.9g: "
                "off by %.3g, %.0f ULP, bound %.3g\n", expression, bad, n, worst, first, a, b, fabs(a - b),
                lb_near_ulps((float)a, (float)b), bounds ? bounds[first] : bound);
    _fail(file, line);
}

#define near_array(got, want, n, bound)                                                                \
    lb_near_check((got), sizeof *(got), (want), sizeof *(want), (n), (bound), NULL, false,             \
                  #got " near " #want, __FILE__, __LINE__)
#define near_array_by(got, want, n, bounds)                                                            \
    lb_near_check((got), sizeof *(got), (want), sizeof *(want), (n), 0, (bounds), false,               \
                  #got " near " #want, __FILE__, __LINE__)
#define same_array(got, want, n)                                                                       \
    lb_near_check((got), sizeof *(got), (want), sizeof *(want), (n), 0, NULL, true, #got " = " #want,  \
                  __FILE__, __LINE__)

#endif
