/* SPDX-License-Identifier: MIT
 * The two ends of a model: token ids to vectors, and vectors to logits. */
#ifndef LB_MODEL_EMBEDDING_H
#define LB_MODEL_EMBEDDING_H

#include "model/linear.h"

typedef struct lb_embedding {
    size_t vocab, hidden;
    lb_linear embed, head; /* a tied head borrows the embedding's memory */
    float *norm; /* [hidden], before the head */
    double norm_eps;
} lb_embedding;

/* Matrices stay as small as they are on disk. */
lb_status lb_embedding_load(const lb_weights *weights, lb_embedding *out, lb_error *err);
void lb_embedding_free(lb_embedding *embedding);

/* ids [n] -> x [n, hidden]. An id outside the vocabulary is LB_EINVAL. */
lb_status lb_embedding_look_up(const lb_kernels *kernels, const lb_embedding *embedding, const uint32_t *ids,
                               size_t n, float *x, lb_error *err);

/* x [tokens, hidden] -> logits [tokens, vocab]; scratch [tokens, hidden]. Always in float. */
lb_status lb_embedding_logits(const lb_kernels *kernels, const lb_embedding *embedding, const float *x,
                              size_t tokens, float *scratch, float *logits, lb_error *err);

/* The same for up to LB_DECODE_TOKENS tokens (block.h) through the decode kernels, each as if it were alone. */
void lb_embedding_logits_decode(const lb_kernels *kernels, const lb_embedding *embedding, const float *x,
                                size_t tokens, float *scratch, lb_qvec *vectors, float *logits);

#endif
