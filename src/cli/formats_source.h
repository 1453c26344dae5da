/* SPDX-License-Identifier: MIT
 * Where `lowbit formats` takes numbers from, besides random ones: a tensor of a model, or what a linear layer of
 * a model is fed with a text. */
#ifndef LB_CLI_FORMATS_SOURCE_H
#define LB_CLI_FORMATS_SOURCE_H

#include <stddef.h>

#include "base/error.h"
#include "kernels/kernels.h"

typedef struct lb_source_tensor {
    float *x; /* [rows, cols] */
    size_t rows, cols;
} lb_source_tensor;

void lb_source_tensor_free(lb_source_tensor *tensor);

/* place: "MODEL:NAME", the name with or without ".weight"; LB_EINVAL with a name that is near when there is no
 * such tensor. Quantized weights are read as the floats that they stand for. */
lb_status lb_source_weight(const char *place, lb_source_tensor *out, lb_error *err);

/* place: "MODEL:LAYER", a linear layer of a block. Its inputs over the first `tokens` tokens of a text. */
lb_status lb_source_inputs(const char *place, const char *text_path, size_t tokens, const lb_kernels *kernels,
                           const lb_progress *progress, lb_source_tensor *out, lb_error *err);

#endif
