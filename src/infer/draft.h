/* SPDX-License-Identifier: MIT
 * A faster model that proposes how sequences go on (speculative decoding): its own keys and values of each
 * sequence, and its own picks. Whether a proposal is taken is up to the model it works for
 * (lb_sampler_verify). */
#ifndef LB_INFER_DRAFT_H
#define LB_INFER_DRAFT_H

#include "infer/runner.h"
#include "infer/sampler.h"
#include "lowbit/tokenizer.h"

typedef struct lb_draft lb_draft;

typedef struct lb_draft_options {
    const lb_kernels *kernels;
    lb_kv_type kv;
    size_t context, chunk; /* as the model's */
    size_t sequences;
    size_t most; /* tokens of a proposal */
    /* Where the draft's own likeliest token is less probable than this, it proposes no more: what follows
     * would hardly be taken. That is a question about its distribution and not about what was drawn from it,
     * so that what is proposed still comes from all of it. */
    float confidence;
} lb_draft_options;

/* Loads it. A tokenizer that is not `tokenizer` is refused. */
lb_status lb_draft_open(const char *path, const lb_tokenizer *tokenizer, const lb_draft_options *options,
                        const lb_progress *progress, lb_draft **out, lb_error *err);
void lb_draft_close(lb_draft *draft);

/* An answer begins in sequence `index`, and its tokens are chosen so. */
lb_status lb_draft_begin(lb_draft *draft, size_t index, const lb_sampling *how, size_t vocab, lb_error *err);

/* How ids [count] go on, up to `room` more tokens: *proposals [*proposed], which may be none, valid until
 * the next call for that sequence. `sampler` is the answer's own, which remembers ids. */
lb_status lb_draft_propose(lb_draft *draft, size_t index, const uint32_t *ids, size_t count, size_t room,
                           const lb_sampler *sampler, const lb_proposal **proposals, size_t *proposed,
                           lb_error *err);

#endif
