/* SPDX-License-Identifier: MIT
 * Making a tokenizer out of what a checkpoint holds. The public half is lowbit/tokenizer.h. */
#ifndef LB_IO_TOKENIZER_H
#define LB_IO_TOKENIZER_H

#include <jansson.h>

#include "io/gguf.h"
#include "lowbit/tokenizer.h"

/* From a tokenizer.json and (may be NULL) a tokenizer_config.json; `where` names them in messages.
 * Nothing of the JSON is kept. This is the entry point that is fuzzed. */
lb_status lb_tokenizer_create(const json_t *tokenizer, const json_t *tokenizer_config, const char *where,
                              lb_tokenizer **out, lb_error *err);

/* Refuses a tokenizer with ids that an embedding of so many rows has no row for. */
lb_status lb_tokenizer_check_rows(const lb_tokenizer *tokenizer, size_t rows, const char *where, lb_error *err);

/* The tokenizer inside a GGUF file as the tokenizer.json and tokenizer_config.json that Hugging Face
 * would have (json_decref both; both NULL when the file has no tokenizer). */
lb_status lb_tokenizer_from_gguf(const lb_gguf *gguf, const char *where, json_t **tokenizer,
                                 json_t **tokenizer_config, lb_error *err);

/* GGUF's name ("tokenizer.ggml.pre") of the way in which a byte-level tokenizer.json cuts texts; NULL where it has
 * none. */
const char *lb_tokenizer_gguf_pre(const json_t *tokenizer);

/* The same from a SentencePiece tokenizer.model (BPE kind only). */
lb_status lb_tokenizer_from_sentencepiece(const uint8_t *data, size_t size, const char *where,
                                          json_t **tokenizer, lb_error *err);

#endif
