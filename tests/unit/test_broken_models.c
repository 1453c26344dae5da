/* SPDX-License-Identifier: MIT
 * Model folders that are broken in one place each, and the sentence that says which: opening the weights
 * and planning a run must agree. */
#define _GNU_SOURCE
#include "quantize_case.h"
#include "broken_corpus.h"

#include "base/json.h"
#include "io/tokenizer.h"
#include "lowbit/eval.h"
#include "model/weights.h"

static const tiny_model_options llama = {
    .seed = 41, .hidden = 32, .ffn = 24, .layers = 2, .heads = 2, .kv_heads = 1, .tokenizer = TINY_BYTES};

/* A fresh copy of the model, to be broken. */
static const char *fresh(const tiny_model_options *options)
{
    const char *folder = in_work("model");
    scratch_remove(folder);
    assert_int_equal(tiny_model_write(folder, options), 0);
    return folder;
}

static const char *in_model(const char *file)
{
    char name[128];
    snprintf(name, sizeof name, "model/%s", file);
    return in_work(name);
}

static void expect(const char *folder, lb_status wanted, const char *words)
{
    lb_weights *weights = NULL;
    lb_error err = {LB_OK, ""};
    const lb_status st = lb_weights_open(folder, &weights, &err);
    if (st != wanted || (st != LB_OK && (err.status != wanted || !strstr(err.msg, words))))
        fail_msg("opening: status %d, \"%s\"; wanted %d, \"%s\"", (int)st, err.msg, (int)wanted, words);
    lb_weights_close(weights);
    if (wanted == LB_OK)
        return;
    if (!strstr(err.msg, "model") || strchr(err.msg, '\n'))
        fail_msg("the sentence names no file: \"%s\"", err.msg);
    lb_quantize_options o = small_options(folder, in_work("never"));
    must_refuse(&o, wanted, words);
    o.dry_run = true;
    must_refuse(&o, wanted, words);
}

/* config.json with `patch`, the inside of a JSON object, laid over it. */
static void patch_json(const char *path, const char *patch)
{
    json_error_t problem;
    char text[512];
    snprintf(text, sizeof text, "{%s}", patch);
    json_t *json = json_load_file(path, 0, &problem), *more = json_loads(text, 0, &problem);
    assert_non_null(json);
    if (!more)
        fail_msg("%s: %s", text, problem.text);
    json_object_update(json, more);
    assert_int_equal(json_dump_file(json, path, 0), 0);
    json_decref(json);
    json_decref(more);
}

/* ---- Files ------------------------------------------------------------------------------------------- */

static void weights_cut_short(void **state)
{
    (void)state;
    size_t size, header = 0;
    fresh(&llama);
    char *bytes = scratch_read(in_model("model.safetensors"), &size);
    for (int i = 7; i >= 0; i--)
        header = header << 8 | (unsigned char)bytes[i];
    const struct {
        size_t keep;
        const char *words;
    } cases[] = {
        {0, "0 bytes, too short for a header"},     {7, "7 bytes, too short for a header"},
        {8, "the file ends inside its header"},     {8 + header / 2, "the file ends inside its header"},
        {8 + header, "it is cut short or damaged"}, {size - 1, "it is cut short or damaged"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        scratch_write(in_model("model.safetensors"), bytes, cases[i].keep);
        expect(in_work("model"), LB_EFORMAT, cases[i].words);
    }
    char *longer = calloc(size + 3, 1);
    memcpy(longer, bytes, size);
    scratch_write(in_model("model.safetensors"), longer, size + 3);
    expect(in_work("model"), LB_EFORMAT, "3 bytes at its end belong to no tensor");
    scratch_write(in_model("model.safetensors"), bytes, size);
    expect(in_work("model"), LB_OK, "");
    free(bytes);
    free(longer);
}

/* The tensors of the model in two shards with an index. */
static void shard_it(void)
{
    static const char *const shards[] = {"a.safetensors", "b.safetensors"};
    tiny_model *m = tiny_model_make(&llama);
    json_t *map = json_object();
    fresh(&llama);
    remove(in_model("model.safetensors"));
    for (size_t s = 0; s < 2; s++) {
        lb_tensor_out out[64];
        size_t count = 0;
        lb_error err;
        for (size_t i = s; i < m->count; i += 2) {
            const tiny_tensor *t = &m->tensors[i];
            out[count] = (lb_tensor_out){.name = t->name,
                                         .dtype = LB_DTYPE_F32,
                                         .rank = t->rows ? 2 : 1,
                                         .data = t->values,
                                         .bytes = (t->rows ? t->rows : 1) * t->cols * 4};
            out[count].shape[0] = t->rows ? t->rows : t->cols;
            out[count++].shape[1] = t->cols;
            json_object_set_new(map, t->name, json_string(shards[s]));
        }
        assert_int_equal(lb_safetensors_write(in_model(shards[s]), out, count, &err), LB_OK);
    }
    json_t *index = json_pack("{s:{}, s:o}", "metadata", "weight_map", map);
    assert_int_equal(json_dump_file(index, in_model("model.safetensors.index.json"), 0), 0);
    json_decref(index);
    tiny_model_free(m);
}

static void patch_map(const char *tensor, const char *shard)
{
    json_t *index = json_load_file(in_model("model.safetensors.index.json"), 0, NULL);
    json_object_set_new(json_object_get(index, "weight_map"), tensor,
                        shard ? json_string(shard) : json_null());
    assert_int_equal(json_dump_file(index, in_model("model.safetensors.index.json"), 0), 0);
    json_decref(index);
}

static void shards_that_are_not_what_the_index_says(void **state)
{
    (void)state;
    const char *folder = in_work("model"), *index = in_model("model.safetensors.index.json");
    shard_it();
    expect(folder, LB_OK, "");
    remove(in_model("b.safetensors"));
    expect(folder, LB_EFORMAT, "shard b.safetensors is missing from the folder");
    shard_it();
    scratch_write(in_model("b.safetensors"), "12345678", 8);
    expect(folder, LB_EFORMAT, "b.safetensors");
    shard_it();
    patch_map("model.norm.weight", "a.safetensors");
    patch_map("model.embed_tokens.weight", "b.safetensors");
    expect(folder, LB_EFORMAT, "where the index puts it");
    shard_it();
    patch_map("model.more.weight", "a.safetensors");
    expect(folder, LB_EFORMAT, "tensor \"model.more.weight\" is not in a.safetensors");
    shard_it();
    patch_map("model.norm.weight", "../../etc/passwd");
    expect(folder, LB_EFORMAT, "lies outside the folder");
    shard_it();
    patch_map("model.norm.weight", NULL);
    expect(folder, LB_EFORMAT, "\"model.norm.weight\" names no shard");
    scratch_write(index, "{\"weight_map\": {}}", 18);
    expect(folder, LB_EFORMAT, "has no \"weight_map\"");
    scratch_write(index, "{\"weight_map\": ", 15);
    expect(folder, LB_EFORMAT, "not valid JSON");
}

static void files_that_are_not_there(void **state)
{
    (void)state;
    const char *folder = fresh(&llama);
    remove(in_model("config.json"));
    expect(folder, LB_EINVAL, "has no config.json: it is no model folder");
    folder = fresh(&llama);
    remove(in_model("model.safetensors"));
    expect(folder, LB_EINVAL, "has neither model.safetensors nor model.safetensors.index.json");
    scratch_write(in_model("pytorch_model.bin"), "x", 1);
    expect(folder, LB_EUNSUPPORTED, "must be converted to safetensors");
    folder = fresh(&llama);
    remove(in_model("model.safetensors"));
    scratch_write(in_model("x.gguf"), "x", 1);
    expect(folder, LB_EINVAL, "give that file's own name");
    fresh(&llama);
    expect(in_model("model.safetensors"), LB_EINVAL, "give the folder that it lies in");
    expect(in_model("config.json"), LB_EFORMAT, "not a GGUF file");
    expect(in_work("model/nothing"), LB_EIO, "there is no such file or folder");
    scratch_write(in_model("config.json"), "", 0);
    expect(in_work("model"), LB_EFORMAT, "config.json: not valid JSON");
}

/* ---- config.json and the tensors disagree --------------------------------------------------------------- */

static void configurations_of_another_model(void **state)
{
    (void)state;
    static const struct {
        const char *patch, *words;
    } cases[] = {
        {"\"hidden_size\": 64, \"head_dim\": 16",
         "embed_tokens.weight is 288 x 32, but config.json implies 288 x 64"},
        {"\"vocab_size\": 289", "embed_tokens.weight is 288 x 32, but config.json implies 289 x 32"},
        {"\"intermediate_size\": 48", "mlp.gate_proj.weight is 24 x 32, but config.json implies 48 x 32"},
        {"\"num_attention_heads\": 4", "q_proj.weight is 32 x 32, but config.json implies 64 x 32"},
        {"\"num_key_value_heads\": 2", "k_proj.weight is 16 x 32, but config.json implies 32 x 32"},
        {"\"head_dim\": 8", "q_proj.weight is 32 x 32, but config.json implies 16 x 32"},
        {"\"num_hidden_layers\": 3", "tensor model.layers.2.self_attn.q_proj.weight is missing"},
        {"\"num_hidden_layers\": 1", "is none that a LlamaForCausalLM of 1 layers has"},
        {"\"attention_bias\": true", "tensor model.layers.0.self_attn.q_proj.bias is missing"},
        {"\"mlp_bias\": true", "tensor model.layers.0.mlp.gate_proj.bias is missing"},
        {"\"architectures\": [\"Qwen2ForCausalLM\"]", "q_proj.bias is missing"},
        {"\"architectures\": [\"Qwen3ForCausalLM\"]", "self_attn.q_norm.weight is missing"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fresh(&llama);
        patch_json(in_model("config.json"), cases[i].patch);
        expect(in_work("model"), LB_EFORMAT, cases[i].words);
    }
    /* The other way round: biases and norms that the configuration knows nothing of. */
    tiny_model_options options = llama;
    options.architecture = "Qwen2ForCausalLM";
    fresh(&options);
    patch_json(in_model("config.json"), "\"architectures\": [\"LlamaForCausalLM\"]");
    expect(in_work("model"), LB_EFORMAT, "_proj.bias is none that a LlamaForCausalLM");
    options.architecture = "Qwen3ForCausalLM";
    fresh(&options);
    patch_json(in_model("config.json"), "\"architectures\": [\"LlamaForCausalLM\"]");
    expect(in_work("model"), LB_EFORMAT, "_norm.weight is none that a LlamaForCausalLM");
    fresh(&llama);
    patch_json(in_model("config.json"), "\"architectures\": [\"GPT2LMHeadModel\"]");
    expect(
        in_work("model"), LB_EUNSUPPORTED,
        "architecture GPT2LMHeadModel is not supported; supported are LlamaForCausalLM, MistralForCausalLM, "
        "Qwen2ForCausalLM, Qwen3ForCausalLM");
}

/* Writes the model without the tensor, or with another name, shape or type in its place. */
static void replace_tensor(const char *name, const char *by, lb_dtype dtype, size_t rows, size_t cols)
{
    static const double zeros[64 * 64];
    lb_tensor_out out[64];
    lb_error err;
    size_t count = 0;
    tiny_model *m = tiny_model_make(&llama);
    fresh(&llama);
    for (size_t i = 0; i < m->count; i++) {
        const tiny_tensor *t = &m->tensors[i];
        out[count] = (lb_tensor_out){.name = t->name,
                                     .dtype = LB_DTYPE_F32,
                                     .rank = t->rows ? 2 : 1,
                                     .shape = {t->rows ? t->rows : t->cols, t->cols},
                                     .data = t->values,
                                     .bytes = (t->rows ? t->rows : 1) * t->cols * 4};
        if (strcmp(t->name, name) == 0) {
            if (!by)
                continue;
            out[count] = (lb_tensor_out){.name = by,
                                         .dtype = dtype,
                                         .rank = 2,
                                         .shape = {rows, cols},
                                         .data = zeros,
                                         .bytes = rows * cols * lb_dtype_block_bytes(dtype)};
        }
        count++;
    }
    if (lb_safetensors_write(in_model("model.safetensors"), out, count, &err) != LB_OK)
        fail_msg("%s", err.msg);
    tiny_model_free(m);
}

static void tensors_that_are_missing_or_wrong(void **state)
{
    (void)state;
    static const char *const needed[] = {"model.embed_tokens.weight",
                                         "model.norm.weight",
                                         "model.layers.0.input_layernorm.weight",
                                         "model.layers.1.mlp.down_proj.weight",
                                         "model.layers.1.post_attention_layernorm.weight",
                                         "model.layers.0.self_attn.o_proj.weight"};
    const char *folder = in_work("model"), *up = "model.layers.1.mlp.up_proj.weight";
    char words[160];
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        snprintf(words, sizeof words, "tensor %s is missing", needed[i]);
        replace_tensor(needed[i], NULL, LB_DTYPE_F32, 0, 0);
        expect(folder, LB_EFORMAT, words);
    }
    replace_tensor(up, up, LB_DTYPE_F32, 32, 24);
    expect(folder, LB_EFORMAT, "up_proj.weight is 32 x 24, but config.json implies 24 x 32");
    replace_tensor(up, up, LB_DTYPE_BF16, 24, 32); /* types may differ from tensor to tensor */
    expect(folder, LB_OK, "");
    replace_tensor(up, up, LB_DTYPE_I32, 24, 32);
    expect(folder, LB_EUNSUPPORTED, "up_proj.weight has type I32, want a floating-point type");
    replace_tensor(up, up, LB_DTYPE_U8, 24, 32);
    expect(folder, LB_EUNSUPPORTED, "has type U8");
    replace_tensor("lm_head.weight", NULL, LB_DTYPE_F32, 0, 0); /* no head: the embedding is meant */
    expect(folder, LB_OK, "");
    replace_tensor("lm_head.weight", "model.layers.0.self_attn.rotary_emb.inv_freq", LB_DTYPE_F32, 1, 8);
    expect(folder, LB_OK, "");
    replace_tensor("lm_head.weight", "model.layers.00.mlp.up_proj.weight", LB_DTYPE_F32, 24, 32);
    expect(folder, LB_EFORMAT, "model.layers.00.mlp.up_proj.weight is none that");
    replace_tensor("lm_head.weight", "model.layers.0.mlp.up_proj.weight_scale", LB_DTYPE_F32, 24, 1);
    expect(folder, LB_EFORMAT, "up_proj.weight_scale is none that");
}

/* ---- Quantized folders ----------------------------------------------------------------------------------- */

static void fresh_quantized(void)
{
    lb_quantize_options o = small_options(tiny_in_work("original", &llama), in_work("model"));
    lb_quantize_result result;
    scratch_remove(in_work("model"));
    o.method = "rtn";
    o.format = "int4-g32-asym";
    must_quantize(&o, &result);
    lb_quantize_result_free(&result);
}

static void patch_quantization(const char *patch)
{
    json_t *config = json_load_file(in_model("config.json"), 0, NULL), *more = json_loads(patch, 0, NULL);
    assert_non_null(more);
    json_object_update(json_object_get(config, "quantization_config"), more);
    assert_int_equal(json_dump_file(config, in_model("config.json"), 0), 0);
    json_decref(config);
    json_decref(more);
}

static void quantizations_that_cannot_be_read(void **state)
{
    (void)state;
    static const struct {
        const char *patch;
        lb_status status;
        const char *words;
    } cases[] = {
        {"{\"quant_method\": \"aqlm\"}", LB_EUNSUPPORTED, "its weights were quantized by aqlm"},
        {"{\"quant_method\": \"gptq\"}", LB_EFORMAT, "q_proj.weight is missing"},
        {"{\"quant_method\": 7}", LB_EFORMAT, "\"quant_method\" is not a string"},
        {"{\"quant_method\": null}", LB_EUNSUPPORTED, "quantized by unnamed"},
        {"{\"format_version\": 3}", LB_EUNSUPPORTED,
         "checkpoint format version 3, this lowbit reads versions up to 2"},
        {"{\"inputs\": 3}", LB_EFORMAT, "quantization_config.inputs is not an object"},
        {"{\"inputs\": {\"act\": \"int9\"}}", LB_EFORMAT, "\"int9\" is not known"},
        {"{\"inputs\": {\"act\": 8}}", LB_EFORMAT, "\"act\" is not a string"},
        {"{\"inputs\": {\"transform\": \"fourier\"}}", LB_EFORMAT, "\"fourier\" is not known"},
        {"{\"inputs\": {\"transform\": \"hadamard-7\"}}", LB_EFORMAT, "order 7 is known"},
        {"{\"inputs\": {\"transform\": \"hadamard-4\", \"seed\": -1}}", LB_EFORMAT, "\"seed\""},
        {"{\"inputs\": {\"transform\": null}}", LB_EFORMAT, "\"transform\" is null"},
        {"{\"inputs\": {\"transform\": \"hadamard\"}}", LB_EFORMAT, "does not say of what size"},
        {"{\"inputs\": null}", LB_EFORMAT, "quantization_config.inputs is not an object"},
        {"{\"format_version\": 1}", LB_EFORMAT, "has \"inputs\", which version 1 does not have"},
        {"{\"format_version\": \"1\"}", LB_EFORMAT, "\"format_version\" is not an integer"},
        {"{\"layers\": [1]}", LB_EFORMAT, "has no \"layers\" object"},
        {"{\"layers\": {}}", LB_EFORMAT, "q_proj.weight is missing"},
        {"{\"layers\": {\"model.layers.0.self_attn.q_proj\": \"int4-g7\"}}", LB_EFORMAT,
         "\"int4-g7\" is not known"},
        {"{\"layers\": {\"model.layers.0.self_attn.q_proj\": 4}}", LB_EFORMAT, "q_proj.weight is missing"},
        {"{\"layers\": {\"model.layers.0.self_attn.q_proj\": \"int4-g32\"}}", LB_EFORMAT,
         "k_proj.weight is missing"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fresh_quantized();
        patch_quantization(cases[i].patch);
        expect(in_work("model"), cases[i].status, cases[i].words);
    }
    fresh_quantized();
    json_t *config = json_load_file(in_model("config.json"), 0, NULL);
    json_t *layers = json_object_get(json_object_get(config, "quantization_config"), "layers");
    json_object_set_new(layers, "model.layers.2.mlp.up_proj", json_string("int4-g32"));
    json_dump_file(config, in_model("config.json"), 0);
    expect(in_work("model"), LB_EFORMAT,
           "names a layer \"model.layers.2.mlp.up_proj\" that the model does not have");
    json_object_del(layers, "model.layers.2.mlp.up_proj");
    json_object_set_new(layers, "model.layers.1.mlp.up_proj",
                        json_string("int4-g32")); /* leaves its zeros over */
    json_dump_file(config, in_model("config.json"), 0);
    expect(in_work("model"), LB_EFORMAT, "up_proj.weight.zeros is none that");
    json_object_set_new(layers, "model.layers.1.mlp.up_proj", json_string("int5-g32-asym"));
    json_dump_file(config, in_model("config.json"), 0);
    expect(in_work("model"), LB_EFORMAT, "up_proj.weight.codes is 24 x 16, but config.json implies 24 x 20");
    json_object_set_new(config, "quantization_config", json_integer(4));
    json_dump_file(config, in_model("config.json"), 0);
    expect(in_work("model"), LB_EUNSUPPORTED, "quantized by unnamed");
    json_decref(config);
}

static void a_scale_that_is_no_number_is_named(void **state)
{
    (void)state;
    static const unsigned char infinity[2] = {0x00, 0x7C};
    size_t size, header = 0;
    lb_eval_options o;
    lb_eval_result result;
    lb_error err;
    fresh_quantized();
    const char *shard = in_model("model-00002-of-00003.safetensors");
    char *bytes = scratch_read(shard, &size);
    for (int i = 7; i >= 0; i--)
        header = header << 8 | (unsigned char)bytes[i];
    json_t *json = json_loadb(bytes + 8, header, 0, NULL);
    const json_t *tensor = json_object_get(json, "model.layers.1.mlp.gate_proj.weight.scales");
    const size_t begin =
        (size_t)json_integer_value(json_array_get(json_object_get(tensor, "data_offsets"), 0));
    memcpy(bytes + 8 + header + begin + 2 * 5, infinity, 2); /* row 5 of one group each */
    scratch_write(shard, bytes, size);
    free(bytes);
    json_decref(json);
    lb_eval_options_init(&o);
    o.model = in_work("model");
    o.text = "examples/text/evaluation.txt";
    o.tokens = 256;
    assert_int_equal(lb_evaluate(&o, &result, &err), LB_EFORMAT);
    if (!strstr(err.msg, "model.layers.1.mlp.gate_proj.weight, row 5: the scale of group 0 is inf"))
        fail_msg("%s", err.msg);
}

/* ---- Tokenizers -------------------------------------------------------------------------------------------- */

static void tokenizers_that_do_not_fit(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        lb_status status;
        const char *words;
    } cases[] = {{"", LB_EFORMAT, "tokenizer.json: not valid JSON"},
                 {"[]", LB_EFORMAT, "tokenizer.json: its JSON is not an object"},
                 {"{}", LB_EFORMAT, "model"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *folder = fresh(&llama);
        scratch_write(in_model("tokenizer.json"), cases[i].text, strlen(cases[i].text));
        for (int dry = 0; dry < 2; dry++) {
            lb_quantize_options o = small_options(folder, in_work("never"));
            o.dry_run = dry == 1;
            must_refuse(&o, cases[i].status, cases[i].words);
            o.method = "rtn";
            must_refuse(&o, cases[i].status, cases[i].words);
        }
    }
    tiny_model_options small = llama;
    small.vocab = 100;
    lb_quantize_options o = small_options(fresh(&small), in_work("never"));
    o.dry_run = true;
    must_refuse(&o, LB_EFORMAT, "but the embedding only 100 rows");
}

/* A "config" inside the file stands for tokenizer_config.json, as for the fuzz target. */
static lb_status open_tokenizer(const char *path, lb_error *err)
{
    json_t *json;
    lb_tokenizer *tokenizer;
    LB_TRY(lb_json_load(path, 1 << 20, &json, err));
    const lb_status st = lb_tokenizer_create(json, json_object_get(json, "config"), path, &tokenizer, err);
    json_decref(json);
    if (st == LB_OK)
        lb_tokenizer_destroy(tokenizer);
    return st;
}

static void broken_tokenizer_files_are_named(void **state)
{
    (void)state;
    assert_true(walk_corpus("tokenizer", open_tokenizer) >= 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_cut_short),
        cmocka_unit_test(shards_that_are_not_what_the_index_says),
        cmocka_unit_test(files_that_are_not_there),
        cmocka_unit_test(configurations_of_another_model),
        cmocka_unit_test(tensors_that_are_missing_or_wrong),
        cmocka_unit_test(quantizations_that_cannot_be_read),
        cmocka_unit_test(a_scale_that_is_no_number_is_named),
        cmocka_unit_test(tokenizers_that_do_not_fit),
        cmocka_unit_test(broken_tokenizer_files_are_named),
    };
    return cmocka_run_group_tests(tests, make_work, drop_work);
}
