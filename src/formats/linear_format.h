/* SPDX-License-Identifier: MIT
 *
 * Formats whose values are linear in coefficients that are free to be fitted:
 *
 *   value(code) = sum over i of coefficient_i * basis_i(code)
 *
 * so that, once codes are chosen, the best coefficients are the solution of a linear least-squares problem. */
#ifndef LB_FORMATS_LINEAR_FORMAT_H
#define LB_FORMATS_LINEAR_FORMAT_H

#include "formats/format.h"

enum { LB_LINEAR_MOST = 8 }; /* coefficients */

typedef struct lb_linear_format_ops {
    /* How many coefficients a group has; at most LB_LINEAR_MOST. */
    unsigned (*count)(const lb_format *format);
    /* out [2^bits, count]; `params` are the group's, of which some may be fixed (an integer's zero). */
    void (*basis)(const lb_format *format, const float *params, float *out);
    void (*get)(const lb_format *format, const float *params, float *coefficients);
    /* Coefficients, rounded as storage rounds them, into params. */
    void (*set)(const lb_format *format, const float *coefficients, float *params);
} lb_linear_format_ops;

/* The coefficients of `count` unknowns that solve the normal equations a x = b, a [count, count] symmetric, after
 * `ridge` was added to its diagonal. False where a is singular all the same: x is untouched. */
bool lb_solve_normal(unsigned count, const double *a, const double *b, double ridge, double *x);

#endif
