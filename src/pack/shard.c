/* SPDX-License-Identifier: MIT */
#include "pack/shard.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/half.h"
#include "base/thread.h"
#include "quantize/layer.h"
#include "formats/linear_format.h"

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

/* *values [rows * cols] of the weight as `dtype` in *out: the array itself, then NULL, where that is F32. */
static lb_status convert(const lb_weight *weight, float **values, lb_dtype dtype, void **out, lb_error *err)
{
    const size_t n = weight->rows * weight->cols;
    uint16_t *halves;
    if (dtype == LB_DTYPE_F32) {
        *out = *values;
        *values = NULL;
        return LB_OK;
    }
    LB_TRY(lb_alloc_array(&halves, n, sizeof *halves, weight->name, err));
    const lb_status st = narrow(*values, n, dtype, weight->name, halves, err);
    if (st == LB_OK)
        *out = halves;
    else
        lb_free(halves);
    return st;
}

/* Takes *values. */
static lb_status add_converted(lb_shard *shard, const lb_weight *weight, float *values, lb_dtype dtype,
                               lb_error *err)
{
    const lb_tensor *t = weight->tensor;
    lb_tensor_out out = {
        .dtype = dtype, .rank = t->rank, .bytes = weight->rows * weight->cols * lb_dtype_block_bytes(dtype)};
    void *owned = NULL;
    memcpy(out.shape, t->shape, sizeof out.shape);
    const lb_status st = convert(weight, &values, dtype, &owned, err);
    lb_free(values);
    LB_TRY(st);
    out.data = owned;
    return add(shard, weight->name, &out, owned, err);
}

lb_status lb_shard_add_values(lb_shard *shard, const lb_weight *weight, const float *w, lb_dtype dtype,
                              lb_error *err)
{
    float *values;
    const size_t n = weight->rows * weight->cols;
    LB_TRY(lb_alloc_array(&values, n, sizeof *values, weight->name, err));
    memcpy(values, w, n * sizeof *values);
    return add_converted(shard, weight, values, dtype, err);
}

lb_status lb_shard_add_float(lb_shard *shard, const lb_weight *weight, lb_dtype dtype, lb_error *err)
{
    const lb_tensor *t = weight->tensor;
    float *values;
    if (t->dtype == dtype && t->interleaved_heads == 0) { /* written as it lies in the source */
        lb_tensor_out out = {.dtype = dtype, .rank = t->rank, .data = t->data, .bytes = t->bytes};
        memcpy(out.shape, t->shape, sizeof out.shape);
        return add(shard, weight->name, &out, NULL, err);
    }
    LB_TRY(lb_alloc_array(&values, weight->rows * weight->cols, sizeof *values, weight->name, err));
    const lb_status st = lb_weight_read(weight, 0, weight->rows, values, err);
    if (st != LB_OK) {
        lb_free(values);
        return st;
    }
    return add_converted(shard, weight, values, dtype, err);
}

lb_status lb_shard_add_bytes(lb_shard *shard, const char *name, const uint8_t *data, size_t bytes,
                             lb_error *err)
{
    uint8_t *copy;
    LB_TRY(lb_alloc_array(&copy, bytes, 1, name, err));
    memcpy(copy, data, bytes);
    const lb_tensor_out out = {
        .dtype = LB_DTYPE_U8, .rank = 1, .shape = {bytes}, .data = copy, .bytes = bytes};
    return add(shard, name, &out, copy, err);
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
    const size_t params = lb_layer_row_params(l);
    for (size_t row = begin; row < end; row++) {
        uint8_t *at[LB_FORMAT_MAX_PARTS];
        for (unsigned i = 0; i < job->count; i++)
            at[i] = job->data[i] + row * job->parts[i].row_bytes;
        l->format.ops->pack(&l->format, l->codes + row * l->cols, l->params + row * params, l->cols, at);
    }
}

/* The float that all groups of a layer share, little endian. */
static lb_status add_tensor_scale(lb_shard *shard, const lb_layer *layer, lb_error *err)
{
    char name[176];
    uint8_t *bytes;
    snprintf(name, sizeof name, "%s.weight" LB_TENSOR_SCALE_SUFFIX, layer->name);
    LB_TRY(lb_alloc_array(&bytes, 1, sizeof(float), name, err));
    const uint32_t bits = lb_float_bits(layer->format.tensor_scale);
    for (unsigned i = 0; i < sizeof bits; i++)
        bytes[i] = (uint8_t)(bits >> (8 * i));
    const lb_tensor_out out = {
        .dtype = LB_DTYPE_F32, .rank = 1, .shape = {1}, .data = bytes, .bytes = sizeof bits};
    return add(shard, name, &out, bytes, err);
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
        lb_tensor_out out = {.dtype = lb_part_dtype(&parts[i]),
                             .rank = 2,
                             .shape = {layer->rows, parts[i].row_bytes / parts[i].elem_bytes},
                             .data = job.data[i],
                             .bytes = layer->rows * parts[i].row_bytes};
        void *owned = job.data[i];
        job.data[i] = NULL; /* the shard's now */
        LB_GO(add(shard, name, &out, owned, err));
    }
    if (lb_format_has_tensor_scale(&layer->format))
        LB_GO(add_tensor_scale(shard, layer, err));
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
    const size_t params = lb_layer_row_params(layer);
    for (unsigned i = 0; i < count; i++) {
        char name[176];
        snprintf(name, sizeof name, "%s.weight.%s", layer->name, parts[i].name);
        const lb_tensor *t = lb_tensor_find(set, name);
        if (!t || t->bytes != layer->rows * parts[i].row_bytes)
            return lb_fail(err, LB_EFORMAT, "%s: tensor %s is not what the recipe would have written", path,
                           name);
        data[i] = t->data;
    }
    if (lb_format_has_tensor_scale(&layer->format)) {
        char name[176];
        snprintf(name, sizeof name, "%s.weight" LB_TENSOR_SCALE_SUFFIX, layer->name);
        const lb_tensor *t = lb_tensor_find(set, name);
        if (!t || t->dtype != LB_DTYPE_F32 || t->bytes != sizeof(float))
            return lb_fail(err, LB_EFORMAT, "%s: tensor %s is not what the recipe would have written", path,
                           name);
        LB_TRY(lb_tensor_read(t, 0, 1, &layer->format.tensor_scale, err));
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

lb_status lb_shard_add_params(lb_shard *shard, const lb_layer *layer, lb_error *err)
{
    char name[176];
    const lb_tensor_out out = {.dtype = LB_DTYPE_F32,
                               .rank = 2,
                               .shape = {layer->rows, lb_layer_row_params(layer)},
                               .data = layer->params,
                               .bytes = layer->rows * lb_layer_row_params(layer) * sizeof(float)};
    snprintf(name, sizeof name, "%s.params", layer->name);
    return add(shard, name, &out, NULL, err);
}

/* Only what is learned is taken over: codes depend on the rest, and packing on its being in range. */
static lb_status take_coefficients(const lb_layer *layer, const float *params, const char *path,
                                   lb_error *err)
{
    const lb_linear_format_ops *linear = layer->format.ops->linear;
    const size_t groups = layer->rows * lb_format_groups(&layer->format, layer->cols);
    for (size_t g = 0; g < groups; g++) {
        float found[LB_FORMAT_MAX_PARAMS], kept[LB_FORMAT_MAX_PARAMS],
            *own = layer->params + g * layer->format.params;
        linear->get(&layer->format, params + g * layer->format.params, found);
        linear->set(&layer->format, found, own);
        linear->get(&layer->format, own, kept);
        for (unsigned i = 0; i < linear->count(&layer->format); i++)
            if (!(found[i] == kept[i])) /* nor is a NaN */
                return lb_fail(err, LB_EFORMAT, "%s: %s.params holds %g, which %s cannot store", path,
                               layer->name, (double)found[i], layer->format.name);
    }
    return LB_OK;
}

lb_status lb_shard_read_params(const lb_tensor_set *set, const char *path, lb_layer *layer, lb_error *err)
{
    char name[176];
    float *params;
    snprintf(name, sizeof name, "%s.params", layer->name);
    const lb_tensor *t = lb_tensor_find(set, name);
    if (!t || t->dtype != LB_DTYPE_F32 || t->rank != 2 || t->shape[0] != layer->rows ||
        t->shape[1] != lb_layer_row_params(layer))
        return lb_fail(err, LB_EFORMAT, "%s: tensor %s is not what the recipe would have written", path,
                       name);
    LB_TRY(lb_alloc_array(&params, layer->rows, lb_layer_row_params(layer) * sizeof *params, name, err));
    lb_status st = lb_tensor_read(t, 0, layer->rows, params, err);
    if (st == LB_OK)
        st = take_coefficients(layer, params, path, err);
    lb_free(params);
    return st;
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
