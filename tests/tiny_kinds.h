/* SPDX-License-Identifier: MIT
 * One small model of each architecture, for tests that compare gradients with differences: grouped queries, norms of
 * heads, biases, a sliding window, tied ends. */
#ifndef LB_TESTS_TINY_KINDS_H
#define LB_TESTS_TINY_KINDS_H

#include "tiny_model.h"

static const tiny_model_options tiny_kinds[] = {
    {.seed = 31, .hidden = 24, .ffn = 30, .heads = 4, .kv_heads = 2, .vocab = 40, .layers = 3},
    {.seed = 32,
     .hidden = 24,
     .ffn = 30,
     .heads = 2,
     .kv_heads = 1,
     .head_dim = 10,
     .vocab = 40,
     .tied = true,
     .architecture = "Qwen3ForCausalLM"},
    {.seed = 33,
     .hidden = 16,
     .ffn = 30,
     .vocab = 40,
     .window = 5,
     .architecture = "MistralForCausalLM",
     .dtype = LB_DTYPE_BF16},
    {.seed = 34, .hidden = 16, .ffn = 30, .vocab = 40, .tied = true, .architecture = "Qwen2ForCausalLM"},
};
enum { TINY_KINDS = sizeof tiny_kinds / sizeof *tiny_kinds, TINY_KINDS_LAYERS = 3 };

#endif
