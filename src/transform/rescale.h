/* SPDX-License-Identifier: MIT
 *
 * Channels of layer inputs made smaller and the weights that meet them larger, or the other way round, without
 * changing what a block computes (SmoothQuant, arXiv:2211.10438, equation 3; AWQ, arXiv:2306.00978, equation 2):
 *
 *   x W^T = (x / s)(W diag(s))^T
 *
 * The division goes into whatever makes x, so that nothing is left to do at run time:
 *
 *   inputs of     made by                             divided there
 *   q k v         attn_norm                           its weights
 *   o             v, mixed over tokens by attention   v's rows and bias; heads that share a head of v share s
 *   gate up       ffn_norm                            its weights
 *   down          silu(gate) * up                     up's rows and bias
 */
#ifndef LB_TRANSFORM_RESCALE_H
#define LB_TRANSFORM_RESCALE_H

#include "model/block.h"

typedef struct lb_rescaling {
    float *s[LB_STAGE_COUNT]; /* [lb_rescale_width], finite and above 0; NULL: that stage is left alone */
} lb_rescaling;

/* How many channels can have a factor of their own: as many as the producer has outputs. */
size_t lb_rescale_width(const lb_config *config, lb_stage stage);
/* Which of them input channel `channel` of the stage's layers comes from. */
size_t lb_rescale_source(const lb_config *config, lb_stage stage, size_t channel);

/* All factors 1, to be changed. */
lb_status lb_rescaling_create(const lb_config *config, lb_rescaling *out, lb_error *err);
void lb_rescaling_free(lb_rescaling *rescaling);

/* Rescales one stage, or every stage, of a block of float32 weights. */
lb_status lb_block_rescale_stage(const lb_config *config, lb_stage stage, const float *s, lb_block *block,
                                 lb_error *err);
lb_status lb_block_rescale(const lb_config *config, const lb_rescaling *by, lb_block *block, lb_error *err);

#endif
