/* SPDX-License-Identifier: MIT */
#include "pack/plan.h"

#include "model/input_order.h"

#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

lb_dtype lb_kept_dtype(const lb_weight *weight, const lb_format *rule)
{
    if (rule)
        return strcmp(rule->name, "f32") == 0   ? LB_DTYPE_F32
               : strcmp(rule->name, "f16") == 0 ? LB_DTYPE_F16
                                                : LB_DTYPE_BF16;
    switch (weight->tensor->dtype) {
    case LB_DTYPE_F32:
    case LB_DTYPE_F16:
    case LB_DTYPE_BF16:
        return weight->tensor->dtype;
    default:
        return weight->rows > 1 ? LB_DTYPE_F16 : LB_DTYPE_F32;
    }
}

lb_dtype lb_vector_dtype(const lb_recipe *recipe, const lb_weight *vector)
{
    return recipe->transform.rescale == LB_RESCALE_NONE ? lb_kept_dtype(vector, NULL) : LB_DTYPE_F32;
}

bool lb_outer_matrix(const lb_config *config, size_t index, const char **layer)
{
    static const char *const layers[] = {"model.embed_tokens", "lm_head"};
    if (index >= (config->tied_embeddings ? 1u : 2u))
        return false;
    *layer = layers[index];
    return true;
}

const lb_format *lb_outer_format(const lb_recipe *recipe, const char *layer)
{
    return lb_recipe_format(recipe, layer, NULL, NULL);
}

static void count_kept(lb_checkpoint_size *size, const lb_weight *w, lb_dtype dtype)
{
    const uint64_t elems = (uint64_t)w->rows * w->cols;
    size->all_weights += elems;
    size->all_bytes += elems * lb_dtype_block_bytes(dtype);
}

static lb_status count_matrix(lb_checkpoint_size *size, const lb_weights *weights, const char *layer,
                              size_t rows, size_t cols, const lb_format *format, lb_error *err)
{
    lb_weight w;
    char name[160];
    snprintf(name, sizeof name, "%s.weight", layer);
    LB_TRY(lb_weights_find(weights, name, rows, cols, &w, err));
    if (!format || lb_format_is_float(format)) {
        count_kept(size, &w, lb_kept_dtype(&w, format));
        return LB_OK;
    }
    LB_TRY(lb_format_check_cols(format, cols, layer, err));
    const uint64_t bytes = lb_format_tensor_bytes(format, rows, cols);
    size->quantized_weights += (uint64_t)rows * cols;
    size->quantized_bytes += bytes;
    size->all_weights += (uint64_t)rows * cols;
    size->all_bytes += bytes;
    return LB_OK;
}

/* A vector of a block; without a recipe, one outside. */
static lb_status count_vector(lb_checkpoint_size *size, const lb_weights *weights, const lb_recipe *recipe,
                              const char *name, size_t n, lb_error *err)
{
    lb_weight w;
    LB_TRY(lb_weights_find(weights, name, 1, n, &w, err));
    count_kept(size, &w, recipe ? lb_vector_dtype(recipe, &w) : lb_kept_dtype(&w, NULL));
    return LB_OK;
}

/* A rule that no layer obeys is a typing error; one for a tied head would silently do nothing. */
static lb_status check_rules(const lb_weights *weights, const lb_recipe *recipe, lb_error *err)
{
    const lb_config *c = &weights->config;
    for (size_t i = 0; i < recipe->rule_count; i++) {
        const char *pattern = recipe->rules[i].pattern, *layer;
        bool matches = false;
        char name[128];
        for (size_t k = 0; !matches && k < c->layers * LB_BLOCK_LINEARS; k++) {
            lb_linear_name(k / LB_BLOCK_LINEARS, (unsigned)(k % LB_BLOCK_LINEARS), name, sizeof name);
            matches = fnmatch(pattern, name, 0) == 0;
        }
        for (size_t k = 0; !matches && lb_outer_matrix(c, k, &layer); k++)
            matches = fnmatch(pattern, layer, 0) == 0;
        if (matches)
            continue;
        if (c->tied_embeddings && fnmatch(pattern, "lm_head", 0) == 0)
            return lb_fail(err, LB_EINVAL,
                           "layer rule \"%s\": this model's lm_head is its embedding; name "
                           "model.embed_tokens instead",
                           pattern);
        return lb_fail(err, LB_EINVAL,
                       "layer rule \"%s\" matches no layer; layers are named like "
                       "model.layers.0.self_attn.q_proj, model.embed_tokens, lm_head",
                       pattern);
    }
    return LB_OK;
}

lb_status lb_quantized_size(const lb_weights *weights, const lb_recipe *recipe, lb_checkpoint_size *out,
                            lb_error *err)
{
    const lb_config *c = &weights->config;
    lb_checkpoint_size size = {0};
    const char *layer;
    char name[128];
    size_t n;
    if (lb_weights_quantized(weights))
        return lb_fail(err, LB_EINVAL, "%s is quantized already; quantize the original model",
                       weights->checkpoint.path);
    LB_TRY(check_rules(weights, recipe, err));
    for (size_t i = 0; lb_outer_matrix(c, i, &layer); i++)
        LB_TRY(count_matrix(&size, weights, layer, c->vocab, c->hidden, lb_outer_format(recipe, layer), err));
    LB_TRY(count_vector(&size, weights, NULL, "model.norm.weight", c->hidden, err));
    for (size_t l = 0; l < c->layers; l++) {
        for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
            size_t rows, cols;
            lb_linear_shape(c, which, &rows, &cols);
            lb_linear_name(l, which, name, sizeof name);
            LB_TRY(count_matrix(&size, weights, name, rows, cols, lb_recipe_layer(recipe, l, which), err));
        }
        for (size_t i = 0; lb_block_vector(c, l, i, name, sizeof name, &n); i++)
            LB_TRY(count_vector(&size, weights, recipe, name, n, err));
    }
    size.all_bytes += lb_input_masks_bytes(c, &recipe->act);
    *out = size;
    return LB_OK;
}
