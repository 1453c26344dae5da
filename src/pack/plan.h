/* SPDX-License-Identifier: MIT
 * What a quantized checkpoint consists of, decided before anything is computed: which tensors keep a
 * float type (and which), which are packed, and what all of it weighs. */
#ifndef LB_PACK_PLAN_H
#define LB_PACK_PLAN_H

#include "io/safetensors.h"
#include "pack/quantized_dir.h"

/* The type in which a tensor that stays float is stored: its own, where safetensors has it; of GGUF's
 * block types matrices become F16 and vectors F32. A float format from a rule decides otherwise. */
lb_dtype lb_kept_dtype(const lb_weight *weight, const lb_format *rule);

/* The type of a block's norm or bias: a transform that divides it by factors leaves numbers for F32. */
lb_dtype lb_vector_dtype(const lb_recipe *recipe, const lb_weight *vector);

/* Matrices outside the blocks: 0 is the embedding, 1 the head where it is not tied. */
bool lb_outer_matrix(const lb_config *config, size_t index, const char **layer);

/* The rule for a layer outside the blocks, or NULL: it keeps its type. */
const lb_format *lb_outer_format(const lb_recipe *recipe, const char *layer);

#endif
