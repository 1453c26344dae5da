/* SPDX-License-Identifier: MIT
 * Spearman's rank correlation: whether one number rises with another, however crooked the way. */
#ifndef LB_ANALYZE_RANK_CORRELATION_H
#define LB_ANALYZE_RANK_CORRELATION_H

#include <stddef.h>

#include "base/error.h"

/* Of the pairs whose numbers are both finite; equal numbers share the mean of their ranks. *rho is NaN with fewer than
 * three pairs, or where all numbers of one side are equal. */
lb_status lb_rank_correlation(const double *x, const double *y, size_t n, double *rho, lb_error *err);

#endif
