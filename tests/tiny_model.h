/* SPDX-License-Identifier: MIT
 * A small random model for tests, in memory and as a Hugging Face folder: config.json,
 * model.safetensors and, if wanted, a tokenizer of bytes. Zero-initialised options give a sensible
 * model; the same options give the same bytes.
 *
 *     tiny_model_options options = {.seed = 1, .tokenizer = TINY_BYTES};
 *     assert_int_equal(tiny_model_write("/tmp/x", &options), 0);
 */
#ifndef LB_TESTS_TINY_MODEL_H
#define LB_TESTS_TINY_MODEL_H

#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/half.h"
#include "base/rng.h"
#include "io/safetensors.h"

typedef enum tiny_tokenizer {
    TINY_NO_TOKENIZER,
    TINY_BYTES, /* ids 0..255 are bytes, 256.. "<|endoftext|>", "<|im_start|>", "<|im_end|>" */
    TINY_BPE /* the same with a few merges before the three special tokens */
} tiny_tokenizer;

typedef struct tiny_model_options {
    uint64_t seed;
    const char *architecture; /* NULL: LlamaForCausalLM */
    size_t hidden, ffn, layers, heads, kv_heads, head_dim, vocab, context; /* 0: see tiny_model_defaults */
    size_t window; /* Mistral */
    bool tied;
    lb_dtype dtype; /* F32, F16 or BF16 */
    double rope_theta, norm_eps;
    tiny_tokenizer tokenizer;
    bool no_chat_template;
} tiny_model_options;

typedef struct tiny_tensor {
    char name[96];
    size_t rows, cols; /* rows 0: a vector */
    float *values; /* as the file's type can hold them */
} tiny_tensor;

typedef struct tiny_model {
    tiny_model_options options; /* with all defaults filled in */
    bool qkv_bias, qk_norm;
    tiny_tensor *tensors;
    size_t count;
} tiny_model;

static const char *const tiny_merges[][2] = {{"t", "h"},  {"th", "e"},        {"i", "n"}, {"a", "n"},
                                             {"an", "d"}, {"\xC4\xA0", "the"}}; /* U+0120 is the space */
enum { TINY_MERGES = 6, TINY_SPECIALS = 3 };
static const char *const tiny_specials[TINY_SPECIALS] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};

static inline tiny_model_options tiny_model_defaults(tiny_model_options o)
{
    o.architecture = o.architecture ? o.architecture : "LlamaForCausalLM";
    o.hidden = o.hidden ? o.hidden : 64;
    o.ffn = o.ffn ? o.ffn : 96;
    o.layers = o.layers ? o.layers : 2;
    o.heads = o.heads ? o.heads : 4;
    o.kv_heads = o.kv_heads ? o.kv_heads : 2;
    o.head_dim = o.head_dim ? o.head_dim : o.hidden / o.heads;
    o.vocab = o.vocab ? o.vocab : 288;
    o.context = o.context ? o.context : 128;
    o.rope_theta = o.rope_theta > 0 ? o.rope_theta : 10000.0;
    o.norm_eps = o.norm_eps > 0 ? o.norm_eps : 1e-5;
    return o;
}

/* ---- Weights ----------------------------------------------------------------------------------------- */

static inline float tiny_round(lb_dtype dtype, float x)
{
    if (dtype == LB_DTYPE_F16)
        return lb_f16_to_float(lb_f16_from_float(x));
    return dtype == LB_DTYPE_BF16 ? lb_bf16_to_float(lb_bf16_from_float(x)) : x;
}

/* Values mean + spread * normal. */
static inline void tiny_add(tiny_model *m, lb_rng *rng, const char *name, size_t rows, size_t cols,
                            double mean, double spread)
{
    tiny_tensor *t = &m->tensors[m->count++];
    const size_t n = (rows ? rows : 1) * cols;
    snprintf(t->name, sizeof t->name, "%s", name);
    t->rows = rows;
    t->cols = cols;
    t->values = malloc(n * sizeof *t->values);
    for (size_t i = 0; t->values && i < n; i++)
        t->values[i] = tiny_round(m->options.dtype, (float)(mean + spread * lb_rng_normal(rng)));
}

static inline void tiny_add_layer(tiny_model *m, lb_rng *rng, size_t layer)
{
    const tiny_model_options *o = &m->options;
    const size_t q = o->heads * o->head_dim, kv = o->kv_heads * o->head_dim;
    const struct {
        const char *suffix;
        size_t rows, cols;
        bool bias;
    } linears[] = {
        {"self_attn.q_proj", q, o->hidden, m->qkv_bias},  {"self_attn.k_proj", kv, o->hidden, m->qkv_bias},
        {"self_attn.v_proj", kv, o->hidden, m->qkv_bias}, {"self_attn.o_proj", o->hidden, q, false},
        {"mlp.gate_proj", o->ffn, o->hidden, false},      {"mlp.up_proj", o->ffn, o->hidden, false},
        {"mlp.down_proj", o->hidden, o->ffn, false}};
    char name[96];
    for (size_t i = 0; i < sizeof linears / sizeof *linears; i++) {
        snprintf(name, sizeof name, "model.layers.%zu.%s.weight", layer, linears[i].suffix);
        tiny_add(m, rng, name, linears[i].rows, linears[i].cols, 0, 1.5 / sqrt((double)linears[i].cols));
        snprintf(name, sizeof name, "model.layers.%zu.%s.bias", layer, linears[i].suffix);
        if (linears[i].bias)
            tiny_add(m, rng, name, 0, linears[i].rows, 0, 0.5);
    }
    static const char *const norms[] = {"input_layernorm", "post_attention_layernorm", "self_attn.q_norm",
                                        "self_attn.k_norm"};
    for (size_t i = 0; i < (m->qk_norm ? 4u : 2u); i++) {
        snprintf(name, sizeof name, "model.layers.%zu.%s.weight", layer, norms[i]);
        tiny_add(m, rng, name, 0, i < 2 ? o->hidden : o->head_dim, 1, 0.3);
    }
}

static inline void tiny_model_free(tiny_model *m)
{
    for (size_t i = 0; m && i < m->count; i++)
        free(m->tensors[i].values);
    if (m)
        free(m->tensors);
    free(m);
}

static inline tiny_model *tiny_model_make(const tiny_model_options *options)
{
    tiny_model *m = calloc(1, sizeof *m);
    lb_rng rng;
    if (!m)
        return NULL;
    m->options = tiny_model_defaults(*options);
    const tiny_model_options *o = &m->options;
    m->qkv_bias = strcmp(o->architecture, "Qwen2ForCausalLM") == 0;
    m->qk_norm = strcmp(o->architecture, "Qwen3ForCausalLM") == 0;
    m->tensors = calloc(3 + 14 * o->layers, sizeof *m->tensors);
    if (!m->tensors) {
        free(m);
        return NULL;
    }
    lb_rng_seed(&rng, o->seed);
    tiny_add(m, &rng, "model.embed_tokens.weight", o->vocab, o->hidden, 0, 0.5);
    for (size_t layer = 0; layer < o->layers; layer++)
        tiny_add_layer(m, &rng, layer);
    tiny_add(m, &rng, "model.norm.weight", 0, o->hidden, 1, 0.3);
    if (!o->tied)
        tiny_add(m, &rng, "lm_head.weight", o->vocab, o->hidden, 0, 0.5);
    return m;
}

/* ---- Files ------------------------------------------------------------------------------------------- */

static inline int tiny_dump(const char *dir, const char *file, json_t *object)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, file);
    const int failed = json_dump_file(object, path, JSON_INDENT(1));
    json_decref(object);
    return failed;
}

static inline int tiny_save_config(const char *dir, const tiny_model_options *o)
{
    static const char *const type_names[] = {"float32", "float16", "bfloat16"};
    json_t *c =
        json_pack("{s:[s], s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:s, s:b, s:s}", "architectures",
                  o->architecture, "hidden_size", (json_int_t)o->hidden, "intermediate_size",
                  (json_int_t)o->ffn, "num_hidden_layers", (json_int_t)o->layers, "num_attention_heads",
                  (json_int_t)o->heads, "num_key_value_heads", (json_int_t)o->kv_heads, "head_dim",
                  (json_int_t)o->head_dim, "vocab_size", (json_int_t)o->vocab, "max_position_embeddings",
                  (json_int_t)o->context, "rms_norm_eps", o->norm_eps, "rope_theta", o->rope_theta,
                  "hidden_act", "silu", "tie_word_embeddings", o->tied, "torch_dtype", type_names[o->dtype]);
    if (o->window)
        json_object_set_new(c, "sliding_window", json_integer((json_int_t)o->window));
    return tiny_dump(dir, "config.json", c);
}

/* The character that stands for a byte in byte-level vocabularies (GPT-2), as UTF-8. */
static inline void tiny_byte_name(unsigned byte, char out[3])
{
    unsigned code = byte, next = 256;
    for (unsigned b = 0; b <= byte; b++) {
        const bool itself = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        code = itself ? b : next++;
    }
    if (code < 128) {
        out[0] = (char)code;
        out[1] = '\0';
    } else {
        out[0] = (char)(0xC0 | code >> 6);
        out[1] = (char)(0x80 | (code & 63));
        out[2] = '\0';
    }
}

static inline json_t *tiny_special(json_int_t id, const char *text)
{
    return json_pack("{s:I, s:s, s:b, s:b, s:b, s:b, s:b}", "id", id, "content", text, "single_word", 0,
                     "lstrip", 0, "rstrip", 0, "normalized", 0, "special", 1);
}

static inline int tiny_save_tokenizer(const char *dir, const tiny_model_options *o)
{
    json_t *vocab = json_object(), *merges = json_array(), *added = json_array();
    json_int_t id = 0;
    char name[16];
    for (unsigned byte = 0; byte < 256; byte++) {
        tiny_byte_name(byte, name);
        json_object_set_new(vocab, name, json_integer(id++));
    }
    for (unsigned i = 0; o->tokenizer == TINY_BPE && i < TINY_MERGES; i++) {
        snprintf(name, sizeof name, "%s%s", tiny_merges[i][0], tiny_merges[i][1]);
        json_object_set_new(vocab, name, json_integer(id++));
        snprintf(name, sizeof name, "%s %s", tiny_merges[i][0], tiny_merges[i][1]);
        json_array_append_new(merges, json_string(name));
    }
    for (unsigned i = 0; i < TINY_SPECIALS; i++)
        json_array_append_new(added, tiny_special(id++, tiny_specials[i]));
    json_t *tokenizer = json_pack(
        "{s:s, s:n, s:n, s:o, s:n, s:{s:s, s:b, s:b, s:b}, s:n, s:{s:s, s:b, s:b, s:b}, "
        "s:{s:s, s:n, s:n, s:b, s:o, s:o}}",
        "version", "1.0", "truncation", "padding", "added_tokens", added, "normalizer", "pre_tokenizer",
        "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1, "use_regex", 1, "post_processor",
        "decoder", "type", "ByteLevel", "add_prefix_space", 1, "trim_offsets", 1, "use_regex", 1, "model",
        "type", "BPE", "dropout", "unk_token", "byte_fallback", 0, "vocab", vocab, "merges", merges);
    if (!tokenizer || tiny_dump(dir, "tokenizer.json", tokenizer) != 0)
        return -1;
    json_t *config = json_pack("{s:s, s:s, s:b}", "tokenizer_class", "GPT2Tokenizer", "eos_token",
                               o->no_chat_template ? "<|endoftext|>" : "<|im_end|>", "add_bos_token", 0);
    if (!o->no_chat_template)
        json_object_set_new(
            config, "chat_template",
            json_string("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + "
                        "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
                        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"));
    return tiny_dump(dir, "tokenizer_config.json", config);
}

static inline int tiny_save_weights(const char *dir, const tiny_model *m)
{
    char path[512];
    const lb_dtype dtype = m->options.dtype;
    lb_tensor_out *out = calloc(m->count, sizeof *out);
    lb_error err;
    int failed = !out;
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    for (size_t i = 0; out && i < m->count; i++) {
        const tiny_tensor *t = &m->tensors[i];
        const size_t n = (t->rows ? t->rows : 1) * t->cols;
        uint16_t *halves = dtype == LB_DTYPE_F32 ? NULL : malloc(n * sizeof *halves);
        for (size_t k = 0; halves && k < n; k++)
            halves[k] =
                dtype == LB_DTYPE_F16 ? lb_f16_from_float(t->values[k]) : lb_bf16_from_float(t->values[k]);
        out[i] = (lb_tensor_out){.name = t->name,
                                 .dtype = dtype,
                                 .rank = t->rows ? 2 : 1,
                                 .data = halves ? (void *)halves : (void *)t->values,
                                 .bytes = n * (dtype == LB_DTYPE_F32 ? 4 : 2)};
        out[i].shape[0] = t->rows ? t->rows : t->cols;
        out[i].shape[1] = t->rows ? t->cols : 0;
    }
    if (out && lb_safetensors_write(path, out, m->count, &err) != LB_OK) {
        fprintf(stderr, "tiny model: %s\n", err.msg);
        failed = 1;
    }
    for (size_t i = 0; out && dtype != LB_DTYPE_F32 && i < m->count; i++)
        free((void *)(uintptr_t)out[i].data);
    free(out);
    return failed;
}

/* 0, or -1 when something could not be written. The folder is made if it is not there. */
static inline int tiny_model_save(const char *dir, const tiny_model *m)
{
    mkdir(dir, 0777);
    if (tiny_save_config(dir, &m->options) != 0 || tiny_save_weights(dir, m) != 0)
        return -1;
    return m->options.tokenizer == TINY_NO_TOKENIZER ? 0 : tiny_save_tokenizer(dir, &m->options);
}

static inline int tiny_model_write(const char *dir, const tiny_model_options *options)
{
    tiny_model *m = tiny_model_make(options);
    const int failed = m ? tiny_model_save(dir, m) : -1;
    tiny_model_free(m);
    return failed;
}

/* Removes what tiny_model_save wrote. */
static inline void tiny_model_remove(const char *dir)
{
    static const char *const files[] = {"config.json", "model.safetensors", "tokenizer.json",
                                        "tokenizer_config.json"};
    char path[512];
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        remove(path);
    }
    remove(dir);
}

#endif
