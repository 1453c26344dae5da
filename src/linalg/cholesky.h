/* SPDX-License-Identifier: MIT
 * The triangular factor that GPTQ works with. */
#ifndef LB_LINALG_CHOLESKY_H
#define LB_LINALG_CHOLESKY_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/* U [n, n], upper triangular with positive diagonal (zeros below it), such that
 * (H + damp * I)^-1 = U^T U  [GPTQ step 3, arXiv:2210.17323].
 * h [n, n]: the upper triangle of a symmetric matrix; damp >= 0. Needs n^2 doubles of memory.
 * *definite is false, and u is garbage, when H + damp * I is not positive definite in double. */
lb_status lb_inverse_cholesky(size_t n, const float *h, double damp, float *u, bool *definite, lb_error *err);

/* out [n, n] = (U^T U)^-1, symmetric, for such a U (or a diagonal block of one) with row stride ldu. */
lb_status lb_inverse_of_factor(size_t n, const float *u, size_t ldu, double *out, lb_error *err);

#endif
