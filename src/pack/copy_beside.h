/* SPDX-License-Identifier: MIT
 * The small files of a Hugging Face folder that belong to a model whatever is done to its weights. */
#ifndef LB_PACK_COPY_BESIDE_H
#define LB_PACK_COPY_BESIDE_H

#include "base/error.h"

/* Copies the tokenizer's files, LICENSE and generation_config.json, those that there are. Links are followed to where
 * config.json is, as in Hugging Face's cache, and left out where they lead elsewhere; tokenizer.json and
 * tokenizer_config.json, which were read when the model was opened, are copied from wherever they are. */
lb_status lb_copy_beside(const char *from_folder, const char *to_folder, lb_error *err);

#endif
