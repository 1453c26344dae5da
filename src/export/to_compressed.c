/* SPDX-License-Identifier: MIT
 * A Hugging Face folder as the compressed-tensors library reads it. With N outputs, K inputs, G groups, b
 * bits:
 *
 *   pack-quantized         weight_packed I32 [N, ceil(K b / 32)]: of each output a stream of codes, lowest bit
 *   (integers)             first; weight_scale F16 [N, G]; weight_shape I64 [2]; where zeros are not 2^(b-1)
 *                          weight_zero_point I32 [ceil(N b / 32), G], of each group a stream along N
 *   naive-quantized        weight I8 [N, K], weight_scale F16 [N, G], weight_zero_point I8 [N, G]; integers of
 *                          8 bits, all less 128
 *   mxfp4-pack-quantized   weight_packed U8 [N, K / 2], even columns in low nibbles; weight_scale U8
 *                          [N, K / 32], E8M0
 *   nvfp4-pack-quantized   the same with weight_scale F8_E4M3 [N, K / 16], and weight_global_scale F32 [1], the
 *                          inverse of what scales are multiplied by
 *   mxfp8-quantized        weight F8_E4M3 [N, K], weight_scale U8 [N, K / 32]
 *
 * A float has not always an inverse whose inverse it is: where the global scale does not lead back, the
 * number itself is in quantization_config.lowbit.tensor_scales. */
#include "export/to_compressed.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/half.h"
#include "export/hf_folder.h"
#include "formats/bits.h"
#include "formats/block_format.h"

typedef enum scheme_kind { PACKED, NAIVE, MXFP4, NVFP4, MXFP8 } scheme_kind;

static const char *const format_names[] = {"pack-quantized", "naive-quantized", "mxfp4-pack-quantized",
                                           "nvfp4-pack-quantized", "mxfp8-quantized"};

static lb_status kind_of(const lb_folder *folder, const lb_weight *w, scheme_kind *out, lb_error *err)
{
    const lb_format *f = &w->format;
    if (lb_export_is_integer(f))
        *out = folder->options->naive && f->bits == 8 ? NAIVE : PACKED;
    else if (f->element == &lb_e2m1 && f->rule == LB_SCALE_TWO_LEVEL)
        *out = NVFP4;
    else if (f->element == &lb_e2m1 && f->rule != LB_SCALE_EXACT)
        *out = MXFP4;
    else if (f->element == &lb_e4m3 && f->rule != LB_SCALE_EXACT)
        *out = MXFP8;
    else
        return lb_fail(err, LB_EUNSUPPORTED, "%s is %s, which compressed-tensors has no format for", w->name,
                       lb_export_codes_name(w));
    return LB_OK;
}

static size_t words(size_t count, unsigned bits)
{
    return (count * bits + 31) / 32;
}

static void plan_integers(const lb_weight *w, scheme_kind kind, lb_tensor_out *parts, size_t *count)
{
    const size_t groups = lb_format_groups(&w->format, w->cols);
    const unsigned bits = w->format.bits;
    lb_int_scheme scheme = {.symmetric = true};
    (void)lb_int_scheme_of(w, "", &scheme, NULL);
    parts[(*count)++] =
        kind == NAIVE
            ? (lb_tensor_out){.name = ".weight", .dtype = LB_DTYPE_I8, .rank = 2, .shape = {w->rows, w->cols}}
            : (lb_tensor_out){.name = ".weight_packed",
                              .dtype = LB_DTYPE_I32,
                              .rank = 2,
                              .shape = {w->rows, words(w->cols, bits)}};
    parts[(*count)++] = (lb_tensor_out){
        .name = ".weight_scale", .dtype = LB_DTYPE_F16, .rank = 2, .shape = {w->rows, groups}};
    if (kind == PACKED)
        parts[(*count)++] =
            (lb_tensor_out){.name = ".weight_shape", .dtype = LB_DTYPE_I64, .rank = 1, .shape = {2}};
    if (scheme.symmetric)
        return;
    parts[(*count)++] = kind == NAIVE ? (lb_tensor_out){.name = ".weight_zero_point",
                                                        .dtype = LB_DTYPE_I8,
                                                        .rank = 2,
                                                        .shape = {w->rows, groups}}
                                      : (lb_tensor_out){.name = ".weight_zero_point",
                                                        .dtype = LB_DTYPE_I32,
                                                        .rank = 2,
                                                        .shape = {words(w->rows, bits), groups}};
}

static lb_status plan(lb_folder *folder, const lb_export_item *item, lb_tensor_out parts[LB_FOLDER_MAX_PARTS],
                      size_t *count, lb_error *err)
{
    const lb_weight *w = &item->weight;
    const size_t group = w->format.group ? w->format.group : w->cols,
                 groups = lb_format_groups(&w->format, w->cols);
    scheme_kind kind;
    LB_TRY(kind_of(folder, w, &kind, err));
    if (item->which == LB_BLOCK_LINEARS)
        return lb_fail(err, LB_EUNSUPPORTED,
                       "%s is packed, and this export packs linear layers of blocks only", w->name);
    if (w->cols % group != 0)
        return lb_fail(err, LB_EUNSUPPORTED,
                       "%s has %zu columns in groups of %zu, and compressed-tensors needs whole groups%s",
                       w->name, w->cols, group,
                       kind <= NAIVE && w->cols % 32 == 0 ? "; --to gptq takes short ones" : "");
    *count = 0;
    if (kind == PACKED || kind == NAIVE) {
        LB_TRY(lb_int_check_scales(w, err));
        plan_integers(w, kind, parts, count);
        return LB_OK;
    }
    parts[0] =
        kind == MXFP8
            ? (lb_tensor_out){.name = ".weight",
                              .dtype = LB_DTYPE_F8_E4M3,
                              .rank = 2,
                              .shape = {w->rows, w->cols}}
            : (lb_tensor_out){
                  .name = ".weight_packed", .dtype = LB_DTYPE_U8, .rank = 2, .shape = {w->rows, w->cols / 2}};
    parts[1] = (lb_tensor_out){.name = ".weight_scale",
                               .dtype = kind == NVFP4 ? LB_DTYPE_F8_E4M3 : LB_DTYPE_U8,
                               .rank = 2,
                               .shape = {w->rows, groups}};
    parts[2] =
        (lb_tensor_out){.name = ".weight_global_scale", .dtype = LB_DTYPE_F32, .rank = 1, .shape = {1}};
    *count = kind == NVFP4 ? 3 : 2;
    return LB_OK;
}

/* ---- Bytes ------------------------------------------------------------------------------------------- */

/* The number whose inverse is `scale`, or comes closest. */
static float inverse_of(float scale)
{
    const float first = 1.0f / scale;
    for (int step = -2; step <= 2; step++) {
        const float near = lb_float_from_bits((uint32_t)((int32_t)lb_float_bits(first) + step));
        if (1.0f / near == scale)
            return near;
    }
    return first;
}

static void fill_naive(const lb_int_layer *l, uint8_t *const *parts, uint8_t *zeros)
{
    for (size_t i = 0; i < l->rows * l->cols; i++)
        parts[0][i] = (uint8_t)(l->codes[i] - 128);
    for (size_t i = 0; zeros && i < l->rows * l->groups; i++)
        zeros[i] = (uint8_t)(l->zeros[i] - 128);
}

static lb_status fill_packed(const lb_int_layer *l, const char *name, uint8_t *const *parts, uint8_t *zeros,
                             lb_error *err)
{
    const size_t row_bytes = 4 * words(l->cols, l->bits), column = 4 * words(l->rows, l->bits);
    uint8_t *stream, *zero;
    memset(parts[0], 0, l->rows * row_bytes);
    for (size_t r = 0; r < l->rows; r++)
        lb_bits_pack(l->codes + r * l->cols, l->cols, l->bits, parts[0] + r * row_bytes);
    for (unsigned b = 0; b < 16; b++)
        parts[2][b] = (uint8_t)((uint64_t)(b < 8 ? l->rows : l->cols) >> (8 * (b % 8)));
    if (!zeros)
        return LB_OK;
    stream = lb_alloc_zero(column, 1);
    zero = lb_alloc(l->rows, 1);
    for (size_t g = 0; stream && zero && g < l->groups; g++) {
        for (size_t r = 0; r < l->rows; r++)
            zero[r] = l->zeros[r * l->groups + g];
        lb_bits_pack(zero, l->rows, l->bits, stream);
        for (size_t i = 0; i < column / 4; i++)
            memcpy(zeros + 4 * (i * l->groups + g), stream + 4 * i, 4);
    }
    const bool done = stream && zero;
    lb_free(stream);
    lb_free(zero);
    return done ? LB_OK : lb_fail(err, LB_ENOMEM, "%s: no memory for its zero points", name);
}

static lb_status fill_integers(const lb_weight *w, scheme_kind kind, uint8_t *const *parts, lb_error *err)
{
    lb_int_layer l;
    lb_status st = LB_OK;
    LB_TRY(lb_int_layer_read(w, w->format.bits, &l, err));
    memcpy(parts[1], l.scales, l.rows * l.groups * sizeof *l.scales);
    if (kind == NAIVE)
        fill_naive(&l, parts, parts[2]);
    else
        st = fill_packed(&l, w->name, parts, parts[3], err);
    lb_int_layer_free(&l);
    return st;
}

/* The parts of a block format lie as they do here. */
static lb_status fill(lb_folder *folder, const lb_export_item *item, uint8_t *const *parts, lb_error *err)
{
    const lb_weight *w = &item->weight;
    lb_format_part sizes[LB_FORMAT_MAX_PARTS];
    lb_export_row row;
    scheme_kind kind;
    LB_TRY(kind_of(folder, w, &kind, err));
    if (kind == PACKED || kind == NAIVE)
        return fill_integers(w, kind, parts, err);
    (void)w->format.ops->parts(&w->format, w->cols, sizes);
    LB_TRY(lb_export_row_make(w, &row, err));
    lb_status st = LB_OK;
    for (size_t r = 0; st == LB_OK && r < w->rows; r++) {
        uint8_t *at[] = {parts[0] + r * sizes[0].row_bytes, parts[1] + r * sizes[1].row_bytes};
        st = lb_export_row_read(w, r, &row, err);
        if (st == LB_OK)
            w->format.ops->pack(&w->format, row.codes, row.params, w->cols, at);
    }
    lb_export_row_free(&row);
    if (st == LB_OK && kind == NVFP4) {
        const float global = inverse_of(w->format.tensor_scale);
        st = lb_export_narrow(w->name, &global, 1, LB_DTYPE_F32, parts[2], err);
    }
    return st;
}

/* ---- config.json ------------------------------------------------------------------------------------- */

static json_t *weights_json(const lb_weight *w, scheme_kind kind)
{
    const lb_format *f = &w->format;
    lb_int_scheme s = {.bits = f->bits, .group = f->group, .symmetric = true};
    const bool floats = kind >= MXFP4;
    if (!floats)
        (void)lb_int_scheme_of(w, "", &s, NULL);
    json_t *group = s.group ? json_integer((json_int_t)s.group) : json_null();
    const char *strategy = kind == NVFP4 ? "tensor_group" : s.group ? "group" : "channel";
    json_t *json =
        json_pack("{s:i, s:s, s:b, s:s, s:o, s:b, s:n, s:s, s:{}}", "num_bits", (int)s.bits, "type",
                  floats ? "float" : "int", "symmetric", (int)s.symmetric, "strategy", strategy, "group_size",
                  group, "dynamic", 0, "actorder", "observer", "minmax", "observer_kwargs");
    if (json && floats)
        (void)json_object_set_new(json, "scale_dtype",
                                  json_string(kind == NVFP4 ? "torch.float8_e4m3fn" : "torch.uint8"));
    return json;
}

static bool same_group(const lb_weight *a, const lb_weight *b)
{
    return strcmp(a->format.name, b->format.name) == 0;
}

/* Layers of one format are one group of the configuration. */
static lb_status add_group(const lb_folder *folder, size_t first, size_t index, json_t *groups, lb_error *err)
{
    const lb_export_item *leader = lb_folder_packed_item(folder, first), *item;
    char layer[LB_FOLDER_NAME_BYTES], key[32];
    json_t *targets = json_array();
    scheme_kind kind = PACKED;
    (void)kind_of(folder, &leader->weight, &kind, NULL);
    for (size_t i = first; (item = lb_folder_packed_item(folder, i)) != NULL; i++) {
        if (!same_group(&leader->weight, &item->weight))
            continue;
        lb_folder_layer_name(item, layer);
        (void)json_array_append_new(targets, json_string(layer));
    }
    snprintf(key, sizeof key, "group_%zu", index);
    json_t *group = json_pack("{s:o, s:o, s:n, s:n, s:s}", "targets", targets, "weights",
                              weights_json(&leader->weight, kind), "input_activations", "output_activations",
                              "format", format_names[kind]);
    return json_object_set_new(groups, key, group) == 0
               ? LB_OK
               : lb_fail(err, LB_ENOMEM, "no memory for a configuration");
}

static bool is_first_of_group(const lb_folder *folder, size_t index)
{
    const lb_export_item *item = lb_folder_packed_item(folder, index);
    for (size_t i = 0; i < index; i++) {
        if (same_group(&lb_folder_packed_item(folder, i)->weight, &item->weight))
            return false;
    }
    return true;
}

static json_t *list_ignored(const lb_folder *folder)
{
    json_t *ignored = json_array();
    for (size_t i = 0; i < folder->count; i++) {
        char layer[LB_FOLDER_NAME_BYTES];
        const bool head = strcmp(folder->items[i]->weight.name, "lm_head.weight") == 0;
        if (folder->packed[i] || (folder->items[i]->which == LB_BLOCK_LINEARS && !head))
            continue;
        lb_folder_layer_name(folder->items[i], layer);
        (void)json_array_append_new(ignored, json_string(layer));
    }
    if (folder->weights->config.tied_embeddings)
        (void)json_array_append_new(ignored, json_string("lm_head"));
    return ignored;
}

/* {"tensor_scales": {layer: number}} where an inverse does not lead back. */
static json_t *list_scales(const lb_folder *folder)
{
    json_t *scales = json_object();
    const lb_export_item *item;
    for (size_t i = 0; (item = lb_folder_packed_item(folder, i)) != NULL; i++) {
        const float scale = item->weight.format.tensor_scale;
        char layer[LB_FOLDER_NAME_BYTES];
        if (!lb_format_has_tensor_scale(&item->weight.format) || 1.0f / inverse_of(scale) == scale)
            continue;
        lb_folder_layer_name(item, layer);
        (void)json_object_set_new(scales, layer, json_real((double)scale));
    }
    return json_pack("{s:o}", "tensor_scales", scales);
}

static lb_status config(lb_folder *folder, json_t **out, lb_error *err)
{
    const lb_export_item *first = lb_folder_packed_item(folder, 0);
    json_t *groups = json_object();
    scheme_kind kind = PACKED;
    size_t count = 0;
    lb_status st = LB_OK;
    if (!first)
        LB_GO(lb_fail(err, LB_EINVAL,
                      "%s: none of its layers has codes that compressed-tensors holds; --to safetensors "
                      "writes floats",
                      folder->weights->checkpoint.path));
    LB_GO(kind_of(folder, &first->weight, &kind, err));
    const char *format = format_names[kind];
    for (size_t i = 0; lb_folder_packed_item(folder, i); i++) {
        if (!is_first_of_group(folder, i))
            continue;
        LB_GO(add_group(folder, i, count++, groups, err));
        LB_GO(kind_of(folder, &lb_folder_packed_item(folder, i)->weight, &kind, err));
        if (strcmp(format, format_names[kind]) != 0)
            format = "mixed-precision";
    }
    *out = json_pack("{s:s, s:s, s:s, s:O, s:o, s:n, s:n, s:o}", "quant_method", "compressed-tensors",
                     "format", format, "quantization_status", "compressed", "config_groups", groups, "ignore",
                     list_ignored(folder), "kv_cache_scheme", "global_compression_ratio", "lowbit",
                     list_scales(folder));
done:
    json_decref(groups);
    return st;
}

lb_status lb_export_compressed(const lb_weights *weights, const lb_export_options *options,
                               lb_export_result *result, lb_error *err)
{
    static const lb_folder_kind kind = {
        .name = "compressed-tensors", .plan = plan, .fill = fill, .config = config, .torch_dtype = "float16"};
    return lb_folder_export(weights, &kind, NULL, options, result, err);
}
