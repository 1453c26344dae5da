/* SPDX-License-Identifier: MIT
 *
 * Byte-pair encoding learned from a text [Sennrich et al. 2016, arXiv:1508.07909], on bytes as GPT-2 does it: words
 * (word_counts.h) begin as bytes, and the pair of neighbours that occurs most often becomes a new symbol, again and
 * again. Of pairs that occur equally often the one with the lower left symbol is taken, then with the lower right
 * one, so that the same text gives the same tokenizer.
 */
#ifndef LB_TRAIN_BPE_TRAIN_H
#define LB_TRAIN_BPE_TRAIN_H

#include "train/word_counts.h"

/* The token between documents, with id 0: the ids of bytes follow, then those of merges in their order. */
#define LB_SEPARATOR "<|endoftext|>"
enum { LB_LEAST_VOCAB = 1 + 256 };

/* Symbols: 0 .. 255 are bytes, then those that merges made. */
typedef struct lb_merge {
    uint32_t left, right;
    uint32_t made; /* a new symbol, or an older one that is spelled the same */
} lb_merge;

typedef struct lb_merges {
    lb_merge *list;
    size_t count;
    size_t symbols; /* 256 and the new ones */
} lb_merges;

/* Merges until there are `symbols` symbols, or no pair is left that occurs twice. lb_free the list. */
lb_status lb_bpe_train(const lb_word_counts *words, size_t symbols, const lb_progress *progress,
                       lb_merges *out, lb_error *err);

/* The tokenizer.json, and the tokenizer_config.json that belongs to it (json_decref both). */
lb_status lb_bpe_describe(const lb_merges *merges, json_t **tokenizer, json_t **tokenizer_config,
                          lb_error *err);

#endif
