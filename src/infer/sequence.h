/* SPDX-License-Identifier: MIT
 * One sequence being generated: the keys and values of its past. What computes them is a runner (runner.h). */
#ifndef LB_INFER_SEQUENCE_H
#define LB_INFER_SEQUENCE_H

#include <stddef.h>

#include "base/error.h"
#include "model/config.h"

typedef struct lb_sequence {
    size_t context, past; /* room for tokens, and how many there are */
    size_t layers, width; /* kv_heads * head_dim */
    float *keys, *values; /* [layers][context, width] */
} lb_sequence;

/* Room for `context` tokens, which must not exceed the model's own limit. */
lb_status lb_sequence_create(const lb_config *config, size_t context, lb_sequence **out, lb_error *err);
void lb_sequence_destroy(lb_sequence *sequence);

/* Where the keys, and the values, of a layer begin. */
float *lb_sequence_keys(const lb_sequence *sequence, size_t layer);
float *lb_sequence_values(const lb_sequence *sequence, size_t layer);

/* Makes `to` hold the first `past` tokens of `from`, a sequence of the same model, which holds as many. */
void lb_sequence_copy(const lb_sequence *from, size_t past, lb_sequence *to);

#endif
