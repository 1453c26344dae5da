/* SPDX-License-Identifier: MIT
 * A whole model forward over many windows with the memory of one block: all windows of a batch go
 * through block 0, then all through block 1, and so on. */
#ifndef LB_EVAL_FORWARD_H
#define LB_EVAL_FORWARD_H

#include "model/block.h"
#include "model/embedding.h"

typedef struct lb_forward {
    lb_weights *weights;
    lb_embedding embedding;
    lb_rope rope;
    lb_workspace ws;
    const lb_kernels *kernels;
    const lb_format *round_weights; /* NULL: as they are */
    size_t chunk_windows; /* windows that go through a block at a time */
    size_t ctx;
} lb_forward;

/* Opens the model at `path` for windows of ctx tokens; the formats may be NULL and must outlive it. */
lb_status lb_forward_open(const char *path, size_t ctx, const lb_kernels *kernels, const lb_format *weights,
                          const lb_format *act, lb_forward *out, lb_error *err);
void lb_forward_close(lb_forward *forward);

/* ids [windows, ctx] -> x [windows * ctx, hidden], what the last block puts out. */
lb_status lb_forward_run(lb_forward *forward, const uint32_t *ids, size_t windows, float *x,
                         const lb_progress *progress, const char *label, lb_error *err);

#endif
