/* SPDX-License-Identifier: MIT
 * One safetensors file in the making: tensors are added, then written at once. */
#ifndef LB_PACK_SHARD_H
#define LB_PACK_SHARD_H

#include "io/safetensors.h"
#include "model/weights.h"
#include "quantize/method.h"

enum { LB_SHARD_MAX_TENSORS = 48 }; /* a block has at most 7 x 4 parts, 11 vectors and 3 masks */

typedef struct lb_shard {
    lb_tensor_out tensors[LB_SHARD_MAX_TENSORS];
    char names[LB_SHARD_MAX_TENSORS][176];
    void *owned[LB_SHARD_MAX_TENSORS]; /* what shard_free frees: NULL where data is mapped */
    size_t count;
} lb_shard;

/* Zero-initialise; free at the end. */
void lb_shard_free(lb_shard *shard);

/* A weight that stays float, stored as `dtype` (F32, F16 or BF16). */
lb_status lb_shard_add_float(lb_shard *shard, const lb_weight *weight, lb_dtype dtype, lb_error *err);

/* The same of values that are in memory: w [rows, cols] of the weight, rewritten by a transform. */
lb_status lb_shard_add_values(lb_shard *shard, const lb_weight *weight, const float *w, lb_dtype dtype,
                              lb_error *err);

/* Bytes, copied: a tensor U8 [bytes]. */
lb_status lb_shard_add_bytes(lb_shard *shard, const char *name, const uint8_t *data, size_t bytes,
                             lb_error *err);

/* A quantized layer: the parts of its format, named "LAYER.weight.PART". */
lb_status lb_shard_add_packed(lb_shard *shard, const lb_layer *layer, lb_error *err);

/* The layer's codes and params (allocated) from the tensors of a written shard. */
lb_status lb_shard_unpack(const lb_tensor_set *set, const char *path, lb_layer *layer, lb_error *err);

/* Params of a layer with free coefficients, as the floats that they are in memory, named "LAYER.params"; and those
 * coefficients read again, into params that are otherwise there. */
lb_status lb_shard_add_params(lb_shard *shard, const lb_layer *layer, lb_error *err);
lb_status lb_shard_read_params(const lb_tensor_set *set, const char *path, lb_layer *layer, lb_error *err);

lb_status lb_shard_write(const lb_shard *shard, const char *path, lb_error *err);

#endif
