/* SPDX-License-Identifier: MIT */
#include "analyze/rank_correlation.h"

#include <math.h>
#include <stdlib.h>

#include "base/alloc.h"

typedef struct item {
    double value, rank;
    size_t pair;
} item;

static int by_value(const void *a, const void *b)
{
    const double x = ((const item *)a)->value, y = ((const item *)b)->value;
    return x < y ? -1 : x > y;
}

static int by_pair(const void *a, const void *b)
{
    const size_t x = ((const item *)a)->pair, y = ((const item *)b)->pair;
    return x < y ? -1 : x > y;
}

static void rank(item *items, size_t n)
{
    qsort(items, n, sizeof *items, by_value);
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && items[end].value == items[i].value;)
            end++;
        for (size_t k = i; k < end; k++)
            items[k].rank = (double)(i + end - 1) / 2.0;
    }
    qsort(items, n, sizeof *items, by_pair);
}

lb_status lb_rank_correlation(const double *x, const double *y, size_t n, double *rho, lb_error *err)
{
    item *a, *b;
    size_t pairs = 0;
    double xy = 0.0, xx = 0.0, yy = 0.0;
    LB_TRY(lb_alloc_array(&a, 2 * n, sizeof *a, "ranks", err));
    b = a + n;
    for (size_t i = 0; i < n; i++) {
        if (isfinite(x[i]) && isfinite(y[i])) {
            a[pairs] = (item){.value = x[i], .pair = pairs};
            b[pairs] = (item){.value = y[i], .pair = pairs};
            pairs++;
        }
    }
    rank(a, pairs);
    rank(b, pairs);
    const double mean = ((double)pairs - 1.0) / 2.0;
    for (size_t i = 0; i < pairs; i++) {
        const double dx = a[i].rank - mean, dy = b[i].rank - mean;
        xy += dx * dy;
        xx += dx * dx;
        yy += dy * dy;
    }
    *rho = pairs >= 3 && xx > 0.0 && yy > 0.0 ? xy / sqrt(xx * yy) : NAN;
    lb_free(a);
    return LB_OK;
}
