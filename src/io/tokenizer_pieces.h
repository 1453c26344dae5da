/* SPDX-License-Identifier: MIT
 * SentencePiece's vocabulary (pieces with scores) as a tokenizer.json; GGUF files and tokenizer.model
 * files both hold it. Also the parts of a tokenizer.json that every converter writes. */
#ifndef LB_IO_TOKENIZER_PIECES_H
#define LB_IO_TOKENIZER_PIECES_H

#include <jansson.h>
#include <stdbool.h>

#include "io/gguf.h"

/* The numbers are those of both file formats. */
typedef enum lb_piece_type {
    LB_PIECE_NORMAL = 1,
    LB_PIECE_UNKNOWN = 2,
    LB_PIECE_CONTROL = 3,
    LB_PIECE_USER = 4,
    LB_PIECE_UNUSED = 5,
    LB_PIECE_BYTE = 6
} lb_piece_type;

typedef struct lb_piece {
    lb_span text;
    double score;
    lb_piece_type type;
} lb_piece;

typedef struct lb_piece_options {
    size_t unk, bos; /* indices; SIZE_MAX where there is none */
    bool add_prefix; /* a space before the text */
    bool squeeze; /* runs of spaces become one, those at the ends none */
    bool add_bos;
} lb_piece_options;

/* *tokenizer is a new reference. */
lb_status lb_tokenizer_from_pieces(const lb_piece *pieces, size_t count, const lb_piece_options *options,
                                   const char *where, json_t **tokenizer, lb_error *err);

/* {"token": index, ...} without unused ones; refuses a token that is not UTF-8, holds a NUL, or comes twice. */
lb_status lb_pieces_vocab(const lb_piece *pieces, size_t count, const char *where, json_t **vocab,
                          lb_error *err);
/* The list "added_tokens": control and unknown pieces (special), and user-defined ones. */
lb_status lb_pieces_added(const lb_piece *pieces, size_t count, const char *where, json_t **added,
                          lb_error *err);
/* A post-processor that puts one token before every text. */
json_t *lb_bos_template(const char *token, size_t id);
/* Everything together; takes over all six, of which any may be NULL after a failed allocation. */
lb_status lb_tokenizer_assemble(json_t *added, json_t *normalizer, json_t *pre_tokenizer,
                                json_t *post_processor, json_t *decoder, json_t *model, const char *where,
                                json_t **tokenizer, lb_error *err);

#endif
