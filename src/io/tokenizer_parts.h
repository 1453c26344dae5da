/* SPDX-License-Identifier: MIT
 * What a tokenizer is made of; shared by the files that make it, encode with it and decode with it. */
#ifndef LB_IO_TOKENIZER_PARTS_H
#define LB_IO_TOKENIZER_PARTS_H

#include "io/added_tokens.h"
#include "io/chat_template.h"
#include "io/normalize.h"
#include "io/pretokenize.h"
#include "io/tokenizer.h"
#include "io/tokenizer_bpe.h"

enum { LB_DECODER_STEPS_MAX = 16 };

typedef enum lb_decoder_kind {
    LB_DECODE_BYTE_LEVEL, /* characters of the byte alphabet become bytes */
    LB_DECODE_BYTE_FALLBACK, /* "<0x0A>" becomes a byte */
    LB_DECODE_REPLACE,
    LB_DECODE_METASPACE, /* the marker becomes a space, or nothing in the first token */
    LB_DECODE_STRIP /* at most `start` and `stop` copies of `from` at the ends of each token */
} lb_decoder_kind;

typedef struct lb_decoder_step {
    lb_decoder_kind kind;
    char *from, *to;
    size_t start, stop;
    bool drops_first; /* of Metaspace */
} lb_decoder_step;

typedef struct lb_decoder {
    lb_decoder_step steps[LB_DECODER_STEPS_MAX]; /* done to each token */
    size_t count;
    bool has_byte_fallback;
    char *strip; /* then at most strip_start copies of this are taken off the whole text; or NULL */
    size_t strip_start;
} lb_decoder;

/* `spec` is the JSON of "decoder". null is answered by what undoes the pre-tokenizer. */
lb_status lb_decoder_read(const json_t *spec, const lb_pretokenizer *pretokenizer, const char *where,
                          lb_decoder *out, lb_error *err);
void lb_decoder_free(lb_decoder *decoder);

struct lb_tokenizer {
    lb_bpe *bpe;
    lb_normalizer *normalizer;
    lb_pretokenizer *pretokenizer;
    lb_added_tokens added;
    lb_decoder decoder;
    lb_chat_format chat;
    const lb_added_token **added_by_id; /* [vocab_size]; NULL where an id is not an added token */
    size_t vocab_size;
    uint32_t bos, eos;
    bool adds_bos;
    char *where; /* for messages */
};

/* The token's own text; data == NULL when `id` names no token. */
lb_token_text lb_tokenizer_text(const lb_tokenizer *tokenizer, uint32_t id);
/* The id of a token by its exact text (added tokens first); LB_NO_ID. */
uint32_t lb_tokenizer_id(const lb_tokenizer *tokenizer, const char *text);

/* Points *text at valid UTF-8: itself, or what `copy` then holds, with U+FFFD for every mistake. */
lb_status lb_utf8_clean(lb_text *copy, const char **text, size_t *length, lb_error *err);

/* One call's working memory. */
typedef struct lb_encoder {
    const lb_tokenizer *tokenizer;
    lb_searcher *searcher;
    lb_words words;
    lb_text clean, normalized;
    lb_bpe_work work;
    lb_id_list ids;
} lb_encoder;

lb_status lb_encoder_init(const lb_tokenizer *tokenizer, size_t text_bytes, lb_encoder *out, lb_error *err);
void lb_encoder_free(lb_encoder *encoder);
/* Appends the ids of a text to encoder->ids. plain: special tokens spelled out in it are text.
 * at_start: nothing comes before this text. */
lb_status lb_encoder_text(lb_encoder *encoder, const char *text, size_t length, bool plain, bool at_start,
                          lb_error *err);

#endif
