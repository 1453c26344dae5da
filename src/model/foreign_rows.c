/* SPDX-License-Identifier: MIT */
#include "model/foreign_rows.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/half.h"
#include "formats/block_format.h"
#include "formats/gguf_order.h"
#include "formats/int.h"
#include "formats/k_blocks.h"

/* ---- Numbers ----------------------------------------------------------------------------------------- */

static uint32_t word(const lb_tensor *t, size_t index)
{
    const uint8_t *p = t->data + 4 * index;
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static float number(const lb_tensor *t, size_t index)
{
    const uint8_t *p = t->data + index * lb_dtype_block_bytes(t->dtype);
    if (t->dtype == LB_DTYPE_F32)
        return lb_float_from_bits(word(t, index));
    const uint16_t half = (uint16_t)(p[0] | p[1] << 8);
    return t->dtype == LB_DTYPE_F16 ? lb_f16_to_float(half) : lb_bf16_to_float(half);
}

/* Code `index` of a stream whose words lie `stride` apart, the first of them at `first`. */
static int streamed(const lb_tensor *t, size_t first, size_t stride, size_t index, unsigned bits)
{
    const size_t bit = index * bits, at = first + bit / 32 * stride;
    const unsigned shift = (unsigned)(bit % 32);
    uint32_t value = word(t, at) >> shift;
    if (shift + bits > 32)
        value |= word(t, at + stride) << (32 - shift);
    return (int)(value & ((1u << bits) - 1u));
}

/* Of AWQ's eight outputs in a word. */
static int interleaved(const lb_tensor *t, size_t words, size_t line, size_t output)
{
    static const unsigned place[8] = {0, 4, 1, 5, 2, 6, 3, 7};
    return (int)(word(t, line * words + output / 8) >> (4 * place[output % 8]) & 15u);
}

static int offset_byte(uint8_t byte)
{
    return (byte ^ 0x80) & 0xff; /* two's complement + 128 */
}

float lb_foreign_scale(const lb_weight *w, size_t row, size_t group)
{
    const lb_foreign_layer *f = &w->foreign;
    const bool across = f->kind == LB_PACKED_GPTQ || f->kind == LB_PACKED_AWQ;
    return number(f->scales, across ? group * w->rows + row : row * f->groups + group);
}

int lb_foreign_zero(const lb_weight *w, size_t row, size_t group)
{
    const lb_foreign_layer *f = &w->foreign;
    const lb_tensor *z = f->zeros;
    if (!z)
        return 1 << (f->bits - 1);
    switch (f->kind) {
    case LB_PACKED_GPTQ:
        return streamed(z, group * lb_tensor_cols(z), 1, row, f->bits) + (int)f->zero_offset;
    case LB_PACKED_AWQ:
        return interleaved(z, w->rows / 8, group, row);
    case LB_PACKED_STREAM:
        return streamed(z, group, f->groups, row, f->bits);
    default:
        return offset_byte(z->data[row * f->groups + group]);
    }
}

static int code_at(const lb_weight *w, size_t row, size_t col)
{
    const lb_foreign_layer *f = &w->foreign;
    switch (f->kind) {
    case LB_PACKED_GPTQ:
        return streamed(f->codes, row, w->rows, col, f->bits);
    case LB_PACKED_AWQ:
        return interleaved(f->codes, w->rows / 8, col, row);
    case LB_PACKED_STREAM:
        return streamed(f->codes, row * lb_tensor_cols(f->codes), 1, col, f->bits);
    default:
        return offset_byte(f->codes->data[row * w->cols + col]);
    }
}

float lb_foreign_exact_scale(const lb_weights *weights, const char *name, float scale)
{
    const json_t *config = json_object_get(weights->checkpoint.config, "quantization_config");
    const json_t *scales = json_object_get(json_object_get(config, "lowbit"), "tensor_scales");
    char layer[160];
    const size_t length = strlen(name) - strlen(".weight");
    if (length >= sizeof layer)
        return scale;
    memcpy(layer, name, length);
    layer[length] = '\0';
    const float noted = (float)json_number_value(json_object_get(scales, layer));
    /* Only what the inverse confirms: two roundings are at most two units in the last place away. */
    return fabsf(noted - scale) <= 0x1p-22f * scale ? noted : scale;
}

/* ---- GGUF's blocks ------------------------------------------------------------------------------------ */

enum { BLOCK = 32 };

int lb_foreign_zero_of_minimum(float d, float m)
{
    const float z = d > 0.0f ? -m / d : 0.0f;
    return z > -0.5f && z < 15.5f ? (int)lrintf(z) : 0;
}

static const uint8_t *gguf_block(const lb_weight *w, size_t row, size_t block)
{
    const lb_tensor *t = w->foreign.codes;
    const size_t elems = lb_dtype_block_elems(t->dtype), bytes = lb_dtype_block_bytes(t->dtype);
    return t->data + (lb_tensor_stored_row(t, row) * (w->cols / elems) + block) * bytes;
}

/* Whether a block of Q4_1 is scale * (code - zero) with a zero of 4 bits: its minimum is then an f16 of the product. */
static bool has_zero(const uint8_t *block, int *zero)
{
    const float d = lb_f16_read(block), m = lb_f16_read(block + 2);
    *zero = lb_foreign_zero_of_minimum(d, m);
    return !signbit(d) && lb_round_to_f16(-(d * (float)*zero)) == m;
}

static bool all_have_zeros(const lb_weight *w)
{
    for (size_t row = 0; row < w->rows; row++)
        for (size_t b = 0; b < w->cols / BLOCK; b++) {
            int zero;
            if (!has_zero(gguf_block(w, row, b), &zero))
                return false;
        }
    return true;
}

lb_status lb_foreign_from_gguf(lb_weight *w, lb_error *err)
{
    static const struct {
        lb_dtype dtype;
        const char *format;
    } formats[] = {{LB_DTYPE_Q4_0, "int4-g32"}, {LB_DTYPE_Q4_1, "int4-g32-asym"}, {LB_DTYPE_Q5_0, "int5-g32"},
                   {LB_DTYPE_Q8_0, "int8-g32"}, {LB_DTYPE_MXFP4, "mxfp4"},        {LB_DTYPE_NVFP4, "nvfp4"},
                   {LB_DTYPE_Q2_K, "q2_k"},     {LB_DTYPE_Q3_K, "q3_k"},          {LB_DTYPE_Q4_K, "q4_k"},
                   {LB_DTYPE_Q5_K, "q5_k"},     {LB_DTYPE_Q6_K, "q6_k"}};
    size_t i = 0;
    while (w->tensor && i < sizeof formats / sizeof *formats && formats[i].dtype != w->tensor->dtype)
        i++;
    if (!w->tensor || i == sizeof formats / sizeof *formats ||
        w->rows * w->cols != lb_tensor_elems(w->tensor))
        return LB_OK;
    lb_weight coded = *w;
    coded.foreign = (lb_foreign_layer){.kind = LB_PACKED_GGUF, .codes = w->tensor};
    coded.parts[0] = w->tensor;
    coded.part_count = 1;
    coded.tensor = NULL;
    if (w->tensor->dtype == LB_DTYPE_Q4_1 && !all_have_zeros(&coded))
        return LB_OK;
    LB_TRY(lb_format_parse(formats[i].format, &coded.format, err));
    if (w->tensor->scale)
        memcpy(&coded.format.tensor_scale, w->tensor->scale, sizeof coded.format.tensor_scale);
    if (!(coded.format.tensor_scale > 0.0f) && lb_format_has_tensor_scale(&coded.format))
        return LB_OK;
    *w = coded;
    return LB_OK;
}

static void gguf_integers(lb_dtype dtype, const uint8_t *b, uint8_t *codes, float *params,
                          lb_format const *format)
{
    int zero = 1 << (format->bits - 1);
    const uint8_t *qs = b + 2;
    if (dtype == LB_DTYPE_Q4_1) {
        (void)has_zero(b, &zero);
        qs += 2;
    }
    params[LB_INT_SCALE] = lb_f16_read(b);
    params[LB_INT_ZERO] = (float)zero;
    for (int i = 0; dtype == LB_DTYPE_Q8_0 && i < BLOCK; i++)
        codes[i] = (uint8_t)offset_byte(qs[i]);
    if (dtype == LB_DTYPE_Q8_0)
        return;
    const uint8_t *high = qs;
    qs += dtype == LB_DTYPE_Q5_0 ? 4 : 0;
    for (int i = 0; i < BLOCK; i++) {
        const int nibble = i < BLOCK / 2 ? qs[i] & 15 : qs[i - BLOCK / 2] >> 4;
        const int fifth = dtype == LB_DTYPE_Q5_0 ? high[i / 8] >> (i % 8) & 1 : 0;
        codes[i] = (uint8_t)(nibble | fifth << 4);
    }
}

static lb_status gguf_reordered(const lb_weight *w, size_t row, uint8_t *codes, float *params, lb_error *err)
{
    lb_format_part sizes[LB_FORMAT_MAX_PARTS];
    uint8_t *parts[LB_FORMAT_MAX_PARTS] = {NULL};
    const unsigned count = w->format.ops->parts(&w->format, w->cols, sizes);
    lb_status st = LB_OK;
    for (unsigned i = 0; i < count; i++)
        LB_GO(lb_alloc_array(&parts[i], sizes[i].row_bytes, 1, w->name, err));
    LB_GO(lb_gguf_order_unpack(lb_gguf_order_of(&w->format), gguf_block(w, row, 0), w->cols, parts, err));
    LB_GO(w->format.ops->unpack(&w->format, (const uint8_t *const *)parts, w->cols, codes, params, err));
done:
    for (unsigned i = 0; i < count; i++)
        lb_free(parts[i]);
    return st;
}

static lb_status gguf_row(const lb_weight *w, size_t row, uint8_t *codes, float *params, lb_error *err)
{
    const lb_dtype dtype = w->foreign.codes->dtype;
    if (dtype == LB_DTYPE_MXFP4 || dtype == LB_DTYPE_NVFP4)
        return gguf_reordered(w, row, codes, params, err);
    if (w->format.ops == &lb_k_format) {
        const uint8_t *blocks = gguf_block(w, row, 0);
        return w->format.ops->unpack(&w->format, &blocks, w->cols, codes, params, err);
    }
    for (size_t b = 0; b < w->cols / BLOCK; b++) {
        float *p = params + b * LB_INT_PARAMS;
        gguf_integers(dtype, gguf_block(w, row, b), codes + b * BLOCK, p, &w->format);
        if (!isfinite(p[LB_INT_SCALE]))
            return lb_fail(err, LB_EFORMAT, "the scale of block %zu is %g, not a finite number", b,
                           (double)p[LB_INT_SCALE]);
    }
    return LB_OK;
}

/* ---- Rows -------------------------------------------------------------------------------------------- */

lb_status lb_foreign_row(const lb_weight *w, size_t row, uint8_t *codes, float *params, lb_error *err)
{
    const lb_foreign_layer *f = &w->foreign;
    if (f->kind == LB_PACKED_GGUF)
        return gguf_row(w, row, codes, params, err);
    for (size_t g = 0; g < f->groups; g++) {
        params[g * LB_INT_PARAMS + LB_INT_SCALE] = lb_foreign_scale(w, row, g);
        params[g * LB_INT_PARAMS + LB_INT_ZERO] = (float)lb_foreign_zero(w, row, g);
    }
    for (size_t k = 0; k < w->cols; k++)
        codes[k] = (uint8_t)code_at(w, row, k);
    return LB_OK;
}

lb_status lb_foreign_values(const lb_weight *w, size_t row, float *out, lb_error *err)
{
    const lb_foreign_layer *f = &w->foreign;
    (void)err;
    for (size_t k = 0; k < w->cols; k++) {
        const size_t group = f->order ? (size_t)word(f->order, k) : k / f->group;
        out[k] =
            lb_foreign_scale(w, row, group) * (float)(code_at(w, row, k) - lb_foreign_zero(w, row, group));
    }
    return LB_OK;
}
