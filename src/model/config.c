/* SPDX-License-Identifier: MIT */
#include "model/config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"

enum { MAX_DIMENSION = 1 << 20, MAX_LAYERS = 1024, MAX_HEADS = 4096, MAX_CONTEXT = 1 << 24 };

/* What an architecture adds to the plain Llama block. A new one is a line here, if a block is all
 * that it needs. */
typedef struct architecture {
    const char *name;
    bool qkv_bias, qk_norm;
    bool reads_bias_flags; /* config.json may switch biases on (attention_bias, mlp_bias) */
    bool reads_window;
} architecture;

static const architecture architectures[] = {
    {"LlamaForCausalLM", false, false, true, false},
    {"MistralForCausalLM", false, false, false, true},
    {"Qwen2ForCausalLM", true, false, false, false},
    {"Qwen3ForCausalLM", false, true, true, false},
};

static lb_status find_architecture(const json_t *json, const char *where, const architecture **out,
                                   lb_error *err)
{
    const json_t *list = json_object_get(json, "architectures");
    const char *name = json_string_value(json_array_get(list, 0));
    char known[256] = "";
    if (!name)
        return lb_fail(err, LB_EFORMAT, "%s: \"architectures\" names no model class", where);
    for (size_t i = 0; i < sizeof architectures / sizeof *architectures; i++) {
        if (strcmp(name, architectures[i].name) == 0) {
            *out = &architectures[i];
            return LB_OK;
        }
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", architectures[i].name);
    }
    return lb_fail(err, LB_EUNSUPPORTED, "%s: architecture %.60s is not supported; supported are %s", where,
                   name, known);
}

static lb_status read_factors(const json_t *list, const char *where, lb_config *c, lb_error *err)
{
    if (json_array_size(list) != c->head_dim / 2)
        return lb_fail(err, LB_EFORMAT, "%s: rope_scaling has %zu factors, want %zu", where,
                       json_array_size(list), c->head_dim / 2);
    for (size_t i = 0; i < c->head_dim / 2; i++) {
        double factor = json_number_value(json_array_get(list, i));
        if (!(factor >= 1e-6 && factor <= 1e6))
            return lb_fail(err, LB_EFORMAT, "%s: rope_scaling factor %zu is %g", where, i, factor);
        c->rope_factors[i] = (float)factor;
    }
    return LB_OK;
}

/* Some models rotate only a part of each head; these blocks rotate all of it. */
static lb_status check_whole_heads_rotate(const json_t *json, const json_t *parameters, const char *where,
                                          lb_error *err)
{
    double share;
    LB_TRY(lb_json_double(json, "partial_rotary_factor", 1.0, where, &share, err));
    LB_TRY(lb_json_double(parameters, "partial_rotary_factor", share, where, &share, err));
    if (share == 1.0)
        return LB_OK;
    return lb_fail(err, LB_EUNSUPPORTED, "%s: partial_rotary_factor is %g; supported is 1", where, share);
}

static lb_status read_rope(const json_t *json, const char *where, lb_config *c, lb_error *err)
{
    const char *type;
    const json_t *scaling = json_object_get(json, "rope_scaling");
    const json_t *parameters = json_object_get(json, "rope_parameters"); /* newer spelling of both */
    if (scaling && !json_is_null(scaling) && !json_is_object(scaling))
        return lb_fail(err, LB_EFORMAT, "%s: \"rope_scaling\" is neither an object nor null", where);
    if (parameters && !json_is_null(parameters) && !json_is_object(parameters))
        return lb_fail(err, LB_EFORMAT, "%s: \"rope_parameters\" is neither an object nor null", where);
    LB_TRY(lb_json_double(json, "rope_theta", 10000.0, where, &c->rope_theta, err));
    LB_TRY(lb_json_double(parameters, "rope_theta", c->rope_theta, where, &c->rope_theta, err));
    if (!(c->rope_theta >= 1.0 && c->rope_theta <= 1e12))
        return lb_fail(err, LB_EFORMAT, "%s: rope_theta is %g", where, c->rope_theta);
    if (json_is_object(parameters))
        scaling = parameters;
    LB_TRY(check_whole_heads_rotate(json, parameters, where, err));
    if (!json_is_object(scaling))
        return LB_OK;
    LB_TRY(lb_json_string(scaling, "type", "default", where, &type, err));
    LB_TRY(lb_json_string(scaling, "rope_type", type, where, &type, err));
    if (strcmp(type, "default") == 0)
        return LB_OK;
    if (strcmp(type, "factors") == 0) {
        c->rope_scaling = LB_ROPE_FACTORS;
        return read_factors(json_object_get(scaling, "factors"), where, c, err);
    }
    if (strcmp(type, "linear") != 0 && strcmp(type, "llama3") != 0)
        return lb_fail(
            err, LB_EUNSUPPORTED,
            "%s: rope_scaling of type %.40s is not supported; supported are default, linear, llama3", where,
            type);
    LB_TRY(lb_json_double(scaling, "factor", 0.0, where, &c->rope_factor, err));
    if (!(c->rope_factor >= 1.0 && c->rope_factor <= 1e6))
        return lb_fail(err, LB_EFORMAT, "%s: rope_scaling factor is %g, want 1 to 1e6", where,
                       c->rope_factor);
    if (strcmp(type, "linear") == 0) {
        c->rope_scaling = LB_ROPE_LINEAR;
        return LB_OK;
    }
    c->rope_scaling = LB_ROPE_LLAMA3;
    LB_TRY(lb_json_double(scaling, "low_freq_factor", 1.0, where, &c->rope_low_freq_factor, err));
    LB_TRY(lb_json_double(scaling, "high_freq_factor", 4.0, where, &c->rope_high_freq_factor, err));
    LB_TRY(lb_json_size(scaling, "original_max_position_embeddings", 1, MAX_CONTEXT, 8192, where,
                        &c->rope_original_context, err));
    if (!(c->rope_low_freq_factor > 0.0 && c->rope_high_freq_factor > c->rope_low_freq_factor))
        return lb_fail(err, LB_EFORMAT,
                       "%s: rope_scaling wants 0 < low_freq_factor < high_freq_factor, got %g, %g", where,
                       c->rope_low_freq_factor, c->rope_high_freq_factor);
    return LB_OK;
}

static lb_status read_sizes(const json_t *json, const char *where, lb_config *c, lb_error *err)
{
    const size_t missing = 0; /* below the lowest allowed value, so "not there" is noticed */
    LB_TRY(lb_json_size(json, "hidden_size", 1, MAX_DIMENSION, missing, where, &c->hidden, err));
    LB_TRY(lb_json_size(json, "intermediate_size", 1, MAX_DIMENSION, missing, where, &c->ffn, err));
    LB_TRY(lb_json_size(json, "num_hidden_layers", 1, MAX_LAYERS, missing, where, &c->layers, err));
    LB_TRY(lb_json_size(json, "num_attention_heads", 1, MAX_HEADS, missing, where, &c->heads, err));
    LB_TRY(lb_json_size(json, "vocab_size", 1, MAX_DIMENSION, missing, where, &c->vocab, err));
    const struct {
        const char *key;
        size_t value;
    } wanted[] = {{"hidden_size", c->hidden},
                  {"intermediate_size", c->ffn},
                  {"num_hidden_layers", c->layers},
                  {"num_attention_heads", c->heads},
                  {"vocab_size", c->vocab}};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        if (wanted[i].value == missing)
            return lb_fail(err, LB_EFORMAT, "%s: \"%s\" is missing", where, wanted[i].key);
    }
    LB_TRY(lb_json_size(json, "num_key_value_heads", 1, MAX_HEADS, c->heads, where, &c->kv_heads, err));
    if (c->heads % c->kv_heads != 0)
        return lb_fail(err, LB_EFORMAT, "%s: %zu attention heads cannot share %zu key-value heads", where,
                       c->heads, c->kv_heads);
    LB_TRY(
        lb_json_size(json, "head_dim", 1, LB_MAX_HEAD_DIM, c->hidden / c->heads, where, &c->head_dim, err));
    if (c->head_dim == 0 || c->head_dim % 2 != 0 || c->head_dim > LB_MAX_HEAD_DIM)
        return lb_fail(err, LB_EFORMAT, "%s: head size %zu is not an even number up to %d", where,
                       c->head_dim, LB_MAX_HEAD_DIM);
    return lb_json_size(json, "max_position_embeddings", 1, MAX_CONTEXT, 2048, where, &c->max_context, err);
}

/* Qwen's configurations may give a sliding window to the layers from max_window_layers on. */
static lb_status check_full_attention(const json_t *json, const char *where, size_t layers, lb_error *err)
{
    bool slides;
    size_t first;
    LB_TRY(lb_json_bool(json, "use_sliding_window", false, where, &slides, err));
    LB_TRY(lb_json_size(json, "max_window_layers", 0, MAX_CONTEXT, 0, where, &first, err));
    if (slides && first < layers)
        return lb_fail(err, LB_EUNSUPPORTED,
                       "%s: use_sliding_window is on; supported is attention over the whole "
                       "context",
                       where);
    return LB_OK;
}

lb_status lb_config_read(const json_t *json, const char *where, lb_config *out, lb_error *err)
{
    lb_config c = {0};
    const architecture *kind = NULL;
    const char *activation;
    LB_TRY(find_architecture(json, where, &kind, err));
    memcpy(c.architecture, kind->name, strlen(kind->name) + 1);
    c.qkv_bias = kind->qkv_bias;
    c.qk_norm = kind->qk_norm;
    LB_TRY(read_sizes(json, where, &c, err));
    LB_TRY(read_rope(json, where, &c, err));
    LB_TRY(lb_json_double(json, "rms_norm_eps", 1e-6, where, &c.norm_eps, err));
    if (!(c.norm_eps >= 0.0 && c.norm_eps < 1.0))
        return lb_fail(err, LB_EFORMAT, "%s: rms_norm_eps is %g", where, c.norm_eps);
    LB_TRY(lb_json_string(json, "hidden_act", "silu", where, &activation, err));
    if (strcmp(activation, "silu") != 0)
        return lb_fail(err, LB_EUNSUPPORTED, "%s: activation %.40s is not supported; supported is silu",
                       where, activation);
    LB_TRY(lb_json_bool(json, "tie_word_embeddings", false, where, &c.tied_embeddings, err));
    if (kind->reads_bias_flags) {
        bool attention_bias;
        LB_TRY(lb_json_bool(json, "attention_bias", false, where, &attention_bias, err));
        LB_TRY(lb_json_bool(json, "mlp_bias", false, where, &c.mlp_bias, err));
        c.qkv_bias = c.qkv_bias || attention_bias;
        c.o_bias = attention_bias;
    }
    if (kind->reads_window)
        LB_TRY(lb_json_size(json, "sliding_window", 1, MAX_CONTEXT, 0, where, &c.window, err));
    else
        LB_TRY(check_full_attention(json, where, c.layers, err));
    *out = c;
    return LB_OK;
}
