/* SPDX-License-Identifier: MIT
 *
 * A whole model, forward and backward, with the memory of one block: the inputs of every block are kept on the
 * way to the loss, and on the way back each block is computed again, a batch of sequences at a time, for its
 * gradients.
 *
 * The loss is the sum of next-token cross-entropies of all sequences, in nats; a sequence's last token has no
 * target.
 */
#ifndef LB_MODEL_MODEL_GRAD_H
#define LB_MODEL_MODEL_GRAD_H

#include "model/block_grad.h"
#include "model/head_grad.h"

/* Of one batch of sequences, for one block. */
typedef struct lb_block_pass {
    size_t layer, batch; /* which */
    const lb_stage_context *context; /* its block, as `load` gave it */
    const lb_block_trace *trace;
    const lb_block_grads *grads; /* of the sum of the batch's losses: weights, and inputs where wanted */
} lb_block_pass;

/* Gradients of all parameters, added to; NULL: not wanted. Where embedding and head are one, so may embed and head. */
typedef struct lb_model_sums {
    lb_block_grads *blocks; /* [layers]; their inputs are not used */
    float *embed, *head; /* [vocab, hidden] */
    float *norm; /* [hidden] */
} lb_model_sums;

typedef struct lb_model_grad {
    const lb_kernels *kernels;
    const lb_config *config;
    const lb_embedding *ends;
    const lb_inputs *inputs; /* what linear layers see of their inputs; may be NULL */
    const uint32_t *ids; /* [sequences, length] */
    size_t sequences, length; /* length >= 2 */
    /* NULL: the loss is as above. What the last block of another model, with these ends, puts out [tokens, hidden]:
     * the loss is the sum of the divergences of its predictions from this one's (lb_head_divergence). */
    const float *teacher;
    bool loss_only; /* no way back */
    size_t batch; /* sequences whose gradients are summed up; >= 1 */
    bool wants_inputs; /* gradients with respect to what the layers are fed, too */
    const lb_model_sums *sums; /* may be NULL */
    const lb_progress *progress; /* told of every block twice */
    const char *label;

    void *self;
    /* A block of float32 weights; called on the way there and again on the way back. */
    lb_status (*load)(void *self, size_t layer, lb_block *out, lb_error *err);
    /* Replaces the targets [tokens], which are the ids that come next, before the way back. x [tokens, hidden] is
     * what the last block put out. NULL: they stay. */
    lb_status (*retarget)(void *self, const float *x, size_t tokens, uint32_t *targets, lb_error *err);
    /* Called for every batch of every block, blocks from the last to the first, batches in order. Where the block has
     * sums, those are the gradients that it sees, with all batches so far. May be NULL. */
    lb_status (*take)(void *self, const lb_block_pass *pass, lb_error *err);
} lb_model_grad;

/* *loss is that of the targets before retarget changed them. LB_EINVAL where it is not finite: gradients would
 * not be either. The same bits at any thread count. */
lb_status lb_model_backward(const lb_model_grad *job, double *loss, lb_error *err);

/* Bytes that it takes besides the loaded block. */
size_t lb_model_backward_bytes(const lb_config *config, size_t sequences, size_t length, size_t batch);

#endif
