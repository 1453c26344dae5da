/* SPDX-License-Identifier: MIT
 * A whole model forward over many windows with the memory of one block: all windows of a batch go
 * through block 0, then all through block 1, and so on. */
#ifndef LB_EVAL_FORWARD_H
#define LB_EVAL_FORWARD_H

#include "lowbit/eval.h"
#include "model/block.h"
#include "model/embedding.h"

typedef struct lb_forward {
    lb_weights *weights;
    lb_embedding embedding;
    lb_rope rope;
    lb_workspace ws;
    const lb_kernels *kernels;
    size_t chunk_windows; /* windows that go through a block at a time */
    size_t ctx, room; /* room: tokens of the workspace */
} lb_forward;

/* Opens the model at `path` for windows of ctx tokens. */
lb_status lb_forward_open(const char *path, size_t ctx, const lb_kernels *kernels, lb_forward *out,
                          lb_error *err);
void lb_forward_close(lb_forward *forward);

/* From now on windows of ctx tokens, no more than it was opened for. */
void lb_forward_set_ctx(lb_forward *forward, size_t ctx);

/* How an opened model is run: as it is, or with layers rewritten and rounded as they are loaded. */
typedef struct lb_way {
    lb_format weights; /* f32: not rounded */
    lb_fit fit;
    bool rotates; /* weights on loading, as `inputs` does what they are multiplied by */
    lb_inputs inputs;
} lb_way;

/* LB_EINVAL where a name is not known, a rotation does not fit, or the model is quantized already and would
 * be rounded again. */
lb_status lb_way_create(const lb_forward *forward, const lb_cast *cast, uint64_t seed, lb_way *out,
                        lb_error *err);
void lb_way_free(lb_way *way);

/* ids [windows, ctx] -> x [windows * ctx, hidden], what the last block puts out. */
lb_status lb_forward_run(lb_forward *forward, const lb_way *way, const uint32_t *ids, size_t windows,
                         float *x, const lb_progress *progress, const char *label, lb_error *err);

#endif
