/* SPDX-License-Identifier: MIT */
#include "infer/token_scores.h"

#include <math.h>

double lb_log_sum(const float *logits, size_t n)
{
    double largest = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++)
        largest = (double)logits[i] > largest ? (double)logits[i] : largest;
    for (size_t i = 0; i < n; i++)
        sum += exp((double)logits[i] - largest);
    return largest + log(sum);
}

size_t lb_top_scores(const float *logits, size_t n, double log_sum, size_t most, lb_token_score *top)
{
    size_t count = 0;
    for (size_t id = 0; id < n && most > 0; id++) {
        const double logprob = (double)logits[id] - log_sum;
        if (count == most && !(logprob > top[count - 1].logprob))
            continue;
        size_t at = count < most ? count++ : most - 1;
        for (; at > 0 && logprob > top[at - 1].logprob; at--)
            top[at] = top[at - 1];
        top[at] = (lb_token_score){(uint32_t)id, logprob};
    }
    return count;
}
