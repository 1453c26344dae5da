/* SPDX-License-Identifier: MIT
 * A model on disk, whatever its kind: a Hugging Face folder, a folder that lowbit wrote, or a GGUF
 * file. After this everything has one shape: Hugging Face names, a config.json, a tokenizer.json. */
#ifndef LB_IO_CHECKPOINT_H
#define LB_IO_CHECKPOINT_H

#include <jansson.h>

#include "io/tensor.h"

typedef struct lb_checkpoint {
    char *path;
    const char *kind;         /* "safetensors" or "gguf" */
    json_t *config;           /* config.json, or its equivalent made from GGUF metadata */
    json_t *tokenizer;        /* tokenizer.json or its equivalent; NULL when the model has none */
    json_t *tokenizer_config; /* tokenizer_config.json or its equivalent (bos/eos, add_bos_token,
                               * chat_template); NULL when there is none */
    lb_tensor_set tensors;
} lb_checkpoint;

/* Opens MODEL: a folder needs config.json and model.safetensors, or model.safetensors.index.json with
 * its shards; a file must be GGUF. Says what is missing otherwise. */
lb_status lb_checkpoint_open(const char *path, lb_checkpoint *out, lb_error *err);
void lb_checkpoint_close(lb_checkpoint *checkpoint);

#endif
