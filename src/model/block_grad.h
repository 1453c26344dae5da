/* SPDX-License-Identifier: MIT
 *
 * A decoder block, backward, over all tokens of a mini-batch: for layers of float32 weights.
 *
 * A stage's layers compute y = x' W^T + b of x' = round(x R) (model/inputs.h). Then dW = dy^T x' with x' as
 * the layers saw it; d x' = dy W; rounding passes gradients on unchanged (straight-through); and R is
 * orthogonal, so that dx = d x' R^T.
 */
#ifndef LB_MODEL_BLOCK_GRAD_H
#define LB_MODEL_BLOCK_GRAD_H

#include "model/block_trace.h"

/* NULL: not wanted, and not computed unless something else needs it. */
typedef struct lb_block_grads {
    /* Added to: */
    float *weights[LB_BLOCK_LINEARS]; /* [rows, cols] */
    float *biases[LB_BLOCK_LINEARS]; /* [rows] */
    float *attn_norm, *ffn_norm; /* [hidden] */
    float *q_norm, *k_norm; /* [head_dim] */
    /* Set: gradient with respect to what the layers of a stage were fed, rotated and rounded. */
    float *inputs[LB_STAGE_COUNT]; /* [tokens, width of the stage] */
} lb_block_grads;

/* dy [tokens, hidden], gradient with respect to the traced forward pass's result, -> dx [tokens, hidden]
 * (NULL: not wanted; may be dy). c->ws is not used; weights must be those of the forward pass. The trace
 * serves any number of backward passes, one at a time. The same bits at any thread count. LB_EINVAL when a
 * layer is not dense float32. */
lb_status lb_block_backward(const lb_stage_context *c, const lb_block_trace *trace, const float *dy,
                            const lb_block_grads *grads, float *dx, lb_error *err);

#endif
