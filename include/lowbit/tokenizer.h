/* SPDX-License-Identifier: MIT
 *
 * Text to token ids and back, exactly as the model's own tokenizer does it.
 *
 * Supported: byte-level BPE (GPT-2, Llama-3, Qwen2, SmolLM pre-tokenizer patterns) and
 * SentencePiece-style BPE with byte fallback (Llama-2, TinyLlama, Mistral).
 */
#ifndef LOWBIT_TOKENIZER_H
#define LOWBIT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lowbit/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lb_tokenizer lb_tokenizer;

/* Opens the tokenizer of a Hugging Face folder, a lowbit folder or a GGUF file. The caller destroys
 * it. A tokenizer of a kind that is not supported is refused, saying which part is not known. */
LB_API lb_status lb_tokenizer_open(const char *model_path, lb_tokenizer **out, lb_error *err);
LB_API void lb_tokenizer_destroy(lb_tokenizer *tokenizer);

/* One more than the largest id; special ids (UINT32_MAX when the tokenizer has none). */
LB_API size_t lb_tokenizer_vocab_size(const lb_tokenizer *tokenizer);
LB_API uint32_t lb_tokenizer_bos(const lb_tokenizer *tokenizer);
LB_API uint32_t lb_tokenizer_eos(const lb_tokenizer *tokenizer);
/* Whether text gets a BOS at its very start by default. */
LB_API bool lb_tokenizer_adds_bos(const lb_tokenizer *tokenizer);
/* Whether this id ends a generation: EOS, or an end-of-turn token of a known chat format. */
LB_API bool lb_tokenizer_is_end(const lb_tokenizer *tokenizer, uint32_t id);

typedef enum lb_encode_flags {
    LB_ENCODE_PLAIN = 0, /* special tokens spelled out in the text are ordinary text */
    LB_ENCODE_DEFAULT_BOS = 1, /* BOS at the start where the tokenizer adds one by default */
    LB_ENCODE_PARSE_SPECIAL = 2 /* "<|im_start|>" in the text becomes its id */
} lb_encode_flags;

/* text [length], UTF-8 (invalid bytes are replaced by U+FFFD) -> *ids [*count], freed by lb_ids_free. */
LB_API lb_status lb_tokenizer_encode(const lb_tokenizer *tokenizer, const char *text, size_t length,
                                     unsigned flags, uint32_t **ids, size_t *count, lb_error *err);
LB_API void lb_ids_free(uint32_t *ids);

/* Streaming decoder: feeds ids one by one and gives only whole UTF-8 characters back. */
typedef struct lb_detokenizer lb_detokenizer;
LB_API lb_status lb_detokenizer_create(const lb_tokenizer *tokenizer, lb_detokenizer **out, lb_error *err);
LB_API void lb_detokenizer_destroy(lb_detokenizer *stream);
/* The text that became certain with this id: *text is valid until the next call, may be "" and holds
 * *length bytes (it may contain NUL). Special tokens give "", and so do ids that name no token (models
 * are often padded beyond their vocabulary). */
LB_API lb_status lb_detokenizer_put(lb_detokenizer *stream, uint32_t id, const char **text, size_t *length,
                                    lb_error *err);
/* What is left at the end: an incomplete character comes out as U+FFFD. */
LB_API lb_status lb_detokenizer_finish(lb_detokenizer *stream, const char **text, size_t *length,
                                       lb_error *err);

/* The bytes that one token stands for inside a text, and the spelling of a special token: *bytes is valid until the
 * next call, and need not be whole characters. Does not change what the stream holds. */
LB_API lb_status lb_detokenizer_token(lb_detokenizer *stream, uint32_t id, const char **bytes, size_t *length,
                                      lb_error *err);

/* One turn of a conversation. role is "system", "user" or "assistant". */
typedef struct lb_chat_turn {
    const char *role;
    const char *content;
} lb_chat_turn;

/* The prompt that the model's own chat template makes of these turns, with the header of the
 * assistant's answer at the end -> ids (lb_ids_free). Templates are recognised by family (ChatML,
 * Llama-3); a checkpoint with another template, or none, is refused with a sentence. Text inside a
 * turn never becomes a special token. */
LB_API lb_status lb_tokenizer_chat(const lb_tokenizer *tokenizer, const lb_chat_turn *turns, size_t count,
                                   uint32_t **ids, size_t *id_count, lb_error *err);

#ifdef __cplusplus
}
#endif
#endif
