/* SPDX-License-Identifier: MIT
 * A long text in chunks that can be tokenized on their own: together they give the tokens of the whole. */
#ifndef LB_TRAIN_TEXT_CHUNKS_H
#define LB_TRAIN_TEXT_CHUNKS_H

#include <stddef.h>

/* Where the chunk that begins at `begin` (< length) ends. A chunk has about `target` bytes, and ends where a letter
 * is followed by a line's end: every byte-level pre-tokenizer cuts there, whatever stands before and behind. A text
 * without such a place within 16 * target bytes is cut where a character ends. */
size_t lb_text_chunk_end(const char *text, size_t length, size_t begin, size_t target);

#endif
