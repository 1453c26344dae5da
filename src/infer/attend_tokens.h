/* SPDX-License-Identifier: MIT
 * Attention of single new tokens over caches: what decoding spends its time on besides weights. BLAS
 * (model/attention.h) would widen all keys and values before it multiplies them with one row. */
#ifndef LB_INFER_ATTEND_TOKENS_H
#define LB_INFER_ATTEND_TOKENS_H

#include "kernels/kv.h"
#include "model/config.h"

/* A token at `position`, whose own key and value are in the cache already. */
typedef struct lb_attending {
    lb_kv keys, values;
    size_t position;
    const float *q; /* [heads * head_dim] */
    float *out; /* alike */
} lb_attending;

/* What lb_attend_tokens wants as scratch, in floats, for each token of a context of that size. */
size_t lb_attend_scratch(const lb_config *config, size_t context);

/* tokens[i].out = attention of that query (no further back than the model's window). A token's bits depend
 * neither on the tokens beside it nor on the number of threads. */
void lb_attend_tokens(const lb_kernels *kernels, const lb_config *config, const lb_attending *tokens,
                      size_t count, size_t context, float *scratch);

#endif
