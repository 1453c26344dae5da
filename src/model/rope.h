/* SPDX-License-Identifier: MIT
 * Rotary position embedding (arXiv:2104.09864), Hugging Face's order: entry i of a head is paired with
 * entry i + head_dim / 2. */
#ifndef LB_MODEL_ROPE_H
#define LB_MODEL_ROPE_H

#include "model/config.h"

typedef struct lb_rope {
    size_t half; /* head_dim / 2 */
    size_t positions; /* how many are tabulated */
    float *cosine, *sine; /* [positions, half] */
} lb_rope;

/* Frequencies of all pairs, out [head_dim / 2], with the configuration's scaling applied. */
void lb_rope_frequencies(const lb_config *config, double *out);

lb_status lb_rope_create(const lb_config *config, size_t positions, lb_rope *out, lb_error *err);
void lb_rope_free(lb_rope *rope);

/* Rotates `heads` heads, x [heads, head_dim], of the token at `position` (< positions) in place. */
void lb_rope_rotate(const lb_rope *rope, size_t position, size_t heads, float *x);
/* Rotates back, which is also what turns gradients with respect to rotated heads into those before. */
void lb_rope_undo(const lb_rope *rope, size_t position, size_t heads, float *x);

#endif
