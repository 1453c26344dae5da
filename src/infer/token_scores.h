/* SPDX-License-Identifier: MIT
 * Logarithms of probabilities, of a token and of the likeliest ones. */
#ifndef LB_INFER_TOKEN_SCORES_H
#define LB_INFER_TOKEN_SCORES_H

#include <stddef.h>
#include <stdint.h>

#include "lowbit/generate.h"

/* log(sum exp(logits [n])), in double. */
double lb_log_sum(const float *logits, size_t n);

/* The `most` largest of logits [n], the lowest ids among equals, the first the largest: top [count returned]. */
size_t lb_top_scores(const float *logits, size_t n, double log_sum, size_t most, lb_token_score *top);

#endif
