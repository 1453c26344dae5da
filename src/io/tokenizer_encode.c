/* SPDX-License-Identifier: MIT
 *
 * Text to ids: clean UTF-8, added tokens out, normalize, cut into words, merge. */
#include <string.h>

#include "base/alloc.h"
#include "io/tokenizer_parts.h"
#include "io/utf8.h"

enum { MAX_TEXT_BYTES = 1 << 30 };

lb_status lb_encoder_init(const lb_tokenizer *tokenizer, size_t text_bytes, lb_encoder *out, lb_error *err)
{
    *out = (lb_encoder){.tokenizer = tokenizer};
    return lb_searcher_create(text_bytes, &out->searcher, err);
}

void lb_encoder_free(lb_encoder *encoder)
{
    lb_searcher_destroy(encoder->searcher);
    lb_words_free(&encoder->words);
    lb_text_free(&encoder->clean);
    lb_text_free(&encoder->normalized);
    lb_bpe_work_free(&encoder->work);
    lb_free(encoder->ids.ids);
    *encoder = (lb_encoder){0};
}

/* How many bytes at the start of the text are valid UTF-8. */
static size_t valid_prefix(const char *text, size_t length)
{
    size_t at = 0, used;
    uint32_t code;
    while (at < length) {
        uint64_t eight;
        if (length - at >= 8 && (memcpy(&eight, text + at, 8), (eight & 0x8080808080808080u) == 0)) {
            at += 8;
            continue;
        }
        if (lb_utf8_next(text + at, length - at, &code, &used) != LB_UTF8_VALID)
            break;
        at += used;
    }
    return at;
}

lb_status lb_utf8_clean(lb_text *copy, const char **text, size_t *length, lb_error *err)
{
    size_t valid = valid_prefix(*text, *length), used;
    uint32_t code;
    if (valid == *length)
        return LB_OK;
    copy->length = 0;
    lb_text_add(copy, *text, valid);
    for (size_t at = valid; at < *length; at += used) {
        bool good = lb_utf8_next(*text + at, *length - at, &code, &used) == LB_UTF8_VALID;
        if (good)
            lb_text_add(copy, *text + at, used);
        else
            lb_text_add_string(copy, LB_UTF8_REPLACEMENT);
    }
    if (copy->failed)
        return lb_fail(err, LB_ENOMEM, "no memory for a text of %zu bytes", *length);
    *text = copy->data;
    *length = copy->length;
    return LB_OK;
}

static lb_status encode_words(lb_encoder *encoder, const char *text, size_t length, bool at_start,
                              lb_error *err)
{
    const lb_tokenizer *tokenizer = encoder->tokenizer;
    lb_words *words = &encoder->words;
    LB_TRY(
        lb_pretokenizer_run(tokenizer->pretokenizer, encoder->searcher, text, length, at_start, words, err));
    for (size_t i = 0; i < words->count; i++)
        LB_TRY(lb_bpe_encode(tokenizer->bpe, &encoder->work, words->text.data + words->words[i].begin,
                             words->words[i].length, &encoder->ids, err));
    return LB_OK;
}

/* A stretch without raw added tokens. */
static lb_status encode_stretch(lb_encoder *encoder, const char *text, size_t length, bool plain,
                                bool at_start, lb_error *err)
{
    const lb_tokenizer *tokenizer = encoder->tokenizer;
    if (!lb_normalizer_is_empty(tokenizer->normalizer)) {
        LB_TRY(lb_normalizer_run(tokenizer->normalizer, encoder->searcher, text, length, &encoder->normalized,
                                 err));
        text = encoder->normalized.data;
        length = encoder->normalized.length;
    }
    if (length > INT32_MAX / 2)
        return lb_fail(err, LB_EINVAL, "a text of %zu bytes is too long for the tokenizer", length);
    lb_added_scan scan = {&tokenizer->added, &tokenizer->added.normalized, text, length, .plain = plain};
    for (lb_stretch part; lb_added_next(&scan, &part);)
        LB_TRY(part.token ? lb_id_list_add(&encoder->ids, part.token->id, err)
                          : encode_words(encoder, text + part.begin, part.end - part.begin,
                                         at_start && part.begin == 0, err));
    return LB_OK;
}

lb_status lb_encoder_text(lb_encoder *encoder, const char *text, size_t length, bool plain, bool at_start,
                          lb_error *err)
{
    const lb_tokenizer *tokenizer = encoder->tokenizer;
    if (length > MAX_TEXT_BYTES)
        return lb_fail(err, LB_EINVAL,
                       "a text of %zu bytes is longer than the %d that lowbit tokenizes at once", length,
                       MAX_TEXT_BYTES);
    LB_TRY(lb_utf8_clean(&encoder->clean, &text, &length, err));
    lb_added_scan scan = {&tokenizer->added, &tokenizer->added.raw, text, length, .plain = plain};
    for (lb_stretch part; lb_added_next(&scan, &part);)
        LB_TRY(part.token ? lb_id_list_add(&encoder->ids, part.token->id, err)
                          : encode_stretch(encoder, text + part.begin, part.end - part.begin, plain,
                                           at_start && part.begin == 0, err));
    return LB_OK;
}

lb_status lb_tokenizer_encode(const lb_tokenizer *tokenizer, const char *text, size_t length, unsigned flags,
                              uint32_t **ids, size_t *count, lb_error *err)
{
    lb_encoder encoder;
    lb_status st;
    LB_GO(lb_encoder_init(tokenizer, length, &encoder, err));
    if ((flags & LB_ENCODE_DEFAULT_BOS) && tokenizer->adds_bos)
        LB_GO(lb_id_list_add(&encoder.ids, tokenizer->bos, err));
    LB_GO(lb_encoder_text(&encoder, text, length, !(flags & LB_ENCODE_PARSE_SPECIAL), true, err));
    if (!encoder.ids.ids)
        LB_GO(lb_alloc_array(&encoder.ids.ids, 0, sizeof *encoder.ids.ids, "no ids", err));
    *ids = encoder.ids.ids;
    *count = encoder.ids.count;
    encoder.ids.ids = NULL;
done:
    lb_encoder_free(&encoder);
    return st;
}

void lb_ids_free(uint32_t *ids)
{
    lb_free(ids);
}
