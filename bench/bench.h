/* SPDX-License-Identifier: MIT
 * What the benches share: to end at an error, and medians, because other programs share the machine. */
#ifndef LB_BENCH_BENCH_H
#define LB_BENCH_BENCH_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"

enum { MOST_REPEATS = 101 };

static inline void stop_on(lb_status status, const lb_error *err)
{
    if (status != LB_OK) {
        fprintf(stderr, "%s: %s\n", program_invocation_short_name, err->msg);
        exit(1);
    }
}

static inline int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts the samples. */
static inline double median(double *samples, unsigned n)
{
    qsort(samples, n, sizeof *samples, by_value);
    return samples[n / 2];
}

#endif
