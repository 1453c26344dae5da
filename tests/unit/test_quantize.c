/* SPDX-License-Identifier: MIT
 * The main job from end to end, on random models: what is written, read by a second reader that was made
 * from docs/checkpoint.md; what is counted; what is refused. tests/checkpoint_reader.h is the reader. */
#define _GNU_SOURCE
#include "quantize_case.h"

#include "base/thread.h"
#include "lowbit/eval.h"
#include "model/weights.h"

/* Widths that no group divides. */
static const struct {
    const char *name;
    tiny_model_options options;
} models[] = {
    {"llama",
     {.seed = 11, .hidden = 72, .ffn = 100, .heads = 4, .kv_heads = 2, .tied = true, .tokenizer = TINY_BPE}},
    {"qwen2",
     {.seed = 12,
      .architecture = "Qwen2ForCausalLM",
      .hidden = 80,
      .ffn = 132,
      .heads = 4,
      .kv_heads = 1,
      .dtype = LB_DTYPE_BF16,
      .tokenizer = TINY_BYTES}},
    {"qwen3",
     {.seed = 13,
      .architecture = "Qwen3ForCausalLM",
      .hidden = 64,
      .ffn = 90,
      .heads = 4,
      .head_dim = 18,
      .dtype = LB_DTYPE_F16,
      .tokenizer = TINY_BYTES}},
};
enum { MODELS = sizeof models / sizeof *models };

static const char *model_at(size_t i)
{
    return tiny_in_work(models[i].name, &models[i].options);
}

/* Weights through the library equal weights through the second reader, to the last bit: a scale has 11
 * bits and a code at most 8, so their product is exact in float. */
static void same_weights(const char *folder, const reader *r, const tiny_model *m)
{
    lb_weights *weights;
    lb_error err;
    if (lb_weights_open(folder, &weights, &err) != LB_OK)
        fail_msg("%s", err.msg);
    for (size_t i = 0; i < m->count; i++) {
        const tiny_tensor *t = &m->tensors[i];
        const size_t rows = t->rows ? t->rows : 1, length = strlen(t->name) - strlen(".weight");
        lb_weight w;
        if (t->rows == 0)
            continue;
        char layer[96];
        snprintf(layer, sizeof layer, "%.*s", (int)length, t->name);
        float *got = malloc(rows * t->cols * sizeof *got);
        double *want = reader_weight(r, layer, rows, t->cols);
        assert_int_equal(lb_weights_find(weights, t->name, rows, t->cols, &w, &err), LB_OK);
        assert_int_equal(lb_weight_read(&w, 0, rows, got, &err), LB_OK);
        same_array(got, want, rows * t->cols);
        free(got);
        free(want);
    }
    lb_weights_close(weights);
}

/* Every tensor of the model is there once, packed or bit for bit; returns how many weights it has. */
static size_t check_tensors(const char *source, const reader *r, const tiny_model *m)
{
    size_t weights = 0, expected = 0;
    reader *original = calloc(1, sizeof *original);
    reader_add_file(original, source, "model.safetensors");
    for (size_t i = 0; i < m->count; i++) {
        const tiny_tensor *t = &m->tensors[i];
        char layer[96];
        unsigned width;
        size_t group;
        bool asymmetric = false;
        snprintf(layer, sizeof layer, "%s", t->name);
        layer[strlen(layer) - strlen(".weight")] = '\0';
        weights += (t->rows ? t->rows : 1) * t->cols;
        if (reader_format(r, layer, &width, &group, &asymmetric)) {
            assert_null(reader_find(r, t->name));
            expected += asymmetric ? 3 : 2;
            continue;
        }
        const reader_tensor *a = reader_find(original, t->name), *b = reader_find(r, t->name);
        assert_non_null(b);
        assert_string_equal(a->type, b->type);
        assert_int_equal(a->rank, b->rank);
        assert_int_equal(a->bytes, b->bytes);
        assert_memory_equal(a->data, b->data, a->bytes);
        expected++;
    }
    assert_int_equal(r->count, expected);
    reader_close(original);
    return weights;
}

static void check_result(const lb_quantize_result *result, const char *output, const reader *r,
                         size_t weights, const tiny_model *m)
{
    size_t packed_bytes = 0, packed_weights = 0;
    for (size_t i = 0; i < r->count; i++) {
        const char *part = strstr(r->tensors[i].name, ".weight.");
        packed_bytes += part ? r->tensors[i].bytes : 0;
    }
    for (size_t i = 0; i < m->count; i++) {
        char codes[128];
        snprintf(codes, sizeof codes, "%s.codes", m->tensors[i].name);
        packed_weights += reader_find(r, codes) ? m->tensors[i].rows * m->tensors[i].cols : 0;
    }
    assert_int_equal(result->bytes, r->bytes);
    assert_int_equal(result->weights, weights);
    assert_int_equal(result->quantized_bytes, packed_bytes);
    assert_int_equal(result->quantized_weights, packed_weights);
    assert_int_equal(result->file_bytes, scratch_bytes(output));
    assert_true(result->bits_per_weight == 8.0 * (double)r->bytes / (double)weights);
    assert_true(result->quantized_bits_per_weight == 8.0 * (double)packed_bytes / (double)packed_weights);
    assert_int_equal(result->block_count, m->options.layers);
    assert_int_equal(result->layer_count, 7 * m->options.layers);
    for (size_t i = 0; i < result->layer_count; i++)
        assert_true(result->layers[i].relative_error >= 0 && result->layers[i].relative_error < 1);
}

static void the_checkpoint_holds_what_was_promised(void **state)
{
    (void)state;
    static const char *const formats[] = {"int2-g32", "int3-g64-asym", "int4-g32", "int8-row"};
    static const char *const methods[] = {"rtn", "gptq"};
    for (size_t i = 0; i < MODELS; i++) {
        const char *source = model_at(i), *output = in_work("out");
        tiny_model *m = tiny_model_make(&models[i].options);
        for (size_t k = 0; k < 8; k++) {
            lb_quantize_options o = small_options(source, output);
            lb_quantize_result planned, result;
            o.format = formats[k / 2];
            o.method = methods[k % 2];
            o.dry_run = true;
            must_quantize(&o, &planned);
            assert_false(scratch_exists(output));
            o.dry_run = false;
            must_quantize(&o, &result);
            assert_false(scratch_exists(in_work("out.partial")));
            reader *r = reader_open(output, m->options.layers);
            same_weights(output, r, m);
            check_result(&result, output, r, check_tensors(source, r, m), m);
            assert_int_equal(planned.bytes, result.bytes);
            assert_int_equal(planned.quantized_bytes, result.quantized_bytes);
            assert_string_equal(planned.recipe, result.recipe);
            assert_int_equal(planned.file_bytes, 0);
            json_t *said = json_loads(result.recipe, 0, NULL);
            assert_true(json_equal(
                said, json_object_get(json_object_get(r->config, "quantization_config"), "recipe")));
            json_decref(said);
            reader_close(r);
            lb_quantize_result_free(&planned);
            lb_quantize_result_free(&result);
            scratch_remove(output);
        }
        tiny_model_free(m);
    }
}

/* The reported error of a layer is that of the weights on disk, where there is no calibration. */
static void relative_errors_are_those_of_the_weights(void **state)
{
    (void)state;
    const char *output = in_work("errors");
    lb_quantize_options o = small_options(model_at(0), output);
    lb_quantize_result result;
    tiny_model *m = tiny_model_make(&models[0].options);
    o.method = "rtn";
    o.format = "int3-g32-asym";
    must_quantize(&o, &result);
    reader *r = reader_open(output, m->options.layers);
    for (size_t i = 0; i < result.layer_count; i++) {
        for (size_t k = 0; k < m->count; k++) {
            const tiny_tensor *t = &m->tensors[k];
            const size_t length = strlen(result.layers[i].name);
            if (strncmp(t->name, result.layers[i].name, length) != 0 ||
                strcmp(t->name + length, ".weight") != 0)
                continue;
            double *stored = reader_weight(r, result.layers[i].name, t->rows, t->cols), energy = 0, error = 0;
            for (size_t e = 0; e < t->rows * t->cols; e++) {
                energy += (double)t->values[e] * (double)t->values[e];
                error += pow((double)t->values[e] - stored[e], 2);
            }
            /* lowbit rounds each difference to float before it squares it */
            assert_true(fabs(result.layers[i].relative_error - error / energy) < 1e-5 * error / energy);
            assert_string_equal(result.layers[i].format, "int3-g32-asym");
            free(stored);
        }
    }
    reader_close(r);
    lb_quantize_result_free(&result);
    tiny_model_free(m);
}

static double nll_of(const char *model, const char *against, double *kl)
{
    lb_eval_options o;
    lb_eval_result r;
    lb_error err;
    lb_eval_options_init(&o);
    o.model = model;
    o.against = against;
    o.text = "examples/text/evaluation.txt";
    o.tokens = 256;
    o.ctx = 64;
    if (lb_evaluate(&o, &r, &err) != LB_OK)
        fail_msg("%s", err.msg);
    *kl = r.kl_mean;
    return r.model.nll_mean;
}

/* Eight bits change next to nothing; GPTQ with three loses less than rounding does. */
static void eight_bits_are_nearly_the_original(void **state)
{
    (void)state;
    for (size_t i = 0; i < MODELS; i++) {
        const char *source = model_at(i), *output = in_work("near");
        lb_quantize_options o = small_options(source, output);
        lb_quantize_result result;
        double kl, own = nll_of(source, source, &kl);
        assert_true(kl == 0.0);
        o.format = "int8-g32";
        must_quantize(&o, &result);
        lb_quantize_result_free(&result);
        assert_true(fabs(nll_of(output, source, &kl) - own) < 0.02);
        assert_true(kl > 0.0 && kl < 0.01);
        scratch_remove(output);
    }
}

static void bytes_do_not_depend_on_threads(void **state)
{
    (void)state;
    static const char *const methods[] = {"rtn", "gptq"};
    const unsigned usual = lb_thread_count();
    for (size_t i = 0; i < 2; i++) {
        lb_quantize_options o = small_options(model_at(1), in_work("threads1"));
        lb_quantize_result result;
        o.method = methods[i];
        for (unsigned threads = 1; threads <= 3; threads++) {
            char name[32];
            snprintf(name, sizeof name, "threads%u", threads);
            o.output = in_work(name);
            lb_thread_set_count(threads);
            must_quantize(&o, &result);
            lb_quantize_result_free(&result);
            if (threads > 1)
                scratch_same(in_work("threads1"), o.output);
        }
        for (unsigned threads = 1; threads <= 3; threads++) {
            char name[32];
            snprintf(name, sizeof name, "threads%u", threads);
            scratch_remove(in_work(name));
        }
    }
    lb_thread_set_count(usual);
}

/* Round to nearest without calibration has no sums in it that kernels could order differently. */
static void rounding_is_the_same_on_every_processor(void **state)
{
    (void)state;
    lb_quantize_options o = small_options(model_at(2), in_work("best"));
    lb_quantize_result result;
    o.method = "rtn";
    must_quantize(&o, &result);
    lb_quantize_result_free(&result);
    o.output = in_work("ref");
    o.cpu = "ref";
    must_quantize(&o, &result);
    lb_quantize_result_free(&result);
    scratch_same(in_work("best"), in_work("ref"));
}

/* ---- Layer rules ------------------------------------------------------------------------------------- */

static const char *format_in(const reader *r, const char *layer)
{
    const json_t *q = json_object_get(r->config, "quantization_config");
    return json_string_value(json_object_get(json_object_get(q, "layers"), layer));
}

static void rules_choose_formats(void **state)
{
    (void)state;
    static const char *const rules[] = {"*.down_proj=int8-g64", "model.layers.1.*=int3-row-asym",
                                        "*.o_proj=f16",         "model.layers.0.mlp.up_proj=f32",
                                        "lm_head=int8-g32",     "model.embed_tokens=int4-g64-asym"};
    const char *output = in_work("rules");
    lb_quantize_options o = small_options(model_at(2), output);
    lb_quantize_result planned, result;
    o.layer_rules = rules;
    o.layer_rule_count = 6;
    o.dry_run = true;
    must_quantize(&o, &planned);
    o.dry_run = false;
    must_quantize(&o, &result);
    assert_int_equal(planned.bytes, result.bytes);
    tiny_model *m = tiny_model_make(&models[2].options);
    reader *r = reader_open(output, 2);
    same_weights(output, r, m);
    assert_int_equal(result.bytes, r->bytes);
    assert_string_equal(format_in(r, "model.layers.0.mlp.down_proj"), "int8-g64");
    assert_string_equal(format_in(r, "model.layers.1.mlp.down_proj"), "int3-row-asym");
    assert_string_equal(format_in(r, "model.layers.0.self_attn.q_proj"), "int4-g32");
    assert_string_equal(format_in(r, "lm_head"), "int8-g32");
    assert_string_equal(format_in(r, "model.embed_tokens"), "int4-g64-asym");
    assert_null(format_in(r, "model.layers.1.self_attn.o_proj"));
    assert_string_equal(reader_find(r, "model.layers.1.self_attn.o_proj.weight")->type, "F16");
    assert_string_equal(reader_find(r, "model.layers.0.mlp.up_proj.weight")->type, "F32");
    for (size_t i = 0; i < result.layer_count; i++) {
        const char *format = format_in(r, result.layers[i].name);
        const bool o_proj = strstr(result.layers[i].name, "o_proj") != NULL;
        assert_string_equal(result.layers[i].format, format ? format : o_proj ? "f16" : "f32");
        if (!format)
            assert_true(result.layers[i].relative_error == 0.0);
    }
    /* A model with a packed embedding and head still speaks. */
    double kl;
    assert_true(isfinite(nll_of(output, model_at(2), &kl)) && kl < 2.0);
    reader_close(r);
    tiny_model_free(m);
    lb_quantize_result_free(&planned);
    lb_quantize_result_free(&result);
}

static void a_tied_embedding_can_be_packed(void **state)
{
    (void)state;
    static const char *const rules[] = {"model.embed_tokens=int8-g32"};
    const char *output = in_work("tied");
    lb_quantize_options o = small_options(model_at(0), output);
    lb_quantize_result result;
    double kl;
    o.layer_rules = rules;
    o.layer_rule_count = 1;
    must_quantize(&o, &result);
    reader *r = reader_open(output, 2);
    assert_int_equal(result.bytes, r->bytes);
    assert_null(reader_find(r, "model.embed_tokens.weight"));
    assert_null(reader_find(r, "lm_head.weight"));
    assert_true(json_is_true(json_object_get(r->config, "tie_word_embeddings")));
    assert_true(isfinite(nll_of(output, model_at(0), &kl)) && kl < 1.0);
    reader_close(r);
    lb_quantize_result_free(&result);
}

static void rules_that_cannot_be_meant_are_refused(void **state)
{
    (void)state;
    static const struct {
        size_t model;
        const char *rule, *words;
    } cases[] = {
        {0, "*.q_porj=int8-g32", "\"*.q_porj\" matches no layer"},
        {0, "model.layers.2.*=int8-g32", "matches no layer"},
        {0, "lm_head=int8-g32", "name model.embed_tokens instead"},
        {1, "lm_haed=int8-g32", "matches no layer"},
        {1, "=int8-g32", "PATTERN=FORMAT"},
        {1, "lm_head", "PATTERN=FORMAT"},
        {1, "lm_head=int9-g32", "format \"int9-g32\" is not known"},
        {1, "lm_head=", "a format's name is missing"},
        {1,
         "lm_h\xE4"
         "d=f16",
         "ASCII"},
        {1,
         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
         "aaaaa=f16",
         "too long"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lb_quantize_options o = small_options(model_at(cases[i].model), in_work("never"));
        o.layer_rules = &cases[i].rule;
        o.layer_rule_count = 1;
        must_refuse(&o, LB_EINVAL, cases[i].words);
        o.dry_run = true;
        must_refuse(&o, LB_EINVAL, cases[i].words);
    }
    const char *many[65];
    for (size_t i = 0; i < 65; i++)
        many[i] = "*=int4-g64";
    lb_quantize_options o = small_options(model_at(0), in_work("never"));
    o.layer_rules = many;
    o.layer_rule_count = 65;
    must_refuse(&o, LB_EINVAL, "more than 64 layer rules");
    o.layer_rule_count = 64; /* and the recipe, however long, is told in full */
    lb_quantize_result result;
    o.dry_run = true;
    must_quantize(&o, &result);
    json_t *recipe = json_loads(result.recipe, 0, NULL);
    assert_int_equal(json_array_size(json_object_get(recipe, "layer_rules")), 64);
    json_decref(recipe);
    lb_quantize_result_free(&result);
}

/* ---- Options ----------------------------------------------------------------------------------------- */

static void options_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    const lb_quantize_options good = small_options(model_at(0), in_work("never"));
    lb_quantize_options o = good;
    o.format = "int4-g33";
    must_refuse(&o, LB_EINVAL, "format \"int4-g33\" is not known");
    o = good;
    o.method = "magic";
    must_refuse(&o, LB_EINVAL, "there are rtn, gptq");
    o = good;
    o.fit = "best";
    must_refuse(&o, LB_EINVAL, "there are search, range");
    o = good;
    o.order = "random";
    must_refuse(&o, LB_EINVAL, "there are group, act, none");
    o = good;
    o.cpu = "z80";
    must_refuse(&o, LB_EINVAL, "\"z80\"");
    o = good;
    o.struct_size = 0;
    must_refuse(&o, LB_EINVAL, "lb_quantize_options says that it has 0 bytes");
    o = good;
    o.damp = NAN;
    must_refuse(&o, LB_EINVAL, "outside 0 to 10");
    o.damp = -1;
    must_refuse(&o, LB_EINVAL, "outside 0 to 10");
    o = good;
    o.compensate = 1.5;
    must_refuse(&o, LB_EINVAL, "outside 0 to 1");
    o = good;
    o.samples = 0;
    must_refuse(&o, LB_EINVAL, "at least 1 sample");
    o.samples = SIZE_MAX;
    must_refuse(&o, LB_EINVAL, "out of range");
    o = good;
    o.seqlen = 1;
    must_refuse(&o, LB_EINVAL, "at least 1 sample of 2 tokens");
    o = good;
    o.model = in_work("no_such_model");
    must_refuse(&o, LB_EIO, "no_such_model");
}

/* In the very last block, and still before any work, or in place of it. */
static void strange_weights_are_found_at_once(void **state)
{
    (void)state;
    static const char *const tensors[] = {"model.layers.1.mlp.down_proj.weight",
                                          "model.layers.1.post_attention_layernorm.weight"};
    const tiny_model_options options = {.seed = 77, .hidden = 32, .ffn = 64, .tokenizer = TINY_BYTES};
    for (size_t k = 0; k < 4; k++) {
        tiny_model *m = tiny_model_make(&options);
        const char *folder = in_work("strange");
        lb_quantize_options o = small_options(folder, in_work("never"));
        assert_non_null(m);
        for (size_t i = 0; i < m->count; i++)
            if (strcmp(m->tensors[i].name, tensors[k % 2]) == 0)
                m->tensors[i].values[20] = k < 2 ? NAN : 1e30f;
        assert_int_equal(tiny_model_save(folder, m), 0);
        tiny_model_free(m);
        for (int dry = 0; dry < 2; dry++) {
            o.dry_run = dry;
            if (k < 2)
                must_refuse(&o, LB_EFORMAT, tensors[k]);
            else if (k == 2)
                must_refuse(&o, LB_EINVAL, "model.layers.1.mlp.down_proj: its largest weight is 1e+30");
            assert_false(scratch_exists(in_work("never.partial")));
        }
        scratch_remove(folder);
    }
}

static void the_calibration_text_must_do(void **state)
{
    (void)state;
    lb_quantize_options o = small_options(model_at(0), in_work("never"));
    scratch_write(in_work("short.txt"), "too short", 9);
    o.calibration = in_work("short.txt");
    must_refuse(&o, LB_EINVAL, "short.txt: the calibration text has");
    o.method = "rtn"; /* a text that was named is used, so it must do here too */
    must_refuse(&o, LB_EINVAL, "less than one sample of 32");
    scratch_write(in_work("empty.txt"), "", 0);
    o.calibration = in_work("empty.txt");
    must_refuse(&o, LB_EINVAL, "has 0 tokens");
    o.calibration = in_work("absent.txt");
    must_refuse(&o, LB_EIO, "absent.txt");
    scratch_write(in_work("wide.txt"), "w\0i\0d\0e\0", 8);
    o.calibration = in_work("wide.txt");
    must_refuse(&o, LB_EFORMAT, "wide.txt: byte 2 is 0, so that this is no text in UTF-8");
    o.calibration = work_folder;
    must_refuse(&o, LB_EIO, "not a regular file");
    /* A model's maximum bounds the samples. */
    lb_quantize_result result;
    o.calibration = NULL;
    o.method = "gptq";
    o.seqlen = 4096;
    o.dry_run = true;
    must_quantize(&o, &result);
    assert_int_equal(result.seqlen, 128);
    assert_int_equal(result.samples, 6);
    lb_quantize_result_free(&result);
}

static void a_quantized_model_is_not_quantized_again(void **state)
{
    (void)state;
    const char *once = in_work("once");
    lb_quantize_options o = small_options(model_at(0), once);
    lb_quantize_result result;
    o.method = "rtn";
    must_quantize(&o, &result);
    lb_quantize_result_free(&result);
    o.model = once;
    o.output = in_work("twice");
    must_refuse(&o, LB_EINVAL, "is quantized already");
    assert_false(scratch_exists(in_work("twice.partial")));
}

static void the_tokenizer_must_fit(void **state)
{
    (void)state;
    const tiny_model_options small = {.seed = 3, .vocab = 200, .layers = 1, .tokenizer = TINY_BYTES};
    const tiny_model_options mute = {.seed = 3, .layers = 1};
    lb_quantize_options o = small_options(tiny_in_work("small_embedding", &small), in_work("never"));
    must_refuse(&o, LB_EFORMAT, "its tokenizer has ids up to 258, but the embedding only 200 rows");
    o.method = "rtn";
    must_refuse(&o, LB_EFORMAT, "but the embedding only 200 rows");
    o = small_options(tiny_in_work("mute", &mute), in_work("never"));
    must_refuse(&o, LB_EFORMAT, "has no tokenizer, and calibration needs one");
    lb_quantize_result result;
    o.method = "rtn";
    must_quantize(&o, &result);
    assert_int_equal(result.samples, 0);
    assert_true(isnan(result.block_errors[0]));
    lb_quantize_result_free(&result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_checkpoint_holds_what_was_promised),
        cmocka_unit_test(relative_errors_are_those_of_the_weights),
        cmocka_unit_test(eight_bits_are_nearly_the_original),
        cmocka_unit_test(bytes_do_not_depend_on_threads),
        cmocka_unit_test(rounding_is_the_same_on_every_processor),
        cmocka_unit_test(rules_choose_formats),
        cmocka_unit_test(a_tied_embedding_can_be_packed),
        cmocka_unit_test(rules_that_cannot_be_meant_are_refused),
        cmocka_unit_test(options_that_make_no_sense_are_refused),
        cmocka_unit_test(strange_weights_are_found_at_once),
        cmocka_unit_test(the_calibration_text_must_do),
        cmocka_unit_test(a_quantized_model_is_not_quantized_again),
        cmocka_unit_test(the_tokenizer_must_fit),
    };
    return cmocka_run_group_tests(tests, make_work, drop_work);
}
