/* SPDX-License-Identifier: MIT
 * The three dot kernels of a table against sums in double.
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
#include "base/rng.h"
#include "kernels/kernels.h"

enum { DOT_MOST = 5000 };

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

static inline void check_dots(const lb_kernels *kernels, lb_rng *rng, size_t n, size_t misaligned)
{
    static float x[DOT_MOST + 8], w32[DOT_MOST + 8];
    static uint16_t w16[DOT_MOST + 8], wb16[DOT_MOST + 8];
    static double want[DOT_MOST + 8];
    assert_true(n + misaligned <= DOT_MOST);
    double shift = lb_rng_below(rng, 2) ? 1.0 : 0.0; /* all of one sign: nothing cancels */
    for (size_t i = 0; i < DOT_MOST + 8; i++) {
        x[i] = (float)(lb_rng_normal(rng) * 3.0);
        double w = shift != 0.0 ? lb_rng_uniform(rng) + 0.5 : lb_rng_normal(rng);
        if (shift != 0.0)
            x[i] = fabsf(x[i]);
        w32[i] = (float)w;
        w16[i] = lb_f16_from_float((float)w);
        wb16[i] = lb_bf16_from_float((float)w);
    }
    const float *from = x + misaligned;
    for (size_t i = 0; i < n; i++)
        want[i] = (double)w32[misaligned + i];
    check_dot("dot_f32", kernels->dot_f32(w32 + misaligned, from, n), want, from, n);
    for (size_t i = 0; i < n; i++)
        want[i] = half_value(w16[misaligned + i], 10);
    check_dot("dot_f16", kernels->dot_f16(w16 + misaligned, from, n), want, from, n);
    for (size_t i = 0; i < n; i++)
        want[i] = half_value(wb16[misaligned + i], 7);
    check_dot("dot_bf16", kernels->dot_bf16(wb16 + misaligned, from, n), want, from, n);
}

static inline void check_all_dots(const lb_kernels *kernels)
{
    lb_rng rng;
    lb_rng_seed(&rng, 11);
    for (size_t n = 0; n <= 200; n++)
        check_dots(kernels, &rng, n, n % 8);
    for (size_t n = 250; n < DOT_MOST - 8; n = n * 5 / 4 + 1)
        check_dots(kernels, &rng, n, n % 8);
}

#endif
