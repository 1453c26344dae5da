/* SPDX-License-Identifier: MIT
 * Folders of other tools as models: a checkpoint that goes out and comes back has the codes, zeros and
 * scales that it had; layouts that no format of ours holds give the numbers that they stand for; broken
 * ones a sentence. */
#define _GNU_SOURCE
#include "export_case.h"

#include "base/half.h"
#include "lowbit/eval.h"
#include "model/foreign.h"

static lb_weights *must_open(const char *path)
{
    lb_weights *w;
    lb_error err;
    if (lb_weights_open(path, &w, &err) != LB_OK)
        fail_msg("%s", err.msg);
    return w;
}

static lb_weight layer_of(const lb_weights *weights, size_t block, size_t linear, bool gguf)
{
    lb_weight w;
    lb_error err;
    char name[128];
    snprintf(name, sizeof name, "%s.weight", export_layer(block, linear));
    lb_status st =
        lb_weights_find(weights, name, export_linears[linear].rows, export_linears[linear].cols, &w, &err);
    if (st == LB_OK && gguf)
        st = lb_foreign_from_gguf(&w, &err);
    if (st != LB_OK)
        fail_msg("%s", err.msg);
    return w;
}

enum { MOST_COLS = 128, MOST_PARAMS = 64 };

static void same_rows(const lb_weight *a, const lb_weight *b)
{
    uint8_t codes[2][MOST_COLS];
    float params[2][MOST_PARAMS];
    lb_error err;
    const size_t used = lb_format_groups(&a->format, a->cols) * a->format.params;
    assert_true(used <= MOST_PARAMS);
    for (size_t row = 0; row < a->rows; row++) {
        assert_int_equal(lb_weight_unpack_row(a, row, codes[0], params[0], &err), LB_OK);
        if (lb_weight_unpack_row(b, row, codes[1], params[1], &err) != LB_OK)
            fail_msg("%s", err.msg);
        if (memcmp(codes[0], codes[1], a->cols) != 0 ||
            memcmp(params[0], params[1], used * sizeof(float)) != 0)
            fail_msg("%s, row %zu, is another one", a->name, row);
    }
}

static void round_trip(const char *format, const char *kind, bool option)
{
    lb_export_options o = export_options(export_quantized(format, NULL, 0), kind);
    o.zeros_v2 = option && strcmp(kind, "gptq") == 0;
    o.naive = option && strcmp(kind, "compressed-tensors") == 0;
    must_export(&o);
    lb_weights *original = must_open(o.model), *back = must_open(o.output);
    const bool gguf = strcmp(kind, "gguf") == 0;
    assert_true(gguf || lb_weights_quantized(back));
    for (size_t block = 0; block < EXPORT_LAYERS; block++)
        for (size_t linear = 0; linear < EXPORT_LINEARS; linear++) {
            const lb_weight a = layer_of(original, block, linear, false),
                            b = layer_of(back, block, linear, gguf);
            if (strcmp(a.format.name, b.format.name) != 0)
                fail_msg("%s by %s came back as %s", format, kind, b.format.name);
            assert_true(a.format.tensor_scale == b.format.tensor_scale);
            same_rows(&a, &b);
        }
    lb_weights_close(original);
    lb_weights_close(back);
}

static void what_goes_out_comes_back(void **state)
{
    (void)state;
    static const struct {
        const char *format, *kind;
        bool option;
    } cases[] = {
        {"int2-g32", "gptq", false},
        {"int3-g64", "gptq", false},
        {"int4-g128", "gptq", false},
        {"int8-row", "gptq", false},
        {"int4-g32-asym", "gptq", true},
        {"int3-g32-asym", "gptq", true},
        {"int4-g32", "awq", false},
        {"int4-g64-asym", "awq", false},
        {"int4-g32", "auto-round", false},
        {"int8-g32", "auto-round", false},
        {"int2-g32-asym", "auto-round", false},
        {"int7-g64", "auto-round", false},
        {"int4-g32", "compressed-tensors", false},
        {"int3-g32-asym", "compressed-tensors", false},
        {"int5-g32-asym", "compressed-tensors", false},
        {"int8-g64-asym", "compressed-tensors", true},
        {"int8-row", "compressed-tensors", true},
        {"mxfp4", "compressed-tensors", false},
        {"nvfp4", "compressed-tensors", false},
        {"mxfp8-e4m3", "compressed-tensors", false},
        {"int4-g32", "gguf", false},
        {"int5-g32", "gguf", false},
        {"int8-g32", "gguf", false},
        {"int4-g32-asym", "gguf", false},
        {"mxfp4", "gguf", false},
        {"nvfp4", "gguf", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        round_trip(cases[i].format, cases[i].kind, cases[i].option);
}

static void perplexity_of(const char *model, double *out)
{
    lb_eval_options e;
    lb_eval_result r;
    lb_error err;
    lb_eval_options_init(&e);
    e.model = model;
    e.text = "examples/text/evaluation.txt";
    e.tokens = 256;
    if (lb_evaluate(&e, &r, &err) != LB_OK)
        fail_msg("%s", err.msg);
    *out = r.model.nll_mean;
}

static void the_model_is_the_same_one(void **state)
{
    (void)state;
    static const char *const kinds[] = {"gptq", "awq", "auto-round", "compressed-tensors", "gguf"};
    const char *model = export_quantized("int4-g32", NULL, 0);
    double want, got;
    perplexity_of(model, &want);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        lb_export_options o = export_options(model, kinds[i]);
        must_export(&o);
        perplexity_of(o.output, &got);
        assert_true(got == want);
    }
}

/* ---- Other people's folders -------------------------------------------------------------------------- */

/* Writes the exported folder's tensors again, with one of them replaced, left out or added. */
typedef struct change {
    const char *name; /* of the tensor */
    bool drop;
    lb_tensor_out with; /* name NULL: nothing is put in its place */
} change;

static void rewrite(const char *folder, const change *c)
{
    lb_tensor_out out[READER_TENSORS];
    char path[SCRATCH_PATH_BYTES];
    const char *paths[] = {path};
    lb_tensor_set set;
    lb_error err;
    size_t count = 0;
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    assert_int_equal(lb_safetensors_open(paths, 1, &set, &err), LB_OK);
    for (size_t i = 0; i < set.count; i++) {
        const lb_tensor *t = &set.tensors[i];
        if (strcmp(t->name, c->name) == 0 && (c->drop || c->with.name))
            continue;
        out[count] = (lb_tensor_out){
            .name = t->name, .dtype = t->dtype, .rank = t->rank, .data = t->data, .bytes = t->bytes};
        memcpy(out[count++].shape, t->shape, sizeof t->shape);
    }
    if (c->with.name)
        out[count++] = c->with;
    if (lb_safetensors_write(path, out, count, &err) != LB_OK)
        fail_msg("%s", err.msg);
    lb_tensor_set_free(&set);
}

static void patch_config(const char *folder, const char *key, json_t *value)
{
    char path[SCRATCH_PATH_BYTES];
    snprintf(path, sizeof path, "%s/config.json", folder);
    json_t *config = json_load_file(path, 0, NULL);
    json_object_set_new(json_object_get(config, "quantization_config"), key, value);
    assert_int_equal(json_dump_file(config, path, 0), 0);
    json_decref(config);
}

#define LAYER "model.layers.1.self_attn.v_proj" /* 32 x 64 */

/* Columns in the order of their activations: groups are scattered, and no format of ours has that. */
static void scattered_groups_are_read_as_values(void **state)
{
    (void)state;
    int32_t order[64];
    lb_error err;
    float row[64];
    lb_export_options o = export_options(export_quantized("int4-g32", NULL, 0), "gptq");
    must_export(&o);
    reader *r = export_open(o.output);
    const unsigned char *q = export_part(r, LAYER, ".qweight", "I32", 8, 32);
    const unsigned char *s = export_part(r, LAYER, ".scales", "F16", 2, 32);
    for (int k = 0; k < 64; k++)
        order[k] = k % 3 == 0;
    const change c = {LAYER ".g_idx", false, {LAYER ".g_idx", LB_DTYPE_I32, 1, {64}, order, sizeof order}};
    rewrite(o.output, &c);
    lb_weights *w = must_open(o.output);
    const lb_weight v = layer_of(w, 1, 2, false);
    assert_string_equal(v.format.name, "f32");
    for (size_t n = 0; n < 32; n++) {
        assert_int_equal(lb_weight_read(&v, n, 1, row, &err), LB_OK);
        for (size_t k = 0; k < 64; k++) {
            const unsigned byte = q[4 * (k / 8 * 32 + n) + k % 8 / 2];
            const int code = (int)(k % 2 ? byte >> 4 : byte & 15);
            assert_true((double)row[k] == reader_half(s + 2 * ((size_t)order[k] * 32 + n)) * (code - 8));
        }
    }
    lb_weights_close(w);
    double score;
    perplexity_of(o.output, &score); /* every command reads it */
    /* Out again it goes as it came in; no other kind has such columns, and floats nobody asked for. */
    lb_export_options again, refused;
    lb_export_result result;
    lb_export_options_init(&again);
    again.model = o.output;
    again.kind = "gptq";
    refused = again;
    refused.kind = "awq";
    again.output = in_work("orders");
    if (lb_export(&again, &result, &err) != LB_OK)
        fail_msg("%s", err.msg);
    reader *copy = export_open(again.output);
    assert_memory_equal(export_part(copy, LAYER, ".qweight", "I32", 8, 32), q, 4 * 8 * 32);
    assert_memory_equal(export_part(copy, LAYER, ".scales", "F16", 2, 32), s, 2 * 2 * 32);
    const reader_tensor *g_idx = reader_get(copy, LAYER ".g_idx", "I32");
    assert_memory_equal(g_idx->data, order, sizeof order);
    config_says(again.output, "desc_act", "true");
    reader_close(copy);
    again.output = in_work("orders2");
    again.zeros_v2 = true;
    assert_int_equal(lb_export(&again, &result, &err), LB_EUNSUPPORTED);
    assert_non_null(strstr(err.msg, "with --zeros v1"));
    refused.output = in_work("orders3");
    assert_int_equal(lb_export(&refused, &result, &err), LB_EUNSUPPORTED);
    assert_non_null(strstr(err.msg, "columns in an order of their own"));
    order[5] = 2;
    rewrite(o.output, &c);
    assert_int_equal(lb_weights_open(o.output, &w, &err), LB_EFORMAT);
    assert_non_null(strstr(err.msg, "column 5 is of group 2, there are 2"));
    reader_close(r);
}

/* A zero point of 16 is what version 1 makes of a stored 15. */
static void a_zero_beyond_the_codes_is_read_as_values(void **state)
{
    (void)state;
    uint32_t zeros[2 * 4];
    float row[64];
    lb_error err;
    memset(zeros, 0xff, sizeof zeros);
    lb_export_options o = export_options(export_quantized("int4-g32", NULL, 0), "gptq");
    must_export(&o);
    const change c = {
        LAYER ".qzeros", false, {LAYER ".qzeros", LB_DTYPE_I32, 2, {2, 4}, zeros, sizeof zeros}};
    lb_weights *before = must_open(o.output);
    const lb_weight a = layer_of(before, 1, 2, false);
    uint8_t codes[64];
    float params[4];
    assert_int_equal(lb_weight_unpack_row(&a, 3, codes, params, &err), LB_OK);
    lb_weights_close(before);
    rewrite(o.output, &c);
    lb_weights *w = must_open(o.output);
    const lb_weight v = layer_of(w, 1, 2, false);
    assert_true(lb_format_is_float(&v.format));
    assert_int_equal(lb_weight_read(&v, 3, 1, row, &err), LB_OK);
    for (size_t k = 0; k < 64; k++)
        assert_true(row[k] == params[k / 32 * 2] * (float)(codes[k] - 16));
    lb_weights_close(w);
}

/* AutoGPTQ stores a bias of zeros where a layer has none; one that is not zero would be lost. */
/* Blocks of Q4_1 whose minima are no zeros times scales: no format of lowbit has them. */
static void strange_blocks_go_out_as_they_came(void **state)
{
    (void)state;
    lb_error err;
    size_t size, size2;
    float before[64], after[64];
    lb_export_options o = export_options(export_quantized("int4-g32-asym", NULL, 0), "gguf");
    must_export(&o);
    lb_weights *w = must_open(o.output);
    const lb_weight fine = layer_of(w, 1, 2, true);
    assert_string_equal(fine.format.name, "int4-g32-asym");
    const lb_mapping *file = &w->checkpoint.tensors.files[0];
    const size_t at = (size_t)(fine.foreign.codes->data - (const uint8_t *)file->data);
    lb_weights_close(w);
    char *bytes = scratch_read(o.output, &size);
    bytes[at + 2] = (char)(bytes[at + 2] ^ 0x15); /* of the first block's minimum */
    const char *strange = in_work("strange.gguf");
    scratch_write(strange, bytes, size);
    w = must_open(strange);
    const lb_weight a = layer_of(w, 1, 2, true);
    assert_true(lb_format_is_float(&a.format));
    lb_export_options again = export_options(strange, "gguf");
    must_export(&again);
    char *copy = scratch_read(again.output, &size2);
    lb_weights *back = must_open(again.output);
    const lb_weight b = layer_of(back, 1, 2, true);
    assert_string_equal(lb_dtype_name(b.tensor->dtype), "Q4_1");
    for (size_t row = 0; row < 32; row++) {
        assert_int_equal(lb_weight_read(&a, row, 1, before, &err), LB_OK);
        assert_int_equal(lb_weight_read(&b, row, 1, after, &err), LB_OK);
        assert_memory_equal(before, after, sizeof before);
    }
    assert_memory_equal(b.tensor->data, bytes + at, b.tensor->bytes);
    lb_weights_close(w);
    lb_weights_close(back);
    free(bytes);
    free(copy);
    again = export_options(strange, "gptq");
    must_not_export(&again, LB_EUNSUPPORTED,
                    "v_proj.weight is Q4_1, and GPTQ holds integers with scales only");
    again.dequantize = true;
    assert_int_equal(must_export(&again).dequantized, 1);
}

/* Rows so short that several numbers of bits take as many words: the configuration says which it is. */
static void short_rows_have_the_bits_that_are_said(void **state)
{
    (void)state;
    static const tiny_model_options narrow = {
        .seed = 5, .hidden = 16, .ffn = 24, .dtype = LB_DTYPE_BF16, .tokenizer = TINY_BPE};
    static const char *const formats[] = {"int4-row", "int8-row", "int4-row-asym", "int3-row",
                                          "int5-row-asym"};
    lb_error err;
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        lb_quantize_options q = small_options(tiny_in_work("narrow", &narrow), in_work("q-narrow"));
        lb_quantize_result result;
        q.method = "rtn";
        q.format = formats[i];
        scratch_remove(q.output);
        must_quantize(&q, &result);
        lb_quantize_result_free(&result);
        lb_export_options o = export_options(q.output, "compressed-tensors");
        must_export(&o);
        lb_weights *a = must_open(q.output), *b = must_open(o.output);
        for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
            char name[128];
            size_t rows, cols;
            lb_weight x, y;
            lb_linear_shape(&a->config, which, &rows, &cols);
            lb_linear_name(1, which, name, sizeof name);
            memcpy(name + strlen(name), ".weight", sizeof ".weight");
            assert_int_equal(lb_weights_find(a, name, rows, cols, &x, &err), LB_OK);
            if (lb_weights_find(b, name, rows, cols, &y, &err) != LB_OK)
                fail_msg("%s", err.msg);
            assert_string_equal(x.format.name, y.format.name);
            same_rows(&x, &y);
        }
        lb_weights_close(a);
        lb_weights_close(b);
    }
}

static void empty_biases_are_passed_over(void **state)
{
    (void)state;
    uint16_t bias[32] = {0};
    lb_weights *w;
    lb_error err;
    lb_export_options o = export_options(export_quantized("int4-g32", NULL, 0), "gptq");
    must_export(&o);
    const change c = {LAYER ".bias", false, {LAYER ".bias", LB_DTYPE_F16, 1, {32}, bias, sizeof bias}};
    rewrite(o.output, &c);
    lb_weights_close(must_open(o.output));
    bias[31] = 1;
    rewrite(o.output, &c);
    assert_int_equal(lb_weights_open(o.output, &w, &err), LB_EFORMAT);
    assert_non_null(strstr(err.msg, LAYER ".bias is none that"));
}

static void expect_refusal(const char *folder, lb_status wanted, const char *words)
{
    lb_weights *w = NULL;
    lb_error err = {LB_OK, ""};
    const lb_status st = lb_weights_open(folder, &w, &err);
    if (st != wanted || !strstr(err.msg, words))
        fail_msg("status %d, \"%s\"; wanted %d, \"%s\"", (int)st, err.msg, (int)wanted, words);
}

static void broken_folders_are_named(void **state)
{
    (void)state;
    static uint8_t zeros[4096];
    static const uint16_t infinite[64] = {0, 0, 0, 0x7c00};
    const struct {
        const char *kind, *format;
        change change;
        const char *words;
    } cases[] = {
        {"gptq", "int4-g32", {LAYER ".qzeros", true, {0}}, "has no tensor \".qzeros\""},
        {"gptq",
         "int4-g32",
         {LAYER ".scales", true, {0}},
         "want codes of 2 to 8 bits for all columns, and scales"},
        {"gptq",
         "int4-g32",
         {LAYER ".qweight", false, {LAYER ".qweight", LB_DTYPE_I32, 2, {9, 32}, zeros, 1152}},
         "qweight is I32 9 x 32"},
        {"gptq",
         "int4-g32",
         {LAYER ".qweight", false, {LAYER ".qweight", LB_DTYPE_I32, 2, {8, 16}, zeros, 512}},
         "qweight is I32 8 x 16, want I32 8 x 32"},
        {"gptq",
         "int4-g32",
         {LAYER ".scales", false, {LAYER ".scales", LB_DTYPE_F16, 2, {2, 32}, infinite, 128}},
         "the scale of row 3, group 0 is inf"},
        {"gptq",
         "int4-g32",
         {LAYER ".scales", false, {LAYER ".scales", LB_DTYPE_F16, 2, {5, 32}, zeros, 320}},
         "5 groups for 64 columns"},
        {"gptq",
         "int4-g32",
         {LAYER ".g_idx", false, {LAYER ".g_idx", LB_DTYPE_I32, 1, {63}, zeros, 252}},
         "g_idx is I32 1 x 63, want I32 1 x 64"},
        {"gptq",
         "int4-g32",
         {LAYER ".g_idx", false, {LAYER ".g_idx", LB_DTYPE_I32, 3, {1, 1, 64}, zeros, 256}},
         "want I32 1 x 64"},
        {"awq",
         "int4-g32",
         {LAYER ".qzeros", false, {LAYER ".qzeros", LB_DTYPE_I32, 2, {2, 5}, zeros, 40}},
         "qzeros is I32 2 x 5, want I32 2 x 4"},
        {"awq",
         "int4-g32",
         {LAYER ".qweight", false, {LAYER ".qweight", LB_DTYPE_U8, 2, {64, 4}, zeros, 256}},
         "qweight is U8 64 x 4, want I32 64 x 4"},
        {"compressed-tensors", "int4-g32", {LAYER ".weight_scale", true, {0}}, "or has no scales"},
        {"compressed-tensors",
         "int4-g32",
         {LAYER ".weight_packed", false, {LAYER ".weight_packed", LB_DTYPE_I32, 2, {32, 1}, zeros, 128}},
         "is not packed in 2 to 8 bits"},
        {"compressed-tensors",
         "nvfp4",
         {LAYER ".weight_global_scale",
          false,
          {LAYER ".weight_global_scale", LB_DTYPE_F32, 1, {1}, zeros, 4}},
         "weight_global_scale is 0, want a finite number above 0"},
        {"compressed-tensors",
         "mxfp4",
         {LAYER ".weight_scale", false, {LAYER ".weight_scale", LB_DTYPE_U8, 2, {32, 3}, zeros, 96}},
         "weight_scale is U8 32 x 3, want U8 32 x 2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lb_export_options o = export_options(export_quantized(cases[i].format, NULL, 0), cases[i].kind);
        must_export(&o);
        rewrite(o.output, &cases[i].change);
        expect_refusal(o.output, LB_EFORMAT, cases[i].words);
    }
}

static void broken_configurations_are_named(void **state)
{
    (void)state;
    lb_export_options o = export_options(export_quantized("int4-g32", NULL, 0), "gptq");
    must_export(&o);
    patch_config(o.output, "group_size", json_integer(-1)); /* follows from the scales then */
    lb_weights_close(must_open(o.output));
    patch_config(o.output, "group_size", json_integer(0));
    expect_refusal(o.output, LB_EFORMAT, "\"group_size\"");
    patch_config(o.output, "group_size", json_integer(32));
    patch_config(o.output, "checkpoint_format", json_string("marlin"));
    expect_refusal(o.output, LB_EUNSUPPORTED, "checkpoint_format \"marlin\"; lowbit reads gptq and gptq_v2");
    patch_config(o.output, "checkpoint_format", json_string("gptq"));
    patch_config(o.output, "bits", json_integer(99));
    expect_refusal(o.output, LB_EFORMAT, "\"bits\"");
    patch_config(o.output, "bits", json_integer(8));
    expect_refusal(o.output, LB_EFORMAT,
                   "take 8 words for 64 numbers, which 8 bits, as the configuration has it, do not");
    patch_config(o.output, "bits", json_integer(4));
    patch_config(o.output, "quant_method", json_string("aqlm"));
    expect_refusal(o.output, LB_EUNSUPPORTED, "quantized by aqlm");
    o = export_options(export_quantized("int4-g32", NULL, 0), "awq");
    must_export(&o);
    patch_config(o.output, "version", json_string("gemv"));
    expect_refusal(o.output, LB_EUNSUPPORTED, "AWQ's layout \"gemv\"; lowbit reads gemm");
    patch_config(o.output, "version", json_string("gemm"));
    patch_config(o.output, "bits", json_integer(8));
    expect_refusal(o.output, LB_EUNSUPPORTED, "AWQ with 8 bits; lowbit reads 4");
    o = export_options(export_quantized("int4-g32", NULL, 0), "compressed-tensors");
    must_export(&o);
    static const struct {
        const char *target, *type;
        int bits;
        const char *words; /* NULL: all is well */
    } groups[] = {{"Linear", "int", 4, NULL},
                  {"re:.*self_attn.*", "int", 4, NULL},
                  {"re:self_attn.*", "int", 3, NULL}, /* matches from the beginning: no layer */
                  {"re:.*v_proj$", "int", 3, "which 3 bits, as the configuration has it, do not"},
                  {LAYER, "int", 8, "which 8 bits, as the configuration has it, do not"},
                  {"Linear", "int", 40, "\"num_bits\""},
                  {"Linear", "float", 4, "consists of integers, and its group's type is \"float\""},
                  {"re:(", "int", 4, "the pattern \"(\" is not understood"}};
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
        patch_config(o.output, "config_groups",
                     json_pack("{s:{s:[s], s:{s:i, s:s, s:i}}}", "group_0", "targets", groups[i].target,
                               "weights", "num_bits", groups[i].bits, "type", groups[i].type, "group_size",
                               32));
        if (groups[i].words)
            expect_refusal(o.output, groups[i].target[3] == '(' ? LB_EUNSUPPORTED : LB_EFORMAT,
                           groups[i].words);
        else
            lb_weights_close(must_open(o.output));
    }
    const int64_t shape[2] = {-5, (int64_t)1 << 40};
    const change c = {
        LAYER ".weight_shape", false, {LAYER ".weight_shape", LB_DTYPE_I64, 1, {2}, shape, sizeof shape}};
    o = export_options(export_quantized("int4-g32", NULL, 0), "compressed-tensors");
    must_export(&o);
    rewrite(o.output, &c);
    expect_refusal(o.output, LB_EFORMAT, "weight_shape says -5 where");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_goes_out_comes_back),
        cmocka_unit_test(the_model_is_the_same_one),
        cmocka_unit_test(scattered_groups_are_read_as_values),
        cmocka_unit_test(a_zero_beyond_the_codes_is_read_as_values),
        cmocka_unit_test(strange_blocks_go_out_as_they_came),
        cmocka_unit_test(short_rows_have_the_bits_that_are_said),
        cmocka_unit_test(empty_biases_are_passed_over),
        cmocka_unit_test(broken_folders_are_named),
        cmocka_unit_test(broken_configurations_are_named),
    };
    return cmocka_run_group_tests(tests, make_work, drop_work);
}
