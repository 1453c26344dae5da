/* SPDX-License-Identifier: MIT
 * Opening models: folders with one file or shards, GGUF files, and what is said about all others. */
#include "near.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/json.h"
#include "gguf_writer.h"
#include "io/checkpoint.h"
#include "io/safetensors.h"

static char *folder;

static int make_folder(void **state)
{
    (void)state;
    char prefix[3500];
    const char *tmp = getenv("TMPDIR");
    snprintf(prefix, sizeof prefix, "%s/lb_checkpoint", tmp ? tmp : "/tmp");
    return lb_make_unique_directory(prefix, &folder, NULL) == LB_OK ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    lb_status st = lb_remove_directory(folder, NULL);
    lb_free(folder);
    folder = NULL;
    return st == LB_OK ? 0 : -1;
}

static void put_bytes(const char *name, const void *data, size_t size)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(lb_file_replace(path, data, size, NULL), LB_OK);
}

static void put(const char *name, const char *text)
{
    put_bytes(name, text, strlen(text));
}

static const float values[4] = {1, 2, 3, 4};

/* A file with the one tensor `name`. */
static void put_tensor(const char *file, const char *name)
{
    char path[4096];
    const lb_tensor_out tensor = {name, LB_DTYPE_F32, 2, {2, 2}, values, sizeof values};
    snprintf(path, sizeof path, "%s/%s", folder, file);
    assert_int_equal(lb_safetensors_write(path, &tensor, 1, NULL), LB_OK);
}

static void opens(lb_checkpoint *checkpoint)
{
    lb_error err;
    if (lb_checkpoint_open(folder, checkpoint, &err) != LB_OK)
        fail_msg("%s", err.msg);
}

static void refused(const char *path, lb_status status, const char *wanted)
{
    lb_error err = {LB_OK, ""};
    lb_checkpoint checkpoint = {0};
    assert_int_equal(lb_checkpoint_open(path, &checkpoint, &err), status);
    if (!strstr(err.msg, wanted))
        fail_msg("\"%s\" lacks \"%s\"", err.msg, wanted);
    assert_null(checkpoint.path);
}

static void one_file(void **state)
{
    (void)state;
    lb_checkpoint checkpoint;
    put("config.json", "{\"model_type\": \"llama\"}");
    put_tensor("model.safetensors", "a");
    opens(&checkpoint);
    assert_string_equal(checkpoint.kind, "safetensors");
    assert_string_equal(checkpoint.path, folder);
    assert_string_equal(json_string_value(json_object_get(checkpoint.config, "model_type")), "llama");
    assert_null(checkpoint.tokenizer);
    assert_null(checkpoint.tokenizer_config);
    float got[4];
    assert_int_equal(lb_tensor_read(lb_tensor_find(&checkpoint.tensors, "a"), 0, 2, got, NULL), LB_OK);
    same_array(got, values, 4);
    lb_checkpoint_close(&checkpoint);
    lb_checkpoint_close(&checkpoint); /* closing twice does nothing */
    put("tokenizer.json", "{\"version\": \"1.0\"}");
    put("tokenizer_config.json", "{\"bos_token\": \"<s>\"}");
    opens(&checkpoint);
    assert_non_null(json_object_get(checkpoint.tokenizer, "version"));
    assert_non_null(json_object_get(checkpoint.tokenizer_config, "bos_token"));
    assert_null(json_object_get(checkpoint.tokenizer_config, "chat_template"));
    lb_checkpoint_close(&checkpoint);
}

static const char *template_of(const lb_checkpoint *checkpoint)
{
    return json_string_value(json_object_get(checkpoint->tokenizer_config, "chat_template"));
}

static void chat_template(void **state)
{
    (void)state;
    lb_checkpoint checkpoint;
    put("config.json", "{}");
    put_tensor("model.safetensors", "a");
    put("chat_template.jinja", "from the file");
    opens(&checkpoint);
    assert_string_equal(template_of(&checkpoint), "from the file");
    lb_checkpoint_close(&checkpoint);
    put("tokenizer_config.json", "{\"chat_template\": null}");
    opens(&checkpoint);
    assert_string_equal(template_of(&checkpoint), "from the file");
    lb_checkpoint_close(&checkpoint);
    put("tokenizer_config.json", "{\"chat_template\": \"its own\"}");
    opens(&checkpoint);
    assert_string_equal(template_of(&checkpoint), "its own");
    lb_checkpoint_close(&checkpoint);
    put("tokenizer_config.json", "{}");
    put("chat_template.jinja", "\xff\xfe");
    refused(folder, LB_EFORMAT, "chat_template.jinja: not valid UTF-8");
}

static void shards(void **state)
{
    (void)state;
    lb_checkpoint checkpoint;
    put("config.json", "{}");
    put_tensor("s1.safetensors", "a");
    put_tensor("s2.safetensors", "b");
    put("model.safetensors.index.json",
        "{\"metadata\": {}, \"weight_map\": {\"b\": \"s2.safetensors\", \"a\": \"s1.safetensors\"}}");
    opens(&checkpoint);
    assert_int_equal(checkpoint.tensors.count, 2);
    assert_int_equal(checkpoint.tensors.file_count, 2);
    assert_int_equal(lb_tensor_find(&checkpoint.tensors, "b")->file, 1);
    lb_checkpoint_close(&checkpoint);
}

static void broken_index(void **state)
{
    (void)state;
    static const struct {
        const char *index, *wanted;
    } cases[] = {
        {"{}", "index.json: has no \"weight_map\""},
        {"{\"weight_map\": {}}", "has no \"weight_map\""},
        {"{\"weight_map\": []}", "has no \"weight_map\""},
        {"{\"weight_map\": {\"a\": 1}}", "tensor \"a\" names no shard"},
        {"{\"weight_map\": {\"a\": \"\"}}", "tensor \"a\" names no shard"},
        {"{\"weight_map\": {\"a\": \"../s1.safetensors\"}}",
         "shard \"../s1.safetensors\" lies outside the folder"},
        {"{\"weight_map\": {\"a\": \"/etc/passwd\"}}", "shard \"/etc/passwd\" lies outside the folder"},
        {"{\"weight_map\": {\"a\": \"sub/s1.safetensors\"}}", "lies outside the folder"},
        {"{\"weight_map\": {\"a\": \"..\"}}", "lies outside the folder"},
        {"{\"weight_map\": {\"a\": \"s3.safetensors\"}}", "shard s3.safetensors is missing from the folder"},
        {"{\"weight_map\": {\"a\": \"s2.safetensors\", \"b\": \"s2.safetensors\"}}",
         "tensor \"a\" is not in s2.safetensors, where the index puts it"},
        {"{\"weight_map\": {\"a\": \"s2.safetensors\", \"b\": \"s1.safetensors\"}}",
         "is not in s2.safetensors"},
        {"{\"weight_map\": {\"a\": \"s1.safetensors\", \"b\": \"twice.safetensors\"}}",
         "two tensors are named \"a\""},
        {"{\"weight_map\": {\"a\": \"s1.safetensors\", \"a\": \"s2.safetensors\"}}", "duplicate"},
        {"[", "not valid JSON"},
    };
    put("config.json", "{}");
    put_tensor("s1.safetensors", "a");
    put_tensor("s2.safetensors", "b");
    put_tensor("twice.safetensors", "a");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put("model.safetensors.index.json", cases[i].index);
        refused(folder, LB_EFORMAT, cases[i].wanted);
    }
}

static void missing_parts(void **state)
{
    (void)state;
    char path[4096];
    refused("/nowhere/model", LB_EIO, "/nowhere/model: there is no such file or folder");
    refused(folder, LB_EINVAL, "has no config.json");
    put("config.json", "{");
    refused(folder, LB_EFORMAT, "config.json: not valid JSON");
    put("config.json", "{}");
    refused(folder, LB_EINVAL, "has neither model.safetensors nor model.safetensors.index.json");
    put("model.Q4_0.gguf", "x");
    refused(folder, LB_EINVAL, "but a GGUF file: give that file's own name");
    put("pytorch_model.bin", "x");
    refused(folder, LB_EUNSUPPORTED, "must be converted to safetensors");
    put("model.safetensors", "x");
    refused(folder, LB_EFORMAT, "not a safetensors file");
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    refused(path, LB_EINVAL, "give the folder that it lies in");
    snprintf(path, sizeof path, "%s/model.Q4_0.gguf", folder);
    refused(path, LB_EFORMAT, "not a GGUF file");
    put_tensor("model.safetensors", "a");
    put("tokenizer.json", "nonsense");
    refused(folder, LB_EFORMAT, "tokenizer.json: not valid JSON");
}

/* One piece of a SentencePiece model: field 1, with its text, score and type. */
static void put_piece(gguf_bytes *b, const char *text, uint8_t type)
{
    uint8_t length = (uint8_t)strlen(text);
    gguf_put(b, (uint8_t[]){0x0a, (uint8_t)(length + 9), 0x0a, length}, 4);
    gguf_put(b, text, length);
    gguf_put(b, (uint8_t[]){0x15, 0, 0, 0, 0, 0x18, type}, 7);
}

static void sentencepiece(void **state)
{
    (void)state;
    lb_checkpoint checkpoint;
    gguf_bytes model = {0};
    char digits[8];
    put_piece(&model, "<unk>", 2);
    put_piece(&model, "<s>", 3);
    put_piece(&model, "</s>", 3);
    for (int i = 0; i < 256; i++) {
        snprintf(digits, sizeof digits, "<0x%02X>", i);
        put_piece(&model, digits, 6);
    }
    put_piece(&model, "a", 1);
    gguf_put(&model, (uint8_t[]){0x12, 2, 0x18, 2}, 4); /* trainer_spec: model_type = BPE */
    put("config.json", "{}");
    put_tensor("model.safetensors", "a");
    put_bytes("tokenizer.model", model.data, model.size);
    opens(&checkpoint);
    assert_non_null(json_object_get(checkpoint.tokenizer, "model"));
    lb_checkpoint_close(&checkpoint);
    put_bytes("tokenizer.model", model.data, model.size - 1);
    refused(folder, LB_EFORMAT, "tokenizer.model");
    put("tokenizer.json", "{\"version\": \"1.0\"}"); /* goes before it */
    opens(&checkpoint);
    assert_non_null(json_object_get(checkpoint.tokenizer, "version"));
    lb_checkpoint_close(&checkpoint);
    free(model.data);
}

static gguf_bytes small_gguf(void)
{
    gguf_writer w = {0};
    gguf_key_string(&w, "general.architecture", "llama");
    gguf_key_u32(&w, "llama.block_count", 1);
    gguf_key_u32(&w, "llama.context_length", 16);
    gguf_key_u32(&w, "llama.embedding_length", 4);
    gguf_key_u32(&w, "llama.feed_forward_length", 4);
    gguf_key_u32(&w, "llama.attention.head_count", 1);
    gguf_key_float(&w, "llama.attention.layer_norm_rms_epsilon", 1e-6f);
    gguf_tensor_ramp(&w, "token_embd.weight", 3, 4, 0);
    return gguf_finish(&w);
}

static void gguf_file(void **state)
{
    (void)state;
    lb_error err;
    lb_checkpoint checkpoint;
    char path[4096];
    float got[12];
    gguf_bytes file = small_gguf();
    put_bytes("small.gguf", file.data, file.size);
    free(file.data);
    snprintf(path, sizeof path, "%s/small.gguf", folder);
    if (lb_checkpoint_open(path, &checkpoint, &err) != LB_OK)
        fail_msg("%s", err.msg);
    assert_string_equal(checkpoint.kind, "gguf");
    assert_int_equal(json_integer_value(json_object_get(checkpoint.config, "vocab_size")), 3);
    assert_null(checkpoint.tokenizer);
    /* The bytes live on after the GGUF reader is gone. */
    const lb_tensor *embedding = lb_tensor_find(&checkpoint.tensors, "model.embed_tokens.weight");
    lb_tensor_forget(&checkpoint.tensors, embedding);
    assert_int_equal(lb_tensor_read(embedding, 0, 3, got, NULL), LB_OK);
    for (size_t i = 0; i < 12; i++)
        assert_true(got[i] == (float)i);
    lb_checkpoint_close(&checkpoint);
}

/* Fails each allocation in turn until there is none left to fail. */
static size_t open_without_memory(const char *path)
{
    size_t k = 1;
    for (lb_status st = LB_ENOMEM; st != LB_OK; k++) {
        lb_error err = {LB_OK, ""};
        lb_checkpoint checkpoint = {0};
        lb_alloc_fail_at(k);
        st = lb_checkpoint_open(path, &checkpoint, &err);
        lb_alloc_fail_at(0);
        if (st != LB_OK && (st != LB_ENOMEM || checkpoint.path))
            fail_msg("allocation %zu: status %d, \"%s\"", k, (int)st, err.msg);
        lb_checkpoint_close(&checkpoint);
    }
    return k;
}

static void no_memory(void **state)
{
    (void)state;
    char path[4096];
    gguf_bytes file = small_gguf();
    put_bytes("small.gguf", file.data, file.size);
    free(file.data);
    snprintf(path, sizeof path, "%s/small.gguf", folder);
    assert_true(open_without_memory(path) > 10);
    put("config.json", "{}");
    put("chat_template.jinja", "x");
    put_tensor("s1.safetensors", "a");
    put_tensor("s2.safetensors", "b");
    put("model.safetensors.index.json",
        "{\"weight_map\": {\"a\": \"s1.safetensors\", \"b\": \"s2.safetensors\"}}");
    assert_true(open_without_memory(folder) > 20);
}

/* Models that may lie beside the repository. */
static void real_models(void **state)
{
    (void)state;
    static const char *const models[] = {"../shared/models/stories260K", "../shared/models/babyllama-361"};
    bool any = false;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        lb_error err;
        lb_checkpoint checkpoint;
        if (!lb_path_exists(models[i]))
            continue;
        any = true;
        if (lb_checkpoint_open(models[i], &checkpoint, &err) != LB_OK)
            fail_msg("%s", err.msg);
        assert_non_null(checkpoint.tokenizer);
        assert_non_null(lb_tensor_find(&checkpoint.tensors, "model.embed_tokens.weight"));
        lb_checkpoint_close(&checkpoint);
    }
    if (!any) {
        print_message("no models beside the repository\n");
        skip();
    }
}

int main(void)
{
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(one_file),      IN_FOLDER(chat_template), IN_FOLDER(shards),    IN_FOLDER(broken_index),
        IN_FOLDER(missing_parts), IN_FOLDER(sentencepiece), IN_FOLDER(gguf_file), IN_FOLDER(no_memory),
        cmocka_unit_test(real_models),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
