/* SPDX-License-Identifier: MIT
 * GGUF files read by a slow reader of their own, block by block as ggml's sources describe them, against the
 * checkpoint that they were made from: the same numbers to the bit, rows of q and k in Llama's order. */
#define _GNU_SOURCE
#include "export_case.h"

#include "io/checkpoint.h"
#include "lowbit/eval.h"
#include "lowbit/tokenizer.h"

/* ---- A slow reader ----------------------------------------------------------------------------------- */

typedef struct slow_gguf {
    const unsigned char *data;
    size_t size, at;
    size_t tensors, keys, infos, body; /* counts, and where the lists and the tensors' bytes begin */
} slow_gguf;

static uint64_t take(slow_gguf *g, size_t bytes)
{
    uint64_t value = 0;
    assert_true(g->at + bytes <= g->size);
    for (size_t i = 0; i < bytes; i++)
        value |= (uint64_t)g->data[g->at++] << (8 * i);
    return value;
}

/* A string's place; moves past it. */
static const char *take_string(slow_gguf *g, size_t *length)
{
    *length = (size_t)take(g, 8);
    assert_true(*length <= g->size - g->at);
    const char *text = (const char *)g->data + g->at;
    g->at += *length;
    return text;
}

static void skip_value(slow_gguf *g, uint64_t type)
{
    static const size_t bytes[13] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    size_t length;
    assert_true(type < 13);
    if (type == 8) {
        take_string(g, &length);
    } else if (type == 9) {
        const uint64_t inner = take(g, 4), count = take(g, 8);
        for (uint64_t i = 0; i < count; i++)
            skip_value(g, inner);
    } else {
        take(g, bytes[type]);
    }
}

/* Leaves g->at behind the key's type; false when there is no such key. */
static bool find_key(slow_gguf *g, const char *key, uint64_t *type)
{
    g->at = 24;
    for (size_t i = 0; i < g->keys; i++) {
        size_t length;
        const char *name = take_string(g, &length);
        *type = take(g, 4);
        if (length == strlen(key) && memcmp(name, key, length) == 0)
            return true;
        skip_value(g, *type);
    }
    return false;
}

static slow_gguf open_file(const char *path)
{
    slow_gguf g = {0};
    size_t length;
    g.data = (const unsigned char *)scratch_read(path, &g.size);
    assert_non_null(g.data);
    assert_memory_equal(g.data, "GGUF", 4);
    g.at = 4;
    assert_int_equal(take(&g, 4), 3);
    g.tensors = (size_t)take(&g, 8);
    g.keys = (size_t)take(&g, 8);
    for (size_t i = 0; i < g.keys; i++) {
        take_string(&g, &length);
        skip_value(&g, take(&g, 4));
    }
    g.infos = g.at;
    for (size_t i = 0; i < g.tensors; i++) {
        take_string(&g, &length);
        for (uint64_t rank = take(&g, 4); rank > 0; rank--)
            take(&g, 8);
        take(&g, 4);
        take(&g, 8);
    }
    g.body = (g.at + 31) / 32 * 32;
    return g;
}

/* The bytes of a tensor, whose type and columns are as given. */
static const unsigned char *find_tensor(slow_gguf *g, const char *name, unsigned type, size_t rows,
                                        size_t cols)
{
    g->at = g->infos;
    for (size_t i = 0; i < g->tensors; i++) {
        size_t length, shape[4] = {1, 1, 1, 1};
        const char *text = take_string(g, &length);
        const uint64_t rank = take(g, 4);
        for (uint64_t d = 0; d < rank; d++)
            shape[d] = (size_t)take(g, 8);
        const uint64_t number = take(g, 4), offset = take(g, 8);
        if (length != strlen(name) || memcmp(text, name, length) != 0)
            continue;
        assert_int_equal(number, type);
        assert_int_equal(shape[0], cols);
        assert_int_equal(shape[1], rows);
        assert_int_equal(offset % 32, 0);
        assert_true(g->body + offset < g->size);
        return g->data + g->body + offset;
    }
    fail_msg("there is no tensor %s", name);
    return NULL;
}

static double e2m1(unsigned code)
{
    static const double values[8] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
    return code & 8 ? -values[code & 7] : values[code & 7];
}

static unsigned nibble(const unsigned char *qs, size_t i, size_t half)
{
    return i < half ? qs[i] & 15u : qs[i - half] >> 4;
}

/* Element i of a block of GGUF's type. */
static double element(unsigned type, const unsigned char *b, size_t i)
{
    switch (type) {
    case 2: /* Q4_0 */
        return reader_half(b) * ((int)nibble(b + 2, i, 16) - 8);
    case 3: /* Q4_1 */
        return reader_half(b) * nibble(b + 4, i, 16) + reader_half(b + 2);
    case 6: /* Q5_0 */
        return reader_half(b) *
               ((int)(nibble(b + 6, i, 16) | (unsigned)(b[2 + i / 8] >> i % 8 & 1) << 4) - 16);
    case 8: /* Q8_0 */
        return reader_half(b) * (signed char)b[2 + i];
    case 39: /* MXFP4 */
        return ldexp(e2m1(nibble(b + 1, i, 16)), b[0] - 127);
    default: { /* NVFP4: four scales, then eight bytes for each */
        const unsigned s = b[i / 16], e = s >> 3, m = s & 7;
        const double scale = e ? ldexp(8 + m, (int)e - 10) : ldexp(m, -9);
        return scale * e2m1(nibble(b + 4 + i / 16 * 8, i % 16, 8));
    }
    }
}

static size_t block_bytes(unsigned type)
{
    return type == 2 ? 18 : type == 3 ? 20 : type == 6 ? 22 : type == 8 ? 34 : type == 39 ? 17 : 36;
}

/* ---- Weights ----------------------------------------------------------------------------------------- */

static const char *const ggml_names[EXPORT_LINEARS] = {"attn_q",   "attn_k", "attn_v",  "attn_output",
                                                       "ffn_gate", "ffn_up", "ffn_down"};

/* Where llama.cpp's Llama keeps row `row` of q or k: halves of a head are interleaved. */
static size_t llama_row(size_t linear, size_t row)
{
    const size_t dim = 16; /* of a head */
    const size_t head = row / dim, half = row % dim / (dim / 2), pair = row % (dim / 2);
    return linear < 2 ? head * dim + 2 * pair + half : row;
}

static void check_layer(const reader *original, slow_gguf *g, size_t block, size_t linear, unsigned type,
                        double scale)
{
    const size_t rows = export_linears[linear].rows, cols = export_linears[linear].cols;
    const size_t elems = type == 40 ? 64 : 32, bytes = block_bytes(type);
    char name[64];
    snprintf(name, sizeof name, "blk.%zu.%s.weight", block, ggml_names[linear]);
    const unsigned char *data = find_tensor(g, name, type, rows, cols);
    double *want = reader_weight(original, export_layer(block, linear), rows, cols);
    for (size_t i = 0; i < rows * cols; i++) {
        const size_t stored = llama_row(linear, i / cols), col = i % cols;
        const unsigned char *b = data + (stored * (cols / elems) + col / elems) * bytes;
        const double got = element(type, b, col % elems) * scale;
        if (type == 3) { /* the minimum is rounded to f16 */
            const double tolerance = fabs(reader_half(b + 2)) * 0x1p-11;
            if (!(fabs(got - want[i]) <= tolerance))
                fail_msg("%s, row %zu, column %zu: %.9g, wanted %.9g", name, i / cols, col, got, want[i]);
            continue;
        }
        if (type == 40 ? (float)got != (float)want[i] && fabs(got - want[i]) > 0x1p-23 * fabs(want[i])
                       : got != want[i])
            fail_msg("%s, row %zu, column %zu: %.9g, wanted %.9g", name, i / cols, col, got, want[i]);
    }
    free(want);
}

static void codes_in_blocks(void **state)
{
    (void)state;
    static const struct {
        const char *format;
        unsigned type;
    } cases[] = {{"int4-g32", 2},      {"int4-g64", 2}, {"int4-row", 2},      {"int2-g32", 2},
                 {"int3-g32-asym", 2}, {"mxint4", 2},   {"int4-g32-asym", 3}, {"int5-g64", 6},
                 {"int8-g32", 8},      {"int7-row", 8}, {"mxint8", 8},        {"mxint6", 8},
                 {"int6-g32-asym", 8}, {"mxfp4", 39}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lb_export_options o = export_options(export_quantized(cases[i].format, NULL, 0), "gguf");
        const lb_export_result r = must_export(&o);
        assert_int_equal(r.layers, EXPORT_LAYERS * EXPORT_LINEARS);
        reader *original = reader_open(o.model, EXPORT_LAYERS);
        slow_gguf g = open_file(o.output);
        assert_int_equal(r.bytes, g.size);
        for (size_t block = 0; block < EXPORT_LAYERS; block++)
            for (size_t linear = 0; linear < EXPORT_LINEARS; linear++)
                check_layer(original, &g, block, linear, cases[i].type, 1.0);
        reader_close(original);
        free((void *)(uintptr_t)g.data);
    }
}

static void two_levels_of_scales(void **state)
{
    (void)state;
    lb_export_options o = export_options(export_quantized("nvfp4", NULL, 0), "gguf");
    must_export(&o);
    reader *original = reader_open(o.model, EXPORT_LAYERS);
    slow_gguf g = open_file(o.output);
    for (size_t linear = 0; linear < EXPORT_LINEARS; linear++) {
        char name[64];
        float scale;
        snprintf(name, sizeof name, "blk.1.%s.scale", ggml_names[linear]);
        memcpy(&scale, find_tensor(&g, name, 0, 1, 1), 4);
        check_layer(original, &g, 1, linear, 40, (double)scale);
    }
    reader_close(original);
    free((void *)(uintptr_t)g.data);
}

static void floats_as_asked(void **state)
{
    (void)state;
    static const struct {
        const char *dtype;
        unsigned type;
    } cases[] = {{"f32", 0}, {"f16", 1}, {"bf16", 30}, {NULL, 30}, {"q8_0", 8}};
    const char *model = tiny_in_work("tiny", &export_tiny);
    reader *original = export_open(model);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lb_export_options o = export_options(model, "gguf");
        o.dtype = cases[i].dtype;
        must_export(&o);
        slow_gguf g = open_file(o.output);
        find_tensor(&g, "token_embd.weight", cases[i].type, 288, 64);
        find_tensor(&g, "output.weight", cases[i].type, 288, 64);
        const unsigned char *norm = find_tensor(&g, "blk.1.ffn_norm.weight", 0, 1, 64);
        const unsigned char *gate = find_tensor(&g, "blk.1.ffn_gate.weight", cases[i].type, 128, 64);
        const unsigned char *bf16 = reader_get(original, "model.layers.1.mlp.gate_proj.weight", "BF16")->data;
        const unsigned char *norms =
            reader_get(original, "model.layers.1.post_attention_layernorm.weight", "BF16")->data;
        for (size_t k = 0; k < 64; k++)
            assert_true(norm[4 * k] == 0 && norm[4 * k + 1] == 0 &&
                        memcmp(norm + 4 * k + 2, norms + 2 * k, 2) == 0);
        if (cases[i].type == 30)
            assert_memory_equal(gate, bf16, 2 * 128 * 64);
        double largest = 0, worst = 0;
        for (size_t k = 0; cases[i].type == 8 && k < 128 * 64; k++) {
            float x;
            const unsigned char wide[4] = {0, 0, bf16[2 * k], bf16[2 * k + 1]};
            memcpy(&x, wide, 4);
            const double d = fabs(element(8, gate + k / 32 * 34, k % 32) - (double)x);
            largest = fmax(largest, fabs((double)x));
            worst = fmax(worst, d);
        }
        assert_true(worst <= largest / 127 * 0.51); /* half a step, and what the f16 of the scale loses */
        free((void *)(uintptr_t)g.data);
    }
    reader_close(original);
}

/* ---- Metadata ---------------------------------------------------------------------------------------- */

static void keys_say_what_the_model_is(void **state)
{
    (void)state;
    lb_export_options o = export_options(tiny_in_work("tiny", &export_tiny), "gguf");
    must_export(&o);
    slow_gguf g = open_file(o.output);
    static const struct {
        const char *key;
        uint64_t value;
    } cases[] = {{"llama.block_count", 2},           {"llama.embedding_length", 64},
                 {"llama.feed_forward_length", 128}, {"llama.attention.head_count", 4},
                 {"llama.vocab_size", 288},          {"llama.attention.head_count_kv", 2},
                 {"llama.rope.dimension_count", 16}, {"llama.context_length", 128},
                 {"general.quantization_version", 2}};
    uint64_t type;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_true(find_key(&g, cases[i].key, &type));
        assert_int_equal(type, 4);
        assert_int_equal(take(&g, 4), cases[i].value);
    }
    assert_true(find_key(&g, "tokenizer.ggml.tokens", &type) && type == 9);
    assert_int_equal(take(&g, 4), 8);
    assert_int_equal(take(&g, 8), 288); /* as many as the embedding has rows */
    assert_true(find_key(&g, "tokenizer.chat_template", &type) && type == 8);
    assert_false(find_key(&g, "lowbit.quantization_config", &type));
    free((void *)(uintptr_t)g.data);
}

static void same_ids(const char *a, const char *b)
{
    static const char *const texts[] = {"the cat and the tin", " in  and\n\nanother", "<|im_start|>user",
                                        "\xC3\xA9t\xC3\xA9 1234"};
    lb_tokenizer *x, *y;
    lb_error err;
    if (lb_tokenizer_open(a, &x, &err) != LB_OK || lb_tokenizer_open(b, &y, &err) != LB_OK)
        fail_msg("%s", err.msg);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        for (unsigned flags = 0; flags < 4; flags++) {
            uint32_t *p, *q;
            size_t n, m;
            assert_int_equal(lb_tokenizer_encode(x, texts[i], strlen(texts[i]), flags, &p, &n, &err), LB_OK);
            assert_int_equal(lb_tokenizer_encode(y, texts[i], strlen(texts[i]), flags, &q, &m, &err), LB_OK);
            assert_int_equal(n, m);
            assert_memory_equal(p, q, n * sizeof *p);
            lb_ids_free(p);
            lb_ids_free(q);
        }
    assert_int_equal(lb_tokenizer_eos(x), lb_tokenizer_eos(y));
    lb_tokenizer_destroy(x);
    lb_tokenizer_destroy(y);
}

static void texts_are_cut_alike(void **state)
{
    (void)state;
    lb_export_options o = export_options(tiny_in_work("tiny", &export_tiny), "gguf");
    must_export(&o);
    same_ids(o.model, o.output);
    if (!scratch_exists("../shared/models/stories260K/config.json")) {
        print_message("no ../shared/models: SentencePiece is left out\n");
        return;
    }
    o = export_options("../shared/models/stories260K", "gguf");
    must_export(&o);
    same_ids(o.model, o.output);
}

/* Every architecture, read back by lowbit itself: the same score, to the last digit. */
static void every_architecture_scores_the_same(void **state)
{
    (void)state;
    static const char *const architectures[] = {"LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"};
    for (size_t i = 0; i < 3; i++) {
        tiny_model_options tiny = export_tiny;
        lb_eval_options e;
        lb_eval_result a, b;
        lb_error err;
        tiny.architecture = architectures[i];
        tiny.tied = i == 1;
        lb_export_options o = export_options(tiny_in_work(architectures[i], &tiny), "gguf");
        must_export(&o);
        lb_eval_options_init(&e);
        e.text = "examples/text/evaluation.txt";
        e.tokens = 256;
        e.model = o.model;
        assert_int_equal(lb_evaluate(&e, &a, &err), LB_OK);
        e.model = o.output;
        if (lb_evaluate(&e, &b, &err) != LB_OK)
            fail_msg("%s", err.msg);
        assert_true(a.model.nll_mean == b.model.nll_mean);
    }
}

static void what_cannot_be_held_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *format, *words;
    } cases[] = {{"bp2-g64", "of which GGUF has no type; --dequantize"},
                 {"mxfp8-e4m3", "is mxfp8-e4m3, of which GGUF has no type"},
                 {"nvint4", "of nvint4 in groups of 16, and GGUF's blocks"},
                 {"int8-g32-asym", "and GGUF's widest block holds -128 to 127"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lb_export_options o = export_options(export_quantized(cases[i].format, NULL, 0), "gguf");
        must_not_export(&o, LB_EUNSUPPORTED, cases[i].words);
        o.dequantize = true;
        const lb_export_result r = must_export(&o);
        assert_true(r.dequantized > 0 && r.layers + r.dequantized == EXPORT_LAYERS * EXPORT_LINEARS);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codes_in_blocks),
        cmocka_unit_test(two_levels_of_scales),
        cmocka_unit_test(floats_as_asked),
        cmocka_unit_test(keys_say_what_the_model_is),
        cmocka_unit_test(texts_are_cut_alike),
        cmocka_unit_test(every_architecture_scores_the_same),
        cmocka_unit_test(what_cannot_be_held_is_refused),
    };
    return cmocka_run_group_tests(tests, make_work, drop_work);
}
