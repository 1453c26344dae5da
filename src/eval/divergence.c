/* SPDX-License-Identifier: MIT */
#include "eval/divergence.h"

#include <math.h>

double lb_log_sum_exp(const float *logits, size_t n, size_t *largest)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        best = logits[i] > logits[best] ? i : best;
    double total = 0.0;
    for (size_t i = 0; i < n; i++)
        total += exp((double)logits[i] - (double)logits[best]);
    *largest = best;
    return (double)logits[best] + log(total);
}

double lb_divergence(const float *p, double p_norm, const float *q, double q_norm, size_t n)
{
    double total = 0.0;
    for (size_t i = 0; i < n; i++) {
        const double log_p = (double)p[i] - p_norm;
        total += exp(log_p) * (log_p - ((double)q[i] - q_norm));
    }
    return total < 0.0 ? 0.0 : total; /* rounding can make equal distributions differ by -1e-17 */
}

/* Insertion into a short sorted list: after the first few entries hardly any belongs into it. */
void lb_largest_logits(const float *logits, size_t n, size_t count, size_t *top)
{
    size_t have = 0;
    for (size_t i = 0; i < n; i++) {
        if (have == count && !(logits[i] > logits[top[count - 1]]))
            continue;
        size_t at = have < count ? have++ : count - 1;
        for (; at > 0 && logits[i] > logits[top[at - 1]]; at--)
            top[at] = top[at - 1];
        top[at] = i;
    }
}

static double norm_among(const float *logits, const size_t *top, size_t count)
{
    double largest = (double)logits[top[0]], total = 0.0;
    for (size_t i = 1; i < count; i++)
        largest = (double)logits[top[i]] > largest ? (double)logits[top[i]] : largest;
    for (size_t i = 0; i < count; i++)
        total += exp((double)logits[top[i]] - largest);
    return largest + log(total);
}

double lb_divergence_among(const float *p, const float *q, const size_t *top, size_t count)
{
    const double p_norm = norm_among(p, top, count), q_norm = norm_among(q, top, count);
    double total = 0.0;
    for (size_t i = 0; i < count; i++) {
        const double log_p = (double)p[top[i]] - p_norm;
        total += exp(log_p) * (log_p - ((double)q[top[i]] - q_norm));
    }
    return total < 0.0 ? 0.0 : total;
}
