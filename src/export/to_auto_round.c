/* SPDX-License-Identifier: MIT
 * A Hugging Face folder as Intel's AutoRound makes them: the tensors of gptq_layout.h without g_idx.
 * Symmetric layers of 2, 3, 4 and 8 bits are "auto_round:auto_gptq", whose zeros are stored less one; all
 * others are "auto_round", whose zeros are stored as they are. Layers that differ are listed under
 * "extra_config". */
#include "export/to_auto_round.h"

#include <string.h>

#include "export/gptq_layout.h"

/* Whether all layers fit the older layout; a folder has one. */
static bool is_old(const lb_weights *weights)
{
    lb_export_list list;
    bool old = true;
    if (lb_export_list_make(weights, &list, NULL) != LB_OK)
        return false;
    for (size_t i = 0; i < list.count; i++) {
        lb_int_scheme s;
        const lb_weight *w = &list.items[i].weight;
        if (lb_export_has_codes(w) && lb_int_scheme_of(w, "", &s, NULL) == LB_OK)
            old = old && s.symmetric && (s.bits <= 4 || s.bits == 8);
    }
    lb_export_list_free(&list);
    return old;
}

static lb_status add_layers(lb_folder *folder, const lb_int_scheme *common, json_t *extra, lb_error *err)
{
    const lb_gptq_layout *layout = folder->state;
    for (size_t i = 0; i < folder->count; i++) {
        const lb_export_item *item = folder->items[i];
        lb_int_scheme s = {.bits = 16, .symmetric = true};
        char layer[LB_FOLDER_NAME_BYTES];
        if (folder->part[i] != 0 || item->which == LB_BLOCK_LINEARS)
            continue;
        if (folder->packed[i])
            LB_TRY(lb_gptq_scheme(layout, &item->weight, &s, err));
        if (s.bits == common->bits && s.group == common->group && s.symmetric == common->symmetric)
            continue;
        lb_folder_layer_name(item, layer);
        json_t *entry = folder->packed[i] ? lb_gptq_scheme_json(&s)
                                          : json_pack("{s:i, s:s}", "bits", 16, "data_type", "float");
        (void)json_object_set_new(extra, layer, entry);
    }
    return LB_OK;
}

static lb_status config(lb_folder *folder, json_t **out, lb_error *err)
{
    const lb_gptq_layout *layout = folder->state;
    const lb_export_item *first = lb_folder_packed_item(folder, 0);
    lb_int_scheme common;
    if (!first)
        return lb_fail(err, LB_EINVAL,
                       "%s: none of its layers has codes that AutoRound holds; --to safetensors writes "
                       "floats",
                       folder->weights->checkpoint.path);
    LB_TRY(lb_gptq_scheme(layout, &first->weight, &common, err));
    json_t *json = lb_gptq_scheme_json(&common), *extra = json_object();
    json_t *more =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:b}", "quant_method", "auto-round", "packing_format",
                  layout->zeros_minus_one ? "auto_round:auto_gptq" : "auto_round", "data_type", "int",
                  "block_name_to_quantize", "model.layers", "provider", "lowbit", "quant_lm_head", 0);
    lb_status st = json && extra && more && json_object_update(json, more) == 0
                       ? add_layers(folder, &common, extra, err)
                       : LB_ENOMEM;
    if (st == LB_OK && json_object_size(extra) > 0)
        (void)json_object_set(json, "extra_config", extra);
    json_decref(extra);
    json_decref(more);
    if (st == LB_OK)
        *out = json;
    else
        json_decref(json);
    return st == LB_ENOMEM ? lb_fail(err, LB_ENOMEM, "no memory for a configuration") : st;
}

lb_status lb_export_auto_round(const lb_weights *weights, const lb_export_options *options,
                               lb_export_result *result, lb_error *err)
{
    static const lb_folder_kind kind = {.name = "AutoRound",
                                        .plan = lb_gptq_plan,
                                        .fill = lb_gptq_fill,
                                        .config = config,
                                        .torch_dtype = "float16"};
    const bool old = is_old(weights);
    lb_gptq_layout layout = {.tool = "AutoRound", .zeros_minus_one = old, .any_bits = !old};
    return lb_folder_export(weights, &kind, &layout, options, result, err);
}
