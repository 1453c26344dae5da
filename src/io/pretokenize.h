/* SPDX-License-Identifier: MIT
 * The "pre_tokenizer" of a tokenizer.json: cuts a text into the words that BPE works on, and for
 * byte-level models spells each byte as one printable character (the GPT-2 alphabet). */
#ifndef LB_IO_PRETOKENIZE_H
#define LB_IO_PRETOKENIZE_H

#include <jansson.h>
#include <stdint.h>

#include "base/text.h"
#include "io/regex.h"

typedef struct lb_pretokenizer lb_pretokenizer;

/* `spec` is the JSON of "pre_tokenizer"; NULL and null leave a text whole. */
lb_status lb_pretokenizer_create(const json_t *spec, const char *where, lb_pretokenizer **out, lb_error *err);
void lb_pretokenizer_destroy(lb_pretokenizer *pretokenizer); /* NULL is allowed */

/* Whether words come out in the byte alphabet. */
bool lb_pretokenizer_is_byte_level(const lb_pretokenizer *pretokenizer);
/* Metaspace's word marker (a short UTF-8 string), or NULL when there is no Metaspace;
 * *prepends says whether it puts the marker before the first word. */
const char *lb_pretokenizer_metaspace(const lb_pretokenizer *pretokenizer, bool *prepends);

/* The character that stands for a byte in the GPT-2 alphabet (below U+0144). */
uint32_t lb_byte_alphabet(uint8_t byte);
/* The byte that a character stands for; -1 when it is not of that alphabet. */
int lb_byte_from_alphabet(uint32_t code);

/* A word: bytes [begin, begin + length) of lb_words.text. */
typedef struct lb_word {
    uint32_t begin, length;
} lb_word;

/* Zero-initialise; lb_words_free at the end. Reused from call to call. */
typedef struct lb_words {
    lb_text text, spare;
    lb_word *words;
    size_t count, capacity;
    lb_word *spare_words;
    size_t spare_capacity;
} lb_words;

void lb_words_free(lb_words *words);

/* Cuts text [length < 2^31], valid UTF-8. at_start: the text begins where the whole input does. */
lb_status lb_pretokenizer_run(const lb_pretokenizer *pretokenizer, lb_searcher *searcher, const char *text,
                              size_t length, bool at_start, lb_words *out, lb_error *err);

#endif
