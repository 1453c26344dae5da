/* SPDX-License-Identifier: MIT */
#include "pack/shard.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/half.h"
#include "base/thread.h"

void lb_shard_free(lb_shard *shard)
{
    for (size_t i = 0; i < shard->count; i++)
        lb_free(shard->owned[i]);
    shard->count = 0;
}

static lb_status add(lb_shard *shard, const char *name, const lb_tensor_out *tensor, void *owned,
                     lb_error *err)
{
    const size_t at = shard->count;
    if (at == LB_SHARD_MAX_TENSORS || strlen(name) >= sizeof shard->names[at]) {
        lb_free(owned);
        return lb_fail(err, LB_EINVAL, "tensor %.100s does not fit into its file", name);
    }
    memcpy(shard->names[at], name, strlen(name) + 1);
    shard->tensors[at] = *tensor;
    shard->owned[at] = owned;
    shard->count++;
    return LB_OK;
}

static lb_status narrow(const float *from, size_t n, lb_dtype dtype, const char *name, uint16_t *to,
                        lb_error *err)
{
    for (size_t i = 0; i < n; i++) {
        if (dtype == LB_DTYPE_F16 && fabsf(from[i]) > 65504.0f)
            return lb_fail(err, LB_EINVAL,
                           "%s: the value %g does not fit f16; keep this layer with "
                           "--layer PATTERN=bf16",
                           name, (double)from[i]);
        to[i] = dtype == LB_DTYPE_F16 ? lb_f16_from_float(from[i]) : lb_bf16_from_float(from[i]);
    }
    return LB_OK;
}

static lb_status convert(const lb_weight *weight, lb_dtype dtype, void **out, lb_error *err)
{
    const size_t n = weight->rows * weight->cols;
    float *values;
    uint16_t *halves = NULL;
    LB_TRY(lb_alloc_array(&values, n, sizeof *values, weight->name, err));
    lb_status st = lb_weight_read(weight, 0, weight->rows, values, err);
    if (st == LB_OK && dtype == LB_DTYPE_F32) {
        *out = values;
        return LB_OK;
    }
    if (st == LB_OK)
        st = lb_alloc_array(&halves, n, sizeof *halves, weight->name, err);
    if (st == LB_OK)
        st = narrow(values, n, dtype, weight->name, halves, err);
    lb_free(values);
    if (st == LB_OK)
        *out = halves;
    else
        lb_free(halves);
    return st;
}

lb_status lb_shard_add_float(lb_shard *shard, const lb_weight *weight, lb_dtype dtype, lb_error *err)
{
    const lb_tensor *t = weight->tensor;
    lb_tensor_out out = {
        .dtype = dtype, .rank = t->rank, .bytes = weight->rows * weight->cols * lb_dtype_block_bytes(dtype)};
    void *owned = NULL;
    memcpy(out.shape, t->shape, sizeof out.shape);
    if (t->dtype == dtype && t->interleaved_heads == 0)
        out.data = t->data;
    else {
        LB_TRY(convert(weight, dtype, &owned, err));
        out.data = owned;
    }
    return add(shard, weight->name, &out, owned, err);
}

typedef struct pack_job {
    const lb_layer *layer;
    const lb_format_part *parts;
    unsigned count;
    uint8_t *data[LB_FORMAT_MAX_PARTS];
} pack_job;

static void pack_rows(void *arg, size_t begin, size_t end)
{
    const pack_job *job = arg;
    const lb_layer *l = job->layer;
    const size_t params = lb_format_groups(&l->format, l->cols) * l->format.params;
    for (size_t row = begin; row < end; row++) {
        uint8_t *at[LB_FORMAT_MAX_PARTS];
        for (unsigned i = 0; i < job->count; i++)
            at[i] = job->data[i] + row * job->parts[i].row_bytes;
        l->format.ops->pack(&l->format, l->codes + row * l->cols, l->params + row * params, l->cols, at);
    }
}

lb_status lb_shard_add_packed(lb_shard *shard, const lb_layer *layer, lb_error *err)
{
    lb_format_part parts[LB_FORMAT_MAX_PARTS];
    pack_job job = {.layer = layer, .parts = parts};
    lb_status st = LB_OK;
    job.count = layer->format.ops->parts(&layer->format, layer->cols, parts);
    for (unsigned i = 0; i < job.count; i++)
        LB_GO(lb_alloc_array(&job.data[i], layer->rows, parts[i].row_bytes, layer->name, err));
    lb_parallel_for(layer->rows, 32, pack_rows, &job);
    for (unsigned i = 0; i < job.count; i++) {
        char name[176];
        snprintf(name, sizeof name, "%s.weight.%s", layer->name, parts[i].name);
        lb_tensor_out out = {.dtype = parts[i].elem_bytes == 2 ? LB_DTYPE_F16 : LB_DTYPE_U8,
                             .rank = 2,
                             .shape = {layer->rows, parts[i].row_bytes / parts[i].elem_bytes},
                             .data = job.data[i],
                             .bytes = layer->rows * parts[i].row_bytes};
        void *owned = job.data[i];
        job.data[i] = NULL; /* the shard's now */
        LB_GO(add(shard, name, &out, owned, err));
    }
done:
    for (unsigned i = 0; i < job.count; i++)
        lb_free(job.data[i]);
    return st;
}

lb_status lb_shard_unpack(const lb_tensor_set *set, const char *path, lb_layer *layer, lb_error *err)
{
    lb_format_part parts[LB_FORMAT_MAX_PARTS];
    const uint8_t *data[LB_FORMAT_MAX_PARTS];
    const unsigned count = layer->format.ops->parts(&layer->format, layer->cols, parts);
    const size_t params = lb_format_groups(&layer->format, layer->cols) * layer->format.params;
    for (unsigned i = 0; i < count; i++) {
        char name[176];
        snprintf(name, sizeof name, "%s.weight.%s", layer->name, parts[i].name);
        const lb_tensor *t = lb_tensor_find(set, name);
        if (!t || t->bytes != layer->rows * parts[i].row_bytes)
            return lb_fail(err, LB_EFORMAT, "%s: tensor %s is not what the recipe would have written", path,
                           name);
        data[i] = t->data;
    }
    for (size_t row = 0; row < layer->rows; row++) {
        const uint8_t *at[LB_FORMAT_MAX_PARTS];
        for (unsigned i = 0; i < count; i++)
            at[i] = data[i] + row * parts[i].row_bytes;
        LB_TRY(layer->format.ops->unpack(&layer->format, at, layer->cols, layer->codes + row * layer->cols,
                                         layer->params + row * params, err));
    }
    return LB_OK;
}

lb_status lb_shard_write(const lb_shard *shard, const char *path, lb_error *err)
{
    lb_tensor_out tensors[LB_SHARD_MAX_TENSORS];
    for (size_t i = 0; i < shard->count; i++) {
        tensors[i] = shard->tensors[i];
        tensors[i].name = shard->names[i];
    }
    return lb_safetensors_write(path, tensors, shard->count, err);
}
