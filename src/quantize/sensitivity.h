/* SPDX-License-Identifier: MIT
 *
 * How much a model loses when one layer is rounded to one format: what an allocation of bits goes by.
 *
 * DeltaLoss (arXiv:2512.04746): with every layer W rounded to the candidate at once, W^, and x^ its input,
 *
 *   S = sum |dL/dW^ * (W - W^)| + sum |dL/dx^ * (x - x^)|,
 *
 * L the cross-entropy of the text, gradients at the rounded model, element by element, the second sum where
 * inputs are rounded too.
 *
 * Fisher: the divergence from the original model to second order, for rounding errors that know nothing of one
 * another. KL = 1/2 d' F d for a change d of the weights, F the Fisher information of the original's own
 * predictions; errors that are as often positive as negative leave F's diagonal, the mean of g^2, g the gradient of a
 * sequence's loss where next tokens are drawn from what the model predicts (sampled_targets.h):
 *
 *   S = 1/2 sum mean(g^2) * (W^ - W)^2
 *
 * over the tokens of a sequence. One backward pass serves all candidates.
 */
#ifndef LB_QUANTIZE_SENSITIVITY_H
#define LB_QUANTIZE_SENSITIVITY_H

#include "calibrate/samples.h"
#include "model/weights.h"
#include "quantize/recipe.h"

typedef struct lb_sensitivity {
    const lb_kernels *kernels;
    const lb_weights *weights;
    const lb_recipe *recipe; /* transform, act, fit; allocation.how says which of the two; rules hold */
    const lb_samples *samples;
    const lb_progress *progress;
} lb_sensitivity;

/* scores [count, layers * LB_BLOCK_LINEARS]: of every layer with each of the candidates, in nats per token; of what
 * rounding weights loses, 0 where the candidate keeps them. Of layers that a rule has decided on they mean
 * nothing. LB_EINVAL where the loss or a score is not finite. The same bits at any thread count. */
lb_status lb_sensitivity_measure(const lb_sensitivity *job, const lb_format *candidates, size_t count,
                                 double *scores, lb_error *err);

/* Bytes that it takes. */
size_t lb_sensitivity_bytes(const lb_config *config, const lb_recipe *recipe, size_t samples, size_t length);

#endif
