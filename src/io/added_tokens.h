/* SPDX-License-Identifier: MIT
 * The "added_tokens" of a tokenizer.json: strings that are found in a text before anything else is
 * done to it (or, where "normalized" is set, after normalization) and become one id each. */
#ifndef LB_IO_ADDED_TOKENS_H
#define LB_IO_ADDED_TOKENS_H

#include <jansson.h>

#include "io/normalize.h"
#include "io/tokenizer_bpe.h"

typedef struct lb_added_token {
    char *content;
    size_t length;
    uint32_t id;
    bool special, single_word, lstrip, rstrip, normalized;
} lb_added_token;

typedef struct lb_trie {
    lb_pair_map edges; /* (node, byte) -> node; (node, 256) -> index of the token that ends there */
    uint32_t nodes;
    bool first[256]; /* bytes that some token begins with */
} lb_trie;

typedef struct lb_added_tokens {
    lb_added_token *tokens;
    size_t count;
    lb_trie raw, normalized;
    size_t id_end; /* one more than the largest id */
} lb_added_tokens;

/* `list` is the JSON of "added_tokens" (NULL and null: there are none). Ids are checked against the
 * vocabulary. *out must be zeroed; lb_added_tokens_free it also after a failure. */
lb_status lb_added_tokens_read(const json_t *list, const lb_bpe *bpe, const lb_normalizer *normalizer,
                               const char *where, lb_added_tokens *out, lb_error *err);
void lb_added_tokens_free(lb_added_tokens *added);

const lb_added_token *lb_added_token_by_name(const lb_added_tokens *added, const char *name, size_t length);

/* One stretch of a text: either one added token, or text in between (token == NULL). */
typedef struct lb_stretch {
    const lb_added_token *token;
    size_t begin, end;
} lb_stretch;

/* Walks over text [length]; zero-initialise but for the first four. */
typedef struct lb_added_scan {
    const lb_added_tokens *added;
    const lb_trie *trie;
    const char *text;
    size_t length;
    bool plain; /* special tokens are not tokens */
    size_t searched, done, space_end;
    lb_stretch waiting;
    bool has_waiting;
} lb_added_scan;

/* The next stretch; false at the end. */
bool lb_added_next(lb_added_scan *scan, lb_stretch *out);

#endif
