/* SPDX-License-Identifier: MIT
 * Tokenizers against Hugging Face's library (golden files), and what must hold for any of them: bad
 * files are refused with a sentence, text never spells a special token, decoding streams whole characters. */
#define _GNU_SOURCE
#include <time.h>

#include "tokenizer_golden.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/rng.h"

static const char *const GOLDEN[] = {"gpt2",          "gpt2_prefix",     "llama3",
                                     "qwen2",         "smollm",          "splits",
                                     "sentencepiece", "metaspace_first", "metaspace_always"};
enum { GOLDEN_COUNT = sizeof GOLDEN / sizeof *GOLDEN };

static void test_golden_ids(void **state)
{
    (void)state;
    size_t compared = 0;
    for (size_t g = 0; g < GOLDEN_COUNT; g++) {
        json_t *file = golden_load(GOLDEN[g]);
        lb_tokenizer *tokenizer = golden_tokenizer(GOLDEN[g], NULL);
        size_t i;
        json_t *entry;
        json_array_foreach(json_object_get(file, "cases"), i, entry)
        {
            const json_t *text = json_object_get(entry, "text");
            check_ids(tokenizer, text, LB_ENCODE_PARSE_SPECIAL, json_object_get(entry, "ids"), GOLDEN[g]);
            check_ids(tokenizer, text, LB_ENCODE_PLAIN, json_object_get(entry, "plain"), GOLDEN[g]);
            compared++;
        }
        lb_tokenizer_destroy(tokenizer);
        json_decref(file);
    }
    assert_true(compared > 600);
}

static void test_golden_decoding(void **state)
{
    (void)state;
    for (size_t g = 0; g < GOLDEN_COUNT; g++) {
        json_t *file = golden_load(GOLDEN[g]);
        lb_tokenizer *tokenizer = golden_tokenizer(GOLDEN[g], NULL);
        size_t i;
        json_t *entry;
        json_array_foreach(json_object_get(file, "cases"), i, entry)
        {
            const json_t *list = json_object_get(entry, "ids");
            uint32_t ids[4096];
            for (size_t k = 0; k < json_array_size(list); k++)
                ids[k] = (uint32_t)json_integer_value(json_array_get(list, k));
            json_t *text = decode(tokenizer, ids, json_array_size(list));
            if (!json_equal(text, json_object_get(entry, "decoded")))
                fail_msg("%s: case %zu decodes to \"%s\", wanted \"%s\"", GOLDEN[g], i,
                         json_string_value(text), json_string_value(json_object_get(entry, "decoded")));
            json_decref(text);
        }
        lb_tokenizer_destroy(tokenizer);
        json_decref(file);
    }
}

/* A byte-level model without a normalizer gives every text back, whatever bytes it is made of. */
static void test_byte_level_round_trip(void **state)
{
    (void)state;
    lb_tokenizer *tokenizer = golden_tokenizer("gpt2", NULL);
    lb_rng rng;
    lb_rng_seed(&rng, 7);
    for (int round = 0; round < 500; round++) {
        char bytes[64];
        size_t length = (size_t)lb_rng_below(&rng, sizeof bytes), count;
        for (size_t i = 0; i < length; i++)
            bytes[i] = (char)(lb_rng_below(&rng, 3) ? "\xF0\x9F\x98\x80 a\n'"[lb_rng_below(&rng, 8)]
                                                    : (int)lb_rng_below(&rng, 256));
        uint32_t *ids = encode(tokenizer, bytes, length, LB_ENCODE_PLAIN, &count);
        json_t *text = decode(tokenizer, ids, count), *exact = json_stringn(bytes, length);
        if (exact) /* NULL where the bytes are not UTF-8: those come back as U+FFFD */
            assert_true(json_equal(text, exact));
        else
            assert_non_null(memmem(json_string_value(text), json_string_length(text), "\xEF\xBF\xBD", 3));
        json_decref(text);
        json_decref(exact);
        lb_ids_free(ids);
    }
    lb_tokenizer_destroy(tokenizer);
}

static void test_invalid_bytes_become_replacement(void **state)
{
    (void)state;
    static const struct {
        const char *bytes, *text;
    } cases[] = {{"a\xFFz", "a\xEF\xBF\xBDz"},
                 {"\xC3", "\xEF\xBF\xBD"},
                 {"\xF0\x9F\x98z", "\xEF\xBF\xBDz"},
                 {"\xE2\x28\xA1", "\xEF\xBF\xBD(\xEF\xBF\xBD"},
                 {"\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
                 {"\xC0\xAF", "\xEF\xBF\xBD\xEF\xBF\xBD"}};
    lb_tokenizer *tokenizer = golden_tokenizer("qwen2", NULL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t count, wanted;
        uint32_t *ids = encode(tokenizer, cases[i].bytes, strlen(cases[i].bytes), 0, &count);
        uint32_t *want = encode(tokenizer, cases[i].text, strlen(cases[i].text), 0, &wanted);
        same_ids(ids, count, want, wanted, "qwen2", cases[i].text);
        lb_ids_free(ids);
        lb_ids_free(want);
    }
    lb_tokenizer_destroy(tokenizer);
}

static uint32_t id_of(const lb_tokenizer *tokenizer, const char *token)
{
    size_t count;
    uint32_t *ids = encode(tokenizer, token, strlen(token), LB_ENCODE_PARSE_SPECIAL, &count);
    assert_int_equal(count, 1);
    uint32_t id = ids[0];
    lb_ids_free(ids);
    return id;
}

static void test_special_ids(void **state)
{
    (void)state;
    lb_tokenizer *llama = golden_tokenizer("llama3", NULL), *qwen = golden_tokenizer("qwen2", NULL);
    assert_int_equal(lb_tokenizer_bos(llama), id_of(llama, "<s>"));
    assert_int_equal(lb_tokenizer_eos(llama), id_of(llama, "<|im_end|>"));
    assert_true(lb_tokenizer_adds_bos(llama));
    assert_true(lb_tokenizer_is_end(llama, id_of(llama, "<|im_end|>")));
    assert_false(lb_tokenizer_is_end(llama, id_of(llama, "<s>")));
    assert_false(lb_tokenizer_is_end(llama, UINT32_MAX));
    assert_int_equal(lb_tokenizer_bos(qwen), UINT32_MAX);
    assert_false(lb_tokenizer_adds_bos(qwen));
    assert_int_equal(lb_tokenizer_vocab_size(qwen), 524); /* 520 trained, 2 special, 2 tools */
    size_t count;
    uint32_t *ids = encode(llama, "", 0, LB_ENCODE_DEFAULT_BOS, &count);
    assert_int_equal(count, 1);
    assert_int_equal(ids[0], lb_tokenizer_bos(llama));
    lb_ids_free(ids);
    ids = encode(qwen, "", 0, LB_ENCODE_DEFAULT_BOS, &count);
    assert_int_equal(count, 0);
    lb_ids_free(ids);
    lb_tokenizer_destroy(llama);
    lb_tokenizer_destroy(qwen);
}

static void test_config_decides_about_bos(void **state)
{
    (void)state;
    json_t *config = json_pack("{s:s,s:b}", "bos_token", "<s>", "add_bos_token", 0);
    lb_tokenizer *tokenizer = golden_tokenizer("llama3", config);
    assert_false(lb_tokenizer_adds_bos(tokenizer)); /* although the post-processor would */
    lb_tokenizer_destroy(tokenizer);
    json_decref(config);
}

/* One byte of a character at a time: nothing comes out before the last. */
static void test_streaming_waits_for_characters(void **state)
{
    (void)state;
    lb_tokenizer *tokenizer = golden_tokenizer("sentencepiece", NULL);
    static const char *const bytes[] = {"<0xF0>", "<0x9F>", "<0x98>", "<0x80>"};
    lb_detokenizer *stream;
    lb_error err;
    const char *text;
    size_t length;
    assert_int_equal(lb_detokenizer_create(tokenizer, &stream, &err), LB_OK);
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t id = 3 + (uint32_t)strtoul(bytes[i] + 3, NULL, 16); /* after <unk>, <s>, </s> */
        assert_int_equal(lb_detokenizer_put(stream, id, &text, &length, &err), LB_OK);
        assert_int_equal(length, i == 3 ? 4 : 0);
    }
    assert_string_equal(text, "\xF0\x9F\x98\x80");
    assert_int_equal(lb_detokenizer_put(stream, 3 + 0xE4, &text, &length, &err), LB_OK);
    assert_int_equal(length, 0);
    assert_int_equal(lb_detokenizer_put(stream, 2, &text, &length, &err), LB_OK); /* </s> gives nothing */
    assert_int_equal(length, 0);
    assert_int_equal(lb_detokenizer_put(stream, 1000000, &text, &length, &err),
                     LB_OK); /* no token: nothing */
    assert_int_equal(length, 0);
    assert_int_equal(lb_detokenizer_finish(stream, &text, &length, &err), LB_OK);
    assert_string_equal(text, "\xEF\xBF\xBD");
    lb_detokenizer_destroy(stream);
    lb_tokenizer_destroy(tokenizer);
}

/* ---- bad files ---- */

typedef struct bad_file {
    const char *path; /* of the value that is replaced: keys separated by '/' */
    const char *value; /* JSON; NULL removes it */
    const char *sentence;
} bad_file;

static const bad_file BAD[] = {
    {"model", NULL, "no object \"model\""},
    {"model/type", "\"WordPiece\"", "tokenizer model \"WordPiece\" is not supported, only BPE"},
    {"model/type", "\"Unigram\"", "\"Unigram\" is not supported"},
    {"model/type", "3", "\"type\" is not a string"},
    {"model/vocab", NULL, "no object \"vocab\""},
    {"model/vocab", "{}", "vocabulary is empty"},
    {"model/vocab", "{\"a\": -1}", "no id between 0 and 1048575"},
    {"model/vocab", "{\"a\": 1048576}", "no id between 0 and 1048575"},
    {"model/vocab", "{\"a\": \"b\"}", "no id between"},
    {"model/vocab", "{\"a\": 1, \"b\": 1}", "share the id 1"},
    {"model/merges", NULL, "no list \"merges\""},
    {"model/merges", "[\"a\"]", "merge 0 is not two tokens"},
    {"model/merges", "[\"a b c\"]", "merge 0 is not two tokens"},
    {"model/merges", "[[\"a\", 1]]", "merge 0 is not two tokens"},
    {"model/merges", "[\"nowhere a\"]", "uses \"nowhere\", which is not in the vocabulary"},
    {"model/merges", "[[\"a\", \"\xE2\x82\xAC\"]]", "not in the vocabulary"},
    {"model/merges", "[\"\xC3\xA2 \xC3\xA2\"]", "makes \"\xC3\xA2\xC3\xA2\", which is not in the vocabulary"},
    {"model/unk_token", "\"<nothing>\"", "unk_token \"<nothing>\" is not in the vocabulary"},
    {"model/dropout", "0.1", "dropout 0.1 is not supported"},
    {"model/end_of_word_suffix", "\"</w>\"", "end_of_word_suffix"},
    {"model/continuing_subword_prefix", "\"##\"", "continuing_subword_prefix"},
    {"normalizer", "{\"type\": \"BertNormalizer\"}",
     "normalizer \"BertNormalizer\" is not supported; known are"},
    {"normalizer", "{\"type\": \"Replace\", \"pattern\": {\"Regex\": \"(\"}, \"content\": \"\"}",
     "pattern \"(\""},
    {"normalizer", "{\"type\": \"Replace\", \"pattern\": {\"String\": \"\"}, \"content\": \"\"}",
     "empty pattern"},
    {"normalizer", "{\"type\": \"Prepend\"}", "no text under \"prepend\""},
    {"normalizer", "{}", "without a \"type\""},
    {"normalizer", "[]", "without a \"type\""},
    {"pre_tokenizer", "{\"type\": \"BertPreTokenizer\"}", "\"BertPreTokenizer\" is not supported; known are"},
    {"pre_tokenizer", "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"[\"}, \"behavior\": \"Isolated\"}",
     "not understood"},
    {"pre_tokenizer", "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"a\"}, \"behavior\": \"Odd\"}",
     "behavior \"Odd\""},
    {"pre_tokenizer", "{\"type\": \"Sequence\"}", "without a list \"pretokenizers\""},
    {"pre_tokenizer", "{\"type\": \"Metaspace\", \"replacement\": \"ab\"}", "not one character"},
    {"pre_tokenizer", "{\"type\": \"Metaspace\", \"prepend_scheme\": \"maybe\"}", "\"maybe\""},
    {"decoder", "{\"type\": \"WordPiece\"}", "decoder \"WordPiece\" is not supported; known are"},
    {"decoder", "{\"type\": \"Strip\", \"content\": \"\"}", "not one character"},
    {"post_processor", "{\"type\": \"BertProcessing\"}", "\"BertProcessing\" is not supported; known are"},
    {"post_processor", "{\"type\": \"TemplateProcessing\"}", "without a list \"single\""},
    {"post_processor", "{\"type\": \"TemplateProcessing\", \"single\": []}", "without the text itself"},
    {"post_processor",
     "{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"x\"}}], "
     "\"special_tokens\": {}}",
     "not one id of the vocabulary"},
    {"added_tokens", "{}", "not a list"},
    {"added_tokens", "[{\"id\": 5}]", "without a \"content\""},
    {"added_tokens", "[{\"content\": \"<x>\"}]", "has no id"},
    {"added_tokens", "[{\"content\": \"<x>\", \"id\": 1048576}]", "outside 0 to 1048575"},
    {"added_tokens", "[{\"content\": \"<x>\", \"id\": 5}]", "has id 5, which is"},
    {"added_tokens", "[{\"content\": \"a\", \"id\": 1000}]", "in the vocabulary"},
    {"added_tokens", "[{\"content\": \"<x>\", \"id\": 1000}, {\"content\": \"<y>\", \"id\": 1000}]",
     "share the id"},
    {"config/bos_token", "\"<nothing>\"", "bos_token is \"<nothing>\", which is not in the vocabulary"},
    {"config/eos_token", "7", "\"eos_token\" is not a token's text"},
    {"config/add_bos_token", "1", "neither true nor false"},
    {"config/chat_template", "5", "neither a text nor a list"},
};

static void replace_value(json_t *root, const bad_file *bad)
{
    char path[100];
    snprintf(path, sizeof path, "%s", bad->path);
    char *slash = strchr(path, '/');
    json_t *parent = root;
    if (slash) {
        *slash = '\0';
        parent = json_object_get(root, path);
        assert_non_null(parent);
    }
    const char *key = slash ? slash + 1 : path;
    if (!bad->value) {
        json_object_del(parent, key);
        return;
    }
    json_t *value = json_loads(bad->value, JSON_DECODE_ANY, NULL);
    assert_non_null(value);
    assert_int_equal(json_object_set_new(parent, key, value), 0);
}

static void test_bad_files_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        json_t *file = golden_load("gpt2");
        json_t *spec = json_object_get(file, "tokenizer"), *config = json_object_get(file, "config");
        json_object_set(spec, "config", config);
        replace_value(spec, &BAD[i]);
        lb_tokenizer *tokenizer = NULL;
        lb_error err = {LB_OK, ""};
        lb_status st = lb_tokenizer_create(spec, config, "model/tokenizer.json", &tokenizer, &err);
        if (st == LB_OK || tokenizer)
            fail_msg("%s = %s was accepted", BAD[i].path, BAD[i].value ? BAD[i].value : "nothing");
        if (!strstr(err.msg, BAD[i].sentence) || strncmp(err.msg, "model/tokenizer.json: ", 22) != 0)
            fail_msg("%s = %s: \"%s\", wanted \"%s\"", BAD[i].path, BAD[i].value ? BAD[i].value : "nothing",
                     err.msg, BAD[i].sentence);
        json_decref(file);
    }
}

/* Whatever of a tokenizer is cut off or changed, the answer is a tokenizer or a sentence. */
static void test_mangled_files(void **state)
{
    (void)state;
    json_t *file = golden_load("sentencepiece");
    char *text = json_dumps(json_object_get(file, "tokenizer"), 0);
    size_t size = strlen(text), refused = 0;
    lb_rng rng;
    lb_rng_seed(&rng, 11);
    for (int round = 0; round < 400; round++) {
        char *copy = malloc(size);
        assert_non_null(copy);
        memcpy(copy, text, size);
        size_t length = round % 2 ? size : (size_t)lb_rng_below(&rng, size);
        for (int k = 0; k < round % 5; k++)
            copy[lb_rng_below(&rng, size)] = (char)lb_rng_below(&rng, 256);
        lb_error err = {LB_OK, ""};
        json_t *spec = NULL;
        lb_tokenizer *tokenizer = NULL;
        lb_status st = lb_json_parse(copy, length, "mangled", &spec, &err);
        if (st == LB_OK)
            st = lb_tokenizer_create(spec, NULL, "mangled", &tokenizer, &err);
        if (st != LB_OK) {
            assert_memory_equal(err.msg, "mangled: ", 9);
            assert_null(tokenizer);
            refused++;
        }
        lb_tokenizer_destroy(tokenizer);
        json_decref(spec);
        free(copy);
    }
    assert_true(refused > 200);
    free(text);
    json_decref(file);
}

static lb_status everything(const json_t *spec, const json_t *config, lb_error *err)
{
    static const char text[] = "Caf\x65\xCC\x81 <|im_end|> 12345 \xFF and a wooooooooooooooooooooooooord";
    lb_tokenizer *tokenizer;
    lb_detokenizer *stream = NULL;
    uint32_t *ids = NULL;
    size_t count, length;
    const char *piece;
    LB_TRY(lb_tokenizer_create(spec, config, "test", &tokenizer, err));
    lb_status st =
        lb_tokenizer_encode(tokenizer, text, sizeof text - 1, LB_ENCODE_PARSE_SPECIAL, &ids, &count, err);
    if (st == LB_OK)
        st = lb_detokenizer_create(tokenizer, &stream, err);
    for (size_t i = 0; st == LB_OK && i < count; i++)
        st = lb_detokenizer_put(stream, ids[i], &piece, &length, err);
    lb_detokenizer_destroy(stream);
    lb_ids_free(ids);
    lb_tokenizer_destroy(tokenizer);
    return st;
}

/* Every allocation fails once: the answer is LB_ENOMEM and nothing leaks (the sanitizer watches). PCRE2
 * can do without its just-in-time code, so a success may also mean that; many in a row are the end. */
static void test_no_memory(void **state)
{
    (void)state;
    static const char *const names[] = {"qwen2", "sentencepiece"};
    for (size_t g = 0; g < 2; g++) {
        json_t *file = golden_load(names[g]);
        const json_t *spec = json_object_get(file, "tokenizer"), *config = json_object_get(file, "config");
        size_t failures = 0, successes = 0;
        for (size_t k = 1; successes < 20; k++) {
            lb_error err = {LB_OK, ""};
            lb_alloc_fail_at(k);
            lb_status st = everything(spec, config, &err);
            lb_alloc_fail_at(0);
            successes = st == LB_OK ? successes + 1 : 0;
            if (st == LB_OK)
                continue;
            assert_int_equal(st, LB_ENOMEM);
            assert_true(strlen(err.msg) > 0);
            failures++;
        }
        assert_true(failures > 20);
        json_decref(file);
    }
}

/* ---- time ---- */

static char *repeat(const char *unit, size_t bytes)
{
    char *text = malloc(bytes);
    assert_non_null(text);
    for (size_t i = 0; i < bytes; i++)
        text[i] = unit[i % strlen(unit)];
    return text;
}

/* Half a megabyte of what makes careless tokenizers quadratic. */
static void test_long_words_are_fast(void **state)
{
    (void)state;
    static const char *const units[] = {"a", " ",   "\n", "the", "\xCC\x81\xCC\xA3",
                                        "!", "ab ", "'",  "1",   "\xE2\x96\x81"};
    for (size_t g = 0; g < GOLDEN_COUNT; g++) {
        lb_tokenizer *tokenizer = golden_tokenizer(GOLDEN[g], NULL);
        for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
            size_t bytes = 500000, count;
            char *text = repeat(units[i], bytes);
            const clock_t start = clock(); /* the processor's time: the machine may be busy */
            uint32_t *ids = encode(tokenizer, text, bytes, LB_ENCODE_PARSE_SPECIAL, &count);
            const double took = (double)(clock() - start) / CLOCKS_PER_SEC;
            if (took > 8.0) /* a sanitizer's build needs 1 s; quadratic code needs minutes */
                fail_msg("%s: %zu bytes of \"%s\" took %.1f s", GOLDEN[g], bytes, units[i], took);
            lb_ids_free(ids);
            free(text);
        }
        lb_tokenizer_destroy(tokenizer);
    }
}

/* A pattern that backtracks for ever is an error, not a hang. */
static void test_hostile_pattern(void **state)
{
    (void)state;
    static const char *const patterns[] = {"(a+)+[bc]", "(a|aa)+[^a]", "(?=(a+))(a*)*[cd]",
                                           "((a{1,30}){1,30}){1,30}[yz]"};
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        json_t *file = golden_load("gpt2");
        json_t *spec = json_object_get(file, "tokenizer");
        json_object_set_new(spec, "pre_tokenizer",
                            json_pack("{s:s,s:{s:s},s:s,s:b}", "type", "Split", "pattern", "Regex",
                                      patterns[i], "behavior", "Isolated", "invert", 0));
        json_object_set_new(spec, "decoder", json_pack("{s:s}", "type", "ByteLevel"));
        lb_tokenizer *tokenizer = NULL;
        lb_error err;
        uint32_t *ids = NULL;
        size_t count;
        double start = lb_now();
        char *text = repeat("a", 3000);
        lb_status st = lb_tokenizer_create(spec, NULL, "hostile", &tokenizer, &err);
        if (st == LB_OK)
            st = lb_tokenizer_encode(tokenizer, text, 3000, 0, &ids, &count, &err);
        assert_true(lb_now() - start < 60.0);
        if (st != LB_OK)
            assert_int_equal(err.status, LB_EUNSUPPORTED);
        if (i == 0)
            assert_int_equal(st, LB_EUNSUPPORTED);
        free(text);
        lb_ids_free(ids);
        lb_tokenizer_destroy(tokenizer);
        json_decref(file);
    }
}

/* ---- whole models, where they are at hand ---- */

static void test_open_real_model(void **state)
{
    (void)state;
    lb_tokenizer *tokenizer;
    lb_error err;
    json_t *reference = json_load_file("../shared/models/stories260K/reference.json", 0, NULL);
    if (!reference) {
        print_message("../shared/models/stories260K is not there\n");
        skip();
    }
    json_decref(reference);
    if (lb_tokenizer_open("../shared/models/stories260K", &tokenizer, &err) != LB_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(lb_tokenizer_vocab_size(tokenizer), 512);
    assert_int_equal(lb_tokenizer_bos(tokenizer), 1);
    assert_int_equal(lb_tokenizer_eos(tokenizer), 2);
    assert_true(lb_tokenizer_adds_bos(tokenizer));
    lb_tokenizer_destroy(tokenizer);
    assert_int_not_equal(lb_tokenizer_open("../shared/models/tokenizers", &tokenizer, &err), LB_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_ids),
        cmocka_unit_test(test_golden_decoding),
        cmocka_unit_test(test_byte_level_round_trip),
        cmocka_unit_test(test_invalid_bytes_become_replacement),
        cmocka_unit_test(test_special_ids),
        cmocka_unit_test(test_config_decides_about_bos),
        cmocka_unit_test(test_streaming_waits_for_characters),
        cmocka_unit_test(test_bad_files_are_refused),
        cmocka_unit_test(test_mangled_files),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_long_words_are_fast),
        cmocka_unit_test(test_hostile_pattern),
        cmocka_unit_test(test_open_real_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
