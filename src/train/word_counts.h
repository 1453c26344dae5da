/* SPDX-License-Identifier: MIT
 * How often each word of a text occurs, a word being what byte-level BPE works on: what the pattern of GPT-2 cuts out,
 * spelled in the byte alphabet (io/pretokenize.h). */
#ifndef LB_TRAIN_WORD_COUNTS_H
#define LB_TRAIN_WORD_COUNTS_H

#include <stdint.h>

#include "base/text.h"
#include "io/pretokenize.h"

typedef struct lb_counted_word {
    size_t at; /* in `text` of the counts */
    uint32_t length;
    uint64_t count;
} lb_counted_word;

typedef struct lb_word_counts {
    lb_pretokenizer *pretokenizer;
    lb_text text;
    lb_counted_word *words; /* in the order of their first occurrence */
    size_t count, capacity;
    uint32_t *slots; /* a hash table of indices + 1; 0 is empty */
    size_t slot_count;
    lb_words found; /* scratch */
    lb_text clean;
} lb_word_counts;

/* The pre-tokenizer, as a tokenizer.json spells it: NULL without memory. */
json_t *lb_byte_level_spec(void);

lb_status lb_word_counts_create(lb_word_counts *out, lb_error *err);
void lb_word_counts_free(lb_word_counts *counts);

/* Adds the words of a text of any bytes. Where it spells `separator`, that is no text. */
lb_status lb_word_counts_add(lb_word_counts *counts, const char *text, size_t length, const char *separator,
                             lb_error *err);

#endif
