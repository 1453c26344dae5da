/* SPDX-License-Identifier: MIT
 * Tokenizers out of GGUF metadata: the golden byte-level tokenizers written as GGUF must give the golden
 * ids again, and a SentencePiece vocabulary must merge as SentencePiece defines it. */
#include "tokenizer_golden.h"

#include "base/alloc.h"
#include "base/rng.h"
#include "gguf_writer.h"

enum { TYPE_I32 = 5, TYPE_F32 = 6, TYPE_BOOL = 7, TYPE_ARRAY = 9 };

static void put_numbers(gguf_writer *w, const char *key, uint32_t type, const uint32_t *bits, size_t count)
{
    gguf_key(w, key, TYPE_ARRAY, type, 4);
    gguf_put_number(&w->keys, count, 8);
    for (size_t i = 0; i < count; i++)
        gguf_put_number(&w->keys, bits[i], 4);
}

static lb_status convert(gguf_writer *w, json_t **tokenizer, json_t **config, lb_error *err)
{
    gguf_bytes file = gguf_finish(w);
    lb_gguf *gguf;
    if (lb_gguf_parse(file.data, file.size, "test.gguf", &gguf, err) != LB_OK)
        fail_msg("%s", err->msg);
    lb_status st = lb_tokenizer_from_gguf(gguf, "test.gguf", tokenizer, config, err);
    lb_gguf_close(gguf);
    free(file.data);
    return st;
}

/* ---- byte-level ---- */

enum { MAX_TOKENS = 1024 };

/* Tokens, types and merges of a golden tokenizer. */
static void put_golden(gguf_writer *w, const json_t *spec)
{
    const json_t *model = json_object_get(spec, "model");
    const char *tokens[MAX_TOKENS] = {0}, *text;
    uint32_t types[MAX_TOKENS];
    size_t count = 0, i;
    json_t *value;
    json_object_foreach(json_object_get(model, "vocab"), text, value)
    {
        tokens[json_integer_value(value)] = text;
        count++;
    }
    for (i = 0; i < MAX_TOKENS; i++)
        types[i] = 1;
    json_array_foreach(json_object_get(spec, "added_tokens"), i, value)
    {
        size_t id = (size_t)json_integer_value(json_object_get(value, "id"));
        count += tokens[id] == NULL;
        tokens[id] = json_string_value(json_object_get(value, "content"));
        types[id] = json_is_true(json_object_get(value, "special")) ? 3 : 4;
    }
    const json_t *merges = json_object_get(model, "merges");
    char(*joined)[100] = malloc(json_array_size(merges) * sizeof *joined);
    const char **lines = malloc(json_array_size(merges) * sizeof *lines);
    assert_true(joined && lines);
    json_array_foreach(merges, i, value)
    {
        if (json_is_string(value))
            snprintf(joined[i], sizeof joined[i], "%s", json_string_value(value));
        else
            snprintf(joined[i], sizeof joined[i], "%s %s", json_string_value(json_array_get(value, 0)),
                     json_string_value(json_array_get(value, 1)));
        lines[i] = joined[i];
    }
    gguf_key_string(w, "tokenizer.ggml.model", "gpt2");
    gguf_key_strings(w, "tokenizer.ggml.tokens", tokens, count);
    put_numbers(w, "tokenizer.ggml.token_type", TYPE_I32, types, count);
    gguf_key_strings(w, "tokenizer.ggml.merges", lines, json_array_size(merges));
    free(joined);
    free(lines);
}

static void check_golden(const char *name, const char *pre, bool is_added_normalized)
{
    gguf_writer w = {0};
    json_t *file = golden_load(name), *spec = NULL, *config = NULL, *entry;
    lb_error err;
    size_t i;
    put_golden(&w, json_object_get(file, "tokenizer"));
    gguf_key_string(&w, "tokenizer.ggml.pre", pre);
    if (convert(&w, &spec, &config, &err) != LB_OK)
        fail_msg("%s", err.msg);
    lb_tokenizer *tokenizer = tokenizer_make(spec, config, name);
    json_array_foreach(json_object_get(file, "cases"), i, entry)
    {
        const json_t *text = json_object_get(entry, "text");
        if (is_added_normalized && strstr(json_string_value(text), "tool"))
            continue;
        check_ids(tokenizer, text, LB_ENCODE_PARSE_SPECIAL, json_object_get(entry, "ids"), name);
        check_ids(tokenizer, text, LB_ENCODE_PLAIN, json_object_get(entry, "plain"), name);
    }
    lb_tokenizer_destroy(tokenizer);
    json_decref(spec);
    json_decref(config);
    json_decref(file);
}

static void test_byte_level_gives_golden_ids(void **state)
{
    (void)state;
    check_golden("gpt2", "gpt-2", false);
    check_golden("llama3", "llama-bpe", false);
    check_golden("qwen2", "qwen2", true);
    check_golden("smollm", "smollm", false);
}

static void test_special_ids_and_chat(void **state)
{
    (void)state;
    gguf_writer w = {0};
    json_t *file = golden_load("llama3"), *spec, *config;
    lb_error err;
    put_golden(&w, json_object_get(file, "tokenizer"));
    gguf_key_string(&w, "tokenizer.ggml.pre", "llama3");
    gguf_key_u32(&w, "tokenizer.ggml.bos_token_id", 520);
    gguf_key_u32(&w, "tokenizer.ggml.eos_token_id", 522);
    gguf_key_u32(&w, "tokenizer.ggml.unknown_token_id", UINT32_MAX); /* how some writers say "none" */
    gguf_key_string(&w, "tokenizer.chat_template", "<|im_start|>{{ x }}<|im_end|>");
    assert_int_equal(convert(&w, &spec, &config, &err), LB_OK);
    lb_tokenizer *tokenizer = tokenizer_make(spec, config, "llama3");
    assert_int_equal(lb_tokenizer_bos(tokenizer), 520);
    assert_int_equal(lb_tokenizer_eos(tokenizer), 522);
    assert_true(lb_tokenizer_adds_bos(tokenizer)); /* llama-bpe does, unless the file says otherwise */
    lb_chat_turn turn = {"user", "hi"};
    uint32_t *ids;
    size_t count;
    assert_int_equal(lb_tokenizer_chat(tokenizer, &turn, 1, &ids, &count, &err), LB_OK);
    assert_int_equal(ids[0], 521);
    lb_ids_free(ids);
    lb_tokenizer_destroy(tokenizer);
    json_decref(spec);
    json_decref(config);
    json_decref(file);
}

/* ---- SentencePiece ---- */

static const char *const PIECES[] = {"<unk>",
                                     "<s>",
                                     "</s>",
                                     "\xE2\x96\x81",
                                     "a",
                                     "b",
                                     "c",
                                     "ab",
                                     "bc",
                                     ("\xE2\x96\x81"
                                      "a"),
                                     "abc",
                                     "aa",
                                     "aab",
                                     "\xE2\x96\x81\xE2\x96\x81",
                                     "ca",
                                     ("\xE2\x96\x81"
                                      "abc"),
                                     "bca",
                                     "cc",
                                     "\xC3\xA9",
                                     ("\xC3\xA9"
                                      "a"),
                                     "<tool>",
                                     "s>"};
enum { PIECE_COUNT = sizeof PIECES / sizeof *PIECES };

static float score_of(size_t id)
{
    return id < 3   ? 0.0f
           : id < 7 ? -1000.0f - (float)id
                    : -(float)(id * 7 % 19); /* not in the order of ids */
}

static void put_pieces(gguf_writer *w)
{
    uint32_t types[PIECE_COUNT], scores[PIECE_COUNT];
    for (size_t i = 0; i < PIECE_COUNT; i++) {
        float score = score_of(i);
        types[i] = i == 0 ? 2 : i < 3 ? 3 : strcmp(PIECES[i], "<tool>") == 0 ? 4 : 1;
        memcpy(&scores[i], &score, sizeof score);
    }
    gguf_key_string(w, "tokenizer.ggml.model", "llama");
    gguf_key_strings(w, "tokenizer.ggml.tokens", PIECES, PIECE_COUNT);
    put_numbers(w, "tokenizer.ggml.token_type", TYPE_I32, types, PIECE_COUNT);
    put_numbers(w, "tokenizer.ggml.scores", TYPE_F32, scores, PIECE_COUNT);
    gguf_key_u32(w, "tokenizer.ggml.bos_token_id", 1);
    gguf_key_u32(w, "tokenizer.ggml.eos_token_id", 2);
    gguf_key_u32(w, "tokenizer.ggml.unknown_token_id", 0);
}

/* SentencePiece's definition: of all adjacent pairs whose union is a piece, the best-scored, leftmost. */
static size_t merge_by_score(const char *text, uint32_t *ids)
{
    char parts[64][64] = {{0}};
    size_t count = 0;
    for (const char *at = text; *at; count++) {
        size_t length = (unsigned char)*at < 0x80 ? 1 : (unsigned char)*at < 0xE0 ? 2 : 3;
        memcpy(parts[count], at, length);
        at += length;
    }
    for (;;) {
        float best = -1e30f;
        size_t at = count;
        for (size_t i = 0; i + 1 < count; i++)
            for (size_t id = 3; id < PIECE_COUNT; id++) {
                char joined[130];
                snprintf(joined, sizeof joined, "%s%s", parts[i], parts[i + 1]);
                if (strcmp(joined, PIECES[id]) == 0 && score_of(id) > best) {
                    best = score_of(id);
                    at = i;
                }
            }
        if (at == count)
            break;
        memmove(parts[at] + strlen(parts[at]), parts[at + 1], strlen(parts[at + 1]) + 1);
        memmove(parts[at + 1], parts[at + 2], (count - at - 2) * sizeof *parts);
        count--;
    }
    for (size_t i = 0; i < count; i++)
        for (uint32_t id = 3; id < PIECE_COUNT; id++)
            if (strcmp(parts[i], PIECES[id]) == 0)
                ids[i] = id;
    return count;
}

static void test_pieces_merge_by_score(void **state)
{
    (void)state;
    gguf_writer w = {0};
    json_t *spec, *config;
    lb_error err;
    lb_rng rng;
    put_pieces(&w);
    if (convert(&w, &spec, &config, &err) != LB_OK)
        fail_msg("%s", err.msg);
    lb_tokenizer *tokenizer = tokenizer_make(spec, config, "pieces");
    assert_true(lb_tokenizer_adds_bos(tokenizer));
    lb_rng_seed(&rng, 9);
    for (int round = 0; round < 3000; round++) {
        static const char *const letters[] = {"a", "b", "c", " ", "\xC3\xA9"};
        char text[100] = "", marked[200] = "\xE2\x96\x81";
        size_t length = 1 + (size_t)lb_rng_below(&rng, 20), count, wanted;
        for (size_t i = 0; i < length; i++) {
            const char *letter = letters[lb_rng_below(&rng, 5)];
            size_t used = strlen(text), marked_used = strlen(marked);
            snprintf(text + used, sizeof text - used, "%s", letter);
            snprintf(marked + marked_used, sizeof marked - marked_used, "%s",
                     *letter == ' ' ? "\xE2\x96\x81" : letter);
        }
        uint32_t want[64], *got = encode(tokenizer, text, strlen(text), 0, &count);
        wanted = merge_by_score(marked, want);
        same_ids(got, count, want, wanted, "pieces", text);
        lb_ids_free(got);
    }
    size_t count;
    uint32_t *ids = encode(tokenizer, "a<tool></s>", 11, LB_ENCODE_PLAIN, &count);
    assert_int_equal(ids[0], 9);
    assert_int_equal(ids[1], 20); /* a user-defined piece is found in any text, "</s>" is only letters */
    for (size_t i = 2; i < count; i++)
        assert_int_not_equal(ids[i], 2);
    lb_ids_free(ids);
    json_t *back = decode(tokenizer, (const uint32_t[]){1, 15, 3, 9, 2}, 5);
    assert_string_equal(json_string_value(back), "abc  a");
    json_decref(back);
    lb_tokenizer_destroy(tokenizer);
    json_decref(spec);
    json_decref(config);
}

static void test_no_space_prefix(void **state)
{
    (void)state;
    gguf_writer w = {0};
    json_t *spec, *config;
    lb_error err;
    put_pieces(&w);
    gguf_key(&w, "tokenizer.ggml.add_space_prefix", TYPE_BOOL, 0, 1);
    gguf_key(&w, "tokenizer.ggml.add_bos_token", TYPE_BOOL, 0, 1);
    assert_int_equal(convert(&w, &spec, &config, &err), LB_OK);
    lb_tokenizer *tokenizer = tokenizer_make(spec, config, "pieces");
    assert_false(lb_tokenizer_adds_bos(tokenizer));
    size_t count;
    uint32_t *ids = encode(tokenizer, "c", 1, 0, &count);
    same_ids(ids, count, (const uint32_t[]){6}, 1, "pieces", "c");
    lb_ids_free(ids);
    json_t *back = decode(tokenizer, (const uint32_t[]){9}, 1);
    assert_string_equal(json_string_value(back), " a");
    json_decref(back);
    lb_tokenizer_destroy(tokenizer);
    json_decref(spec);
    json_decref(config);
}

/* ---- refusals ---- */

static void refused(gguf_writer *w, const char *sentence)
{
    json_t *spec = NULL, *config = NULL;
    lb_error err = {LB_OK, ""};
    assert_int_not_equal(convert(w, &spec, &config, &err), LB_OK);
    assert_null(spec);
    if (!strstr(err.msg, sentence) || strncmp(err.msg, "test.gguf: ", 11) != 0)
        fail_msg("\"%s\", wanted \"%s\"", err.msg, sentence);
}

static void test_refusals(void **state)
{
    (void)state;
    static const char *const two[] = {"a", "a"}, *const broken[] = {"a", "\xFF"};
    gguf_writer w = {0};
    gguf_key_string(&w, "tokenizer.ggml.model", "bert");
    refused(&w, "kind \"bert\" is not supported; known are gpt2");
    gguf_key_string(&w, "tokenizer.ggml.model", "gpt2");
    refused(&w, "tokenizer.ggml.tokens has 0 entries");
    gguf_key_string(&w, "tokenizer.ggml.model", "gpt2");
    gguf_key_strings(&w, "tokenizer.ggml.tokens", two, 1);
    gguf_key_string(&w, "tokenizer.ggml.pre", "tekken");
    refused(&w, "pre-tokenizer \"tekken\" is not supported; known are gpt-2, ");
    gguf_key_string(&w, "tokenizer.ggml.model", "gpt2");
    gguf_key_strings(&w, "tokenizer.ggml.tokens", two, 2);
    refused(&w, "comes twice");
    gguf_key_string(&w, "tokenizer.ggml.model", "gpt2");
    gguf_key_strings(&w, "tokenizer.ggml.tokens", broken, 2);
    refused(&w, "token 1 is not valid UTF-8");
    gguf_key_string(&w, "tokenizer.ggml.model", "gpt2");
    gguf_key_strings(&w, "tokenizer.ggml.tokens", two, 1);
    gguf_key_u32(&w, "tokenizer.ggml.eos_token_id", 1);
    refused(&w, "tokenizer.ggml.eos_token_id is 1, but there are 1 tokens");
    gguf_key_string(&w, "tokenizer.ggml.model", "gpt2");
    gguf_key_strings(&w, "tokenizer.ggml.tokens", two, 1);
    put_numbers(&w, "tokenizer.ggml.token_type", TYPE_I32, (const uint32_t[]){9}, 1);
    refused(&w, "has the type 9");
    gguf_key_string(&w, "tokenizer.ggml.model", "gpt2");
    gguf_key_strings(&w, "tokenizer.ggml.tokens", two, 1);
    put_numbers(&w, "tokenizer.ggml.token_type", TYPE_I32, (const uint32_t[]){1, 1}, 2);
    refused(&w, "has 2 entries for 1 tokens");
    gguf_key_string(&w, "tokenizer.ggml.model", "llama");
    gguf_key_strings(&w, "tokenizer.ggml.tokens", two, 1);
    refused(&w, "without tokenizer.ggml.scores");
    json_t *spec, *config;
    lb_error err;
    gguf_key_string(&w, "general.name", "no tokenizer at all");
    assert_int_equal(convert(&w, &spec, &config, &err), LB_OK);
    assert_null(spec);
    assert_null(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_byte_level_gives_golden_ids),
        cmocka_unit_test(test_special_ids_and_chat),
        cmocka_unit_test(test_pieces_merge_by_score),
        cmocka_unit_test(test_no_space_prefix),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
