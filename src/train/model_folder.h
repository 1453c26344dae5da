/* SPDX-License-Identifier: MIT
 * A model in memory as a Hugging Face folder that every command opens. */
#ifndef LB_TRAIN_MODEL_FOLDER_H
#define LB_TRAIN_MODEL_FOLDER_H

#include <jansson.h>

#include "io/tensor.h"
#include "train/parameters.h"

typedef struct lb_model_folder {
    const lb_parameters *parameters;
    const json_t *config, *tokenizer, *tokenizer_config; /* the last may be NULL */
    lb_dtype dtype; /* F32 or BF16: what weights are rounded to */
} lb_model_folder;

/* Writes its files into a folder that is there. */
lb_status lb_model_folder_write(const lb_model_folder *model, const float *values, const char *folder,
                                lb_error *err);

#endif
