/* SPDX-License-Identifier: MIT
 * A walk through a model with a text: every linear layer's weights, and what every stage of layers is fed.
 * The memory is that of one block and of the text's activations. */
#ifndef LB_ANALYZE_WALK_H
#define LB_ANALYZE_WALK_H

#include "lowbit/status.h"
#include "model/block.h"

/* What to do on the way. Each may be NULL. */
typedef struct lb_walker {
    void *self;
    /* The weights w [rows, cols] of linear layer `which` of a block. */
    lb_status (*weight)(void *self, size_t block, unsigned which, const float *w, size_t rows, size_t cols,
                        lb_error *err);
    /* x [tokens, cols], inputs of the layers of a stage: all tokens of some windows, those of the text in
     * order. The weights of the block have been visited before. */
    lb_status (*inputs)(void *self, size_t block, lb_stage stage, const float *x, size_t tokens, size_t cols,
                        lb_error *err);
} lb_walker;

/* The ids that a walk goes over: the first tokens of a text in whole windows of `ctx`; a shorter text gives one
 * shorter window. */
typedef struct lb_walk_text {
    uint32_t *ids;
    size_t windows, ctx;
} lb_walk_text;

/* tokens >= 1, ctx = 0: 512 or the model's maximum. */
lb_status lb_walk_text_read(const lb_weights *weights, const char *path, size_t tokens, size_t ctx,
                            lb_walk_text *out, lb_error *err);
void lb_walk_text_free(lb_walk_text *text);

/* Visits blocks [0, blocks) in order. Weights of a quantized checkpoint come as the floats that they stand
 * for, and its inputs as its layers see them. */
lb_status lb_walk(const lb_weights *weights, const lb_kernels *kernels, const lb_walk_text *text,
                  size_t blocks, const lb_walker *walker, const lb_progress *progress, lb_error *err);

#endif
