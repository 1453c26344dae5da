/* SPDX-License-Identifier: MIT
 * A GGUF file seen as the Hugging Face model that it was made from: names, row order, config.json.
 *
 * Sources: the key names of ggml's docs/gguf.md, and what llama.cpp's convert_hf_to_gguf.py writes. */
#include "io/gguf.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "io/gguf_internal.h"
#include "io/gguf_rope.h"

enum { MAX_LAYERS = 100000, MAX_DIM = 1 << 30, MAX_KEY = 128, MAX_HF_NAME = 128 };

static const struct architecture {
    const char *gguf, *hf_class, *hf_type;
    bool interleaved; /* whether attn_q and attn_k have their rows in interleaved rotary order */
} architectures[] = {
    {"llama", "LlamaForCausalLM", "llama", true},
    {"qwen2", "Qwen2ForCausalLM", "qwen2", false},
    {"qwen3", "Qwen3ForCausalLM", "qwen3", false},
};

static const struct {
    const char *gguf, *hf;
} block_names[] = {
    {"attn_norm", "input_layernorm"},  {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},    {"attn_v", "self_attn.v_proj"},
    {"attn_output", "self_attn.o_proj"}, {"attn_q_norm", "self_attn.q_norm"},
    {"attn_k_norm", "self_attn.k_norm"}, {"ffn_norm", "post_attention_layernorm"},
    {"ffn_gate", "mlp.gate_proj"},     {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
};

static const struct {
    const char *gguf, *hf;
} top_names[] = {
    {"token_embd.weight", "model.embed_tokens.weight"},
    {"output_norm.weight", "model.norm.weight"},
    {"output.weight", "lm_head.weight"},
};

/* What the metadata says about the model's shape. */
typedef struct shape {
    const struct architecture *arch;
    size_t layers, hidden, ffn, heads, kv_heads, head_dim, context, vocab;
    double theta, eps;
} shape;

static lb_status find_architecture(const lb_gguf *gguf, const struct architecture **out, lb_error *err)
{
    enum { COUNT = sizeof architectures / sizeof *architectures };
    char shown[LB_GGUF_SHOWN_BYTES];
    lb_span name;
    if (!lb_gguf_has(gguf, "general.architecture"))
        return lb_fail(err, LB_EFORMAT, "%s: no general.architecture: it does not say which model it is",
                       gguf->path);
    LB_TRY(lb_gguf_string(gguf, "general.architecture", (lb_span){0}, &name, err));
    for (size_t i = 0; i < COUNT; i++) {
        if (name.length == strlen(architectures[i].gguf) &&
            memcmp(name.data, architectures[i].gguf, name.length) == 0) {
            *out = &architectures[i];
            return LB_OK;
        }
    }
    return lb_fail(err, LB_EUNSUPPORTED, "%s: architecture \"%s\"; lowbit reads llama, qwen2 and qwen3",
                   gguf->path, lb_gguf_show(name, shown));
}

/* "llama." + suffix. */
static const char *arch_key(const struct architecture *arch, const char *suffix, char key[MAX_KEY])
{
    snprintf(key, MAX_KEY, "%s.%s", arch->gguf, suffix);
    return key;
}

/* A key that every model has, as an integer of at least 1. */
static lb_status need_size(const lb_gguf *gguf, const struct architecture *arch, const char *suffix,
                           size_t high, size_t *out, lb_error *err)
{
    char key[MAX_KEY];
    if (!lb_gguf_has(gguf, arch_key(arch, suffix, key)))
        return lb_fail(err, LB_EFORMAT, "%s: key \"%s\" is missing", gguf->path, key);
    return lb_gguf_size(gguf, key, 1, high, 1, out, err);
}

static lb_status want_size(const lb_gguf *gguf, const struct architecture *arch, const char *suffix,
                           size_t low, size_t fallback, size_t *out, lb_error *err)
{
    char key[MAX_KEY];
    return lb_gguf_size(gguf, arch_key(arch, suffix, key), low, MAX_DIM, fallback, out, err);
}

static lb_status read_heads(const lb_gguf *gguf, shape *s, lb_error *err)
{
    char key[MAX_KEY];
    size_t value_length, rotated;
    LB_TRY(need_size(gguf, s->arch, "attention.head_count", MAX_DIM, &s->heads, err));
    LB_TRY(want_size(gguf, s->arch, "attention.head_count_kv", 1, s->heads, &s->kv_heads, err));
    if (!lb_gguf_has(gguf, arch_key(s->arch, "attention.key_length", key)) && s->hidden % s->heads != 0)
        return lb_fail(err, LB_EFORMAT, "%s: a width of %zu does not divide into %zu heads", gguf->path,
                       s->hidden, s->heads);
    LB_TRY(want_size(gguf, s->arch, "attention.key_length", 1, s->hidden / s->heads, &s->head_dim, err));
    LB_TRY(want_size(gguf, s->arch, "attention.value_length", 1, s->head_dim, &value_length, err));
    LB_TRY(want_size(gguf, s->arch, "rope.dimension_count", 1, s->head_dim, &rotated, err));
    if (s->head_dim == 0 || s->head_dim % 2 != 0)
        return lb_fail(err, LB_EFORMAT, "%s: heads of %zu, rotary positions need an even number", gguf->path,
                       s->head_dim);
    if (value_length != s->head_dim || rotated != s->head_dim)
        return lb_fail(err, LB_EUNSUPPORTED,
                       "%s: heads with keys of %zu, values of %zu, %zu rotated; lowbit needs these equal",
                       gguf->path, s->head_dim, value_length, rotated);
    return LB_OK;
}

/* Refuses what a file of a known architecture may contain and this library cannot run. */
static lb_status check_kind(const lb_gguf *gguf, const struct architecture *arch, lb_error *err)
{
    size_t experts, parts;
    LB_TRY(want_size(gguf, arch, "expert_count", 0, 0, &experts, err));
    if (experts > 0)
        return lb_fail(err, LB_EUNSUPPORTED, "%s: a mixture of %zu experts; lowbit handles dense models",
                       gguf->path, experts);
    LB_TRY(lb_gguf_size(gguf, "split.count", 0, UINT16_MAX, 0, &parts, err));
    if (parts > 1)
        return lb_fail(err, LB_EUNSUPPORTED, "%s: one of %zu parts of a split model; merge them first",
                       gguf->path, parts);
    return LB_OK;
}

/* The double that the float's own shortest decimal stands for: 1e-05 was stored as a float, and comes
 * back as 1e-05 instead of 9.99999974737875e-06. */
static double shortest(double stored)
{
    char text[32];
    for (int digits = 1; digits < 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, stored);
        double value = strtod(text, NULL);
        if ((float)value == (float)stored)
            return value;
    }
    return stored;
}

static lb_status read_shape(const lb_gguf *gguf, shape *out, lb_error *err)
{
    shape s = {0};
    char key[MAX_KEY];
    LB_TRY(find_architecture(gguf, &s.arch, err));
    LB_TRY(check_kind(gguf, s.arch, err));
    LB_TRY(need_size(gguf, s.arch, "block_count", MAX_LAYERS, &s.layers, err));
    LB_TRY(need_size(gguf, s.arch, "embedding_length", MAX_DIM, &s.hidden, err));
    LB_TRY(need_size(gguf, s.arch, "feed_forward_length", MAX_DIM, &s.ffn, err));
    LB_TRY(need_size(gguf, s.arch, "context_length", MAX_DIM, &s.context, err));
    LB_TRY(read_heads(gguf, &s, err));
    if (!lb_gguf_has(gguf, arch_key(s.arch, "attention.layer_norm_rms_epsilon", key)))
        return lb_fail(err, LB_EFORMAT, "%s: key \"%s\" is missing", gguf->path, key);
    LB_TRY(lb_gguf_double(gguf, key, 0.0, &s.eps, err));
    LB_TRY(lb_gguf_double(gguf, arch_key(s.arch, "rope.freq_base", key), 10000.0, &s.theta, err));
    if (!(s.eps >= 0.0) || !(s.theta > 0.0))
        return lb_fail(err, LB_EFORMAT, "%s: a norm epsilon of %g or a rotary base of %g makes no sense",
                       gguf->path, s.eps, s.theta);
    const lb_tensor *embedding = lb_gguf_tensor(gguf, "token_embd.weight");
    if (!embedding)
        return lb_fail(err, LB_EFORMAT, "%s: no token_embd.weight: it holds no language model",
                       gguf->path);
    if (embedding->rank != 2 || embedding->shape[1] != s.hidden)
        return lb_fail(err, LB_EFORMAT, "%s: token_embd.weight has %zu columns, the width is %zu", gguf->path,
                       lb_tensor_cols(embedding), s.hidden);
    s.vocab = embedding->shape[0];
    s.eps = shortest(s.eps);
    s.theta = shortest(s.theta);
    *out = s;
    return LB_OK;
}

/* "blk.17.attn_q.weight" -> layer 17 and "attn_q.weight". */
static const char *split_block_name(const char *name, size_t *layer)
{
    if (strncmp(name, "blk.", 4) != 0)
        return NULL;
    const char *digit = name + 4;
    size_t number = 0;
    if (*digit == '0' && digit[1] != '.')
        return NULL; /* "blk.00." would give a second tensor of one name */
    for (; *digit >= '0' && *digit <= '9' && number <= MAX_LAYERS; digit++)
        number = 10 * number + (size_t)(*digit - '0');
    if (digit == name + 4 || *digit != '.')
        return NULL;
    *layer = number;
    return digit + 1;
}

/* GGUF's name -> Hugging Face's; false when it is none that such a model has. */
static bool map_name(const char *name, size_t layers, char hf[MAX_HF_NAME])
{
    size_t layer;
    for (size_t i = 0; i < sizeof top_names / sizeof *top_names; i++) {
        if (strcmp(name, top_names[i].gguf) == 0) {
            snprintf(hf, MAX_HF_NAME, "%s", top_names[i].hf);
            return true;
        }
    }
    const char *rest = split_block_name(name, &layer);
    const char *dot = rest ? strchr(rest, '.') : NULL;
    if (!dot || layer >= layers || (strcmp(dot, ".weight") != 0 && strcmp(dot, ".bias") != 0))
        return false;
    for (size_t i = 0; i < sizeof block_names / sizeof *block_names; i++) {
        size_t length = strlen(block_names[i].gguf);
        if (length == (size_t)(dot - rest) && memcmp(rest, block_names[i].gguf, length) == 0) {
            snprintf(hf, MAX_HF_NAME, "model.layers.%zu.%s%s", layer, block_names[i].hf, dot);
            return true;
        }
    }
    return false;
}

bool lb_gguf_name_of(const char *hf, char *out, size_t out_bytes)
{
    size_t layer;
    int used = 0;
    for (size_t i = 0; i < sizeof top_names / sizeof *top_names; i++) {
        if (strcmp(hf, top_names[i].hf) == 0)
            return snprintf(out, out_bytes, "%s", top_names[i].gguf) < (int)out_bytes;
    }
    if (sscanf(hf, "model.layers.%6zu.%n", &layer, &used) != 1 || used == 0)
        return false;
    for (size_t i = 0; i < sizeof block_names / sizeof *block_names; i++) {
        const size_t length = strlen(block_names[i].hf);
        const char *rest = hf + used + length;
        if (strncmp(hf + used, block_names[i].hf, length) == 0 &&
            (strcmp(rest, ".weight") == 0 || strcmp(rest, ".bias") == 0))
            return snprintf(out, out_bytes, "blk.%zu.%s%s", layer, block_names[i].gguf, rest) <
                   (int)out_bytes;
    }
    return false;
}

/* The weight that a tensor NAME + suffix belongs to, NAME.weight; NULL: it is not named so, or has none. */
static const lb_tensor *owner(const lb_gguf *gguf, const char *name, const char *suffix)
{
    char weight[MAX_HF_NAME];
    size_t length = strlen(name), stem = length - strlen(suffix);
    if (length <= strlen(suffix) || strcmp(name + stem, suffix) != 0)
        return NULL;
    snprintf(weight, sizeof weight, "%.*s.weight", (int)stem, name);
    return lb_gguf_tensor(gguf, weight);
}

/* NVFP4's float of a whole tensor, beside the tensor's weight. */
static lb_status check_scale(const lb_gguf *gguf, const lb_tensor *scale, const lb_tensor *weight,
                             lb_error *err)
{
    float value;
    if (weight->dtype != LB_DTYPE_NVFP4)
        return lb_fail(err, LB_EUNSUPPORTED, "%s: tensor \"%s\" scales %s, which is %s; lowbit reads scales "
                       "of NVFP4 only", gguf->path, scale->name, weight->name, lb_dtype_name(weight->dtype));
    if (scale->dtype != LB_DTYPE_F32 || lb_tensor_elems(scale) != 1)
        return lb_fail(err, LB_EFORMAT, "%s: tensor \"%s\" holds %zu %s, one F32 was expected", gguf->path,
                       scale->name, lb_tensor_elems(scale), lb_dtype_name(scale->dtype));
    memcpy(&value, scale->data, sizeof value);
    if (!isfinite(value))
        return lb_fail(err, LB_EFORMAT, "%s: tensor \"%s\" is %g, not a finite number", gguf->path,
                       scale->name, (double)value);
    return LB_OK;
}

/* tensor->scale of a weight that has one. */
static lb_status set_scale(const lb_gguf *gguf, lb_tensor *weight, lb_error *err)
{
    char name[MAX_HF_NAME];
    size_t length = strlen(weight->name), suffix = strlen(".weight");
    if (length <= suffix || strcmp(weight->name + length - suffix, ".weight") != 0)
        return LB_OK;
    snprintf(name, sizeof name, "%.*s.scale", (int)(length - suffix), weight->name);
    const lb_tensor *scale = lb_gguf_tensor(gguf, name);
    if (!scale)
        return LB_OK;
    LB_TRY(check_scale(gguf, scale, weight, err));
    weight->scale = scale->data;
    return LB_OK;
}

/* Frequencies that the config carries instead, or that follow from it; scales, which go with their weights
 * (set_scale) or are for activations rounded in advance, which lowbit does not do. */
static bool is_dropped(const lb_gguf *gguf, const char *name)
{
    size_t layer;
    const char *rest = split_block_name(name, &layer);
    if (owner(gguf, name, ".scale") || owner(gguf, name, ".input_scale"))
        return true;
    return strcmp(name, "rope_freqs.weight") == 0 || (rest && strcmp(rest, "attn_rot_embd.weight") == 0) ||
           (rest && strcmp(rest, "rope_freqs.weight") == 0);
}

/* The heads of attn_q or attn_k where the architecture interleaves them. */
static lb_status set_interleaving(const lb_gguf *gguf, const shape *s, const char *gguf_name,
                                  lb_tensor *tensor, lb_error *err)
{
    size_t layer;
    const char *rest = split_block_name(gguf_name, &layer);
    if (!s->arch->interleaved || !rest)
        return LB_OK;
    bool query = strncmp(rest, "attn_q.", 7) == 0, key = strncmp(rest, "attn_k.", 7) == 0;
    if (!query && !key)
        return LB_OK;
    size_t heads = query ? s->heads : s->kv_heads;
    size_t rows = tensor->rank > 1 ? lb_tensor_rows(tensor) : lb_tensor_cols(tensor);
    if (tensor->rank < 1 || tensor->rank > 2 || rows / s->head_dim != heads || rows % s->head_dim != 0)
        return lb_fail(err, LB_EFORMAT, "%s: tensor \"%s\" has %zu rows, %zu heads of %zu were expected",
                       gguf->path, gguf_name, rows, heads, s->head_dim);
    tensor->interleaved_heads = heads;
    return LB_OK;
}

/* The tensors under their new names, sorted; their count is in *count. */
static lb_status rename_tensors(const lb_gguf *gguf, const shape *s, lb_tensor **out, size_t *count,
                                lb_error *err)
{
    lb_tensor_set set = {0};
    LB_TRY(lb_alloc_array(&set.tensors, gguf->tensor_count, sizeof *set.tensors, gguf->path, err));
    lb_status st = LB_OK;
    for (size_t i = 0; i < gguf->tensor_count; i++) {
        char name[MAX_HF_NAME];
        lb_tensor tensor = gguf->tensors[i];
        if (is_dropped(gguf, tensor.name))
            continue;
        if (!map_name(tensor.name, s->layers, name)) {
            st = lb_fail(err, LB_EUNSUPPORTED, "%s: tensor \"%s\" is none that a %s model of %zu blocks has",
                         gguf->path, tensor.name, s->arch->gguf, s->layers);
            goto done;
        }
        LB_GO(set_interleaving(gguf, s, gguf->tensors[i].name, &tensor, err));
        LB_GO(set_scale(gguf, &tensor, err));
        tensor.name = lb_strdup(name);
        if (!tensor.name) {
            st = lb_fail(err, LB_ENOMEM, "%s: no memory for a tensor's name", gguf->path);
            goto done;
        }
        set.tensors[set.count++] = tensor;
    }
    LB_GO(lb_tensors_sort(set.tensors, set.count, gguf->path, err));
    *out = set.tensors;
    *count = set.count;
    return LB_OK;
done:
    lb_tensor_set_free(&set);
    return st;
}

static const char *torch_dtype(lb_dtype dtype)
{
    if (dtype == LB_DTYPE_F32)
        return "float32";
    return dtype == LB_DTYPE_BF16 ? "bfloat16" : "float16";
}

/* object[hf_key] = the token id under gguf_key, where there is one. */
static lb_status set_token_id(const lb_gguf *gguf, json_t *object, const char *gguf_key, const char *hf_key,
                              lb_error *err)
{
    size_t id;
    if (!lb_gguf_has(gguf, gguf_key))
        return LB_OK;
    LB_TRY(lb_gguf_size(gguf, gguf_key, 0, UINT32_MAX, 0, &id, err));
    if (id < UINT32_MAX && json_object_set_new(object, hf_key, json_integer((json_int_t)id)) != 0)
        return lb_fail(err, LB_ENOMEM, "%s: no memory for its configuration", gguf->path);
    return LB_OK;
}

static json_t *pack_config(const lb_gguf *gguf, const shape *s)
{
    bool attention_bias = lb_gguf_tensor(gguf, "blk.0.attn_q.bias") != NULL;
    bool mlp_bias = lb_gguf_tensor(gguf, "blk.0.ffn_up.bias") != NULL;
    bool tied = lb_gguf_tensor(gguf, "output.weight") == NULL;
    lb_dtype dtype = lb_gguf_tensor(gguf, "token_embd.weight")->dtype;
    return json_pack("{s:[s], s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:s, s:b, s:b, s:b,"
                     " s:s}",
                     "architectures", s->arch->hf_class, "model_type", s->arch->hf_type,
                     "hidden_size", (json_int_t)s->hidden, "intermediate_size", (json_int_t)s->ffn,
                     "num_hidden_layers", (json_int_t)s->layers, "num_attention_heads", (json_int_t)s->heads,
                     "num_key_value_heads", (json_int_t)s->kv_heads, "head_dim", (json_int_t)s->head_dim,
                     "vocab_size", (json_int_t)s->vocab, "max_position_embeddings", (json_int_t)s->context,
                     "rms_norm_eps", s->eps, "rope_theta", s->theta, "hidden_act", "silu",
                     "attention_bias", (int)attention_bias, "mlp_bias", (int)mlp_bias,
                     "tie_word_embeddings", (int)tied, "torch_dtype", torch_dtype(dtype));
}

static lb_status make_config(const lb_gguf *gguf, const shape *s, json_t **out, lb_error *err)
{
    size_t window;
    json_t *scaling = NULL;
    lb_status st = LB_OK;
    json_t *config = pack_config(gguf, s);
    if (!config)
        return lb_fail(err, LB_ENOMEM, "%s: no memory for its configuration", gguf->path);
    LB_GO(lb_gguf_rope_scaling(gguf, s->arch->gguf, s->theta, s->head_dim, &scaling, err));
    if (json_object_set_new(config, "rope_scaling", scaling) != 0)
        LB_GO(lb_fail(err, LB_ENOMEM, "%s: no memory for its configuration", gguf->path));
    LB_GO(set_token_id(gguf, config, "tokenizer.ggml.bos_token_id", "bos_token_id", err));
    LB_GO(set_token_id(gguf, config, "tokenizer.ggml.eos_token_id", "eos_token_id", err));
    LB_GO(want_size(gguf, s->arch, "attention.sliding_window", 0, 0, &window, err));
    if (window > 0 && (json_object_set_new(config, "sliding_window", json_integer((json_int_t)window)) != 0 ||
                       json_object_set_new(config, "use_sliding_window", json_true()) != 0))
        LB_GO(lb_fail(err, LB_ENOMEM, "%s: no memory for its configuration", gguf->path));
    *out = config;
    config = NULL;
done:
    json_decref(config);
    return st;
}

lb_status lb_gguf_to_hf(lb_gguf *gguf, lb_tensor_set *out, json_t **config, lb_error *err)
{
    shape s;
    json_t *made = NULL;
    lb_tensor_set set = {0};
    LB_TRY(read_shape(gguf, &s, err));
    LB_TRY(make_config(gguf, &s, &made, err));
    lb_status st;
    LB_GO(rename_tensors(gguf, &s, &set.tensors, &set.count, err));
    LB_GO(lb_alloc_array(&set.files, 1, sizeof *set.files, gguf->path, err));
    LB_GO(lb_alloc_array(&set.file_names, 1, sizeof *set.file_names, gguf->path, err));
    set.file_names[0] = lb_strdup(gguf->path);
    if (!set.file_names[0])
        LB_GO(lb_fail(err, LB_ENOMEM, "%s: no memory for its name", gguf->path));
    set.files[0] = gguf->mapping.size ? gguf->mapping : (lb_mapping){.data = gguf->data, .size = 0};
    set.file_count = 1;
    gguf->mapping = (lb_mapping){0};
    *out = set;
    *config = made;
    return LB_OK;
done:
    json_decref(made);
    lb_tensor_set_free(&set);
    return st;
}
