/* SPDX-License-Identifier: MIT
 * The merge engine against the definition of BPE written out: merge the adjacent pair of the lowest
 * rank, leftmost first, until there is none; one pass over the word per merge. */
#include "near.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "io/tokenizer_bpe.h"

enum { LETTERS = 3, MERGES = 60, MAX_TOKEN = 64, MAX_WORD = 400 };

typedef struct toy {
    char tokens[LETTERS + MERGES][MAX_TOKEN];
    int left[MERGES], right[MERGES], result[MERGES];
    int token_count, merge_count;
} toy;

static int find_token(const toy *t, const char *text)
{
    for (int i = 0; i < t->token_count; i++)
        if (strcmp(t->tokens[i], text) == 0)
            return i;
    return -1;
}

/* Random merges of tokens that are there already. */
static void make_toy(toy *t, lb_rng *rng)
{
    memset(t, 0, sizeof *t);
    for (; t->token_count < LETTERS; t->token_count++)
        t->tokens[t->token_count][0] = (char)('a' + t->token_count);
    while (t->merge_count < MERGES) {
        int left = (int)lb_rng_below(rng, (uint64_t)t->token_count);
        int right = (int)lb_rng_below(rng, (uint64_t)t->token_count);
        char joined[2 * MAX_TOKEN];
        snprintf(joined, sizeof joined, "%s%s", t->tokens[left], t->tokens[right]);
        bool known = strlen(joined) > 12;
        for (int m = 0; m < t->merge_count; m++)
            known |= t->left[m] == left && t->right[m] == right;
        if (known)
            continue;
        int result = find_token(t, joined);
        if (result < 0) {
            result = t->token_count++;
            memcpy(t->tokens[result], joined, strlen(joined) + 1);
        }
        t->left[t->merge_count] = left;
        t->right[t->merge_count] = right;
        t->result[t->merge_count++] = result;
    }
}

static lb_bpe *load_toy(const toy *t)
{
    json_t *vocab = json_object(), *merges = json_array();
    for (int i = 0; i < t->token_count; i++)
        json_object_set_new(vocab, t->tokens[i], json_integer(i));
    for (int m = 0; m < t->merge_count; m++)
        json_array_append_new(merges, json_pack("[s,s]", t->tokens[t->left[m]], t->tokens[t->right[m]]));
    json_t *model = json_pack("{s:s,s:o,s:o}", "type", "BPE", "vocab", vocab, "merges", merges);
    lb_bpe *bpe;
    lb_error err;
    if (lb_bpe_create(model, "toy", &bpe, &err) != LB_OK)
        fail_msg("%s", err.msg);
    json_decref(model);
    return bpe;
}

static size_t encode_slowly(const toy *t, const char *word, int *ids)
{
    size_t count = strlen(word);
    for (size_t i = 0; i < count; i++)
        ids[i] = word[i] - 'a';
    for (;;) {
        int best = MERGES;
        size_t at = 0;
        for (size_t i = 0; i + 1 < count; i++)
            for (int m = 0; m < best; m++)
                if (t->left[m] == ids[i] && t->right[m] == ids[i + 1]) {
                    best = m;
                    at = i;
                }
        if (best == MERGES)
            return count;
        ids[at] = t->result[best];
        memmove(&ids[at + 1], &ids[at + 2], (count - at - 2) * sizeof *ids);
        count--;
    }
}

static void test_against_the_definition(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 3);
    for (int round = 0; round < 40; round++) {
        toy t;
        make_toy(&t, &rng);
        lb_bpe *bpe = load_toy(&t);
        lb_bpe_work work = {0};
        for (int k = 0; k < 60; k++) {
            char word[MAX_WORD + 1];
            int want[MAX_WORD];
            size_t length = 1 + (size_t)lb_rng_below(&rng, k % 2 ? MAX_WORD : 30); /* by heap, by scanning */
            for (size_t i = 0; i < length; i++)
                word[i] = (char)('a' + lb_rng_below(&rng, LETTERS));
            word[length] = '\0';
            size_t count = encode_slowly(&t, word, want);
            lb_id_list got = {0};
            lb_error err;
            assert_int_equal(lb_bpe_encode(bpe, &work, word, length, &got, &err), LB_OK);
            assert_int_equal(got.count, count);
            for (size_t i = 0; i < count; i++)
                assert_int_equal(got.ids[i], want[i]);
            lb_free(got.ids);
        }
        lb_bpe_work_free(&work);
        lb_bpe_destroy(bpe);
    }
}

static void encode_is(const lb_bpe *bpe, const char *word, const uint32_t *want, size_t count)
{
    lb_bpe_work work = {0};
    lb_id_list got = {0};
    lb_error err;
    assert_int_equal(lb_bpe_encode(bpe, &work, word, strlen(word), &got, &err), LB_OK);
    assert_int_equal(got.count, count);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(got.ids[i], want[i]);
    lb_free(got.ids);
    lb_bpe_work_free(&work);
}

static lb_bpe *load(const char *json)
{
    json_t *model = json_loads(json, 0, NULL);
    lb_bpe *bpe;
    lb_error err;
    assert_non_null(model);
    if (lb_bpe_create(model, "test", &bpe, &err) != LB_OK)
        fail_msg("%s", err.msg);
    json_decref(model);
    return bpe;
}

static void test_unknown_characters(void **state)
{
    (void)state;
    lb_bpe *fused = load(
        "{\"type\":\"BPE\",\"unk_token\":\"?\",\"fuse_unk\":true,\"vocab\":{\"?\":0,\"a\":1},\"merges\":[]}");
    encode_is(fused, "xyaz", (const uint32_t[]){0, 1, 0}, 3);
    lb_bpe_destroy(fused);
    lb_bpe *single = load("{\"type\":\"BPE\",\"unk_token\":\"?\",\"vocab\":{\"?\":0,\"a\":1},\"merges\":[]}");
    encode_is(single, "xyaz", (const uint32_t[]){0, 0, 1, 0}, 4);
    lb_bpe_destroy(single);
    lb_bpe *none = load("{\"type\":\"BPE\",\"vocab\":{\"?\":0,\"a\":1},\"merges\":[]}");
    encode_is(none, "xyaz", (const uint32_t[]){1}, 1);
    encode_is(none, "xy", NULL, 0);
    lb_bpe_destroy(none);
}

static void test_whole_words_and_forbidden_tokens(void **state)
{
    (void)state;
    static const char json[] = "{\"type\":\"BPE\",\"ignore_merges\":true,"
                               "\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"abb\":3},\"merges\":[\"a b\"]}";
    lb_bpe *bpe = load(json);
    lb_error err;
    encode_is(bpe, "abb", (const uint32_t[]){3}, 1); /* no merge makes it */
    encode_is(bpe, "abba", (const uint32_t[]){2, 1, 0}, 3);
    assert_int_equal(lb_bpe_forbid(bpe, (const uint32_t[]){2, 3, 99}, 3, &err), LB_OK);
    encode_is(bpe, "abb", (const uint32_t[]){0, 1, 1}, 3);
    lb_bpe_destroy(bpe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_the_definition),
        cmocka_unit_test(test_unknown_characters),
        cmocka_unit_test(test_whole_words_and_forbidden_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
