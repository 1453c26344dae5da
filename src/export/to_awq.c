/* SPDX-License-Identifier: MIT
 * A Hugging Face folder as AutoAWQ makes them (version "gemm"), 4 bits: with K inputs, N outputs, G groups
 *
 *   qweight  I32 [K, N / 8]    outputs 8c .. 8c + 7 of an input share word c, in which output
 *                              8c + {0,2,4,6,1,3,5,7}[i] has the bits from 4i on
 *   qzeros   I32 [G, N / 8]    likewise, as they are
 *   scales   F16 [G, N]
 *
 * All layers have one group size. Codes of fewer bits are 4-bit codes too. */
#include "export/to_awq.h"

#include <string.h>

#include "export/hf_folder.h"

enum { BITS = 4, IN_WORD = 8 };

typedef struct awq_state {
    bool known;
    size_t group; /* of all layers, and whether all zeros are 8 */
    bool symmetric;
} awq_state;

static lb_status plan(lb_folder *folder, const lb_export_item *item, lb_tensor_out parts[LB_FOLDER_MAX_PARTS],
                      size_t *count, lb_error *err)
{
    awq_state *s = folder->state;
    const lb_weight *w = &item->weight;
    lb_int_scheme scheme;
    LB_TRY(lb_int_scheme_of(w, "AWQ", &scheme, err));
    const size_t group = scheme.group ? scheme.group : w->cols,
                 groups = lb_format_groups(&w->format, w->cols);
    if (scheme.bits > BITS)
        return lb_fail(err, LB_EUNSUPPORTED, "%s is %s, and AWQ has 4 bits; --to gptq holds 8", w->name,
                       w->format.name);
    if (item->which == LB_BLOCK_LINEARS)
        return lb_fail(err, LB_EUNSUPPORTED, "%s is packed, and AWQ packs linear layers of blocks only",
                       w->name);
    if (w->rows % IN_WORD != 0 || w->cols % group != 0)
        return lb_fail(
            err, LB_EUNSUPPORTED,
            "%s is %zu x %zu in groups of %zu, and AWQ needs outputs a multiple of 8 and whole groups; "
            "--to gptq takes short ones",
            w->name, w->rows, w->cols, group);
    if (s->known && s->group != scheme.group)
        return lb_fail(err, LB_EUNSUPPORTED,
                       "%s has groups of %zu, others of %zu, and AWQ has one size for all "
                       "layers; --to gptq has several",
                       w->name, group, s->group);
    LB_TRY(lb_int_check_scales(w, err));
    s->symmetric = (!s->known || s->symmetric) && scheme.symmetric;
    s->group = scheme.group;
    s->known = true;
    parts[0] = (lb_tensor_out){
        .name = ".qweight", .dtype = LB_DTYPE_I32, .rank = 2, .shape = {w->cols, w->rows / IN_WORD}};
    parts[1] = (lb_tensor_out){
        .name = ".qzeros", .dtype = LB_DTYPE_I32, .rank = 2, .shape = {groups, w->rows / IN_WORD}};
    parts[2] =
        (lb_tensor_out){.name = ".scales", .dtype = LB_DTYPE_F16, .rank = 2, .shape = {groups, w->rows}};
    *count = 3;
    return LB_OK;
}

/* Column `at` of codes [rows, stride] -> rows / 8 words. */
static void put_words(const uint8_t *codes, size_t rows, size_t stride, size_t at, uint8_t *out)
{
    static const unsigned order[IN_WORD] = {0, 2, 4, 6, 1, 3, 5, 7};
    for (size_t c = 0; c < rows / IN_WORD; c++) {
        uint32_t word = 0;
        for (unsigned i = 0; i < IN_WORD; i++)
            word |= (uint32_t)codes[(IN_WORD * c + order[i]) * stride + at] << (BITS * i);
        for (unsigned b = 0; b < 4; b++)
            *out++ = (uint8_t)(word >> (8 * b));
    }
}

static lb_status fill(lb_folder *folder, const lb_export_item *item, uint8_t *const *parts, lb_error *err)
{
    lb_int_layer l;
    (void)folder;
    LB_TRY(lb_int_layer_read(&item->weight, BITS, &l, err));
    for (size_t k = 0; k < l.cols; k++)
        put_words(l.codes, l.rows, l.cols, k, parts[0] + k * l.rows / 2);
    for (size_t g = 0; g < l.groups; g++)
        put_words(l.zeros, l.rows, l.groups, g, parts[1] + g * l.rows / 2);
    lb_int_layer_scales_across(&l, (uint16_t *)(void *)parts[2]);
    lb_int_layer_free(&l);
    return LB_OK;
}

static lb_status config(lb_folder *folder, json_t **out, lb_error *err)
{
    const awq_state *s = folder->state;
    json_t *left = json_array();
    if (!s->known) {
        json_decref(left);
        return lb_fail(err, LB_EINVAL,
                       "%s: none of its layers has codes that AWQ holds; --to safetensors writes "
                       "floats",
                       folder->weights->checkpoint.path);
    }
    for (size_t i = 0; i < folder->count; i++) {
        char layer[LB_FOLDER_NAME_BYTES];
        if (folder->packed[i] || folder->items[i]->which == LB_BLOCK_LINEARS)
            continue;
        lb_folder_layer_name(folder->items[i], layer);
        (void)json_array_append_new(left, json_string(layer));
    }
    *out = json_pack("{s:s, s:i, s:I, s:b, s:s, s:o}", "quant_method", "awq", "bits", BITS, "group_size",
                     s->group ? (json_int_t)s->group : (json_int_t)-1, "zero_point", (int)!s->symmetric,
                     "version", "gemm", "modules_to_not_convert", left);
    return LB_OK;
}

lb_status lb_export_awq(const lb_weights *weights, const lb_export_options *options, lb_export_result *result,
                        lb_error *err)
{
    static const lb_folder_kind kind = {
        .name = "AWQ", .plan = plan, .fill = fill, .config = config, .torch_dtype = "float16"};
    awq_state state = {0};
    return lb_folder_export(weights, &kind, &state, options, result, err);
}
