/* SPDX-License-Identifier: MIT
 *
 * The loss end of training: next-token cross-entropy through the final norm and the head, and what it changes
 * with. Logits exist for a chunk of tokens at a time, never for all.
 */
#ifndef LB_MODEL_HEAD_GRAD_H
#define LB_MODEL_HEAD_GRAD_H

#include "model/embedding.h"

/* The target of a token that does not count, such as a sequence's last. */
#define LB_NO_TARGET UINT32_MAX

/* Scratch of lb_head_backward, for one model's ends. */
typedef struct lb_head_scratch {
    size_t chunk_tokens, slab_rows;
    float *normed, *d_normed; /* [chunk_tokens, hidden] */
    float *logits; /* [chunk_tokens, vocab] */
    float *teacher; /* as logits; for lb_head_divergence only, else NULL */
    double *losses; /* [chunk_tokens] */
    float *slab; /* [slab_rows, hidden] of a head that is not float32, as floats; else NULL */
    float *partials;
} lb_head_scratch;

lb_status lb_head_scratch_create(const lb_embedding *ends, lb_head_scratch *out, lb_error *err);
/* Room for lb_head_divergence too. */
lb_status lb_head_scratch_add_teacher(const lb_embedding *ends, lb_head_scratch *scratch, lb_error *err);
void lb_head_scratch_free(lb_head_scratch *scratch);
size_t lb_head_scratch_bytes(const lb_embedding *ends);
size_t lb_head_teacher_bytes(const lb_embedding *ends); /* what add_teacher adds */

typedef struct lb_head_grads {
    /* Added to; NULL: not wanted. */
    float *head; /* [vocab, hidden] */
    float *norm; /* [hidden] */
    float *dx; /* [tokens, hidden]: set; may be x; NULL: not wanted */
    /* Gradients are those of the loss and this times the sum of squares of log sum e^logit [z-loss: Chowdhery et al.
     * 2022, arXiv:2204.02311]; *loss is without it. */
    float z_weight;
} lb_head_grads;

/* x [tokens, hidden], what the last block made; targets [tokens], the ids that come next.
 * loss = sum of -log p(target) over the tokens that have one (NaN where an x is not finite); gradients are those
 * of scale * loss. Heads of any stored type serve, as the numbers that they stand for. A target outside the
 * vocabulary is LB_EINVAL, before anything is done. The same bits at any thread count. */
lb_status lb_head_backward(const lb_kernels *kernels, const lb_embedding *ends, const float *x,
                           const uint32_t *targets, size_t tokens, float scale,
                           const lb_head_scratch *scratch, const lb_head_grads *grads, double *loss,
                           lb_error *err);

/* The same where the target is another model's prediction: teacher [tokens, hidden] is what its last block made, and
 * its norm and head are these. loss = sum over all tokens of KL(teacher's p | p); NaN where an x of either is not
 * finite. */
lb_status lb_head_divergence(const lb_kernels *kernels, const lb_embedding *ends, const float *x,
                             const float *teacher, size_t tokens, float scale, const lb_head_scratch *scratch,
                             const lb_head_grads *grads, double *loss, lb_error *err);

#endif
