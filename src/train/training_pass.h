/* SPDX-License-Identifier: MIT
 *
 * One pass through a whole model in memory, there and back: a batch of sequences -> the sum of its losses, and
 * gradients of all parameters, added up. Of every block is kept what costs more to compute again than to keep (the
 * products with weights, and attention's result); norms, the product in the feed-forward half, attention's
 * probabilities and the logits are made again or a piece at a time.
 */
#ifndef LB_TRAIN_TRAINING_PASS_H
#define LB_TRAIN_TRAINING_PASS_H

#include "model/head_grad.h"
#include "train/parameters.h"

typedef struct lb_training_pass {
    const lb_kernels *kernels;
    const lb_parameters *parameters;
    size_t max_tokens, length;
    lb_rope rope;
    lb_embedding ends;
    lb_block *blocks; /* [layers]: views of the weights */
    lb_block_grads *grads; /* [layers]: views of the gradients */
    float *embed_grad, *head_grad, *norm_grad;
    lb_block_trace *traces; /* [layers]: the first owns what the others share */
    lb_head_scratch head;
    float *x; /* [max_tokens, hidden] */
    float z_weight;
    const lb_low_bit *low_bit; /* NULL: products of float32; the caller's to set, as z_weight is */
} lb_training_pass;

/* For batches of up to max_tokens tokens in sequences of `length`. values and grads [parameters->floats] must live as
 * long; grads NULL: for losses only. */
lb_status lb_training_pass_create(const lb_kernels *kernels, const lb_parameters *parameters, float *values,
                                  float *grads, size_t max_tokens, size_t length, lb_training_pass *out,
                                  lb_error *err);
void lb_training_pass_free(lb_training_pass *pass);
size_t lb_training_pass_bytes(const lb_parameters *parameters, size_t max_tokens, size_t length);

/* ids and targets [sequences * length]; *loss is the sum of -log p(target) in nats. Gradients of scale * that (and of
 * the z-loss) are added to grads. The same bits at any thread count. */
lb_status lb_training_pass_run(lb_training_pass *pass, const uint32_t *ids, const uint32_t *targets,
                               size_t sequences, float scale, double *loss, lb_error *err);
/* The loss alone. */
lb_status lb_training_pass_loss(lb_training_pass *pass, const uint32_t *ids, const uint32_t *targets,
                                size_t sequences, double *loss, lb_error *err);

#endif
