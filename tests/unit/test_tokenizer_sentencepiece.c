/* SPDX-License-Identifier: MIT
 * SentencePiece's tokenizer.model: a small one built here field by field, broken ones, and (where it is
 * at hand) the one of Llama 2 against ids from the sentencepiece library. */
#include "tokenizer_golden.h"

#include "base/file.h"
#include "base/rng.h"

typedef struct message {
    uint8_t data[4096];
    size_t size;
} message;

static void put_byte(message *m, unsigned byte)
{
    assert_true(m->size < sizeof m->data);
    m->data[m->size++] = (uint8_t)byte;
}

static void put_varint(message *m, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        put_byte(m, (unsigned)(value & 0x7F) | 0x80);
    put_byte(m, (unsigned)value);
}

static void put_number(message *m, unsigned number, uint64_t value)
{
    put_varint(m, number << 3);
    put_varint(m, value);
}

static void put_bytes(message *m, unsigned number, const void *data, size_t size)
{
    put_varint(m, number << 3 | 2);
    put_varint(m, size);
    for (size_t i = 0; i < size; i++)
        put_byte(m, ((const uint8_t *)data)[i]);
}

static void put_piece(message *m, const char *text, float score, unsigned type)
{
    message piece = {{0}, 0};
    uint32_t bits;
    memcpy(&bits, &score, sizeof bits);
    put_bytes(&piece, 1, text, strlen(text));
    put_varint(&piece, 2 << 3 | 5);
    for (int i = 0; i < 4; i++)
        put_byte(&piece, bits >> (8 * i) & 0xFF);
    if (type != 1)
        put_number(&piece, 3, type);
    put_bytes(m, 1, piece.data, piece.size);
}

/* squeeze: remove_extra_whitespaces, which is on unless the file says otherwise. */
static message small_model(unsigned model_type, bool squeeze)
{
    static const char *const pieces[] = {"\xE2\x96\x81",
                                         "a",
                                         "b",
                                         "ab",
                                         ("\xE2\x96\x81"
                                          "ab"),
                                         "\xE2\x96\x81\xE2\x96\x81"};
    message m = {{0}, 0}, trainer = {{0}, 0}, normalizer = {{0}, 0};
    put_piece(&m, "<unk>", 0, 2);
    put_piece(&m, "<s>", 0, 3);
    put_piece(&m, "</s>", 0, 3);
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        put_piece(&m, pieces[i], -(float)i, 1);
    put_number(&trainer, 3, model_type);
    put_number(&trainer, 4, 9); /* vocab_size: of no interest */
    put_bytes(&m, 2, trainer.data, trainer.size);
    put_bytes(&normalizer, 1, "identity", 8);
    if (!squeeze)
        put_number(&normalizer, 4, 0);
    put_bytes(&m, 3, normalizer.data, normalizer.size);
    return m;
}

static lb_tokenizer *open_model(const void *data, size_t size)
{
    json_t *spec;
    lb_error err;
    if (lb_tokenizer_from_sentencepiece(data, size, "tokenizer.model", &spec, &err) != LB_OK)
        fail_msg("%s", err.msg);
    lb_tokenizer *tokenizer = tokenizer_make(spec, NULL, "tokenizer.model");
    json_decref(spec);
    return tokenizer;
}

static void ids_are(const lb_tokenizer *tokenizer, const char *text, const uint32_t *want, size_t wanted)
{
    size_t count;
    uint32_t *ids = encode(tokenizer, text, strlen(text), LB_ENCODE_DEFAULT_BOS, &count);
    same_ids(ids, count, want, wanted, "tokenizer.model", text);
    lb_ids_free(ids);
}

static void test_small_model(void **state)
{
    (void)state;
    message m = small_model(2, false);
    lb_tokenizer *tokenizer = open_model(m.data, m.size);
    ids_are(tokenizer, "ab ab", (const uint32_t[]){1, 7, 7}, 3);
    ids_are(tokenizer, "  ab", (const uint32_t[]){1, 8, 7}, 3);
    ids_are(tokenizer, "bx", (const uint32_t[]){1, 3, 5, 0}, 4);
    lb_tokenizer_destroy(tokenizer);
    m = small_model(2, true);
    tokenizer = open_model(m.data, m.size);
    ids_are(tokenizer, "  ab   ab ", (const uint32_t[]){1, 7, 7}, 3);
    lb_tokenizer_destroy(tokenizer);
}

static void refused(const void *data, size_t size, const char *sentence)
{
    json_t *spec = NULL;
    lb_error err = {LB_OK, ""};
    assert_int_not_equal(lb_tokenizer_from_sentencepiece(data, size, "tokenizer.model", &spec, &err), LB_OK);
    assert_null(spec);
    if (!strstr(err.msg, sentence) || strncmp(err.msg, "tokenizer.model: ", 17) != 0)
        fail_msg("\"%s\", wanted \"%s\"", err.msg, sentence);
}

static void test_refusals(void **state)
{
    (void)state;
    message m = small_model(1, false);
    refused(m.data, m.size, "kind unigram is not supported, only BPE");
    m = small_model(3, false);
    refused(m.data, m.size, "only BPE");
    refused("", 0, "it has no pieces");
    refused("{\"version\": 1}", 14, "not a SentencePiece model");
    m = small_model(2, false);
    message map = {{0}, 0};
    put_bytes(&map, 2, "rules", 5);
    put_bytes(&m, 3, map.data, map.size);
    refused(m.data, m.size, "its own character map");
    m = small_model(2, false);
    put_piece(&m, "ab", -9, 1);
    refused(m.data, m.size, "comes twice");
    m = small_model(2, false);
    put_piece(&m, "x", 0, 7);
    refused(m.data, m.size, "type of a piece");
}

/* Cut off anywhere, or changed anywhere: a tokenizer or a sentence. The bytes lie in a block of exactly
 * their size, so that a sanitizer sees one byte beyond. */
static void test_mangled(void **state)
{
    (void)state;
    message m = small_model(2, false);
    lb_rng rng;
    lb_rng_seed(&rng, 13);
    for (size_t round = 0; round < 4 * m.size; round++) {
        size_t size = round < m.size ? round : m.size;
        uint8_t *copy = malloc(size ? size : 1);
        assert_non_null(copy);
        memcpy(copy, m.data, size);
        if (round >= m.size)
            copy[lb_rng_below(&rng, size)] = (uint8_t)lb_rng_below(&rng, 256);
        json_t *spec = NULL;
        lb_error err = {LB_OK, ""};
        if (lb_tokenizer_from_sentencepiece(copy, size, "mangled", &spec, &err) != LB_OK)
            assert_memory_equal(err.msg, "mangled: ", 9);
        json_decref(spec);
        free(copy);
    }
}

/* Ids from sentencepiece 0.2.3 (Python), with <s> put before them. */
static void test_llama2(void **state)
{
    (void)state;
    static const char path[] = "../shared/models/tokenizers/llama2/tokenizer.model";
    static const uint32_t first[] = {1,     9038,  2501,  263, 931,  29892, 727,   471,   263,  274,   28059,
                                     411,   29871, 29941, 274, 1446, 29889, 29871, 2688,  1497, 29901, 376,
                                     31652, 30578, 29871, 243, 162,  155,   131,   29908, 13,   12,    5044};
    static const uint32_t second[] = {1, 259, 8236, 322, 29871, 3765, 8162, 29871};
    if (!lb_path_exists(path)) {
        print_message("%s is not there\n", path);
        skip();
    }
    lb_mapping file;
    lb_error err;
    assert_int_equal(lb_map_open(path, &file, &err), LB_OK);
    lb_tokenizer *tokenizer = open_model(file.data, file.size);
    ids_are(tokenizer,
            "Once upon a time, there was a caf\xC3\xA9 with 3 cats.  They said: \"\xE6\xBC\xA2\xE5\xAD\x97 "
            "\xF0\x9F\x98\x80\"\n\tEnd",
            first, sizeof first / sizeof *first);
    ids_are(tokenizer, "  leading and  double spaces ", second, sizeof second / sizeof *second);
    lb_tokenizer_destroy(tokenizer);
    lb_map_close(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_model),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_mangled),
        cmocka_unit_test(test_llama2),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
