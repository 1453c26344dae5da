/* SPDX-License-Identifier: MIT
 * One position's predictions, and how far two of them are apart. Sums are in double. */
#ifndef LB_EVAL_DIVERGENCE_H
#define LB_EVAL_DIVERGENCE_H

#include <stddef.h>

/* log of the sum of exp of logits [n]; *largest is the first index of the greatest. */
double lb_log_sum_exp(const float *logits, size_t n, size_t *largest);

/* KL(p || q) >= 0 in nats, from logits [n] and their lb_log_sum_exp. */
double lb_divergence(const float *p, double p_norm, const float *q, double q_norm, size_t n);

/* The indices of the `count` <= n largest logits, greatest first (of equal ones the first), into top. */
void lb_largest_logits(const float *logits, size_t n, size_t count, size_t *top);

/* KL(p || q) of the two distributions cut to the entries top [count] and renormalized. */
double lb_divergence_among(const float *p, const float *q, const size_t *top, size_t count);

#endif
