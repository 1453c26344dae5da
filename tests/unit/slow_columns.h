/* SPDX-License-Identifier: MIT
 * The order in which methods visit columns, and the damped Hessian in it, the slow obvious way. */
#ifndef LB_TESTS_SLOW_COLUMNS_H
#define LB_TESTS_SLOW_COLUMNS_H

#include "method_cases.h"

/* Selection sort, largest diagonal first, earlier columns first among equals. */
static inline void slow_sort(const lb_hessian *h, size_t *column, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        for (size_t k = i + 1; k < count; k++) {
            const float a = h->h[column[i] * (h->n + 1)], b = h->h[column[k] * (h->n + 1)];
            if (b > a || (b == a && column[k] < column[i])) {
                const size_t swap = column[i];
                column[i] = column[k];
                column[k] = swap;
            }
        }
    }
}

static inline void slow_order(const method_case *c, lb_order order, size_t *column)
{
    const size_t n = c->layer.cols, group = c->layer.format.group ? c->layer.format.group : n;
    for (size_t i = 0; i < n; i++)
        column[i] = i;
    if (order == LB_ORDER_ACT)
        slow_sort(&c->hessian, column, n);
    if (order != LB_ORDER_GROUP)
        return;
    size_t first[64], groups = 0, to = 0, *sorted = case_alloc(n, sizeof *sorted);
    for (size_t at = 0; at < n; at += group) {
        slow_sort(&c->hessian, column + at, n - at < group ? n - at : group);
        first[groups++] = column[at]; /* a group is worth what its best column is */
    }
    slow_sort(&c->hessian, first, groups);
    for (size_t k = 0; k < groups; k++)
        for (size_t i = first[k] / group * group, end = i + group; i < end && i < n; i++)
            sorted[to++] = column[i];
    memcpy(column, sorted, n * sizeof *column);
    free(sorted);
}

/* H + damp * mean diagonal * I in visiting order: out [n, n]. */
static inline void slow_damped(const method_case *c, const size_t *column, double *out)
{
    const size_t n = c->layer.cols;
    double mean = 0.0;
    for (size_t i = 0; i < n; i++)
        mean += (double)c->hessian.h[i * (n + 1)] / (double)n;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < n; j++)
            out[i * n + j] = (double)c->hessian.h[column[i] * n + column[j]];
        out[i * (n + 1)] += c->recipe.damp * mean;
    }
}

/* Gauss and Jordan in place; fine without pivots, since what is inverted is definite. */
static inline void slow_invert(size_t n, double *p)
{
    for (size_t k = 0; k < n; k++) {
        const double pivot = p[k * (n + 1)];
        p[k * (n + 1)] = 1.0;
        for (size_t j = 0; j < n; j++)
            p[k * n + j] /= pivot;
        for (size_t i = 0; i < n; i++) {
            const double factor = p[i * n + k];
            if (i == k)
                continue;
            p[i * n + k] = 0.0;
            for (size_t j = 0; j < n; j++)
                p[i * n + j] -= factor * p[k * n + j];
        }
    }
}

#endif
