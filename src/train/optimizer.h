/* SPDX-License-Identifier: MIT
 * AdamW with decoupled weight decay over all parameters (kernels/adamw.h), and norms of arrays. */
#ifndef LB_TRAIN_OPTIMIZER_H
#define LB_TRAIN_OPTIMIZER_H

#include "kernels/kernels.h"
#include "train/train_state.h"

/* Numbers that decay alike. */
typedef struct lb_segment {
    size_t at, n;
    bool decays;
} lb_segment;

typedef struct lb_optimizer {
    const lb_kernels *kernels;
    size_t floats;
    double beta1, beta2, eps, weight_decay, clip; /* clip 0: gradients are not clipped */
    lb_segment *segments;
    size_t segment_count;
    double *partials; /* sums of squares of chunks */
} lb_optimizer;

/* decay_all: norms, biases and embeddings decay as matrices do. The numbers are the caller's to set. */
lb_status lb_optimizer_create(const lb_kernels *kernels, const lb_parameters *parameters, bool decay_all,
                              lb_optimizer *out, lb_error *err);
void lb_optimizer_free(lb_optimizer *optimizer);

/* Euclidean norm of x [floats]. */
double lb_optimizer_norm(const lb_optimizer *optimizer, const float *x);

/* The t-th step (t = 1, 2, ...) with gradients of norm `norm`, which clipping goes by. */
void lb_optimizer_step(const lb_optimizer *optimizer, uint64_t t, double rate, double norm,
                       const float *grads, lb_train_state *state);

#endif
