/* SPDX-License-Identifier: MIT
 * Causal grouped-query attention, backward, for whole sequences. */
#ifndef LB_MODEL_ATTENTION_GRAD_H
#define LB_MODEL_ATTENTION_GRAD_H

#include "model/attention.h"

/* in->past is 0. Shapes are those of attention.h. */
typedef struct lb_attention_grad {
    const float *dout; /* gradient with respect to attention's result */
    float *dq, *dk, *dv;
    /* Scratch: */
    float *head_dk, *head_dv; /* [sequences * tokens, heads * head_dim] each */
    float *scores; /* [lb_attention_grad_scores(tokens)] */
} lb_attention_grad;

size_t lb_attention_grad_scores(size_t sequence_tokens);

void lb_attention_backward(const lb_kernels *kernels, const lb_config *config, const lb_attention_input *in,
                           const lb_attention_grad *grad);

#endif
