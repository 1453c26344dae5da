/* SPDX-License-Identifier: MIT */
#include "eval/mean.h"

#include <math.h>

void lb_mean(const double *values, size_t n, double *mean, double *error)
{
    double total = 0.0, squares = 0.0;
    for (size_t i = 0; i < n; i++)
        total += values[i];
    *mean = total / (double)n;
    for (size_t i = 0; i < n; i++)
        squares += (values[i] - *mean) * (values[i] - *mean);
    *error = n > 1 ? sqrt(squares / (double)(n - 1) / (double)n) : 0.0;
}
