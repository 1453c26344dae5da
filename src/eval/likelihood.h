/* SPDX-License-Identifier: MIT
 * How likely a model finds what follows a text: sums of log-probabilities. */
#ifndef LB_EVAL_LIKELIHOOD_H
#define LB_EVAL_LIKELIHOOD_H

#include "eval/forward.h"

typedef struct lb_request {
    uint32_t *ids; /* [count], count >= 2; what is scored are ids [first, count), first >= 1 */
    size_t count, first;
    double sum; /* out: of log-probabilities, in double */
    bool greedy; /* out: each was the likeliest */
} lb_request;

/* Every request has at most forward->ctx + 1 ids. Requests that differ in their last id only are run once. */
lb_status lb_likelihood_run(lb_forward *forward, lb_request *requests, size_t count,
                            const lb_progress *progress, const char *label, lb_error *err);

#endif
