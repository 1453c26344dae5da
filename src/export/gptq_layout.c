/* SPDX-License-Identifier: MIT */
#include "export/gptq_layout.h"

#include <string.h>

#include "base/alloc.h"
#include "formats/bits.h"

bool lb_gptq_is_copied(const lb_gptq_layout *layout, const lb_weight *weight)
{
    const lb_foreign_layer *f = &weight->foreign;
    return layout->has_g_idx && f->kind == LB_PACKED_GPTQ && lb_format_is_float(&weight->format) &&
           f->zero_offset == layout->zeros_minus_one;
}

lb_status lb_gptq_scheme(const lb_gptq_layout *layout, const lb_weight *weight, lb_int_scheme *out,
                         lb_error *err)
{
    if (lb_gptq_is_copied(layout, weight)) {
        *out = (lb_int_scheme){.bits = weight->foreign.bits, .group = weight->foreign.group};
        return LB_OK;
    }
    if (lb_format_is_float(&weight->format) && weight->foreign.kind == LB_PACKED_GPTQ && layout->has_g_idx)
        return lb_fail(err, LB_EUNSUPPORTED, "%s is %s, which go out only as they came in: with --zeros %s",
                       weight->name, lb_export_codes_name(weight), weight->foreign.zero_offset ? "v1" : "v2");
    LB_TRY(lb_int_scheme_of(weight, layout->tool, out, err));
    if (!layout->any_bits && out->bits > 4)
        out->bits = 8;
    return LB_OK;
}

json_t *lb_gptq_scheme_json(const lb_int_scheme *scheme)
{
    return json_pack("{s:i, s:I, s:b}", "bits", (int)scheme->bits, "group_size",
                     scheme->group ? (json_int_t)scheme->group : (json_int_t)-1, "sym",
                     (int)scheme->symmetric);
}

/* Version 1 stores a zero less one, which 0 is not. */
static lb_status check_zeros(const lb_weight *w, lb_error *err)
{
    lb_export_row row;
    LB_TRY(lb_export_row_make(w, &row, err));
    lb_status st = LB_OK;
    for (size_t i = 0; st == LB_OK && i < w->rows; i++) {
        st = lb_export_row_read(w, i, &row, err);
        for (size_t g = 0; st == LB_OK && g < lb_format_groups(&w->format, w->cols); g++)
            if (row.zeros[g] == 0)
                st =
                    lb_fail(err, LB_EUNSUPPORTED,
                            "%s, row %zu: a zero point of 0, which version 1 of the GPTQ layout cannot hold; "
                            "--zeros v2 can",
                            w->name, i);
    }
    lb_export_row_free(&row);
    return st;
}

/* Tensors of another tool, as they are. */
static size_t plan_copy(const lb_weight *w, lb_tensor_out parts[LB_FOLDER_MAX_PARTS])
{
    static char *const names[] = {".qweight", ".qzeros", ".scales", ".g_idx"};
    for (unsigned i = 0; i < w->part_count; i++) {
        const lb_tensor *t = w->parts[i];
        parts[i] = (lb_tensor_out){.name = names[i], .dtype = t->dtype, .rank = t->rank};
        memcpy(parts[i].shape, t->shape, sizeof t->shape);
    }
    return w->part_count;
}

lb_status lb_gptq_plan(lb_folder *folder, const lb_export_item *item,
                       lb_tensor_out parts[LB_FOLDER_MAX_PARTS], size_t *count, lb_error *err)
{
    const lb_gptq_layout *layout = folder->state;
    const lb_weight *w = &item->weight;
    lb_int_scheme scheme;
    LB_TRY(lb_gptq_scheme(layout, w, &scheme, err));
    if (lb_gptq_is_copied(layout, w)) {
        *count = plan_copy(w, parts);
        return LB_OK;
    }
    if (item->which == LB_BLOCK_LINEARS)
        return lb_fail(err, LB_EUNSUPPORTED, "%s is packed, and %s packs linear layers of blocks only",
                       w->name, layout->tool);
    if (w->cols % 32 != 0 || w->rows % 32 != 0)
        return lb_fail(err, LB_EUNSUPPORTED, "%s is %zu x %zu, and %s packs multiples of 32", w->name,
                       w->rows, w->cols, layout->tool);
    /* Without g_idx a reader repeats every scale as often as a whole group has columns. */
    if (!layout->has_g_idx && scheme.group && w->cols % scheme.group != 0)
        return lb_fail(
            err, LB_EUNSUPPORTED,
            "%s has %zu columns in groups of %zu, and %s needs whole groups; --to gptq takes short ones",
            w->name, w->cols, scheme.group, layout->tool);
    LB_TRY(lb_int_check_scales(w, err));
    if (layout->zeros_minus_one && !scheme.symmetric)
        LB_TRY(check_zeros(w, err));
    const size_t groups = lb_format_groups(&w->format, w->cols), bits = scheme.bits;
    parts[0] = (lb_tensor_out){
        .name = ".qweight", .dtype = LB_DTYPE_I32, .rank = 2, .shape = {w->cols * bits / 32, w->rows}};
    parts[1] = (lb_tensor_out){
        .name = ".qzeros", .dtype = LB_DTYPE_I32, .rank = 2, .shape = {groups, w->rows * bits / 32}};
    parts[2] =
        (lb_tensor_out){.name = ".scales", .dtype = LB_DTYPE_F16, .rank = 2, .shape = {groups, w->rows}};
    parts[3] = (lb_tensor_out){.name = ".g_idx", .dtype = LB_DTYPE_I32, .rank = 1, .shape = {w->cols}};
    *count = layout->has_g_idx ? 4 : 3;
    return LB_OK;
}

/* A stream of bytes as words down a column: word i at out[4 * i * stride]. */
static void put_column(const uint8_t *bytes, size_t words, size_t stride, uint8_t *out)
{
    for (size_t i = 0; i < words; i++)
        memcpy(out + 4 * i * stride, bytes + 4 * i, 4);
}

lb_status lb_gptq_fill(lb_folder *folder, const lb_export_item *item, uint8_t *const *parts, lb_error *err)
{
    const lb_gptq_layout *layout = folder->state;
    const lb_weight *w = &item->weight;
    lb_int_scheme scheme;
    lb_int_layer l = {0};
    uint8_t *stream = NULL, *zeros = NULL;
    lb_status st;
    for (unsigned i = 0; lb_gptq_is_copied(layout, w) && i < w->part_count; i++)
        memcpy(parts[i], w->parts[i]->data, w->parts[i]->bytes);
    if (lb_gptq_is_copied(layout, w))
        return LB_OK;
    LB_GO(lb_gptq_scheme(layout, w, &scheme, err));
    LB_GO(lb_int_layer_read(w, scheme.bits, &l, err));
    LB_GO(lb_alloc_array(&stream, lb_bits_bytes(l.cols, l.bits), 1, w->name, err));
    LB_GO(lb_alloc_array(&zeros, l.rows, 1, w->name, err));
    for (size_t r = 0; r < l.rows; r++) {
        lb_bits_pack(l.codes + r * l.cols, l.cols, l.bits, stream);
        put_column(stream, l.cols * l.bits / 32, l.rows, parts[0] + 4 * r);
    }
    for (size_t g = 0; g < l.groups; g++) {
        for (size_t r = 0; r < l.rows; r++)
            zeros[r] = (uint8_t)(l.zeros[r * l.groups + g] - layout->zeros_minus_one);
        lb_bits_pack(zeros, l.rows, l.bits, parts[1] + g * lb_bits_bytes(l.rows, l.bits));
    }
    lb_int_layer_scales_across(&l, (uint16_t *)(void *)parts[2]);
    for (size_t k = 0; layout->has_g_idx && k < l.cols; k++) {
        const int32_t group = (int32_t)(k / l.group);
        memcpy(parts[3] + 4 * k, &group, 4);
    }
done:
    lb_free(stream);
    lb_free(zeros);
    lb_int_layer_free(&l);
    return st;
}
