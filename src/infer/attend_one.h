/* SPDX-License-Identifier: MIT
 * Attention of a single new token over a cache: what decoding spends its time on besides weights. BLAS
 * (model/attention.h) would copy all keys and values before it multiplies them with one row. */
#ifndef LB_INFER_ATTEND_ONE_H
#define LB_INFER_ATTEND_ONE_H

#include "kernels/kernels.h"
#include "model/config.h"

/* q [heads * head_dim] at position `past` against k, v [past + 1, kv_heads * head_dim] (no further back
 * than the model's window) -> out [heads * head_dim]. scores [heads, stride] is scratch, stride > past.
 * The same bits at any number of threads. */
void lb_attend_one(const lb_kernels *kernels, const lb_config *config, const float *q, const float *k,
                   const float *v, size_t past, float *scores, size_t stride, float *out);

#endif
