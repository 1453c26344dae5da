/* SPDX-License-Identifier: MIT
 * One sequence being generated: the keys and values of its past. What computes them is a runner (runner.h). */
#ifndef LB_INFER_SEQUENCE_H
#define LB_INFER_SEQUENCE_H

#include <stddef.h>

#include "base/error.h"
#include "kernels/kv.h"
#include "model/config.h"

typedef struct lb_sequence {
    size_t context, past; /* room for tokens, and how many there are: less forgets the last ones */
    size_t layers, heads, dim;
    lb_kv_type type;
    uint8_t *values[2], *scales[2]; /* of keys, and of values: [layers][context] positions (kernels/kv.h) */
} lb_sequence;

/* Room for `context` tokens, which must not exceed the model's own limit. */
lb_status lb_sequence_create(const lb_config *config, lb_kv_type type, size_t context, lb_sequence **out,
                             lb_error *err);
void lb_sequence_destroy(lb_sequence *sequence);

/* Of one layer. */
lb_kv lb_sequence_keys(const lb_sequence *sequence, size_t layer);
lb_kv lb_sequence_values(const lb_sequence *sequence, size_t layer);

/* Makes `to` hold the first `past` tokens of `from`, a sequence of the same model and type, which holds as many. */
void lb_sequence_copy(const lb_sequence *from, size_t past, lb_sequence *to);

/* Bytes that a token takes. */
size_t lb_sequence_token_bytes(const lb_config *config, lb_kv_type type);

#endif
