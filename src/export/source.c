/* SPDX-License-Identifier: MIT */
#include "export/source.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/half.h"
#include "formats/block_format.h"
#include "formats/element.h"
#include "formats/int.h"
#include "model/foreign.h"

/* ---- The list ---------------------------------------------------------------------------------------- */

static lb_status add(const lb_weights *weights, lb_export_list *list, const char *name, size_t rows,
                     size_t cols, bool matrix, lb_error *err)
{
    lb_export_item *item = &list->items[list->count];
    *item = (lb_export_item){.matrix = matrix, .which = LB_BLOCK_LINEARS};
    LB_TRY(lb_weights_find(weights, name, rows, cols, &item->weight, err));
    if (matrix)
        LB_TRY(lb_foreign_from_gguf(&item->weight, err));
    list->count++;
    return LB_OK;
}

static size_t rotary_heads(const lb_config *c, const char *name)
{
    if (strstr(name, ".q_proj."))
        return c->heads;
    return strstr(name, ".k_proj.") ? c->kv_heads : 0;
}

static lb_status add_block(const lb_weights *weights, lb_export_list *list, size_t layer, lb_error *err)
{
    const lb_config *c = &weights->config;
    char name[128];
    size_t rows, cols, n;
    for (size_t i = 0; lb_block_vector(c, layer, i, name, sizeof name, &n); i++) {
        LB_TRY(add(weights, list, name, 1, n, false, err));
        list->items[list->count - 1].heads = rotary_heads(c, name);
    }
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        lb_linear_shape(c, which, &rows, &cols);
        lb_linear_name(layer, which, name, sizeof name);
        memcpy(name + strlen(name), ".weight", sizeof ".weight");
        LB_TRY(add(weights, list, name, rows, cols, true, err));
        lb_export_item *item = &list->items[list->count - 1];
        item->layer = layer;
        item->which = which;
        item->heads = rotary_heads(c, name);
    }
    return LB_OK;
}

lb_status lb_export_list_make(const lb_weights *weights, lb_export_list *out, lb_error *err)
{
    enum { BLOCK_VECTORS = 11, OUTER = 3 };
    const lb_config *c = &weights->config;
    lb_export_list list = {0};
    lb_status st;
    LB_TRY(lb_alloc_array(&list.items, c->layers * (LB_BLOCK_LINEARS + BLOCK_VECTORS) + OUTER,
                          sizeof *list.items, "the list of tensors", err));
    LB_GO(add(weights, &list, "model.embed_tokens.weight", c->vocab, c->hidden, true, err));
    for (size_t layer = 0; layer < c->layers; layer++)
        LB_GO(add_block(weights, &list, layer, err));
    LB_GO(add(weights, &list, "model.norm.weight", 1, c->hidden, false, err));
    if (!c->tied_embeddings)
        LB_GO(add(weights, &list, "lm_head.weight", c->vocab, c->hidden, true, err));
    *out = list;
    return LB_OK;
done:
    lb_export_list_free(&list);
    return st;
}

void lb_export_list_free(lb_export_list *list)
{
    lb_free(list->items);
    *list = (lb_export_list){0};
}

/* ---- Rows -------------------------------------------------------------------------------------------- */

bool lb_export_has_codes(const lb_weight *weight)
{
    return !lb_format_is_float(&weight->format) || weight->foreign.kind != LB_PACKED_HERE ||
           lb_export_is_gguf_block(weight);
}

bool lb_export_is_gguf_block(const lb_weight *weight)
{
    return weight->tensor && lb_dtype_block_elems(weight->tensor->dtype) > 1;
}

const char *lb_export_codes_name(const lb_weight *weight)
{
    if (!lb_format_is_float(&weight->format))
        return weight->format.name;
    if (lb_export_is_gguf_block(weight))
        return lb_dtype_name(weight->tensor->dtype);
    return weight->foreign.order ? "integers with columns in an order of their own"
                                 : "integers with scales or zeros that no format of lowbit has";
}

const char *lb_export_advice(const lb_weight *weight)
{
    const lb_format *f = &weight->format;
    if (f->element == &lb_e2m1 && f->rule != LB_SCALE_EXACT)
        return "; --to compressed-tensors and gguf hold it";
    return f->element == &lb_e4m3 && f->rule != LB_SCALE_EXACT ? "; --to compressed-tensors holds it" : "";
}

bool lb_export_is_integer(const lb_format *format)
{
    return format->ops == &lb_int_format || (format->element && format->element->twos_complement);
}

void lb_export_integers(const lb_format *format, const uint8_t *codes, const float *params, size_t cols,
                        int16_t *n, float *scales, uint8_t *zeros)
{
    const bool plain = format->ops == &lb_int_format;
    const int half = 1 << (format->bits - 1);
    for (size_t g = 0, at = 0; g < lb_format_groups(format, cols); g++) {
        const float *p = params + g * format->params;
        const size_t end = at + lb_format_group_size(format, cols, g);
        const int zero = plain ? (int)p[LB_INT_ZERO] : half;
        scales[g] = p[0];
        if (zeros)
            zeros[g] = (uint8_t)zero;
        for (; at < end; at++)
            n[at] = (int16_t)(plain ? codes[at] - zero : (int)lb_element_decode(format->element, codes[at]));
    }
}

lb_status lb_export_row_make(const lb_weight *weight, lb_export_row *out, lb_error *err)
{
    const bool coded = !lb_format_is_float(&weight->format);
    const size_t groups = coded ? lb_format_groups(&weight->format, weight->cols) : 0, cols = weight->cols;
    *out = (lb_export_row){
        .codes = lb_alloc(cols, 1),
        .zeros = lb_alloc(groups, 1),
        .params = lb_alloc(groups * weight->format.params, sizeof *out->params),
        .scales = lb_alloc(groups, sizeof *out->scales),
        .values = lb_alloc(cols, sizeof *out->values),
        .n = lb_alloc(cols, sizeof *out->n),
    };
    if (out->codes && out->zeros && out->params && out->scales && out->values && out->n)
        return LB_OK;
    lb_export_row_free(out);
    return lb_fail(err, LB_ENOMEM, "%s: no memory for one row", weight->name);
}

void lb_export_row_free(lb_export_row *row)
{
    lb_free(row->codes);
    lb_free(row->zeros);
    lb_free(row->params);
    lb_free(row->scales);
    lb_free(row->values);
    lb_free(row->n);
    *row = (lb_export_row){0};
}

lb_status lb_export_row_read(const lb_weight *weight, size_t index, lb_export_row *row, lb_error *err)
{
    LB_TRY(lb_weight_unpack_row(weight, index, row->codes, row->params, err));
    if (lb_export_is_integer(&weight->format))
        lb_export_integers(&weight->format, row->codes, row->params, weight->cols, row->n, row->scales,
                           row->zeros);
    return LB_OK;
}

/* ---- Floats ------------------------------------------------------------------------------------------ */

lb_status lb_export_dtype(const char *name, lb_dtype fallback, lb_dtype *out, lb_error *err)
{
    static const struct {
        const char *name;
        lb_dtype dtype;
    } names[] = {
        {"f32", LB_DTYPE_F32}, {"f16", LB_DTYPE_F16}, {"bf16", LB_DTYPE_BF16}, {"q8_0", LB_DTYPE_Q8_0}};
    *out = fallback;
    for (size_t i = 0; name && i < sizeof names / sizeof *names; i++) {
        if (strcmp(name, names[i].name) == 0) {
            *out = names[i].dtype;
            return LB_OK;
        }
    }
    if (!name)
        return LB_OK;
    return lb_fail(err, LB_EINVAL, "dtype \"%.40s\" is not known: there are f32, f16, bf16 and q8_0", name);
}

lb_dtype lb_export_stored_dtype(const lb_weight *weight)
{
    const lb_tensor *t = weight->tensor;
    if (t && (t->dtype == LB_DTYPE_F32 || t->dtype == LB_DTYPE_F16 || t->dtype == LB_DTYPE_BF16))
        return t->dtype;
    return LB_DTYPE_F16;
}

lb_status lb_export_narrow(const char *name, const float *values, size_t n, lb_dtype dtype, uint8_t *out,
                           lb_error *err)
{
    for (size_t i = 0; i < n; i++) {
        const float x = values[i];
        if (dtype == LB_DTYPE_F32) {
            const uint32_t bits = lb_float_bits(x);
            for (unsigned b = 0; b < 4; b++)
                *out++ = (uint8_t)(bits >> (8 * b));
            continue;
        }
        if (dtype == LB_DTYPE_F16 && fabsf(x) > 65504.0f)
            return lb_fail(err, LB_EINVAL, "%s: the value %g does not fit f16; --dtype bf16 holds it", name,
                           (double)x);
        const uint16_t half = dtype == LB_DTYPE_F16 ? lb_f16_from_float(x) : lb_bf16_from_float(x);
        *out++ = (uint8_t)(half & 0xff);
        *out++ = (uint8_t)(half >> 8);
    }
    return LB_OK;
}

/* ---- Counting ---------------------------------------------------------------------------------------- */

void lb_export_count(lb_export_tally *tally, const char *type)
{
    size_t i = 0;
    while (i < tally->count && strcmp(tally->rows[i].type, type) != 0)
        i++;
    if (i == sizeof tally->rows / sizeof *tally->rows)
        return;
    if (i == tally->count)
        tally->rows[tally->count++].type = type;
    tally->rows[i].count++;
}

void lb_export_tell(const lb_export_tally *tally, char *out, size_t out_bytes)
{
    size_t used = 0;
    *out = '\0';
    for (size_t i = 0; i < tally->count && used < out_bytes; i++)
        used += (size_t)snprintf(out + used, out_bytes - used, "%s%zu x %s", i ? ", " : "",
                                 tally->rows[i].count, tally->rows[i].type);
}
