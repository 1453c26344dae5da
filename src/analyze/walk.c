/* SPDX-License-Identifier: MIT */
#include "analyze/walk.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/file.h"
#include "model/embedding.h"

enum { USUAL_CTX = 512, CHUNK_TOKENS = 2048, MAX_TEXT_BYTES = 1 << 30 };

lb_status lb_walk_text_read(const lb_weights *weights, const char *path, size_t tokens, size_t ctx,
                            lb_walk_text *out, lb_error *err)
{
    const size_t most = weights->config.max_context;
    lb_tokenizer *tokenizer = NULL;
    char *text = NULL;
    uint32_t *ids = NULL;
    size_t bytes, available;
    lb_status st = LB_OK;
    if (ctx > most)
        return lb_fail(err, LB_EINVAL, "a context of %zu tokens is more than the %zu that %s was made for",
                       ctx, most, weights->checkpoint.path);
    LB_GO(lb_weights_tokenizer(weights, &tokenizer, err));
    LB_GO(lb_file_read(path, MAX_TEXT_BYTES, &text, &bytes, err));
    LB_GO(lb_tokenizer_encode(tokenizer, text, bytes, LB_ENCODE_DEFAULT_BOS, &ids, &available, err));
    if (ctx == 0)
        ctx = most < USUAL_CTX ? most : USUAL_CTX;
    if (tokens < available)
        available = tokens;
    if (available == 0) {
        st = lb_fail(err, LB_EINVAL, "%s has no text", path);
        goto done;
    }
    ctx = available < ctx ? available : ctx;
    *out = (lb_walk_text){.ids = ids, .windows = available / ctx, .ctx = ctx};
    ids = NULL;
done:
    lb_ids_free(ids);
    lb_free(text);
    lb_tokenizer_destroy(tokenizer);
    return st;
}

void lb_walk_text_free(lb_walk_text *text)
{
    lb_ids_free(text->ids);
    *text = (lb_walk_text){0};
}

typedef struct walk {
    const lb_walk_text *text;
    const lb_walker *walker;
    lb_stage_context stage;
    float *x; /* [windows * ctx, hidden] */
    size_t block;
} walk;

static lb_status show_inputs(const walk *w, lb_stage stage, const float *x, size_t tokens, lb_error *err)
{
    if (!w->walker->inputs)
        return LB_OK;
    return w->walker->inputs(w->walker->self, w->block, stage, x, tokens,
                             lb_stage_width(w->stage.config, stage), err);
}

/* Some windows through the block, stopping wherever inputs of linear layers exist. */
static lb_status pass(walk *w, size_t first, size_t windows, lb_error *err)
{
    const lb_stage_context *c = &w->stage;
    const size_t ctx = w->text->ctx, tokens = windows * ctx;
    float *x = w->x + first * ctx * c->config->hidden;
    LB_TRY(lb_block_attention_input(c, x, tokens, err));
    LB_TRY(show_inputs(w, LB_STAGE_QKV, c->ws->h, tokens, err));
    LB_TRY(lb_block_attend(c, windows, ctx, err));
    LB_TRY(show_inputs(w, LB_STAGE_O, c->ws->a, tokens, err));
    LB_TRY(lb_block_attention_output(c, c->ws->a, x, tokens, err));
    LB_TRY(lb_block_ffn_input(c, x, tokens, err));
    LB_TRY(show_inputs(w, LB_STAGE_GATE_UP, c->ws->h, tokens, err));
    LB_TRY(lb_block_ffn_inner(c, tokens, err));
    LB_TRY(show_inputs(w, LB_STAGE_DOWN, c->ws->m, tokens, err));
    return lb_block_ffn_output(c, x, tokens, err);
}

static lb_status visit_block(walk *w, const lb_block *block, size_t chunk, const lb_progress *progress,
                             const char *label, lb_error *err)
{
    w->stage.block = block;
    for (unsigned which = 0; w->walker->weight && which < LB_BLOCK_LINEARS; which++) {
        const lb_linear *l = &block->linear[which];
        LB_TRY(w->walker->weight(w->walker->self, w->block, which, l->dense, l->rows, l->cols, err));
    }
    for (size_t first = 0; w->walker->inputs && first < w->text->windows; first += chunk) {
        const size_t left = w->text->windows - first;
        LB_TRY(pass(w, first, left < chunk ? left : chunk, err));
        LB_TRY(lb_progress_tell(progress, label, 0, 0, err));
    }
    return LB_OK;
}

lb_status lb_walk(const lb_weights *weights, const lb_kernels *kernels, const lb_walk_text *text,
                  size_t blocks, const lb_walker *walker, const lb_progress *progress, lb_error *err)
{
    const lb_config *config = &weights->config;
    const size_t chunk = text->ctx < CHUNK_TOKENS ? CHUNK_TOKENS / text->ctx : 1;
    const size_t tokens = text->windows * text->ctx;
    lb_embedding embedding = {0};
    lb_rope rope = {0};
    lb_workspace ws = {0};
    lb_inputs inputs = {0};
    walk w = {.text = text,
              .walker = walker,
              .stage = {.kernels = kernels, .config = config, .rope = &rope, .inputs = &inputs, .ws = &ws}};
    lb_status st = LB_OK;
    LB_GO(lb_rope_create(config, text->ctx, &rope, err));
    LB_GO(lb_workspace_create(config, chunk * text->ctx, &ws, err));
    LB_GO(lb_inputs_create(config, &weights->transform, &weights->act, &inputs, err));
    LB_GO(lb_alloc_array(&w.x, tokens, config->hidden * sizeof(float), "activations", err));
    LB_GO(lb_embedding_load(weights, &embedding, err));
    LB_GO(lb_embedding_look_up(kernels, &embedding, text->ids, tokens, w.x, err));
    lb_embedding_free(&embedding);
    for (w.block = 0; w.block < blocks; w.block++) {
        char label[32];
        lb_block block;
        snprintf(label, sizeof label, "block %zu/%zu", w.block + 1, blocks);
        LB_GO(lb_progress_tell(progress, label, w.block, blocks, err));
        LB_GO(lb_block_load(weights, w.block, LB_LOAD_FLOAT, &block, err));
        st = visit_block(&w, &block, chunk, progress, label, err);
        lb_block_free(&block);
        if (st != LB_OK)
            goto done;
    }
done:
    lb_embedding_free(&embedding);
    lb_rope_free(&rope);
    lb_workspace_free(&ws);
    lb_inputs_free(&inputs);
    lb_free(w.x);
    return st;
}
