/* SPDX-License-Identifier: MIT
 * Next tokens drawn from what a model predicts. The gradient of their loss has mean zero, and its second moment is the
 * Fisher information of the model (the text's own next tokens would give the "empirical" one, another matrix). */
#ifndef LB_MODEL_SAMPLED_TARGETS_H
#define LB_MODEL_SAMPLED_TARGETS_H

#include "model/embedding.h"

/* x [tokens, hidden], what the last block put out -> targets [tokens], in place of those that are not LB_NO_TARGET.
 * A function of x and the seed alone. */
lb_status lb_sample_targets(const lb_kernels *kernels, const lb_embedding *ends, uint64_t seed,
                            const float *x, size_t tokens, uint32_t *targets, lb_error *err);

#endif
