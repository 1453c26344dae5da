/* SPDX-License-Identifier: MIT
 * Causal grouped-query attention for whole sequences and for continuing a cached one: one function. */
#ifndef LB_MODEL_ATTENTION_H
#define LB_MODEL_ATTENTION_H

#include "kernels/kv.h"
#include "model/config.h"

/* One or more sequences of the same length. Sequence s has `tokens` new tokens after `past` old ones.
 *   q    [sequences * tokens, heads * head_dim]
 *   k, v [sequences * (past + tokens), kv_heads * head_dim]: old and new positions
 *   out  [sequences * tokens, heads * head_dim]
 * Token i of a sequence sees positions 0 .. past + i (and no further back than the model's window). Memory beside these
 * does not grow with their number. */
typedef struct lb_attention_input {
    const float *q, *k, *v;
    size_t sequences, tokens, past;
    const lb_kv *keys, *values; /* of one sequence, instead of k and v; or NULL */
} lb_attention_input;

lb_status lb_attention(const lb_kernels *kernels, const lb_config *config, const lb_attention_input *in,
                       float *out, lb_error *err);

#endif
