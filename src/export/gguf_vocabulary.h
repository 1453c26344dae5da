/* SPDX-License-Identifier: MIT
 * A tokenizer.json as the keys "tokenizer.ggml.*" of a GGUF file. */
#ifndef LB_EXPORT_GGUF_VOCABULARY_H
#define LB_EXPORT_GGUF_VOCABULARY_H

#include "io/checkpoint.h"
#include "io/gguf_write.h"
#include "lowbit/tokenizer.h"

/* `rows` is how many tokens the embedding has: places without a token are filled up with unused ones. Byte-level
 * models need a pre-tokenizer that GGUF has a name for; SentencePiece models a list of merges that follows
 * from scores of pieces. LB_EUNSUPPORTED where one of them is not so: the file would cut texts otherwise
 * than the model's own tokenizer does. Nothing is written where the model has no tokenizer. */
lb_status lb_gguf_put_vocabulary(lb_gguf_keys *keys, const lb_checkpoint *checkpoint, size_t rows,
                                 lb_error *err);

#endif
