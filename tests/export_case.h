/* SPDX-License-Identifier: MIT
 * What the tests of export and import share: a tiny model in some format, exported, and the exported folder
 * as the slow second reader (checkpoint_reader.h) sees it. */
#ifndef LB_TESTS_EXPORT_CASE_H
#define LB_TESTS_EXPORT_CASE_H

#include "quantize_case.h"

#include "lowbit/export.h"

enum { EXPORT_LAYERS = 2, EXPORT_LINEARS = 7 };

static const struct {
    const char *suffix;
    size_t rows, cols;
} export_linears[EXPORT_LINEARS] = {{"self_attn.q_proj", 64, 64}, {"self_attn.k_proj", 32, 64},
                                    {"self_attn.v_proj", 32, 64}, {"self_attn.o_proj", 64, 64},
                                    {"mlp.gate_proj", 128, 64},   {"mlp.up_proj", 128, 64},
                                    {"mlp.down_proj", 64, 128}};

static const tiny_model_options export_tiny = {
    .seed = 21, .ffn = 128, .dtype = LB_DTYPE_BF16, .tokenizer = TINY_BPE};

/* The layer's name, valid until the next call. */
static inline const char *export_layer(size_t block, size_t linear)
{
    static char name[96];
    snprintf(name, sizeof name, "model.layers.%zu.%s", block, export_linears[linear].suffix);
    return name;
}

/* A folder with the tiny model in `format` by round-to-nearest, made once. */
static inline const char *export_quantized(const char *format, const char *const *rules, size_t rule_count)
{
    char name[96];
    snprintf(name, sizeof name, "q-%s-%s", format, rule_count ? "mixed" : "plain");
    for (char *at = name; *at; at++)
        *at = *at == '/' ? '_' : *at;
    const char *path = in_work(name);
    if (scratch_exists(path))
        return path;
    lb_quantize_options o = small_options(tiny_in_work("tiny", &export_tiny), path);
    lb_quantize_result result;
    o.method = "rtn";
    o.format = format;
    o.layer_rules = rules;
    o.layer_rule_count = rule_count;
    must_quantize(&o, &result);
    lb_quantize_result_free(&result);
    return path;
}

static inline lb_export_options export_options(const char *model, const char *kind)
{
    lb_export_options o;
    lb_export_options_init(&o);
    o.model = model;
    o.kind = kind;
    o.output = in_work("exported");
    scratch_remove(o.output);
    return o;
}

static inline lb_export_result must_export(const lb_export_options *o)
{
    lb_export_result r;
    lb_error err;
    if (lb_export(o, &r, &err) != LB_OK)
        fail_msg("%s to %s: %s", o->model, o->kind, err.msg);
    return r;
}

/* Fails with these words, and leaves nothing. */
static inline void must_not_export(const lb_export_options *o, lb_status wanted, const char *words)
{
    lb_export_result r;
    lb_error err = {LB_OK, ""};
    const lb_status st = lb_export(o, &r, &err);
    if (st != wanted || !strstr(err.msg, words))
        fail_msg("%s to %s: status %d, \"%s\"; wanted %d, \"%s\"", o->model, o->kind, (int)st, err.msg,
                 (int)wanted, words);
    assert_false(scratch_exists(o->output));
    assert_false(scratch_exists(in_work("exported.partial")));
}

/* An exported folder: one file, no index. */
static inline reader *export_open(const char *folder)
{
    reader *r = calloc(1, sizeof *r);
    assert_non_null(r);
    r->config = reader_json(folder, "config.json");
    reader_add_file(r, folder, "model.safetensors");
    return r;
}

/* A tensor of a layer, of this type and shape (cols 0: a vector). */
static inline const unsigned char *export_part(const reader *r, const char *layer, const char *suffix,
                                               const char *type, size_t rows, size_t cols)
{
    char name[160];
    snprintf(name, sizeof name, "%s%s", layer, suffix);
    const reader_tensor *t = reader_get(r, name, type);
    assert_int_equal(t->rank, cols ? 2 : 1);
    assert_int_equal(t->shape[0], rows);
    if (cols)
        assert_int_equal(t->shape[1], cols);
    return t->data;
}

/* What quantization_config says under `key`. */
static inline void config_says(const char *folder, const char *key, const char *text)
{
    json_t *config = reader_json(folder, "config.json");
    const json_t *value = json_object_get(json_object_get(config, "quantization_config"), key);
    char *got = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    if (!got || strcmp(got, text) != 0)
        fail_msg("%s: \"%s\" is %s, wanted %s", folder, key, got ? got : "missing", text);
    free(got);
    json_decref(config);
}

/* Bit `bit` of a word of 32, little endian. */
static inline unsigned export_bit(const unsigned char *words, size_t word, size_t bit)
{
    return (unsigned)words[4 * word + bit / 8] >> bit % 8 & 1u;
}

#endif
