/* SPDX-License-Identifier: MIT
 * The value of a 16-bit float, and a sum of products in double to compare one with.
 * For programs of one file: everything is static inline. */
#ifndef LB_TESTS_KERNELS_DENSE_CASES_H
#define LB_TESTS_KERNELS_DENSE_CASES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "base/half.h"

/* The value of a 16-bit float, from its definition. */
static inline double half_value(uint16_t bits, int mantissa_bits)
{
    int exponent_bits = 15 - mantissa_bits, bias = (1 << (exponent_bits - 1)) - 1;
    int exponent = (bits & 0x7fff) >> mantissa_bits, mantissa = bits & ((1 << mantissa_bits) - 1);
    double sign = bits & 0x8000 ? -1.0 : 1.0;
    if (exponent == (1 << exponent_bits) - 1)
        return mantissa ? (double)NAN : sign * (double)INFINITY;
    if (exponent == 0)
        return sign * ldexp(mantissa, 1 - bias - mantissa_bits);
    return sign * ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
}

static inline void check_dot(const char *what, float got, const double *w, const float *x, size_t n)
{
    double want = 0.0, magnitude = 0.0;
    for (size_t i = 0; i < n; i++) {
        want += w[i] * (double)x[i];
        magnitude += fabs(w[i] * (double)x[i]);
    }
    double bound = 2.0 * sqrt((double)n) * 0x1p-24 * magnitude;
    if (!(fabs((double)got - want) <= bound))
        fail_msg("%s of %zu: got %g, wanted %g within %g", what, n, (double)got, want, bound);
}

#endif
