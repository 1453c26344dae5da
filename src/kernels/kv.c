/* SPDX-License-Identifier: MIT */
#include "kernels/kv.h"

#include <string.h>

#include "base/thread.h"
#include "formats/block_format.h"
#include "formats/mx.h"

/* Below so many numbers no second thread is worth waking. */
enum { SERIAL_NUMBERS = 1 << 14 };

static const char *const names[LB_KV_TYPES] = {"f32", "f16", "int8", "mxint8"};

lb_status lb_kv_type_parse(const char *name, lb_kv_type *out, lb_error *err)
{
    if (!name) {
        *out = (lb_kv_type)LB_KV_DEFAULT;
        return LB_OK;
    }
    for (unsigned type = 0; type < LB_KV_TYPES; type++) {
        if (strcmp(name, names[type]) == 0) {
            *out = (lb_kv_type)type;
            return LB_OK;
        }
    }
    return lb_fail(err, LB_EINVAL, "keys and values cannot be kept as \"%.40s\": there are " LB_KV_NAMES,
                   name);
}

const char *lb_kv_type_name(lb_kv_type type)
{
    return names[type];
}

static size_t blocks_of(size_t dim)
{
    return (dim + LB_ROWS_BLOCK - 1) / LB_ROWS_BLOCK;
}

static size_t number_bytes(lb_kv_type type)
{
    return type == LB_KV_F32 ? 4 : type == LB_KV_F16 ? 2 : 1;
}

size_t lb_kv_value_bytes(lb_kv_type type, size_t heads, size_t dim)
{
    return heads * dim * number_bytes(type);
}

size_t lb_kv_scale_bytes(lb_kv_type type, size_t heads, size_t dim)
{
    return type == LB_KV_INT8 ? heads * sizeof(float) : type == LB_KV_MXINT8 ? heads * blocks_of(dim) : 0;
}

static const lb_format mxint8 = {.name = "mxint8",
                                 .ops = &lb_mx_format,
                                 .bits = 8,
                                 .group = LB_MX_BLOCK,
                                 .symmetric = true,
                                 .params = 1,
                                 .element = &lb_int8,
                                 .rule = LB_SCALE_CEIL,
                                 .tensor_scale = 1.0f};

typedef struct setting {
    const lb_kernels *kernels;
    const lb_kv *kv;
    size_t at;
    const float *x;
} setting;

static void set_positions(void *arg, size_t begin, size_t end)
{
    const setting *s = arg;
    const lb_kv *kv = s->kv;
    const size_t width = kv->heads * kv->dim, blocks = blocks_of(kv->dim);
    const float *x = s->x + begin * width;
    const size_t first = (s->at + begin) * kv->heads, heads = (end - begin) * kv->heads;
    uint8_t *values = kv->values + first * kv->dim * number_bytes(kv->type);
    switch (kv->type) {
    case LB_KV_F32:
        memcpy(values, x, heads * kv->dim * sizeof *x);
        break;
    case LB_KV_F16:
        s->kernels->f32_to_f16(x, (uint16_t *)(void *)values, heads * kv->dim);
        break;
    case LB_KV_INT8:
        for (size_t h = 0; h < heads; h++)
            s->kernels->int8_encode(x + h * kv->dim, kv->dim, (int8_t *)values + h * kv->dim,
                                    (float *)(void *)kv->scales + first + h);
        break;
    default:
        for (size_t h = 0; h < heads; h++)
            s->kernels->block_encode(&mxint8, x + h * kv->dim, kv->dim, values + h * kv->dim,
                                     kv->scales + (first + h) * blocks);
    }
}

void lb_kv_set(const lb_kernels *kernels, const lb_kv *kv, size_t at, size_t count, const float *x)
{
    enum { POSITIONS_PER_CHUNK = 32 };
    setting s = {.kernels = kernels, .kv = kv, .at = at, .x = x};
    lb_parallel_for(count, count * kv->heads * kv->dim < SERIAL_NUMBERS ? count : POSITIONS_PER_CHUNK,
                    set_positions, &s);
}

lb_row_type lb_kv_row_type(lb_kv_type type)
{
    static const lb_row_type types[LB_KV_TYPES] = {LB_ROWS_F32, LB_ROWS_F16, LB_ROWS_INT8, LB_ROWS_MXINT8};
    return types[type];
}

lb_rows lb_kv_rows(const lb_kv *kv, size_t head, size_t at)
{
    const size_t value_bytes = lb_kv_value_bytes(kv->type, kv->heads, kv->dim);
    const size_t scale_bytes = lb_kv_scale_bytes(kv->type, kv->heads, kv->dim);
    const size_t scale_size = kv->type == LB_KV_INT8 ? sizeof(float) : 1;
    lb_rows rows = {.values = kv->values + at * value_bytes + head * kv->dim * number_bytes(kv->type),
                    .stride = kv->heads * kv->dim,
                    .n = kv->dim};
    if (kv->scales) {
        rows.scales = kv->scales + at * scale_bytes + head * (scale_bytes / kv->heads);
        rows.scale_stride = scale_bytes / scale_size;
    }
    return rows;
}

static void get_scaled(const lb_rows *rows, lb_kv_type type, size_t row, float *out)
{
    const int8_t *codes = (const int8_t *)rows->values + row * rows->stride;
    if (type == LB_KV_INT8) {
        const float scale = ((const float *)rows->scales)[row * rows->scale_stride];
        for (size_t i = 0; i < rows->n; i++)
            out[i] = (float)codes[i] * scale;
        return;
    }
    const uint8_t *scales = (const uint8_t *)rows->scales + row * rows->scale_stride;
    for (size_t i = 0; i < rows->n; i++)
        out[i] = (float)codes[i] * lb_power_of_two((int)scales[i / LB_ROWS_BLOCK] - 127);
}

void lb_kv_get(const lb_kernels *kernels, const lb_kv *kv, size_t head, size_t at, size_t count, float *out)
{
    const lb_rows rows = lb_kv_rows(kv, head, at);
    for (size_t r = 0; r < count; r++, out += kv->dim) {
        if (kv->type == LB_KV_F32)
            memcpy(out, (const float *)rows.values + r * rows.stride, kv->dim * sizeof *out);
        else if (kv->type == LB_KV_F16)
            kernels->f16_to_f32((const uint16_t *)rows.values + r * rows.stride, out, kv->dim);
        else
            get_scaled(&rows, kv->type, r, out);
    }
}
