/* SPDX-License-Identifier: MIT
 * Tokenizers that are trained here against the obvious algorithm, which counts every pair of every word anew for every
 * merge; what they encode; and texts in chunks. */
#include "near.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "io/tokenizer.h"
#include "train/bpe_train.h"
#include "train/text_chunks.h"

enum { MOST_SYMBOLS = 600, MOST_BYTES = 6000, MOST_SPELLING = 256 };

static const char prose[] =
    "The cat sat on the mat. The cat's hat wasn't on the mat; it's on that cat, isn't it?\n\n"
    "  Indented  text with  runs   of spaces,\ttabs and 1234567890 numbers 12 123 1234.\n"
    "aaaa aaaaa aaaaaa bababab abababa \xC3\xA9t\xC3\xA9 na\xC3\xAFve \xE2\x80\x94 "
    "\xF0\x9F\x98\x80\n<|endoftext|>"
    "Another document begins, with the cat and the hat and the mat.\xFF\xC3 broken bytes<|endoftext|>";

/* A text of few different syllables, so that many pairs occur equally often. */
static size_t make_text(uint64_t seed, char *out)
{
    static const char *const syllables[] = {"ka", "to", "ri", " ka",       " no", "mi",
                                            "'s", "na", "\n", " \xC3\xBC", "ab",  " a"};
    lb_rng rng;
    size_t length = 0;
    lb_rng_seed(&rng, seed);
    const size_t wanted = 200 + (size_t)lb_rng_below(&rng, MOST_BYTES - 300),
                 few = 2 + (size_t)lb_rng_below(&rng, 11);
    while (length < wanted) {
        const char *s = syllables[lb_rng_below(&rng, few)];
        memcpy(out + length, s, strlen(s));
        length += strlen(s);
    }
    return length;
}

/* ---- The slow version ------------------------------------------------------------------------------------ */

typedef struct slow {
    const lb_word_counts *words;
    uint32_t **symbols;
    size_t *lengths;
    char spelling[MOST_SYMBOLS][MOST_SPELLING]; /* in the byte alphabet */
    size_t symbol_count;
    bool *merged; /* [MOST_SYMBOLS * MOST_SYMBOLS] */
    lb_merge merges[4 * MOST_SYMBOLS];
    size_t merge_count;
} slow;

static size_t put_code(uint32_t code, char *out)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    out[0] = (char)(0xC0 | code >> 6);
    out[1] = (char)(0x80 | (code & 0x3F));
    return 2;
}

static slow *slow_make(const lb_word_counts *words)
{
    slow *s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->words = words;
    s->symbols = calloc(words->count + 1, sizeof *s->symbols);
    s->lengths = calloc(words->count + 1, sizeof *s->lengths);
    s->merged = calloc(MOST_SYMBOLS * MOST_SYMBOLS, sizeof *s->merged);
    assert_true(s->symbols && s->lengths && s->merged);
    for (unsigned byte = 0; byte < 256; byte++)
        put_code(lb_byte_alphabet((uint8_t)byte), s->spelling[byte]);
    s->symbol_count = 256;
    for (size_t i = 0; i < words->count; i++) {
        const char *at = words->text.data + words->words[i].at, *end = at + words->words[i].length;
        s->symbols[i] = calloc(words->words[i].length, sizeof **s->symbols);
        assert_non_null(s->symbols[i]);
        while (at < end)
            for (uint32_t byte = 0; byte < 256; byte++) {
                const size_t length = strlen(s->spelling[byte]);
                if (length && strncmp(at, s->spelling[byte], length) == 0) {
                    s->symbols[i][s->lengths[i]++] = byte;
                    at += length;
                    break;
                }
            }
    }
    return s;
}

static void slow_free(slow *s)
{
    for (size_t i = 0; i < s->words->count; i++)
        free(s->symbols[i]);
    free(s->symbols);
    free(s->lengths);
    free(s->merged);
    free(s);
}

/* The best pair, by counting everything; false when none occurs twice. */
static bool slow_best(const slow *s, uint32_t *left, uint32_t *right)
{
    uint64_t *counts = calloc(MOST_SYMBOLS * MOST_SYMBOLS, sizeof *counts), best = 1;
    assert_non_null(counts);
    for (size_t i = 0; i < s->words->count; i++)
        for (size_t k = 0; k + 1 < s->lengths[i]; k++)
            counts[s->symbols[i][k] * MOST_SYMBOLS + s->symbols[i][k + 1]] += s->words->words[i].count;
    for (size_t pair = 0; pair < MOST_SYMBOLS * MOST_SYMBOLS; pair++) {
        if (counts[pair] > best && !s->merged[pair]) { /* ascending: of equals the lowest */
            best = counts[pair];
            *left = (uint32_t)(pair / MOST_SYMBOLS);
            *right = (uint32_t)(pair % MOST_SYMBOLS);
        }
    }
    free(counts);
    return best > 1;
}

static void slow_train(slow *s, size_t symbols)
{
    uint32_t left, right;
    while (s->symbol_count < symbols && slow_best(s, &left, &right)) {
        char text[2 * MOST_SPELLING];
        snprintf(text, sizeof text, "%s%s", s->spelling[left], s->spelling[right]);
        assert_true(strlen(text) < MOST_SPELLING);
        uint32_t made = 0;
        while (made < s->symbol_count && strcmp(s->spelling[made], text) != 0)
            made++;
        if (made == s->symbol_count)
            memcpy(s->spelling[s->symbol_count++], text, strlen(text) + 1);
        s->merges[s->merge_count++] = (lb_merge){left, right, made};
        s->merged[left * MOST_SYMBOLS + right] = true;
        for (size_t i = 0; i < s->words->count; i++) {
            size_t kept = 0;
            for (size_t k = 0; k < s->lengths[i]; k++) {
                const bool both =
                    k + 1 < s->lengths[i] && s->symbols[i][k] == left && s->symbols[i][k + 1] == right;
                s->symbols[i][kept++] = both ? made : s->symbols[i][k];
                k += both;
            }
            s->lengths[i] = kept;
        }
    }
}

static void compare(const char *text, size_t length, size_t symbols)
{
    lb_error err;
    lb_word_counts words;
    lb_merges merges;
    assert_int_equal(lb_word_counts_create(&words, &err), LB_OK);
    assert_int_equal(lb_word_counts_add(&words, text, length, LB_SEPARATOR, &err), LB_OK);
    assert_int_equal(lb_bpe_train(&words, symbols, NULL, &merges, &err), LB_OK);
    slow *s = slow_make(&words);
    slow_train(s, symbols);
    assert_int_equal(merges.count, s->merge_count);
    assert_int_equal(merges.symbols, s->symbol_count);
    for (size_t i = 0; i < merges.count; i++)
        if (merges.list[i].left != s->merges[i].left || merges.list[i].right != s->merges[i].right ||
            merges.list[i].made != s->merges[i].made)
            fail_msg("merge %zu: %u %u -> %u, wanted %u %u -> %u", i, merges.list[i].left,
                     merges.list[i].right, merges.list[i].made, s->merges[i].left, s->merges[i].right,
                     s->merges[i].made);
    slow_free(s);
    lb_free(merges.list);
    lb_word_counts_free(&words);
}

static void merges_are_those_of_the_slow_version(void **state)
{
    (void)state;
    char text[MOST_BYTES];
    compare(prose, sizeof prose - 1, 300);
    compare(prose, sizeof prose - 1, 599); /* more than there are pairs for */
    compare(prose, sizeof prose - 1, 256);
    compare("", 0, 300);
    for (uint64_t seed = 0; seed < 40; seed++) {
        const size_t length = make_text(seed, text);
        compare(text, length, 256 + (size_t)seed * 4);
    }
}

/* ---- What the tokenizer does ----------------------------------------------------------------------------- */

static lb_tokenizer *train(const char *text, size_t length, size_t symbols)
{
    lb_error err;
    lb_word_counts words;
    lb_merges merges;
    json_t *spec, *config;
    lb_tokenizer *tokenizer;
    assert_int_equal(lb_word_counts_create(&words, &err), LB_OK);
    assert_int_equal(lb_word_counts_add(&words, text, length, LB_SEPARATOR, &err), LB_OK);
    assert_int_equal(lb_bpe_train(&words, symbols, NULL, &merges, &err), LB_OK);
    assert_int_equal(lb_bpe_describe(&merges, &spec, &config, &err), LB_OK);
    if (lb_tokenizer_create(spec, config, "test", &tokenizer, &err) != LB_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(lb_tokenizer_vocab_size(tokenizer), merges.symbols + 1);
    json_decref(spec);
    json_decref(config);
    lb_free(merges.list);
    lb_word_counts_free(&words);
    return tokenizer;
}

static void any_bytes_come_back(void **state)
{
    (void)state;
    static const char other[] =
        "Something else: \xE4\xBD\xA0\xE5\xA5\xBD, the cat!\r\n\tx\x01y\x7Fz <|endoftext|> end";
    lb_error err;
    lb_tokenizer *t = train(prose, sizeof prose - 1, 400);
    for (unsigned special = 0; special < 2; special++) {
        uint32_t *ids;
        size_t count, separators = 0;
        char got[256] = "";
        lb_detokenizer *back;
        const char *piece;
        size_t piece_length;
        assert_int_equal(lb_tokenizer_encode(t, other, sizeof other - 1,
                                             special ? LB_ENCODE_PARSE_SPECIAL : 0, &ids, &count, &err),
                         LB_OK);
        assert_int_equal(lb_detokenizer_create(t, &back, &err), LB_OK);
        for (size_t i = 0; i < count; i++) {
            separators += ids[i] == 0;
            assert_int_equal(lb_detokenizer_put(back, ids[i], &piece, &piece_length, &err), LB_OK);
            strncat(got, piece, piece_length);
        }
        assert_int_equal(separators, special);
        if (!special)
            assert_string_equal(got, other);
        lb_detokenizer_destroy(back);
        lb_ids_free(ids);
    }
    assert_int_equal(lb_tokenizer_eos(t), 0);
    lb_tokenizer_destroy(t);
}

/* Frequent words became single tokens. */
static void frequent_words_are_short(void **state)
{
    (void)state;
    lb_error err;
    uint32_t *ids;
    size_t count;
    lb_tokenizer *t = train(prose, sizeof prose - 1, 400);
    assert_int_equal(lb_tokenizer_encode(t, " the mat", 8, 0, &ids, &count, &err), LB_OK);
    assert_int_equal(count, 2);
    lb_ids_free(ids);
    lb_tokenizer_destroy(t);
}

/* Chunks cover the text, and together give the tokens of the whole. */
static void chunks_give_the_tokens_of_the_whole(void **state)
{
    (void)state;
    char text[MOST_BYTES + 8];
    lb_error err;
    lb_tokenizer *t = train(prose, sizeof prose - 1, 350);
    for (uint64_t seed = 0; seed < 20; seed++) {
        const size_t length = make_text(seed, text), target = 1 + (size_t)seed * 17;
        uint32_t *whole, *part;
        size_t count, part_count, at = 0, pieces = 0;
        assert_int_equal(lb_tokenizer_encode(t, text, length, 0, &whole, &count, &err), LB_OK);
        for (size_t begin = 0, end; begin < length; begin = end, pieces++) {
            end = lb_text_chunk_end(text, length, begin, target);
            assert_true(end > begin && end <= length);
            if (end < length && text[end] != '\n')
                goto next; /* no line ended in reach: the cut is elsewhere */
            assert_int_equal(lb_tokenizer_encode(t, text + begin, end - begin, 0, &part, &part_count, &err),
                             LB_OK);
            assert_true(at + part_count <= count);
            assert_memory_equal(part, whole + at, part_count * sizeof *part);
            at += part_count;
            lb_ids_free(part);
        }
        assert_int_equal(at, count);
        assert_true(pieces > 1 || length <= 17 * target);
    next:
        lb_ids_free(whole);
    }
    lb_tokenizer_destroy(t);
}

/* Without a line's end in reach the cut is where a character ends. */
static void chunks_end_where_characters_do(void **state)
{
    (void)state;
    char text[400];
    for (size_t i = 0; i < sizeof text; i += 4)
        memcpy(text + i, "\xF0\x9F\x98\x80", 4);
    for (size_t begin = 0, end; begin < sizeof text; begin = end) {
        end = lb_text_chunk_end(text, sizeof text, begin, 3);
        assert_true(end > begin && end % 4 == 0);
    }
    memset(text, 0x80, sizeof text); /* no character at all: still an end */
    for (size_t begin = 0, end; begin < sizeof text; begin = end) {
        end = lb_text_chunk_end(text, sizeof text, begin, 3);
        assert_true(end > begin && end <= sizeof text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_are_those_of_the_slow_version),
        cmocka_unit_test(any_bytes_come_back),
        cmocka_unit_test(frequent_words_are_short),
        cmocka_unit_test(chunks_give_the_tokens_of_the_whole),
        cmocka_unit_test(chunks_end_where_characters_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
