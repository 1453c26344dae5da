/* SPDX-License-Identifier: MIT
 * A mean and how far it may be off. */
#ifndef LB_EVAL_MEAN_H
#define LB_EVAL_MEAN_H

#include <stddef.h>

/* Of values [n]; *error is the mean's standard error, with n - 1 (0 for one value). */
void lb_mean(const double *values, size_t n, double *mean, double *error);

#endif
