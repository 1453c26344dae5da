/* SPDX-License-Identifier: MIT
 * See gguf_blocks.h; the layouts of the blocks are listed in io/tensor_blocks.c. */
#include "export/gguf_blocks.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/half.h"
#include "formats/block_format.h"
#include "formats/gguf_order.h"
#include "formats/int.h"
#include "formats/k_blocks.h"
#include "model/foreign_rows.h"

enum { BLOCK = 32 };

static bool is_f16(float x)
{
    return isfinite(x) && fabsf(x) <= 65504.0f && lb_f16_to_float(lb_f16_from_float(x)) == x;
}

/* ---- Which type -------------------------------------------------------------------------------------- */

/* What all rows have in common. */
typedef struct survey {
    int low, high; /* of the integers */
    bool scales_fit; /* every scale is an f16 */
    bool minima_fit; /* and every zero can be told from scale * zero as an f16 */
} survey;

static void look_at_row(const lb_weight *w, const lb_export_row *row, survey *s)
{
    for (size_t i = 0; i < w->cols; i++) {
        s->low = row->n[i] < s->low ? row->n[i] : s->low;
        s->high = row->n[i] > s->high ? row->n[i] : s->high;
    }
    for (size_t g = 0; g < lb_format_groups(&w->format, w->cols); g++) {
        s->scales_fit = s->scales_fit && is_f16(row->scales[g]);
        const float minimum = lb_round_to_f16(-(row->scales[g] * (float)row->zeros[g]));
        s->minima_fit = s->minima_fit && isfinite(minimum) &&
                        lb_foreign_zero_of_minimum(row->scales[g], minimum) == row->zeros[g];
    }
}

static lb_status look_at_all(const lb_weight *w, survey *out, lb_error *err)
{
    lb_export_row row;
    *out = (survey){.scales_fit = true, .minima_fit = true};
    LB_TRY(lb_export_row_make(w, &row, err));
    lb_status st = LB_OK;
    for (size_t i = 0; st == LB_OK && i < w->rows; i++) {
        st = lb_export_row_read(w, i, &row, err);
        if (st == LB_OK)
            look_at_row(w, &row, out);
    }
    lb_export_row_free(&row);
    return st;
}

static lb_status type_of_integers(const lb_weight *w, lb_dtype *out, lb_error *err)
{
    const lb_format *f = &w->format;
    const size_t group = f->group ? f->group : w->cols;
    survey s;
    if (group % BLOCK != 0 || w->cols % BLOCK != 0)
        return lb_fail(
            err, LB_EUNSUPPORTED,
            "%s has %zu columns of %s in groups of %zu, and GGUF's blocks are 32 numbers with one scale",
            w->name, w->cols, f->name, group);
    LB_TRY(look_at_all(w, &s, err));
    if (!s.scales_fit)
        return lb_fail(err, LB_EUNSUPPORTED,
                       "%s is %s, some of whose scales are no f16, which GGUF's blocks need", w->name,
                       f->name);
    const bool asymmetric = f->ops == &lb_int_format && !f->symmetric;
    if (asymmetric && f->bits == 4 && s.minima_fit)
        *out = LB_DTYPE_Q4_1;
    else if (s.low >= -8 && s.high <= 7)
        *out = LB_DTYPE_Q4_0;
    else if (s.low >= -16 && s.high <= 15)
        *out = LB_DTYPE_Q5_0;
    else if (s.low >= -128 && s.high <= 127)
        *out = LB_DTYPE_Q8_0;
    else
        return lb_fail(err, LB_EUNSUPPORTED,
                       "%s is %s with integers from %d to %d, and GGUF's widest block holds "
                       "-128 to 127",
                       w->name, f->name, s.low, s.high);
    return LB_OK;
}

lb_status lb_gguf_type_for(const lb_weight *weight, lb_dtype *out, lb_error *err)
{
    const lb_format *f = &weight->format;
    const lb_gguf_order *order = f->element ? lb_gguf_order_of(f) : NULL;
    if (lb_export_is_integer(f))
        return type_of_integers(weight, out, err);
    if (f->ops == &lb_k_format) {
        static const lb_dtype types[] = {LB_DTYPE_Q2_K, LB_DTYPE_Q3_K, LB_DTYPE_Q4_K, LB_DTYPE_Q5_K,
                                         LB_DTYPE_Q6_K};
        *out = types[f->bits - 2];
        return LB_OK;
    }
    if (lb_export_is_gguf_block(weight)) { /* it goes out as it came in */
        *out = weight->tensor->dtype;
        return LB_OK;
    }
    if (!order)
        return lb_fail(err, LB_EUNSUPPORTED, "%s is %s, of which GGUF has no type%s", weight->name,
                       lb_export_codes_name(weight), lb_export_advice(weight));
    if (weight->cols % order->elems != 0)
        return lb_fail(err, LB_EUNSUPPORTED, "%s has %zu columns, and a block of GGUF's %s holds %zu%s",
                       weight->name, weight->cols, order->name, order->elems,
                       weight->cols % f->group == 0 ? "; --to compressed-tensors holds it" : "");
    *out = order == &lb_gguf_mxfp4 ? LB_DTYPE_MXFP4 : LB_DTYPE_NVFP4;
    return LB_OK;
}

/* ---- Blocks ------------------------------------------------------------------------------------------ */

/* Element j in the low nibble of byte j, element j + 16 in the high one. */
static void put_nibbles(const int *codes, uint8_t *out)
{
    for (int j = 0; j < BLOCK / 2; j++)
        out[j] = (uint8_t)((codes[j] & 15) | (codes[j + BLOCK / 2] & 15) << 4);
}

static uint8_t *put_integers(lb_dtype type, const int16_t *n, float scale, int zero, uint8_t *out)
{
    int codes[BLOCK];
    const int shift = type == LB_DTYPE_Q4_0 ? 8 : type == LB_DTYPE_Q4_1 ? zero : 16;
    lb_f16_write(scale, out);
    out += 2;
    if (type == LB_DTYPE_Q8_0) {
        for (int i = 0; i < BLOCK; i++)
            out[i] = (uint8_t)(n[i] & 0xff);
        return out + BLOCK;
    }
    for (int i = 0; i < BLOCK; i++)
        codes[i] = n[i] + shift;
    if (type == LB_DTYPE_Q4_1) {
        lb_f16_write(-(scale * (float)zero), out);
        out += 2;
    } else if (type == LB_DTYPE_Q5_0) {
        for (int byte = 0; byte < BLOCK / 8; byte++) {
            out[byte] = 0;
            for (int bit = 0; bit < 8; bit++)
                out[byte] = (uint8_t)(out[byte] | (codes[8 * byte + bit] >> 4 & 1) << bit);
        }
        out += BLOCK / 8;
    }
    put_nibbles(codes, out);
    return out + BLOCK / 2;
}

/* Block formats: their parts in GGUF's order. */
static lb_status reorder(const lb_weight *w, const lb_export_row *row, uint8_t *out, lb_error *err)
{
    lb_format_part sizes[LB_FORMAT_MAX_PARTS];
    uint8_t *parts[LB_FORMAT_MAX_PARTS] = {NULL};
    const unsigned count = w->format.ops->parts(&w->format, w->cols, sizes);
    lb_status st = LB_OK;
    for (unsigned i = 0; i < count; i++)
        LB_GO(lb_alloc_array(&parts[i], sizes[i].row_bytes, 1, w->name, err));
    w->format.ops->pack(&w->format, row->codes, row->params, w->cols, parts);
    LB_GO(lb_gguf_order_pack(lb_gguf_order_of(&w->format), (const uint8_t *const *)parts, w->cols, out, err));
done:
    for (unsigned i = 0; i < count; i++)
        lb_free(parts[i]);
    return st;
}

lb_status lb_gguf_blocks(const lb_weight *weight, lb_dtype type, size_t index, lb_export_row *row,
                         uint8_t *out, lb_error *err)
{
    if (lb_export_is_gguf_block(weight)) {
        const lb_tensor *t = weight->tensor;
        const size_t bytes = weight->cols / lb_dtype_block_elems(type) * lb_dtype_block_bytes(type);
        memcpy(out, t->data + lb_tensor_stored_row(t, index) * bytes, bytes);
        return LB_OK;
    }
    LB_TRY(lb_export_row_read(weight, index, row, err));
    if (type == LB_DTYPE_MXFP4 || type == LB_DTYPE_NVFP4)
        return reorder(weight, row, out, err);
    if (weight->format.ops == &lb_k_format) {
        weight->format.ops->pack(&weight->format, row->codes, row->params, weight->cols, &out);
        return LB_OK;
    }
    const size_t group = weight->format.group ? weight->format.group : weight->cols;
    for (size_t at = 0; at < weight->cols; at += BLOCK)
        out = put_integers(type, row->n + at, row->scales[at / group], row->zeros[at / group], out);
    return LB_OK;
}

void lb_gguf_round_q8_0(const float *values, size_t cols, uint8_t *out)
{
    for (size_t at = 0; at < cols; at += BLOCK, out += 2 + BLOCK) {
        float largest = 0.0f;
        for (size_t i = 0; i < BLOCK; i++)
            largest = fmaxf(largest, fabsf(values[at + i]));
        const float scale = lb_round_to_f16(largest / 127.0f);
        lb_f16_write(scale, out);
        for (size_t i = 0; i < BLOCK; i++) {
            const float q = scale > 0.0f ? rintf(values[at + i] / scale) : 0.0f;
            out[2 + i] = (uint8_t)((int)fmaxf(-127.0f, fminf(127.0f, q)) & 0xff);
        }
    }
}
