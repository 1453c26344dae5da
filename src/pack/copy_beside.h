/* SPDX-License-Identifier: MIT
 * The small files of a Hugging Face folder that belong to a model whatever is done to its weights. */
#ifndef LB_PACK_COPY_BESIDE_H
#define LB_PACK_COPY_BESIDE_H

#include "base/error.h"

/* Copies the tokenizer's files, LICENSE and generation_config.json, those that there are. */
lb_status lb_copy_beside(const char *from_folder, const char *to_folder, lb_error *err);

#endif
