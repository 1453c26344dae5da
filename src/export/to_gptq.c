/* SPDX-License-Identifier: MIT
 * A Hugging Face folder as GPTQModel and AutoGPTQ make them (gptq_layout.h). "checkpoint_format" says which
 * version of qzeros it has; layers that differ from the first are listed under "dynamic", which GPTQModel
 * and vLLM read. */
#include "export/to_gptq.h"

#include <stdio.h>
#include <string.h>

#include "export/gptq_layout.h"

typedef struct gptq_state {
    lb_gptq_layout layout; /* first: lb_gptq_plan looks here */
} gptq_state;

/* "+:^model\.layers\.0\.mlp\.up_proj$", the rule of GPTQModel for one layer. */
static void layer_rule(const char *layer, char *out, size_t out_bytes)
{
    size_t used = (size_t)snprintf(out, out_bytes, "+:^");
    for (; *layer && used + 4 < out_bytes; layer++) {
        if (*layer == '.')
            out[used++] = '\\';
        out[used++] = *layer;
    }
    out[used++] = '$';
    out[used] = '\0';
}

static bool same_scheme(const lb_int_scheme *a, const lb_int_scheme *b)
{
    return a->bits == b->bits && a->group == b->group && a->symmetric == b->symmetric;
}

static lb_status add_rules(lb_folder *folder, const lb_int_scheme *common, json_t *dynamic, lb_error *err)
{
    const gptq_state *s = folder->state;
    const lb_export_item *item;
    for (size_t i = 0; (item = lb_folder_packed_item(folder, i)) != NULL; i++) {
        lb_int_scheme scheme;
        char layer[LB_FOLDER_NAME_BYTES], rule[2 * LB_FOLDER_NAME_BYTES];
        LB_TRY(lb_gptq_scheme(&s->layout, &item->weight, &scheme, err));
        if (same_scheme(&scheme, common))
            continue;
        lb_folder_layer_name(item, layer);
        layer_rule(layer, rule, sizeof rule);
        (void)json_object_set_new(dynamic, rule, lb_gptq_scheme_json(&scheme));
    }
    /* Layers that stayed floats. */
    for (size_t i = 0; i < folder->count; i++) {
        char layer[LB_FOLDER_NAME_BYTES], rule[2 * LB_FOLDER_NAME_BYTES];
        if (folder->packed[i] || folder->items[i]->which == LB_BLOCK_LINEARS)
            continue;
        lb_folder_layer_name(folder->items[i], layer);
        layer_rule(layer, rule, sizeof rule);
        rule[0] = '-';
        (void)json_object_set_new(dynamic, rule, json_object());
    }
    return LB_OK;
}

/* Whether columns of some layer are in an order of their own, by their activations as a rule. */
static bool has_order(const lb_folder *folder)
{
    const gptq_state *s = folder->state;
    const lb_export_item *item;
    for (size_t i = 0; (item = lb_folder_packed_item(folder, i)) != NULL; i++)
        if (lb_gptq_is_copied(&s->layout, &item->weight) && item->weight.foreign.order)
            return true;
    return false;
}

static lb_status config(lb_folder *folder, json_t **out, lb_error *err)
{
    const gptq_state *s = folder->state;
    const lb_export_item *first = lb_folder_packed_item(folder, 0);
    lb_int_scheme common;
    if (!first)
        return lb_fail(err, LB_EINVAL,
                       "%s: none of its layers has codes that GPTQ holds; --to safetensors writes "
                       "floats",
                       folder->weights->checkpoint.path);
    LB_TRY(lb_gptq_scheme(&s->layout, &first->weight, &common, err));
    json_t *json = lb_gptq_scheme_json(&common), *dynamic = json_object();
    json_t *more = json_pack("{s:s, s:s, s:b, s:b, s:b, s:f, s:s, s:{s:s}}", "quant_method", "gptq",
                             "checkpoint_format", s->layout.zeros_minus_one ? "gptq" : "gptq_v2", "desc_act",
                             (int)has_order(folder), "true_sequential", 0, "lm_head", 0, "damp_percent", 0.01,
                             "pack_dtype", "int32", "meta", "quantizer", "lowbit:" LB_VERSION);
    lb_status st = json && dynamic && more && json_object_update(json, more) == 0
                       ? add_rules(folder, &common, dynamic, err)
                       : LB_ENOMEM;
    if (st == LB_OK && json_object_size(dynamic) > 0)
        (void)json_object_set(json, "dynamic", dynamic);
    json_decref(dynamic);
    json_decref(more);
    if (st == LB_OK)
        *out = json;
    else
        json_decref(json);
    return st == LB_ENOMEM ? lb_fail(err, LB_ENOMEM, "no memory for a configuration") : st;
}

lb_status lb_export_gptq(const lb_weights *weights, const lb_export_options *options,
                         lb_export_result *result, lb_error *err)
{
    static const lb_folder_kind kind = {.name = "GPTQ",
                                        .plan = lb_gptq_plan,
                                        .fill = lb_gptq_fill,
                                        .config = config,
                                        .torch_dtype = "float16"};
    gptq_state state = {.layout = {.tool = "GPTQ", .zeros_minus_one = !options->zeros_v2, .has_g_idx = true}};
    return lb_folder_export(weights, &kind, &state, options, result, err);
}
