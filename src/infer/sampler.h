/* SPDX-License-Identifier: MIT
 *
 * From logits to the next token. In this order:
 *
 *   repeat penalty  logits of ids among the last `repeat_window` tokens: l / penalty where l > 0,
 *                   l * penalty elsewhere (arXiv:1909.05858), once per id
 *   temperature 0   the largest logit, the lowest id among equals: done
 *   top-k           the k largest logits (the lowest ids among equals)
 *   temperature     p = softmax(l / temperature) over those
 *   top-p           the fewest most probable tokens whose p sum to top_p (arXiv:1904.09751)
 *   min-p           p >= min_p * the largest p (arXiv:2407.01082)
 *   draw            from what is left, in proportion to p
 */
#ifndef LB_INFER_SAMPLER_H
#define LB_INFER_SAMPLER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef struct lb_sampling {
    double temperature; /* >= 0; 0: greedy */
    size_t top_k; /* 0: all */
    double top_p; /* (0, 1]; 1: all */
    double min_p; /* [0, 1]; 0: all */
    double repeat_penalty; /* > 0; 1: none */
    size_t repeat_window; /* tokens */
    uint64_t seed;
} lb_sampling;

typedef struct lb_sampler lb_sampler;

/* For logits over `vocab` tokens. Numbers out of range are LB_EINVAL. */
lb_status lb_sampler_create(const lb_sampling *how, size_t vocab, lb_sampler **out, lb_error *err);
void lb_sampler_destroy(lb_sampler *sampler);

/* Remembers a token of the prompt or of the answer for the repeat penalty. */
void lb_sampler_accept(lb_sampler *sampler, uint32_t id);

/* logits [vocab], changed by the penalty -> the next token. A NaN or +infinity among them, or nothing
 * above -infinity, is LB_EFORMAT: the model is broken. -infinity forbids a token. */
lb_status lb_sampler_pick(lb_sampler *sampler, float *logits, uint32_t *id, lb_error *err);

/* What the last pick drew from: ids with probabilities that sum to 1. Valid until the next pick. */
typedef struct lb_candidate {
    uint32_t id;
    float logit;
    double probability;
} lb_candidate;

const lb_candidate *lb_sampler_candidates(const lb_sampler *sampler, size_t *count);

/* What another sampler picked, and all that it might have picked: q [count] in the order of ids. */
typedef struct lb_proposal {
    uint32_t id;
    lb_candidate *q;
    size_t count;
} lb_proposal;

/* Keeps the sampler's last pick as a proposal whose q has room for lb_sampler_most candidates. */
size_t lb_sampler_most(const lb_sampler *sampler);
void lb_sampler_propose(const lb_sampler *sampler, uint32_t id, lb_proposal *out);

/* As lb_sampler_pick, with a proposal that is taken with probability min(1, p / q); otherwise the token is
 * drawn from max(0, p - q), normalized. In total it comes from p, whatever q is (arXiv:2211.17192, theorem
 * 1; arXiv:2302.01318). */
lb_status lb_sampler_verify(lb_sampler *sampler, float *logits, const lb_proposal *proposal, uint32_t *id,
                            bool *taken, lb_error *err);

/* Makes `to`, made with the same settings but for the seed, remember the same tokens. */
void lb_sampler_copy_memory(const lb_sampler *from, lb_sampler *to);

#endif
