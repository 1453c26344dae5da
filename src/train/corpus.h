/* SPDX-License-Identifier: MIT
 *
 * What a model is trained on, ready to be read: a folder with a tokenizer, a file of tokens for every text
 * (train-00000.tokens, ...; token_file.h), one for the held-out text (valid.tokens), and corpus.json, which says what
 * they were made of. Runs may share it.
 */
#ifndef LB_TRAIN_CORPUS_H
#define LB_TRAIN_CORPUS_H

#include <jansson.h>

#include "train/token_file.h"

typedef struct lb_corpus_source {
    const char *const *texts; /* files; LB_SEPARATOR in them ends a document */
    size_t text_count;
    const char *valid; /* held-out text; may be NULL */
    const char
        *tokenizer; /* model whose tokenizer is taken; NULL: one of `vocab` tokens is trained on the texts */
    size_t vocab;
    size_t sample_bytes; /* how much text the tokenizer is trained on, taken evenly from all of it; 0: all */
} lb_corpus_source;

typedef struct lb_corpus {
    json_t *tokenizer, *tokenizer_config; /* the latter may be NULL */
    json_t *about; /* corpus.json */
    lb_token_file *train; /* [train_count] */
    size_t train_count;
    lb_token_file valid; /* ids are NULL where there is none */
    size_t vocab; /* of the tokenizer */
    uint64_t tokens; /* of all training texts */
} lb_corpus;

/* Makes `folder`, which must not exist, at once or not at all. */
lb_status lb_corpus_make(const char *folder, const lb_corpus_source *source, const lb_progress *progress,
                         lb_error *err);

lb_status lb_corpus_open(const char *folder, lb_corpus *out, lb_error *err);
void lb_corpus_close(lb_corpus *corpus);

/* Refuses an opened corpus that was made of other texts, by their number and sizes; `folder` is for messages. */
lb_status lb_corpus_check(const lb_corpus *corpus, const lb_corpus_source *source, const char *folder,
                          lb_error *err);

#endif
