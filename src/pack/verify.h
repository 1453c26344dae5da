/* SPDX-License-Identifier: MIT
 * What an opened model consists of, layer by layer, and whether every number in it is one. */
#ifndef LB_PACK_VERIFY_H
#define LB_PACK_VERIFY_H

#include "pack/quantized_dir.h"

/* A matrix as stored: the linear layers of the blocks in order, then the embedding and the head. */
typedef struct lb_stored_layer {
    char name[128]; /* without ".weight" */
    lb_format format;
    size_t rows, cols;
    uint64_t bytes;
} lb_stored_layer;

typedef struct lb_stored_model {
    lb_stored_layer *layers;
    size_t count;
    lb_checkpoint_size size;
} lb_stored_model;

/* Lists the model's matrices and adds up all of its weights. lb_stored_model_free. */
lb_status lb_stored_model_list(const lb_weights *weights, lb_stored_model *out, lb_error *err);
void lb_stored_model_free(lb_stored_model *model);

/* Reads every row of every weight, packed or not: LB_EFORMAT with the place of the first scale or value
 * that is not a finite number. */
lb_status lb_verify_values(const lb_weights *weights, const lb_progress *progress, lb_error *err);

#endif
