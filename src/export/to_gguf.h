/* SPDX-License-Identifier: MIT
 * A model as a GGUF file (v3): metadata, tokenizer, tensors under ggml's names. */
#ifndef LB_EXPORT_TO_GGUF_H
#define LB_EXPORT_TO_GGUF_H

#include "export/source.h"

lb_status lb_export_gguf(const lb_weights *weights, const lb_export_options *options,
                         lb_export_result *result, lb_error *err);

#endif
