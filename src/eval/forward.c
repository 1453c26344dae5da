/* SPDX-License-Identifier: MIT */
#include "eval/forward.h"

enum { CHUNK_TOKENS = 2048 };

lb_status lb_forward_open(const char *path, size_t ctx, const lb_kernels *kernels, const lb_format *weights,
                          const lb_format *act, lb_forward *out, lb_error *err)
{
    lb_forward f = {.kernels = kernels, .round_weights = weights, .ctx = ctx};
    lb_status st = LB_OK;
    f.chunk_windows = ctx < CHUNK_TOKENS ? CHUNK_TOKENS / ctx : 1;
    LB_GO(lb_weights_open(path, &f.weights, err));
    if (weights && f.weights->layer_formats) {
        st = lb_fail(err, LB_EINVAL, "%s is quantized already; its weights cannot be rounded to %s", path,
                     weights->name);
        goto done;
    }
    LB_GO(lb_embedding_load(f.weights, &f.embedding, err));
    LB_GO(lb_rope_create(&f.weights->config, ctx, &f.rope, err));
    LB_GO(lb_workspace_create(&f.weights->config, f.chunk_windows * ctx, &f.ws, err));
    f.ws.act = act;
    *out = f;
    f = (lb_forward){0};
done:
    lb_forward_close(&f);
    return st;
}

void lb_forward_close(lb_forward *forward)
{
    lb_embedding_free(&forward->embedding);
    lb_rope_free(&forward->rope);
    lb_workspace_free(&forward->ws);
    lb_weights_close(forward->weights);
    *forward = (lb_forward){0};
}

static lb_status run_block(lb_forward *f, const lb_block *block, size_t windows, float *x,
                           const lb_progress *progress, const char *label, lb_error *err)
{
    const lb_config *config = &f->weights->config;
    lb_stage_context c = {
        .kernels = f->kernels, .config = config, .rope = &f->rope, .block = block, .ws = &f->ws};
    for (size_t w = 0; w < windows; w += f->chunk_windows) {
        const size_t count = windows - w < f->chunk_windows ? windows - w : f->chunk_windows;
        LB_TRY(lb_block_forward(&c, x + w * f->ctx * config->hidden, count, f->ctx, err));
        LB_TRY(lb_progress_tell(progress, label, 0, 0, err));
    }
    return LB_OK;
}

lb_status lb_forward_run(lb_forward *f, const uint32_t *ids, size_t windows, float *x,
                         const lb_progress *progress, const char *label, lb_error *err)
{
    LB_TRY(lb_embedding_look_up(f->kernels, &f->embedding, ids, windows * f->ctx, x, err));
    for (size_t layer = 0; layer < f->weights->config.layers; layer++) {
        lb_block block;
        lb_status st = LB_OK;
        LB_TRY(lb_block_load(f->weights, layer, LB_LOAD_FLOAT, &block, err));
        for (unsigned which = 0; f->round_weights && st == LB_OK && which < LB_BLOCK_LINEARS; which++)
            st = lb_linear_round(&block.linear[which], f->round_weights, LB_FIT_SEARCH, err);
        if (st == LB_OK)
            st = run_block(f, &block, windows, x, progress, label, err);
        lb_block_free(&block);
        LB_TRY(st);
    }
    return LB_OK;
}
