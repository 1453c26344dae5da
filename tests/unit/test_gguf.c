/* SPDX-License-Identifier: MIT
 * GGUF: metadata of every type, tensors, the model made of them, and everything malformed refused. */
#include "near.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "broken_corpus.h"
#include "gguf_writer.h"
#include "io/gguf.h"
#include "model/weights.h"

enum { HIDDEN = 8, FFN = 16, HEADS = 2, KV = 1, HEAD = 4, VOCAB = 6 };

static void put_shape(gguf_writer *w, const char *arch, uint32_t layers)
{
    char key[64];
    const struct {
        const char *key;
        uint32_t value;
    } sizes[] = {{"block_count", layers},           {"context_length", 32},
                 {"embedding_length", HIDDEN},      {"feed_forward_length", FFN},
                 {"attention.head_count", HEADS},   {"attention.head_count_kv", KV}};
    gguf_key_string(w, "general.architecture", arch);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        snprintf(key, sizeof key, "%s.%s", arch, sizes[i].key);
        gguf_key_u32(w, key, sizes[i].value);
    }
    snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", arch);
    gguf_key_float(w, key, 1e-5f);
}

static void put_tensors(gguf_writer *w, uint32_t layers)
{
    static const struct {
        const char *name;
        size_t rows, cols;
    } block[] = {{"attn_norm", 0, HIDDEN},          {"attn_q", HEADS * HEAD, HIDDEN},
                 {"attn_k", KV * HEAD, HIDDEN},     {"attn_v", KV * HEAD, HIDDEN},
                 {"attn_output", HIDDEN, HIDDEN},   {"ffn_norm", 0, HIDDEN},
                 {"ffn_gate", FFN, HIDDEN},         {"ffn_up", FFN, HIDDEN},
                 {"ffn_down", HIDDEN, FFN}};
    gguf_tensor_ramp(w, "token_embd.weight", VOCAB, HIDDEN, 0);
    gguf_tensor_ramp(w, "output_norm.weight", 0, HIDDEN, 1);
    for (uint32_t layer = 0; layer < layers; layer++) {
        for (size_t i = 0; i < sizeof block / sizeof *block; i++) {
            char name[64];
            snprintf(name, sizeof name, "blk.%u.%s.weight", layer, block[i].name);
            gguf_tensor_ramp(w, name, block[i].rows, block[i].cols, 100.0f * (float)(i + 1));
        }
    }
}

static lb_gguf *parse(const gguf_bytes *file)
{
    lb_error err;
    lb_gguf *gguf;
    if (lb_gguf_parse(file->data, file->size, "test.gguf", &gguf, &err) != LB_OK)
        fail_msg("%s", err.msg);
    return gguf;
}

/* Writes out what w holds and makes a model of it. */
static void make_model(gguf_writer *w, gguf_bytes *file, lb_tensor_set *set, json_t **config)
{
    lb_error err;
    *file = gguf_finish(w);
    lb_gguf *gguf = parse(file);
    if (lb_gguf_to_hf(gguf, set, config, &err) != LB_OK)
        fail_msg("%s", err.msg);
    lb_gguf_close(gguf);
}

static void drop_model(gguf_bytes *file, lb_tensor_set *set, json_t *config)
{
    lb_tensor_set_free(set);
    json_decref(config);
    free(file->data);
}

/* The sentence of a model that must be refused. */
static const char *refused_model(gguf_writer *w, lb_status wanted)
{
    static lb_error err;
    lb_tensor_set set;
    json_t *config;
    gguf_bytes file = gguf_finish(w);
    lb_gguf *gguf = parse(&file);
    assert_int_equal(lb_gguf_to_hf(gguf, &set, &config, &err), wanted);
    lb_gguf_close(gguf);
    free(file.data);
    return err.msg;
}

static lb_status open_model(const char *path, lb_error *err)
{
    lb_gguf *gguf;
    lb_tensor_set set;
    json_t *config;
    lb_status st = lb_gguf_open(path, &gguf, err);
    if (st != LB_OK)
        return st;
    st = lb_gguf_to_hf(gguf, &set, &config, err);
    lb_gguf_close(gguf);
    if (st != LB_OK)
        return st;
    for (size_t i = 0; i < set.count; i++) {
        float *row = malloc(lb_tensor_cols(&set.tensors[i]) * sizeof *row);
        assert_non_null(row);
        assert_int_equal(lb_tensor_read(&set.tensors[i], lb_tensor_rows(&set.tensors[i]) - 1, 1, row, err),
                         LB_OK);
        free(row);
        lb_tensor_forget(&set, &set.tensors[i]);
    }
    lb_tensor_set_free(&set);
    json_decref(config);
    return LB_OK;
}

static void broken_files(void **state)
{
    (void)state;
    assert_true(walk_corpus("gguf", open_model) >= 95);
}

/* One key of every integer type holding -3 or 250. */
static void integers(void **state)
{
    (void)state;
    static const struct {
        uint32_t type;
        size_t bytes;
        bool is_signed;
    } types[] = {{0, 1, false}, {1, 1, true}, {2, 2, false}, {3, 2, true},
                 {4, 4, false}, {5, 4, true}, {10, 8, false}, {11, 8, true}};
    gguf_writer w = {0};
    char key[16];
    for (uint32_t i = 0; i < 8; i++) {
        snprintf(key, sizeof key, "plus%u", i);
        gguf_key(&w, key, types[i].type, 100, types[i].bytes);
        snprintf(key, sizeof key, "minus%u", i);
        gguf_key(&w, key, types[i].type, (uint64_t)-3, types[i].bytes);
    }
    gguf_bytes file = gguf_finish(&w);
    lb_gguf *gguf = parse(&file);
    for (uint32_t i = 0; i < 8; i++) {
        lb_error err;
        size_t got = 7;
        double real;
        snprintf(key, sizeof key, "plus%u", i);
        assert_int_equal(lb_gguf_size(gguf, key, 0, 100, 0, &got, NULL), LB_OK);
        assert_int_equal(got, 100);
        assert_int_equal(lb_gguf_size(gguf, key, 0, 99, 0, &got, &err), LB_EFORMAT);
        assert_int_equal(lb_gguf_size(gguf, key, 101, 200, 0, &got, NULL), LB_EFORMAT);
        snprintf(key, sizeof key, "minus%u", i);
        lb_status st = lb_gguf_size(gguf, key, 0, SIZE_MAX, 0, &got, &err);
        assert_int_equal(st, types[i].is_signed ? LB_EFORMAT : LB_OK);
        if (types[i].is_signed)
            assert_non_null(strstr(err.msg, "is -3, outside 0 to"));
        assert_int_equal(lb_gguf_double(gguf, key, 0, &real, NULL), LB_OK);
        assert_true(types[i].is_signed ? real == -3.0 : real > 250.0);
    }
    lb_gguf_close(gguf);
    free(file.data);
}

static void other_values(void **state)
{
    (void)state;
    static const char *const words[] = {"one", "", "three"};
    gguf_writer w = {0};
    double wide = -0.1;
    uint64_t wide_bits;
    memcpy(&wide_bits, &wide, sizeof wide_bits);
    gguf_key_float(&w, "float", 0.25f);
    gguf_key(&w, "double", 12, wide_bits, 8);
    gguf_key(&w, "nan", 6, 0x7fc00000, 4);
    gguf_key(&w, "yes", 7, 1, 1);
    gguf_key(&w, "maybe", 7, 2, 1);
    gguf_key_string(&w, "text", "hello");
    gguf_key_strings(&w, "words", words, 3);
    gguf_key(&w, "numbers", 9, 3, 4); /* int16 */
    gguf_put_number(&w.keys, 2, 8);
    gguf_put_number(&w.keys, 0xfffe0005, 4);
    gguf_bytes file = gguf_finish(&w);
    lb_gguf *gguf = parse(&file);
    lb_error err;
    double real, *reals;
    bool flag = false;
    size_t size, count;
    lb_span text, *texts;
    assert_int_equal(lb_gguf_double(gguf, "float", 0, &real, NULL), LB_OK);
    assert_true(real == 0.25);
    assert_int_equal(lb_gguf_double(gguf, "double", 0, &real, NULL), LB_OK);
    assert_true(real == -0.1);
    assert_int_equal(lb_gguf_double(gguf, "absent", 9.5, &real, NULL), LB_OK);
    assert_true(real == 9.5);
    assert_int_equal(lb_gguf_double(gguf, "nan", 0, &real, &err), LB_EFORMAT);
    assert_int_equal(lb_gguf_double(gguf, "text", 0, &real, &err), LB_EFORMAT);
    assert_string_equal(err.msg, "test.gguf: key \"text\" is a string, not a number");
    assert_int_equal(lb_gguf_bool(gguf, "yes", false, &flag, NULL), LB_OK);
    assert_true(flag);
    assert_int_equal(lb_gguf_bool(gguf, "absent", false, &flag, NULL), LB_OK);
    assert_false(flag);
    assert_int_equal(lb_gguf_bool(gguf, "maybe", false, &flag, NULL), LB_EFORMAT);
    assert_int_equal(lb_gguf_bool(gguf, "float", false, &flag, NULL), LB_EFORMAT);
    assert_int_equal(lb_gguf_string(gguf, "text", (lb_span){0}, &text, NULL), LB_OK);
    assert_int_equal(text.length, 5);
    assert_memory_equal(text.data, "hello", 5);
    assert_int_equal(lb_gguf_string(gguf, "words", (lb_span){0}, &text, NULL), LB_EFORMAT);
    assert_int_equal(lb_gguf_size(gguf, "float", 0, 9, 0, &size, NULL), LB_EFORMAT);
    assert_int_equal(lb_gguf_strings(gguf, "words", &texts, &count, NULL), LB_OK);
    assert_int_equal(count, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(texts[i].length, strlen(words[i]));
        assert_memory_equal(texts[i].data, words[i], texts[i].length);
    }
    lb_free(texts);
    assert_int_equal(lb_gguf_doubles(gguf, "numbers", &reals, &count, NULL), LB_OK);
    assert_int_equal(count, 2);
    assert_true(reals[0] == 5.0 && reals[1] == -2.0);
    lb_free(reals);
    assert_int_equal(lb_gguf_doubles(gguf, "absent", &reals, &count, NULL), LB_OK);
    assert_int_equal(count, 0);
    lb_free(reals);
    assert_int_equal(lb_gguf_doubles(gguf, "words", &reals, &count, NULL), LB_EFORMAT);
    assert_int_equal(lb_gguf_strings(gguf, "numbers", &texts, &count, NULL), LB_EFORMAT);
    assert_true(lb_gguf_has(gguf, "nan") && !lb_gguf_has(gguf, "na") && !lb_gguf_has(gguf, "nano"));
    lb_gguf_close(gguf);
    free(file.data);
}

static void llama_model(void **state)
{
    (void)state;
    gguf_writer w = {0};
    gguf_bytes file;
    lb_tensor_set set;
    json_t *config;
    put_shape(&w, "llama", 2);
    gguf_key_float(&w, "llama.rope.freq_base", 500000.0f);
    gguf_key_u32(&w, "tokenizer.ggml.bos_token_id", 1);
    gguf_key_u32(&w, "tokenizer.ggml.eos_token_id", 2);
    put_tensors(&w, 2);
    make_model(&w, &file, &set, &config);
    json_t *wanted = json_loads(
        "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_size\":8,"
        "\"intermediate_size\":16,\"num_hidden_layers\":2,\"num_attention_heads\":2,"
        "\"num_key_value_heads\":1,\"head_dim\":4,\"vocab_size\":6,\"max_position_embeddings\":32,"
        "\"rms_norm_eps\":1e-5,\"rope_theta\":500000.0,\"rope_scaling\":null,\"hidden_act\":\"silu\","
        "\"attention_bias\":false,\"mlp_bias\":false,\"tie_word_embeddings\":true,\"bos_token_id\":1,"
        "\"eos_token_id\":2,\"torch_dtype\":\"float32\"}", 0, NULL);
    assert_non_null(wanted);
    assert_true(json_equal(config, wanted));
    json_decref(wanted);
    assert_int_equal(set.count, 2 + 2 * 9);
    const lb_tensor *q = lb_tensor_find(&set, "model.layers.1.self_attn.q_proj.weight");
    const lb_tensor *k = lb_tensor_find(&set, "model.layers.0.self_attn.k_proj.weight");
    assert_non_null(q);
    assert_non_null(k);
    assert_int_equal(q->interleaved_heads, HEADS);
    assert_int_equal(k->interleaved_heads, KV);
    assert_int_equal(lb_tensor_find(&set, "model.layers.0.self_attn.v_proj.weight")->interleaved_heads, 0);
    assert_null(lb_tensor_find(&set, "lm_head.weight"));
    float got[KV * HEAD * HIDDEN];
    assert_int_equal(lb_tensor_read(k, 0, KV * HEAD, got, NULL), LB_OK);
    /* Stored rows 0 1 2 3 are pairs (0, 0') (1, 1'); HF has the first halves, then the second ones. */
    const float first_column[4] = {300.0f, 316.0f, 308.0f, 324.0f};
    for (size_t row = 0; row < 4; row++)
        assert_true(got[row * HIDDEN] == first_column[row]);
    drop_model(&file, &set, config);
}

static void qwen_models(void **state)
{
    (void)state;
    for (int three = 0; three < 2; three++) {
        gguf_writer w = {0};
        gguf_bytes file;
        lb_tensor_set set;
        json_t *config;
        put_shape(&w, three ? "qwen3" : "qwen2", 1);
        put_tensors(&w, 1);
        gguf_tensor_ramp(&w, "output.weight", VOCAB, HIDDEN, 9);
        if (three)
            gguf_tensor_ramp(&w, "blk.0.attn_q_norm.weight", 0, HEAD, 2);
        else
            gguf_tensor_ramp(&w, "blk.0.attn_q.bias", 0, HEADS * HEAD, 2);
        make_model(&w, &file, &set, &config);
        assert_string_equal(json_string_value(json_object_get(config, "model_type")),
                            three ? "qwen3" : "qwen2");
        assert_true(json_is_false(json_object_get(config, "tie_word_embeddings")));
        assert_int_equal(json_is_true(json_object_get(config, "attention_bias")), !three);
        assert_non_null(lb_tensor_find(&set, "lm_head.weight"));
        assert_non_null(lb_tensor_find(&set, three ? "model.layers.0.self_attn.q_norm.weight"
                                                   : "model.layers.0.self_attn.q_proj.bias"));
        for (size_t i = 0; i < set.count; i++)
            assert_int_equal(set.tensors[i].interleaved_heads, 0);
        drop_model(&file, &set, config);
    }
}

/* A llama of width 64 whose attn_q is MXFP4, row r all of 2^r, and whose attn_k is NVFP4: row r is all of
 * E2M1's code r + 1, times a float of the whole tensor where `scale` is not 0. */
static void put_four_bits(gguf_writer *w, uint8_t first_exponent, float scale)
{
    enum { WIDE = 64 };
    uint8_t q[HEADS * HEAD * 34], k[KV * HEAD * 36];
    memset(q, 0x22, sizeof q);
    for (size_t block = 0; block < 2 * HEADS * HEAD; block++)
        q[17 * block] = (uint8_t)(first_exponent + block / 2);
    for (size_t row = 0; row < KV * HEAD; row++) {
        memset(k + 36 * row, 0x38, 4);
        memset(k + 36 * row + 4, (int)(0x11 * (row + 1)), 32);
    }
    gguf_key_string(w, "general.architecture", "llama");
    gguf_key_u32(w, "llama.block_count", 1);
    gguf_key_u32(w, "llama.context_length", 32);
    gguf_key_u32(w, "llama.embedding_length", WIDE);
    gguf_key_u32(w, "llama.feed_forward_length", WIDE);
    gguf_key_u32(w, "llama.attention.head_count", HEADS);
    gguf_key_u32(w, "llama.attention.head_count_kv", KV);
    gguf_key_u32(w, "llama.attention.key_length", HEAD);
    gguf_key_u32(w, "llama.attention.value_length", HEAD);
    gguf_key_u32(w, "llama.rope.dimension_count", HEAD);
    gguf_key_float(w, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    gguf_tensor_ramp(w, "token_embd.weight", VOCAB, WIDE, 0);
    gguf_tensor(w, "blk.0.attn_q.weight", 39, HEADS * HEAD, WIDE, q, sizeof q);
    gguf_tensor(w, "blk.0.attn_k.weight", 40, KV * HEAD, WIDE, k, sizeof k);
    if (scale != 0.0f)
        gguf_tensor(w, "blk.0.attn_k.scale", 0, 0, 1, &scale, sizeof scale);
    gguf_tensor_ramp(w, "blk.0.attn_k.input_scale", 0, 1, 3.0f);
}

static const lb_tensor *find_four_bits(const lb_tensor_set *set, char which)
{
    char name[64];
    snprintf(name, sizeof name, "model.layers.0.self_attn.%c_proj.weight", which);
    const lb_tensor *t = lb_tensor_find(set, name);
    assert_non_null(t);
    return t;
}

static void four_bit_model(void **state)
{
    (void)state;
    static const float values[4] = {0.5f, 1.0f, 1.5f, 2.0f};
    static const size_t stored_row[4] = {0, 2, 1, 3}; /* of a head, in Hugging Face's order */
    for (int scaled = 0; scaled < 2; scaled++) {
        gguf_writer w = {0};
        gguf_bytes file;
        lb_tensor_set set;
        json_t *config;
        float got[64];
        put_four_bits(&w, 127, scaled ? 0.375f : 0.0f);
        make_model(&w, &file, &set, &config);
        assert_int_equal(set.count, 3); /* neither scale is a tensor of the model */
        const lb_tensor *q = find_four_bits(&set, 'q'), *k = find_four_bits(&set, 'k');
        assert_int_equal(q->dtype, LB_DTYPE_MXFP4);
        assert_int_equal(k->dtype, LB_DTYPE_NVFP4);
        for (size_t row = 0; row < HEADS * HEAD; row++) {
            assert_int_equal(lb_tensor_read(q, row, 1, got, NULL), LB_OK);
            for (size_t i = 0; i < 64; i++)
                assert_true(got[i] == ldexpf(1.0f, (int)(row / HEAD * HEAD + stored_row[row % HEAD])));
        }
        for (size_t row = 0; row < KV * HEAD; row++) {
            assert_int_equal(lb_tensor_read(k, row, 1, got, NULL), LB_OK);
            for (size_t i = 0; i < 64; i++)
                assert_true(got[i] == values[stored_row[row]] * (scaled ? 0.375f : 1.0f));
        }
        drop_model(&file, &set, config);
    }
}

/* Exponents 249 to 256: row 6 of the file, which is row 5 of the model, has the scale NaN. */
static void four_bit_nan_is_refused(void **state)
{
    (void)state;
    gguf_writer w = {0};
    gguf_bytes file;
    lb_tensor_set set;
    json_t *config;
    lb_error err;
    float got[HEADS * HEAD * 64];
    put_four_bits(&w, 249, 0.0f);
    make_model(&w, &file, &set, &config);
    const lb_tensor *q = find_four_bits(&set, 'q');
    assert_int_equal(lb_tensor_read(q, 0, HEADS * HEAD, got, &err), LB_OK);
    assert_true(isnan(got[5 * 64]) && isnan(got[5 * 64 + 63]) && isfinite(got[5 * 64 - 1]));
    lb_weight weight = {.name = "q", .rows = HEADS * HEAD, .cols = 64, .tensor = q};
    assert_int_equal(lb_weight_read(&weight, 0, 5, got, &err), LB_OK);
    assert_int_equal(lb_weight_read(&weight, 3, 4, got, &err), LB_EFORMAT);
    assert_non_null(strstr(err.msg, "q: the value at row 5, column 0 is"));
    drop_model(&file, &set, config);
}

/* The factors that a converter writes for Llama 3's rule, worked out here in its own terms. */
static void llama3_factors(double theta, size_t count, double factor, double low, double high, double context,
                           float *out)
{
    for (size_t i = 0; i < count; i++) {
        double wavelength = 6.283185307179586 * pow(theta, 2.0 * (double)i / (double)(2 * count));
        if (wavelength < context / high)
            out[i] = 1.0f;
        else if (wavelength > context / low)
            out[i] = (float)factor;
        else {
            double smooth = (context / wavelength - low) / (high - low);
            out[i] = (float)(1.0 / ((1.0 - smooth) / factor + smooth));
        }
    }
}

/* A llama of one block whose heads have 2 * count numbers, and its "rope_scaling". */
static json_t *scaling_of(float theta, const float *factors, size_t count, uint32_t context)
{
    gguf_writer w = {0};
    gguf_bytes file;
    lb_tensor_set set;
    json_t *config;
    uint32_t heads = 1, hidden = (uint32_t)(2 * count);
    gguf_key_string(&w, "general.architecture", "llama");
    gguf_key_u32(&w, "llama.block_count", 1);
    gguf_key_u32(&w, "llama.context_length", 131072);
    gguf_key_u32(&w, "llama.embedding_length", hidden);
    gguf_key_u32(&w, "llama.feed_forward_length", 8);
    gguf_key_u32(&w, "llama.attention.head_count", heads);
    gguf_key_float(&w, "llama.attention.layer_norm_rms_epsilon", 1e-6f);
    gguf_key_float(&w, "llama.rope.freq_base", theta);
    if (context)
        gguf_key_u32(&w, "llama.rope.scaling.original_context_length", context);
    gguf_tensor_ramp(&w, "token_embd.weight", 2, hidden, 0);
    gguf_tensor(&w, "rope_freqs.weight", 0, 0, count, factors, count * sizeof *factors);
    make_model(&w, &file, &set, &config);
    assert_int_equal(set.count, 1); /* the factors are no tensor of the model */
    json_t *scaling = json_incref(json_object_get(config, "rope_scaling"));
    drop_model(&file, &set, config);
    return scaling;
}

static void rope_rule_recovered(void **state)
{
    (void)state;
    static const struct {
        double theta;
        size_t count;
        double factor, low, high, context;
        uint32_t known;
    } cases[] = {
        {500000, 64, 8, 1, 4, 8192, 0},  {500000, 32, 32, 1, 4, 8192, 0}, {500000, 64, 8, 1, 4, 8192, 8192},
        {500000, 64, 16, 2, 6, 4096, 4096}, {1000000, 40, 4, 1, 2, 32768, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        float factors[64];
        llama3_factors(cases[i].theta, cases[i].count, cases[i].factor, cases[i].low, cases[i].high,
                       cases[i].context, factors);
        json_t *got = scaling_of((float)cases[i].theta, factors, cases[i].count, cases[i].known);
        assert_string_equal(json_string_value(json_object_get(got, "rope_type")), "llama3");
        assert_true(json_real_value(json_object_get(got, "factor")) == cases[i].factor);
        assert_true(json_real_value(json_object_get(got, "low_freq_factor")) == cases[i].low);
        assert_true(json_real_value(json_object_get(got, "high_freq_factor")) == cases[i].high);
        assert_true((double)json_integer_value(json_object_get(got, "original_max_position_embeddings")) ==
                    cases[i].context);
        json_decref(got);
    }
}

static void rope_other_factors(void **state)
{
    (void)state;
    const float ones[4] = {1, 1, 1, 1}, own[4] = {1.0f, 1.5f, 1.25f, 3.0f};
    json_t *got = scaling_of(10000.0f, ones, 4, 0);
    assert_true(json_is_null(got));
    json_decref(got);
    got = scaling_of(10000.0f, own, 4, 0);
    assert_string_equal(json_string_value(json_object_get(got, "rope_type")), "factors");
    json_t *list = json_object_get(got, "factors");
    assert_int_equal(json_array_size(list), 4);
    for (size_t i = 0; i < 4; i++)
        assert_true(json_real_value(json_array_get(list, i)) == (double)own[i]);
    json_decref(got);
}

static void rope_keys(void **state)
{
    (void)state;
    gguf_writer w = {0};
    gguf_bytes file;
    lb_tensor_set set;
    json_t *config;
    put_shape(&w, "qwen2", 1);
    gguf_key_string(&w, "qwen2.rope.scaling.type", "yarn");
    gguf_key_float(&w, "qwen2.rope.scaling.factor", 4.0f);
    gguf_key_u32(&w, "qwen2.rope.scaling.original_context_length", 32768);
    put_tensors(&w, 1);
    make_model(&w, &file, &set, &config);
    json_t *scaling = json_object_get(config, "rope_scaling");
    assert_string_equal(json_string_value(json_object_get(scaling, "rope_type")), "yarn");
    assert_int_equal(json_integer_value(json_object_get(scaling, "original_max_position_embeddings")), 32768);
    drop_model(&file, &set, config);
    put_shape(&w, "llama", 1);
    gguf_key_float(&w, "llama.rope.scale_linear", 2.0f);
    put_tensors(&w, 1);
    make_model(&w, &file, &set, &config);
    scaling = json_object_get(config, "rope_scaling");
    assert_string_equal(json_string_value(json_object_get(scaling, "rope_type")), "linear");
    assert_true(json_real_value(json_object_get(scaling, "factor")) == 2.0);
    drop_model(&file, &set, config);
    put_shape(&w, "llama", 1);
    gguf_key_float(&w, "llama.rope.scale_linear", 2.0f);
    put_tensors(&w, 1);
    gguf_tensor_ramp(&w, "rope_freqs.weight", 0, HEAD / 2, 1);
    assert_non_null(strstr(refused_model(&w, LB_EUNSUPPORTED), "both a rope_freqs tensor and"));
}

static void truncated(void **state)
{
    (void)state;
    static const char *const words[] = {"a", "bc"};
    gguf_writer w = {0};
    put_shape(&w, "llama", 1);
    gguf_key_strings(&w, "tokenizer.ggml.tokens", words, 2);
    put_tensors(&w, 1);
    gguf_bytes file = gguf_finish(&w);
    for (size_t cut = 0; cut < file.size; cut++) {
        uint8_t *data = malloc(cut ? cut : 1);
        assert_non_null(data);
        memcpy(data, file.data, cut);
        lb_error err = {LB_OK, ""};
        lb_gguf *gguf = NULL;
        assert_int_equal(lb_gguf_parse(data, cut, "cut", &gguf, &err), LB_EFORMAT);
        assert_null(gguf);
        assert_non_null(strstr(err.msg, "cut: "));
        free(data);
    }
    lb_gguf_close(parse(&file));
    free(file.data);
}

static void no_memory(void **state)
{
    (void)state;
    const float factors[HEAD / 2] = {1.0f, 2.0f};
    gguf_writer w = {0};
    put_shape(&w, "llama", 1);
    put_tensors(&w, 1);
    gguf_tensor(&w, "rope_freqs.weight", 0, 0, HEAD / 2, factors, sizeof factors);
    gguf_bytes file = gguf_finish(&w);
    size_t k = 1;
    for (lb_status st = LB_ENOMEM; st != LB_OK; k++) {
        lb_error err = {LB_OK, ""};
        lb_gguf *gguf = NULL;
        lb_tensor_set set = {0};
        json_t *config = NULL;
        lb_alloc_fail_at(k);
        st = lb_gguf_parse(file.data, file.size, "test.gguf", &gguf, &err);
        if (st == LB_OK)
            st = lb_gguf_to_hf(gguf, &set, &config, &err);
        lb_alloc_fail_at(0);
        assert_true(st == LB_OK || (st == LB_ENOMEM && err.status == LB_ENOMEM && !set.tensors && !config));
        lb_tensor_set_free(&set);
        json_decref(config);
        lb_gguf_close(gguf);
    }
    assert_true(k > 30);
    free(file.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broken_files),        cmocka_unit_test(integers),
        cmocka_unit_test(other_values),        cmocka_unit_test(llama_model),
        cmocka_unit_test(qwen_models),         cmocka_unit_test(four_bit_model),
        cmocka_unit_test(four_bit_nan_is_refused), cmocka_unit_test(rope_rule_recovered),
        cmocka_unit_test(rope_other_factors),  cmocka_unit_test(rope_keys),
        cmocka_unit_test(truncated),           cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
