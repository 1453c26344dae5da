/* SPDX-License-Identifier: MIT
 * Byte-pair encoding: a word becomes characters, and the adjacent pair with the lowest rank (the
 * leftmost of equals) is merged until no pair is in the list. [Sennrich et al. 2016] */
#ifndef LB_IO_TOKENIZER_BPE_H
#define LB_IO_TOKENIZER_BPE_H

#include <jansson.h>
#include <stdbool.h>

#include "io/token_map.h"

enum { LB_VOCAB_MAX = 1 << 20, LB_MERGES_MAX = 1 << 22, LB_DIRECT_CODES = 0x3000 };

typedef struct lb_bpe {
    char *blob; /* the tokens' bytes, NUL after each */
    lb_token_text *texts; /* [vocab_size]; data == NULL where an id names no token */
    size_t vocab_size; /* one more than the largest id */
    lb_string_map ids;
    lb_pair_map merges;
    uint32_t direct[LB_DIRECT_CODES]; /* ids of the one-character tokens below U+3000 */
    uint32_t byte_ids[256]; /* "<0x00>" to "<0xFF>", where byte_fallback is on */
    uint32_t unk;
    bool byte_fallback, fuse_unk, ignore_merges;
    bool *forbidden; /* [vocab_size], or NULL */
    bool cuts_at_marker; /* no merge joins "x" and "\u2581y": a text may be cut between them */
} lb_bpe;

/* From the JSON of "model". *out holds nothing to free on failure. */
lb_status lb_bpe_create(const json_t *model, const char *where, lb_bpe **out, lb_error *err);
void lb_bpe_destroy(lb_bpe *bpe); /* NULL is allowed */

#define LB_NO_RANK UINT32_MAX /* of a merge that is never made */

/* Ordinary text is never merged into one of these tokens, whatever it spells. Called at most once. */
lb_status lb_bpe_forbid(lb_bpe *bpe, const uint32_t *ids, size_t count, lb_error *err);

/* LB_NO_ID when there is no such token. */
uint32_t lb_bpe_id(const lb_bpe *bpe, const char *text, size_t length);

typedef struct lb_id_list {
    uint32_t *ids;
    size_t count, capacity;
} lb_id_list;
lb_status lb_id_list_add(lb_id_list *list, uint32_t id, lb_error *err);

/* Memory that grows with the longest word; zero-initialise, lb_bpe_work_free at the end. */
typedef struct lb_bpe_work {
    struct lb_bpe_symbol *symbols;
    struct lb_bpe_candidate *heap;
    size_t symbol_capacity, heap_capacity;
} lb_bpe_work;
void lb_bpe_work_free(lb_bpe_work *work);

/* Appends the ids of one word [length], valid UTF-8. */
lb_status lb_bpe_encode(const lb_bpe *bpe, lb_bpe_work *work, const char *word, size_t length,
                        lb_id_list *out, lb_error *err);

#endif
