/* SPDX-License-Identifier: MIT
 * The shape of a decoder-only transformer, read from a Hugging Face config.json. */
#ifndef LB_MODEL_CONFIG_H
#define LB_MODEL_CONFIG_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/* How rotary frequencies are changed for long contexts. */
typedef enum lb_rope_scaling {
    LB_ROPE_PLAIN,
    LB_ROPE_LINEAR, /* every frequency divided by `factor` */
    LB_ROPE_LLAMA3, /* long wavelengths divided by `factor`, short ones kept, a ramp between */
    LB_ROPE_FACTORS /* frequency i divided by factors[i] */
} lb_rope_scaling;

enum { LB_MAX_HEAD_DIM = 512 };

typedef struct lb_config {
    char architecture[48]; /* "LlamaForCausalLM" */
    size_t hidden, ffn, layers;
    size_t heads, kv_heads, head_dim;
    size_t vocab, max_context;
    size_t window; /* sliding attention window; 0: none */
    double norm_eps;
    double rope_theta;
    lb_rope_scaling rope_scaling;
    double rope_factor, rope_low_freq_factor, rope_high_freq_factor;
    size_t rope_original_context;
    float rope_factors[LB_MAX_HEAD_DIM / 2];
    bool qkv_bias, o_bias, mlp_bias;
    bool qk_norm; /* Qwen3: RMSNorm of every query and key head */
    bool tied_embeddings; /* lm_head is the embedding matrix */
} lb_config;

/* Checks every number; an architecture that is not supported is refused by name with the list of
 * those that are. `where` names the file in messages. This is the entry point that is fuzzed. */
lb_status lb_config_read(const json_t *json, const char *where, lb_config *out, lb_error *err);

#endif
