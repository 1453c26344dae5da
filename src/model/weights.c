/* SPDX-License-Identifier: MIT */
#include "model/weights.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "io/tokenizer.h"
#include "model/foreign.h"
#include "model/input_order.h"
#include "model/inputs.h"

const lb_linear_info lb_block_linears[LB_BLOCK_LINEARS] = {
    [LB_LINEAR_Q] = {"self_attn.q_proj", LB_STAGE_QKV},
    [LB_LINEAR_K] = {"self_attn.k_proj", LB_STAGE_QKV},
    [LB_LINEAR_V] = {"self_attn.v_proj", LB_STAGE_QKV},
    [LB_LINEAR_O] = {"self_attn.o_proj", LB_STAGE_O},
    [LB_LINEAR_GATE] = {"mlp.gate_proj", LB_STAGE_GATE_UP},
    [LB_LINEAR_UP] = {"mlp.up_proj", LB_STAGE_GATE_UP},
    [LB_LINEAR_DOWN] = {"mlp.down_proj", LB_STAGE_DOWN},
};

void lb_linear_shape(const lb_config *config, unsigned which, size_t *rows, size_t *cols)
{
    const size_t q = config->heads * config->head_dim, kv = config->kv_heads * config->head_dim;
    const size_t shapes[LB_BLOCK_LINEARS][2] = {
        [LB_LINEAR_Q] = {q, config->hidden},
        [LB_LINEAR_K] = {kv, config->hidden},
        [LB_LINEAR_V] = {kv, config->hidden},
        [LB_LINEAR_O] = {config->hidden, q},
        [LB_LINEAR_GATE] = {config->ffn, config->hidden},
        [LB_LINEAR_UP] = {config->ffn, config->hidden},
        [LB_LINEAR_DOWN] = {config->hidden, config->ffn},
    };
    *rows = shapes[which][0];
    *cols = shapes[which][1];
}

bool lb_linear_has_bias(const lb_config *config, unsigned which)
{
    switch (lb_block_linears[which].stage) {
    case LB_STAGE_QKV:
        return config->qkv_bias;
    case LB_STAGE_O:
        return config->o_bias;
    default:
        return config->mlp_bias;
    }
}

void lb_linear_name(size_t layer, unsigned which, char *out, size_t out_bytes)
{
    snprintf(out, out_bytes, "model.layers.%zu.%s", layer, lb_block_linears[which].suffix);
}

static lb_status check_shape(const lb_weights *weights, const lb_tensor *tensor, const char *name,
                             size_t rows, size_t cols, lb_error *err)
{
    if (lb_tensor_rows(tensor) == rows && lb_tensor_cols(tensor) == cols && tensor->rank <= 2)
        return LB_OK;
    return lb_fail(err, LB_EFORMAT, "%s: tensor %s is %zu x %zu, but config.json implies %zu x %zu",
                   weights->checkpoint.path, name, lb_tensor_rows(tensor), lb_tensor_cols(tensor), rows,
                   cols);
}

static lb_status find_float(const lb_weights *weights, lb_weight *w, lb_error *err)
{
    w->tensor = lb_tensor_find(&weights->checkpoint.tensors, w->name);
    if (!w->tensor)
        return lb_fail(err, LB_EFORMAT, "%s: tensor %s is missing", weights->checkpoint.path, w->name);
    LB_TRY(check_shape(weights, w->tensor, w->name, w->rows, w->cols, err));
    switch (w->tensor->dtype) {
    case LB_DTYPE_U8:
    case LB_DTYPE_I8:
    case LB_DTYPE_I32:
    case LB_DTYPE_I64:
        return lb_fail(err, LB_EUNSUPPORTED, "%s: tensor %s has type %s, want a floating-point type",
                       weights->checkpoint.path, w->name, lb_dtype_name(w->tensor->dtype));
    case LB_DTYPE_BF16:
        return lb_format_parse("bf16", &w->format, err);
    case LB_DTYPE_F16:
        return lb_format_parse("f16", &w->format, err);
    default:
        return lb_format_parse("f32", &w->format, err);
    }
}

lb_dtype lb_part_dtype(const lb_format_part *part)
{
    return part->elem_bytes == 4 ? LB_DTYPE_F32 : part->elem_bytes == 2 ? LB_DTYPE_F16 : LB_DTYPE_U8;
}

/* Tensor NAME + suffix of a packed weight, which must be as given. */
static lb_status find_part(const lb_weights *weights, lb_weight *w, const char *suffix, lb_dtype dtype,
                           size_t rows, size_t cols, lb_error *err)
{
    char name[200];
    snprintf(name, sizeof name, "%s%s", w->name, suffix);
    const lb_tensor *t = lb_tensor_find(&weights->checkpoint.tensors, name);
    if (!t)
        return lb_fail(err, LB_EFORMAT, "%s: tensor %s is missing (format %s)", weights->checkpoint.path,
                       name, w->format.name);
    if (t->dtype != dtype)
        return lb_fail(err, LB_EFORMAT, "%s: tensor %s has type %s, want %s", weights->checkpoint.path, name,
                       lb_dtype_name(t->dtype), lb_dtype_name(dtype));
    LB_TRY(check_shape(weights, t, name, rows, cols, err));
    w->parts[w->part_count++] = t;
    return LB_OK;
}

static lb_status find_tensor_scale(const lb_weights *weights, lb_weight *w, lb_error *err)
{
    LB_TRY(find_part(weights, w, LB_TENSOR_SCALE_SUFFIX, LB_DTYPE_F32, 1, 1, err));
    float *scale = &w->format.tensor_scale;
    LB_TRY(lb_tensor_read(w->parts[w->part_count - 1], 0, 1, scale, err));
    if (isfinite(*scale) && *scale > 0.0f)
        return LB_OK;
    return lb_fail(err, LB_EFORMAT, "%s: %s%s is %g, want a finite number above 0", weights->checkpoint.path,
                   w->name, LB_TENSOR_SCALE_SUFFIX, (double)*scale);
}

static lb_status find_packed(const lb_weights *weights, const char *format, lb_weight *w, lb_error *err)
{
    lb_format_part parts[LB_FORMAT_MAX_PARTS];
    if (lb_format_parse(format, &w->format, err) != LB_OK)
        return lb_fail_at(err, LB_EFORMAT, "%s: layer of %s", weights->checkpoint.path, w->name);
    if (lb_format_is_float(&w->format))
        return find_float(weights, w, err);
    if (lb_format_check_cols(&w->format, w->cols, w->name, err) != LB_OK)
        return lb_fail_at(err, LB_EFORMAT, "%s", weights->checkpoint.path);
    const unsigned count = w->format.ops->parts(&w->format, w->cols, parts);
    for (unsigned i = 0; i < count; i++) {
        char suffix[32];
        snprintf(suffix, sizeof suffix, ".%s", parts[i].name);
        LB_TRY(find_part(weights, w, suffix, lb_part_dtype(&parts[i]), w->rows,
                         parts[i].row_bytes / parts[i].elem_bytes, err));
    }
    if (lb_format_has_tensor_scale(&w->format))
        return find_tensor_scale(weights, w, err);
    return LB_OK;
}

lb_status lb_weights_find(const lb_weights *weights, const char *name, size_t rows, size_t cols,
                          lb_weight *out, lb_error *err)
{
    lb_weight w = {.rows = rows, .cols = cols};
    const size_t length = strlen(name);
    if (length >= sizeof w.name)
        return lb_fail(err, LB_EINVAL, "the name %.60s... is too long", name);
    memcpy(w.name, name, length + 1);
    const char *format = NULL;
    if (weights->layer_formats && length > 7 && strcmp(name + length - 7, ".weight") == 0) {
        char layer[sizeof w.name];
        memcpy(layer, name, length - 7);
        layer[length - 7] = '\0';
        format = json_string_value(json_object_get(weights->layer_formats, layer));
    }
    if (format)
        LB_TRY(find_packed(weights, format, &w, err));
    else
        LB_TRY(lb_foreign_has(weights, name) ? lb_foreign_find(weights, &w, err)
                                             : find_float(weights, &w, err));
    *out = w;
    return LB_OK;
}

lb_status lb_weight_unpack_row(const lb_weight *weight, size_t row, uint8_t *codes, float *params,
                               lb_error *err)
{
    const uint8_t *parts[LB_FORMAT_MAX_PARTS + 1];
    if (weight->foreign.kind != LB_PACKED_HERE) {
        if (lb_foreign_row(weight, row, codes, params, err) != LB_OK)
            return lb_fail_at(err, LB_EFORMAT, "%s, row %zu", weight->name, row);
        return LB_OK;
    }
    for (unsigned i = 0; i < weight->part_count; i++)
        parts[i] = weight->parts[i]->data + row * (weight->parts[i]->bytes / weight->rows);
    if (weight->format.ops->unpack(&weight->format, parts, weight->cols, codes, params, err) != LB_OK)
        return lb_fail_at(err, LB_EFORMAT, "%s, row %zu", weight->name, row);
    return LB_OK;
}

static lb_status read_packed(const lb_weight *weight, size_t first, size_t count, float *out, lb_error *err)
{
    if (lb_format_is_float(&weight->format)) { /* another tool's, and no format of ours */
        for (size_t i = 0; i < count; i++)
            LB_TRY(lb_foreign_values(weight, first + i, out + i * weight->cols, err));
        return LB_OK;
    }
    const size_t groups = lb_format_groups(&weight->format, weight->cols);
    uint8_t *codes = lb_alloc(weight->cols, 1);
    float *params = lb_alloc(groups * weight->format.params, sizeof *params);
    lb_status st = LB_OK;
    if (!codes || !params)
        st = lb_fail(err, LB_ENOMEM, "%s: no memory for one row", weight->name);
    for (size_t i = 0; st == LB_OK && i < count; i++) {
        st = lb_weight_unpack_row(weight, first + i, codes, params, err);
        if (st == LB_OK)
            lb_format_decode_row(&weight->format, codes, params, weight->cols, out + i * weight->cols);
    }
    lb_free(codes);
    lb_free(params);
    return st;
}

lb_status lb_weight_read(const lb_weight *weight, size_t first, size_t count, float *out, lb_error *err)
{
    LB_TRY(weight->part_count ? read_packed(weight, first, count, out, err)
                              : lb_tensor_read(weight->tensor, first, count, out, err));
    for (size_t i = 0; i < count * weight->cols; i++) {
        if (!isfinite(out[i]))
            return lb_fail(err, LB_EFORMAT, "%s: the value at row %zu, column %zu is %g, not a finite number",
                           weight->name, first + i / weight->cols, i % weight->cols, (double)out[i]);
    }
    return LB_OK;
}

void lb_weight_forget(const lb_weights *weights, const lb_weight *weight)
{
    if (weight->tensor)
        lb_tensor_forget(&weights->checkpoint.tensors, weight->tensor);
    for (unsigned i = 0; i < weight->part_count; i++)
        lb_tensor_forget(&weights->checkpoint.tensors, weight->parts[i]);
}

size_t lb_weight_bytes(const lb_weight *weight)
{
    size_t bytes = weight->tensor ? weight->tensor->bytes : 0;
    for (unsigned i = 0; i < weight->part_count; i++)
        bytes += weight->parts[i]->bytes;
    return bytes;
}

bool lb_block_vector(const lb_config *config, size_t layer, size_t index, char *name, size_t name_bytes,
                     size_t *n)
{
    static const char *const norms[] = {"input_layernorm", "post_attention_layernorm", "self_attn.q_norm",
                                        "self_attn.k_norm"};
    const size_t norm_count = config->qk_norm ? 4 : 2;
    if (index < norm_count) {
        snprintf(name, name_bytes, "model.layers.%zu.%s.weight", layer, norms[index]);
        *n = index < 2 ? config->hidden : config->head_dim;
        return true;
    }
    index -= norm_count;
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        size_t rows, cols;
        if (!lb_linear_has_bias(config, which) || index-- > 0)
            continue;
        lb_linear_shape(config, which, &rows, &cols);
        snprintf(name, name_bytes, "model.layers.%zu.%s.bias", layer, lb_block_linears[which].suffix);
        *n = rows;
        return true;
    }
    return false;
}

static lb_status check_block(const lb_weights *weights, size_t layer, lb_error *err)
{
    const lb_config *c = &weights->config;
    lb_weight w;
    char name[128];
    size_t n;
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        size_t rows, cols;
        char base[96];
        lb_linear_shape(c, which, &rows, &cols);
        lb_linear_name(layer, which, base, sizeof base);
        snprintf(name, sizeof name, "%s.weight", base);
        LB_TRY(lb_weights_find(weights, name, rows, cols, &w, err));
    }
    for (size_t i = 0; lb_block_vector(c, layer, i, name, sizeof name, &n); i++)
        LB_TRY(lb_weights_find(weights, name, 1, n, &w, err));
    for (unsigned stage = 0; lb_act_masks(&weights->act) && stage < LB_MASKS_PER_BLOCK; stage++)
        LB_TRY(lb_input_order_read(weights, layer, (lb_stage)stage, NULL, err));
    return LB_OK;
}

/* Whether the blocks that config.json describes have use for a tensor "model.layers.*". */
static bool is_of_a_block(const lb_weights *weights, const char *name)
{
    const lb_config *c = &weights->config;
    size_t layer, rows, cols;
    char prefix[64], base[128];
    if (sscanf(name, "model.layers.%4zu.", &layer) != 1 || layer >= c->layers)
        return false;
    const size_t length = (size_t)snprintf(prefix, sizeof prefix, "model.layers.%zu.", layer);
    if (strncmp(name, prefix, length) != 0)
        return false;
    const char *rest = name + length;
    for (size_t i = 0; lb_block_vector(c, layer, i, base, sizeof base, &rows); i++) {
        if (strcmp(name, base) == 0)
            return true;
    }
    for (unsigned stage = 0; lb_act_masks(&weights->act) && stage < LB_MASKS_PER_BLOCK; stage++) {
        lb_input_mask_name(layer, (lb_stage)stage, base, sizeof base);
        if (strcmp(name, base) == 0)
            return true;
    }
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        const size_t suffix = strlen(lb_block_linears[which].suffix);
        lb_weight w;
        if (strncmp(rest, lb_block_linears[which].suffix, suffix) != 0 || rest[suffix] != '.')
            continue;
        lb_linear_shape(c, which, &rows, &cols);
        snprintf(base, sizeof base, "%s%s.weight", prefix, lb_block_linears[which].suffix);
        if (lb_weights_find(weights, base, rows, cols, &w, NULL) != LB_OK)
            return false;
        bool used = w.tensor && strcmp(w.tensor->name, name) == 0;
        for (unsigned i = 0; i < w.part_count; i++)
            used = used || strcmp(w.parts[i]->name, name) == 0;
        return used;
    }
    return strcmp(rest, "self_attn.rotary_emb.inv_freq") == 0; /* a buffer that old checkpoints store */
}

/* A bias, norm or block that nothing would read means that config.json describes another model. */
static lb_status check_no_more(const lb_weights *weights, lb_error *err)
{
    const lb_tensor_set *set = &weights->checkpoint.tensors;
    for (size_t i = 0; i < set->count; i++) {
        const char *name = set->tensors[i].name;
        if (strncmp(name, "model.layers.", 13) == 0 && !is_of_a_block(weights, name) &&
            !lb_foreign_is_empty_bias(weights, &set->tensors[i]))
            return lb_fail(err, LB_EFORMAT,
                           "%s: tensor %.120s is none that a %s of %zu layers has, which is what "
                           "config.json describes",
                           weights->checkpoint.path, name, weights->config.architecture,
                           weights->config.layers);
    }
    return LB_OK;
}

static lb_status check_all(lb_weights *weights, lb_error *err)
{
    lb_config *c = &weights->config;
    lb_weight w;
    /* Some checkpoints say nothing of tied embeddings and simply have no lm_head. */
    if (!c->tied_embeddings && !lb_tensor_find(&weights->checkpoint.tensors, "lm_head.weight") &&
        !lb_tensor_find(&weights->checkpoint.tensors, "lm_head.weight.codes") &&
        !lb_foreign_has(weights, "lm_head.weight"))
        c->tied_embeddings = true;
    LB_TRY(lb_weights_find(weights, "model.embed_tokens.weight", c->vocab, c->hidden, &w, err));
    LB_TRY(lb_weights_find(weights, "model.norm.weight", 1, c->hidden, &w, err));
    if (!c->tied_embeddings)
        LB_TRY(lb_weights_find(weights, "lm_head.weight", c->vocab, c->hidden, &w, err));
    for (size_t layer = 0; layer < c->layers; layer++)
        LB_TRY(check_block(weights, layer, err));
    return LB_OK;
}

static bool is_known_layer(const lb_config *c, const char *name)
{
    size_t layer;
    char known[128];
    if (strcmp(name, "model.embed_tokens") == 0 || (!c->tied_embeddings && strcmp(name, "lm_head") == 0))
        return true;
    if (sscanf(name, "model.layers.%4zu.", &layer) != 1 || layer >= c->layers)
        return false;
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        lb_linear_name(layer, which, known, sizeof known);
        if (strcmp(name, known) == 0)
            return true;
    }
    return false;
}

/* An entry that belongs to no layer would be passed over in silence: the reader would not see what the
 * writer meant. */
static lb_status check_layer_formats(const lb_weights *weights, lb_error *err)
{
    json_t *formats = (json_t *)(uintptr_t)weights->layer_formats, *value;
    const char *name;
    json_object_foreach(formats, name, value)
    {
        if (!json_is_string(value))
            return lb_fail(err, LB_EFORMAT,
                           "%s: quantization_config: the format of layer \"%.100s\" is not a string",
                           weights->checkpoint.path, name);
        if (!is_known_layer(&weights->config, name))
            return lb_fail(err, LB_EFORMAT,
                           "%s: quantization_config names a layer \"%.100s\" that the model does "
                           "not have",
                           weights->checkpoint.path, name);
    }
    return LB_OK;
}

/* {"transform": "hadamard-32", "seed": 42, "act": "mxint8"}, each of which may be absent. */
static lb_status read_inputs(lb_weights *weights, const json_t *inputs, lb_error *err)
{
    char where[512];
    const char *transform, *act, *key;
    json_t *value;
    size_t seed;
    snprintf(where, sizeof where, "%.400s: quantization_config.inputs", weights->checkpoint.path);
    if (!json_is_object(inputs))
        return lb_fail(err, LB_EFORMAT, "%s is not an object", where);
    json_object_foreach((json_t *)(uintptr_t)inputs, key, value)
    {
        if (json_is_null(value))
            return lb_fail(err, LB_EFORMAT, "%s: \"%.40s\" is null", where, key);
    }
    LB_TRY(lb_json_string(inputs, "transform", "none", where, &transform, err));
    LB_TRY(lb_json_string(inputs, "act", "f32", where, &act, err));
    LB_TRY(lb_json_size(inputs, "seed", 0, INT64_MAX, 0, where, &seed, err));
    lb_transform *t = &weights->transform;
    if (lb_transform_parse(transform, t, err) != LB_OK || lb_act_parse(act, &weights->act, err) != LB_OK)
        return lb_fail_at(err, LB_EFORMAT, "%s", where);
    if (lb_act_check(&weights->act, t, &weights->config, err) != LB_OK)
        return lb_fail_at(err, LB_EFORMAT, "%s", where);
    if (t->rescale)
        return lb_fail(err, LB_EFORMAT, "%s: transform \"%s\" is none of inputs: it is folded into weights",
                       where, transform);
    if (t->by_format)
        return lb_fail(err, LB_EFORMAT, "%s: transform \"%s\" does not say of what size", where, transform);
    t->seed = seed;
    t->strict = false; /* the writer's choice of sizes is not judged, but it must work: */
    if (lb_transform_resolve(t, NULL, &weights->config, err) != LB_OK)
        return lb_fail_at(err, LB_EFORMAT, "%s", where);
    return LB_OK;
}

static lb_status read_quantization(lb_weights *weights, lb_error *err)
{
    const char *path = weights->checkpoint.path, *method;
    size_t version;
    const json_t *q = json_object_get(weights->checkpoint.config, "quantization_config");
    if (!q || json_is_null(q))
        return LB_OK;
    LB_TRY(lb_json_string(q, "quant_method", "unnamed", path, &method, err));
    if (strcmp(method, "lowbit") != 0)
        return lb_foreign_open(weights, q, method, err);
    LB_TRY(lb_json_size(q, "format_version", 1, 1000, 1, path, &version, err));
    if (version > LB_QUANTIZED_VERSION)
        return lb_fail(err, LB_EUNSUPPORTED,
                       "%s: checkpoint format version %zu, this lowbit reads versions up to %d", path,
                       version, LB_QUANTIZED_VERSION);
    const json_t *inputs = json_object_get(q, "inputs");
    if (version >= LB_INPUTS_SINCE_VERSION)
        LB_TRY(read_inputs(weights, inputs, err));
    else if (inputs)
        return lb_fail(err, LB_EFORMAT,
                       "%s: quantization_config has \"inputs\", which version %zu does not have", path,
                       version);
    weights->layer_formats = json_object_get(q, "layers");
    if (!json_is_object(weights->layer_formats))
        return lb_fail(err, LB_EFORMAT, "%s: quantization_config has no \"layers\" object", path);
    return LB_OK;
}

bool lb_weights_quantized(const lb_weights *weights)
{
    return weights->layer_formats || weights->foreign != LB_FOREIGN_NONE;
}

lb_status lb_weights_open(const char *path, lb_weights **out, lb_error *err)
{
    lb_weights *w = lb_alloc_zero(1, sizeof *w);
    if (!w)
        return lb_fail(err, LB_ENOMEM, "%s: no memory to open it", path);
    lb_status st = lb_checkpoint_open(path, &w->checkpoint, err);
    if (st != LB_OK) {
        lb_free(w);
        return st;
    }
    LB_GO(lb_config_read(w->checkpoint.config, path, &w->config, err));
    LB_GO(read_quantization(w, err));
    LB_GO(check_all(w, err));
    LB_GO(check_no_more(w, err));
    LB_GO(check_layer_formats(w, err));
    *out = w;
    w = NULL;
done:
    lb_weights_close(w);
    return st;
}

void lb_weights_close(lb_weights *weights)
{
    if (!weights)
        return;
    lb_checkpoint_close(&weights->checkpoint);
    lb_free(weights);
}

lb_status lb_weights_tokenizer(const lb_weights *weights, lb_tokenizer **out, lb_error *err)
{
    const lb_checkpoint *c = &weights->checkpoint;
    lb_tokenizer *tokenizer = NULL;
    lb_status st = LB_OK;
    if (!c->tokenizer)
        return lb_fail(err, LB_EFORMAT, "%s has no tokenizer to read the text with", c->path);
    LB_TRY(lb_tokenizer_create(c->tokenizer, c->tokenizer_config, c->path, &tokenizer, err));
    LB_GO(lb_tokenizer_check_rows(tokenizer, weights->config.vocab, c->path, err));
    *out = tokenizer;
    tokenizer = NULL;
done:
    lb_tokenizer_destroy(tokenizer);
    return st;
}
