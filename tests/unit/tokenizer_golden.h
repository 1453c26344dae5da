/* SPDX-License-Identifier: MIT
 * Loading the files of tests/golden/tokenizer, and comparing ids. */
#ifndef LB_TESTS_TOKENIZER_GOLDEN_H
#define LB_TESTS_TOKENIZER_GOLDEN_H

#include "near.h"

#include <stdlib.h>

#include "io/tokenizer.h"

static inline json_t *golden_load(const char *name)
{
    char path[200];
    json_error_t problem;
    snprintf(path, sizeof path, "tests/golden/tokenizer/%s.json", name);
    json_t *file = json_load_file(path, JSON_ALLOW_NUL, &problem);
    if (!file)
        fail_msg("%s: %s", path, problem.text);
    return file;
}

static inline lb_tokenizer *tokenizer_make(const json_t *spec, const json_t *config, const char *name)
{
    lb_tokenizer *tokenizer;
    lb_error err;
    if (lb_tokenizer_create(spec, json_is_null(config) ? NULL : config, name, &tokenizer, &err) != LB_OK)
        fail_msg("%s", err.msg);
    return tokenizer;
}

/* The tokenizer of a golden file, with another tokenizer_config.json when config is not NULL. */
static inline lb_tokenizer *golden_tokenizer(const char *name, const json_t *config)
{
    json_t *file = golden_load(name);
    lb_tokenizer *tokenizer = tokenizer_make(json_object_get(file, "tokenizer"),
                                             config ? config : json_object_get(file, "config"), name);
    json_decref(file);
    return tokenizer;
}

static inline uint32_t *encode(const lb_tokenizer *tokenizer, const char *text, size_t length, unsigned flags,
                               size_t *count)
{
    uint32_t *ids;
    lb_error err;
    if (lb_tokenizer_encode(tokenizer, text, length, flags, &ids, count, &err) != LB_OK)
        fail_msg("%s", err.msg);
    return ids;
}

static inline void same_ids(const uint32_t *got, size_t got_count, const uint32_t *want, size_t want_count,
                            const char *where, const char *text)
{
    size_t i = 0;
    while (i < got_count && i < want_count && got[i] == want[i])
        i++;
    if (i < got_count || i < want_count)
        fail_msg("%s: \"%s\": %zu ids, wanted %zu; id %zu is %ld, wanted %ld", where, text, got_count,
                 want_count, i, i < got_count ? (long)got[i] : -1, i < want_count ? (long)want[i] : -1);
}

/* Encodes and compares with a JSON list of ids. */
static inline void check_ids(const lb_tokenizer *tokenizer, const json_t *text, unsigned flags,
                             const json_t *list, const char *where)
{
    size_t count, wanted = json_array_size(list);
    uint32_t *ids = encode(tokenizer, json_string_value(text), json_string_length(text), flags, &count);
    uint32_t want[4096];
    assert_true(wanted <= sizeof want / sizeof *want);
    for (size_t i = 0; i < wanted; i++)
        want[i] = (uint32_t)json_integer_value(json_array_get(list, i));
    same_ids(ids, count, want, wanted, where, json_string_value(text));
    lb_ids_free(ids);
}

/* The whole text of ids, fed one by one; every step must give complete characters. Free the result's
 * owner with json_decref; fails when a step gives broken UTF-8. */
static inline json_t *decode(const lb_tokenizer *tokenizer, const uint32_t *ids, size_t count)
{
    lb_detokenizer *stream;
    lb_error err;
    const char *piece;
    size_t length, used = 0, room = 1 << 16;
    char *text = malloc(room);
    assert_non_null(text);
    assert_int_equal(lb_detokenizer_create(tokenizer, &stream, &err), LB_OK);
    for (size_t i = 0; i <= count; i++) {
        lb_status st = i < count ? lb_detokenizer_put(stream, ids[i], &piece, &length, &err)
                                 : lb_detokenizer_finish(stream, &piece, &length, &err);
        if (st != LB_OK)
            fail_msg("%s", err.msg);
        json_t *whole = json_stringn(piece, length); /* NULL unless valid UTF-8 */
        assert_non_null(whole);
        json_decref(whole);
        assert_true(used + length <= room);
        memcpy(text + used, piece, length);
        used += length;
    }
    lb_detokenizer_destroy(stream);
    json_t *all = json_stringn(text, used);
    free(text);
    assert_non_null(all);
    return all;
}

#endif
