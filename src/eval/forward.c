/* SPDX-License-Identifier: MIT */
#include "eval/forward.h"

#include <string.h>

#include "transform/rotate.h"

enum { CHUNK_TOKENS = 2048 };

lb_status lb_forward_open(const char *path, size_t ctx, const lb_kernels *kernels, lb_forward *out,
                          lb_error *err)
{
    lb_forward f = {.kernels = kernels, .room = ctx < CHUNK_TOKENS ? CHUNK_TOKENS / ctx * ctx : ctx};
    lb_status st = LB_OK;
    lb_forward_set_ctx(&f, ctx);
    LB_GO(lb_weights_open(path, &f.weights, err));
    LB_GO(lb_embedding_load(f.weights, &f.embedding, err));
    LB_GO(lb_rope_create(&f.weights->config, ctx, &f.rope, err));
    LB_GO(lb_workspace_create(&f.weights->config, f.room, &f.ws, err));
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

void lb_forward_set_ctx(lb_forward *forward, size_t ctx)
{
    forward->ctx = ctx;
    forward->chunk_windows = forward->room / ctx;
}

static lb_status parse_fit(const char *name, lb_fit *out, lb_error *err)
{
    if (name && strcmp(name, "range") != 0 && strcmp(name, "search") != 0)
        return lb_fail(err, LB_EINVAL, "fit \"%.40s\" is not known: there are range, search", name);
    *out = name && strcmp(name, "search") == 0 ? LB_FIT_SEARCH : LB_FIT_RANGE;
    return LB_OK;
}

lb_status lb_way_create(const lb_forward *forward, const lb_cast *cast, uint64_t seed, lb_way *out,
                        lb_error *err)
{
    const lb_weights *weights = forward->weights;
    lb_way way = {0};
    lb_act act = weights->act;
    lb_transform transform = weights->transform;
    LB_TRY(parse_fit(cast->fit, &way.fit, err));
    LB_TRY(lb_format_parse(cast->weights ? cast->weights : "f32", &way.weights, err));
    if (cast->act) {
        LB_TRY(lb_act_parse(cast->act, &act, err));
        if (lb_act_masks(&act))
            return lb_fail(err, LB_EINVAL,
                           "activation format %s wants calibration, which a direct cast has none of: use "
                           "quantize --act %s, or %s-dynamic",
                           act.name, act.name, act.name);
    }
    if (cast->transform && strcmp(cast->transform, "none") != 0) {
        LB_TRY(lb_transform_parse(cast->transform, &transform, err));
        if (transform.rescale)
            return lb_fail(err, LB_EINVAL,
                           "transform %s wants calibration, which a direct cast has none of: "
                           "use quantize --transform %s",
                           cast->transform, cast->transform);
        transform.seed = seed;
        const lb_format *grouped = lb_format_is_float(&way.weights) ? &act.format : &way.weights;
        LB_TRY(lb_transform_resolve(&transform, grouped, &weights->config, err));
        way.rotates = true;
    }
    if (lb_weights_quantized(weights) && (way.rotates || !lb_format_keeps(&way.weights)))
        return lb_fail(err, LB_EINVAL, "%s is quantized already; its weights cannot be %s%s",
                       weights->checkpoint.path, way.rotates ? "rotated" : "rounded to ",
                       way.rotates ? "" : way.weights.name);
    LB_TRY(lb_act_check(&act, &transform, &weights->config, err));
    LB_TRY(lb_inputs_create(&weights->config, &transform, &act, &way.inputs, err));
    *out = way;
    return LB_OK;
}

void lb_way_free(lb_way *way)
{
    lb_inputs_free(&way->inputs);
}

static lb_status load_block(lb_forward *f, const lb_way *way, size_t layer, lb_block *out, lb_error *err)
{
    lb_block block;
    lb_status st = LB_OK;
    LB_TRY(lb_block_load(f->weights, layer, LB_LOAD_FLOAT, &block, err));
    if (way->rotates)
        LB_GO(lb_block_rotate(f->kernels, &way->inputs, &block, err));
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++)
        LB_GO(lb_linear_round(f->kernels, &block.linear[which], &way->weights, way->fit, err));
    *out = block;
    block = (lb_block){0};
done:
    lb_block_free(&block);
    return st;
}

static lb_status run_block(lb_forward *f, const lb_way *way, const lb_block *block, size_t windows, float *x,
                           const lb_progress *progress, const char *label, lb_error *err)
{
    const lb_config *config = &f->weights->config;
    lb_stage_context c = {.kernels = f->kernels,
                          .config = config,
                          .rope = &f->rope,
                          .block = block,
                          .inputs = &way->inputs,
                          .ws = &f->ws};
    for (size_t w = 0; w < windows; w += f->chunk_windows) {
        const size_t count = windows - w < f->chunk_windows ? windows - w : f->chunk_windows;
        LB_TRY(lb_block_forward(&c, x + w * f->ctx * config->hidden, count, f->ctx, err));
        LB_TRY(lb_progress_tell(progress, label, 0, 0, err));
    }
    return LB_OK;
}

lb_status lb_forward_run(lb_forward *f, const lb_way *way, const uint32_t *ids, size_t windows, float *x,
                         const lb_progress *progress, const char *label, lb_error *err)
{
    LB_TRY(lb_embedding_look_up(f->kernels, &f->embedding, ids, windows * f->ctx, x, err));
    for (size_t layer = 0; layer < f->weights->config.layers; layer++) {
        lb_block block;
        LB_TRY(load_block(f, way, layer, &block, err));
        const lb_status st = run_block(f, way, &block, windows, x, progress, label, err);
        lb_block_free(&block);
        LB_TRY(st);
    }
    return LB_OK;
}
