/* SPDX-License-Identifier: MIT */
#include "quantize/pipeline.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/thread.h"
#include "calibrate/channel_squares.h"
#include "quantize/act_masks.h"
#include "quantize/awq.h"
#include "quantize/layer.h"
#include "quantize/magnitude.h"
#include "quantize/polish.h"
#include "quantize/streams.h"
#include "transform/rotate.h"

typedef struct run {
    const lb_pipeline *p;
    const lb_config *config;
    lb_streams streams;
    lb_rescaling rescaling; /* of the block at hand, where the transform rescales */
    lb_channel_orders orders; /* of it, where channels of inputs are chosen */
    lb_stage_times *times;
    char label[48];
} run;

static bool has_calibration(const run *r)
{
    return r->streams.tokens > 0;
}

/* How many sequences go through a stage next; 0 at the end. */
static size_t next_sequences(const run *r, size_t done)
{
    const size_t left = r->p->samples->count - done, most = r->streams.chunk_sequences;
    return left < most ? left : most;
}

/* Both streams to the inputs of a stage, chunk by chunk; their inputs go into h unless it is NULL. */
static lb_status advance_streams(run *r, unsigned stage, lb_hessian *h, lb_error *err)
{
    lb_streams *s = &r->streams;
    const double start = lb_now();
    double in_hessian = 0.0;
    for (size_t done = 0, n; (n = next_sequences(r, done)) > 0; done += n) {
        float *x, *original;
        LB_TRY(lb_stream_advance(s, &s->quantized, stage, done, n, &x, err));
        LB_TRY(lb_stream_advance(s, &s->original, stage, done, n, &original, err));
        if (h) {
            const double before = lb_now();
            lb_hessian_add(h, x, original, n * r->p->samples->length);
            in_hessian += lb_now() - before;
        }
        LB_TRY(lb_progress_tell(&r->p->progress, r->label, 0, 0, err));
    }
    r->times->hessian += in_hessian;
    r->times->capture += lb_now() - start - in_hessian;
    return LB_OK;
}

static void release_layer(lb_layer *l)
{
    lb_free(l->codes);
    lb_free(l->params);
    l->codes = NULL;
    l->params = NULL;
    l->w = NULL; /* belonged to the block */
}

static double square_sum(const float *x, size_t n)
{
    double total = 0.0;
    for (size_t i = 0; i < n; i++)
        total += (double)x[i] * (double)x[i];
    return total;
}

/* w [rows, cols], the weights, and what rounding changes in them -> what that does to the layer's output. */
static lb_status find_error(lb_layer *l, const lb_hessian *h, const float *w, const float *change,
                            lb_error *err)
{
    const size_t n = l->rows * l->cols;
    double error, energy;
    if (h) {
        LB_TRY(lb_hessian_energy(h, w, l->rows, &energy, err));
        LB_TRY(lb_hessian_energy(h, change, l->rows, &error, err));
    } else {
        energy = square_sum(w, n);
        error = square_sum(change, n);
    }
    l->relative_error = energy > 0.0 ? error / energy : 0.0;
    if (isfinite(l->relative_error))
        return LB_OK;
    return lb_fail(
        err, LB_EINVAL,
        "%s: its weights are so large that %s rounds some to infinity; keep it with --layer '%s=bf16'",
        l->name, l->format.name, l->name);
}

/* Replaces the layer's weights by their rounded values and notes what that does to the output of the `original`. */
static lb_status put_in_place(lb_layer *l, const float *original, const lb_hessian *h, lb_error *err)
{
    const size_t n = l->rows * l->cols;
    float *rounded;
    LB_TRY(lb_alloc_array(&rounded, n, sizeof *rounded, l->name, err));
    lb_layer_decode(l, rounded);
    for (size_t i = 0; i < n; i++)
        rounded[i] = original[i] - rounded[i];
    const lb_status st = find_error(l, h, original, rounded, err);
    lb_layer_decode(l, l->w);
    lb_free(rounded);
    return st;
}

static bool reconstructs(const run *r)
{
    return r->p->recipe->method->reconstruct != NULL;
}

/* A stage from its inputs to rounded weights; layers [LB_BLOCK_LINEARS] of the block, whose codes and errors an
 * earlier run has left where it is `restored`. */
static lb_status quantize_stage(run *r, unsigned stage, lb_layer *layers, bool restored, lb_error *err)
{
    lb_layer *chosen[LB_BLOCK_LINEARS], group[LB_BLOCK_LINEARS];
    size_t count = 0;
    lb_hessian h = {0};
    lb_status st = LB_OK;
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        if (lb_block_linears[which].stage == stage && !lb_format_is_float(&layers[which].format)) {
            chosen[count] = &layers[which];
            group[count++] = layers[which];
        }
    }
    const bool measured = has_calibration(r) && count > 0 && !restored;
    if (measured) {
        const bool drift = r->p->recipe->method->needs_hessian && r->p->recipe->compensate > 0.0;
        LB_GO(lb_hessian_create(group[0].cols, drift, &h, err));
    }
    if (has_calibration(r)) /* the streams advance even where nothing of this stage is to be quantized */
        LB_GO(advance_streams(r, stage, measured ? &h : NULL, err));
    if (measured)
        lb_hessian_finish(&h);
    const double start = lb_now();
    if (count > 0 && !restored)
        LB_GO(r->p->recipe->method->quantize(r->p->recipe, measured ? &h : NULL, group, count, err));
    for (size_t i = 0; i < count; i++) {
        const double known = chosen[i]->relative_error;
        const float *original = has_calibration(r)
                                    ? r->streams.original.block.linear[chosen[i] - layers].dense
                                    : chosen[i]->w; /* which a transform may have clipped */
        LB_GO(put_in_place(chosen[i], original, measured ? &h : NULL, err));
        if (restored)
            chosen[i]->relative_error = known;
    }
    r->times->solve += lb_now() - start;
done:
    lb_hessian_free(&h);
    return st;
}

static double output_error(const run *r)
{
    const size_t n = r->streams.tokens * r->config->hidden;
    const double energy = square_sum(r->streams.original.x, n);
    double difference = 0.0;
    for (size_t i = 0; i < n; i++) {
        const double d = (double)r->streams.quantized.x[i] - (double)r->streams.original.x[i];
        difference += d * d;
    }
    return energy > 0.0 ? difference / energy : 0.0;
}

static lb_status check_magnitude(const lb_layer *l, lb_error *err)
{
    float largest = 0.0f;
    for (size_t i = 0; i < l->rows * l->cols; i++)
        largest = fabsf(l->w[i]) > largest ? fabsf(l->w[i]) : largest;
    return lb_check_magnitude(&l->format, l->name, largest, err);
}

static lb_status load_block(const run *r, size_t index, lb_stream *s, lb_error *err)
{
    return lb_block_load(r->p->weights, index, LB_LOAD_FLOAT, &s->block, err);
}

/* A block as it was loaded, and rescaled -> as the recipe rewrites it. */
static lb_status transform_block(const run *r, lb_stream *s, lb_error *err)
{
    LB_TRY(lb_block_reorder(&r->orders, &s->block, err));
    return lb_block_rotate(r->p->kernels, &s->inputs, &s->block, err);
}

/* The original stream, which is about to enter the block, for whoever goes by it. */
static lb_channel_scaler channel_scaler(run *r, const lb_layer *layers)
{
    lb_streams *s = &r->streams;
    return (lb_channel_scaler){.kernels = r->p->kernels,
                               .config = r->config,
                               .rope = &s->rope,
                               .recipe = r->p->recipe,
                               .block = &s->original.block,
                               .layers = layers,
                               .x = s->original.x,
                               .sequences = r->p->samples->count,
                               .length = r->p->samples->length,
                               .chunk_sequences = s->chunk_sequences,
                               .ws = &s->original.ws,
                               .label = r->label,
                               .progress = &r->p->progress};
}

static lb_status choose_scales(run *r, const lb_layer *layers, lb_error *err)
{
    const lb_channel_scaler job = channel_scaler(r, layers);
    const double start = lb_now();
    lb_rescaling_free(&r->rescaling);
    const lb_status st = lb_channel_scales_choose(&job, &r->rescaling, err);
    r->times->capture += lb_now() - start;
    return st;
}

static lb_status choose_channels(run *r, const lb_layer *layers, lb_error *err)
{
    const lb_channel_scaler job = channel_scaler(r, layers);
    const double start = lb_now();
    lb_channel_orders_free(&r->orders);
    const lb_status st = lb_act_masks_choose(&job, &r->orders, err);
    r->times->capture += lb_now() - start;
    return st;
}

static lb_status clip_weights(run *r, const lb_layer *layers, lb_error *err)
{
    const lb_channel_scaler job = channel_scaler(r, layers);
    const double start = lb_now();
    const lb_status st = lb_awq_clip(&job, &r->streams.quantized.block, err);
    r->times->capture += lb_now() - start;
    return st;
}

/* Weights of both streams, and room for codes and params. */
static lb_status open_block(run *r, size_t index, lb_layer *layers, bool restored, lb_error *err)
{
    LB_TRY(load_block(r, index, &r->streams.quantized, err));
    if (has_calibration(r))
        LB_TRY(load_block(r, index, &r->streams.original, err));
    if (r->p->recipe->transform.rescale != LB_RESCALE_NONE)
        LB_TRY(choose_scales(r, layers, err));
    LB_TRY(lb_block_rescale(r->config, &r->rescaling, &r->streams.quantized.block, err));
    if (has_calibration(r))
        LB_TRY(lb_block_rescale(r->config, &r->rescaling, &r->streams.original.block, err));
    if (lb_act_masks(&r->p->recipe->act))
        LB_TRY(choose_channels(r, layers, err));
    LB_TRY(transform_block(r, &r->streams.quantized, err));
    if (has_calibration(r))
        LB_TRY(transform_block(r, &r->streams.original, err));
    if (r->p->recipe->transform.clip && !restored)
        LB_TRY(clip_weights(r, layers, err));
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        lb_layer *l = &layers[which];
        l->w = r->streams.quantized.block.linear[which].dense;
        if (lb_format_is_float(&l->format))
            continue;
        LB_TRY(check_magnitude(l, err));
        lb_format_bind(&l->format, l->w, l->rows * l->cols);
        LB_TRY(lb_layer_alloc(l, err));
    }
    return LB_OK;
}

static void close_block(run *r, lb_layer *layers)
{
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++)
        release_layer(&layers[which]);
    lb_block_free(&r->streams.original.block);
    lb_block_free(&r->streams.quantized.block);
}

/* Chooses the codes of a whole block, from what comes in in the quantized stream to what comes out in the
 * original one, which this brings to its end. */
static lb_status reconstruct_block(run *r, size_t index, lb_layer *layers, bool restored, lb_error *err)
{
    lb_streams *s = &r->streams;
    lb_channel_squares squares = {0};
    lb_status st = LB_OK;
    double start = lb_now();
    LB_GO(lb_channel_squares_create(r->config, &squares, err));
    for (size_t done = 0, n; (n = next_sequences(r, done)) > 0; done += n) {
        for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++) {
            float *x;
            LB_GO(lb_stream_advance(s, &s->original, stage, done, n, &x, err));
            lb_channel_squares_add(&squares, (lb_stage)stage, x, n * r->p->samples->length);
        }
        LB_GO(lb_progress_tell(&r->p->progress, r->label, 0, 0, err));
    }
    lb_block_free(&s->original.block);
    r->times->capture += lb_now() - start;
    if (restored)
        goto done;
    start = lb_now();
    lb_reconstruction job = {.kernels = r->p->kernels,
                             .config = r->config,
                             .rope = &s->rope,
                             .inputs = &s->quantized.inputs,
                             .block = &s->quantized.block,
                             .x = s->quantized.x,
                             .target = s->original.x,
                             .sequences = r->p->samples->count,
                             .length = r->p->samples->length,
                             .index = index,
                             .label = r->label,
                             .progress = &r->p->progress};
    for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++)
        job.importance[stage] = lb_channel_squares_importance(&squares, (lb_stage)stage);
    LB_GO(r->p->recipe->method->reconstruct(r->p->recipe, &job, layers, err));
    r->times->tune += lb_now() - start;
done:
    lb_channel_squares_free(&squares);
    return st;
}

/* Second moments of what the layers of each stage are fed, for the first tokens: enough to tell errors by. */
typedef struct error_measure {
    lb_hessian h[LB_STAGE_COUNT];
    size_t tokens;
} error_measure;

enum { ERROR_TOKENS = 4096 };

/* The quantized stream through a block whose weights are all in place. */
static lb_status pass_block(run *r, error_measure *measure, lb_error *err)
{
    lb_streams *s = &r->streams;
    for (size_t done = 0, n; (n = next_sequences(r, done)) > 0; done += n) {
        const size_t tokens = n * r->p->samples->length;
        for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++) {
            float *x;
            LB_TRY(lb_stream_advance(s, &s->quantized, stage, done, n, &x, err));
            if (measure && measure->tokens < ERROR_TOKENS)
                lb_hessian_add(&measure->h[stage], x, NULL, tokens);
        }
        if (measure)
            measure->tokens += tokens;
        LB_TRY(lb_progress_tell(&r->p->progress, r->label, 0, 0, err));
    }
    for (unsigned stage = 0; measure && stage < LB_STAGE_COUNT; stage++)
        lb_hessian_finish(&measure->h[stage]);
    return LB_OK;
}

/* What replacing the originals, which are loaded once more, has done to the layers' outputs. */
static lb_status find_errors(run *r, size_t index, lb_layer *layers, const error_measure *measure,
                             lb_error *err)
{
    lb_block *original = &r->streams.original.block;
    LB_TRY(load_block(r, index, &r->streams.original, err));
    LB_TRY(lb_block_rescale(r->config, &r->rescaling, original, err));
    LB_TRY(transform_block(r, &r->streams.original, err));
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        lb_layer *l = &layers[which];
        const float *w = original->linear[which].dense;
        float *change;
        if (lb_format_is_float(&l->format))
            continue;
        LB_TRY(lb_alloc_array(&change, l->rows, l->cols * sizeof *change, l->name, err));
        for (size_t i = 0; i < l->rows * l->cols; i++)
            change[i] = w[i] - l->w[i];
        const lb_status st = find_error(l, &measure->h[lb_block_linears[which].stage], w, change, err);
        lb_free(change);
        LB_TRY(st);
    }
    return LB_OK;
}

/* A block whose codes are all known: into the quantized stream, and that through it. */
static lb_status adopt_block(run *r, size_t index, lb_layer *layers, bool restored, lb_error *err)
{
    error_measure measure = {0};
    lb_status st = LB_OK;
    const double start = lb_now();
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++)
        if (!lb_format_is_float(&layers[which].format))
            lb_layer_decode(&layers[which], layers[which].w);
    for (unsigned stage = 0; !restored && stage < LB_STAGE_COUNT; stage++)
        LB_GO(lb_hessian_create(lb_stage_width(r->config, (lb_stage)stage), false, &measure.h[stage], err));
    LB_GO(pass_block(r, restored ? NULL : &measure, err));
    if (!restored)
        LB_GO(find_errors(r, index, layers, &measure, err));
    r->times->capture += lb_now() - start;
done:
    for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++)
        lb_hessian_free(&measure.h[stage]);
    return st;
}

static lb_status quantize_block(run *r, size_t index, lb_layer *layers, lb_block_report *report,
                                lb_error *err)
{
    const bool restored = r->p->sink.has(r->p->sink.self, index);
    double start = lb_now();
    lb_status st = LB_OK;
    *report = (lb_block_report){.output_error = NAN};
    LB_GO(open_block(r, index, layers, restored, err));
    if (restored)
        LB_GO(r->p->sink.restore(r->p->sink.self, index, layers, LB_BLOCK_LINEARS, NULL, err));
    r->times->load += lb_now() - start;
    if (reconstructs(r)) {
        LB_GO(reconstruct_block(r, index, layers, restored, err));
        LB_GO(adopt_block(r, index, layers, restored, err));
    } else {
        for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++)
            LB_GO(quantize_stage(r, stage, layers, restored, err));
        if (has_calibration(r))
            LB_GO(advance_streams(r, LB_STAGE_COUNT, NULL, err));
    }
    if (has_calibration(r))
        report->output_error = output_error(r);
    start = lb_now();
    if (!restored)
        LB_GO(r->p->sink.commit(r->p->sink.self, index, layers, LB_BLOCK_LINEARS, &r->streams.quantized.block,
                                err));
    r->times->write += lb_now() - start;
done:
    close_block(r, layers);
    return st;
}

/* A finished block with the params that were learned since: the same however often it is done. */
static lb_status recommit_block(run *r, size_t index, lb_layer *layers, lb_error *err)
{
    const lb_sink *sink = &r->p->sink;
    lb_block *block = &r->streams.quantized.block;
    lb_status st = LB_OK;
    LB_GO(lb_block_load(r->p->weights, index, LB_LOAD_FLOAT, block, err));
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        layers[which].w = block->linear[which].dense;
        if (!lb_format_is_float(&layers[which].format))
            LB_GO(lb_layer_alloc(&layers[which], err));
    }
    LB_GO(sink->restore(sink->self, index, layers, LB_BLOCK_LINEARS, block, err));
    LB_GO(sink->restore_learned(sink->self, index, layers, LB_BLOCK_LINEARS, err));
    st = sink->commit(sink->self, index, layers, LB_BLOCK_LINEARS, block, err);
done:
    close_block(r, layers);
    return st;
}

/* Params of all blocks, which lie beside the blocks then: learned now, or found there. */
static lb_status learn_params(run *r, lb_layer *layers, lb_polish_report *report, lb_error *err)
{
    const lb_sink *sink = &r->p->sink;
    const lb_polish job = {.weights = r->p->weights,
                           .recipe = r->p->recipe,
                           .samples = r->p->samples,
                           .kernels = r->p->kernels,
                           .teacher = r->streams.original.x,
                           .sink = sink,
                           .progress = &r->p->progress};
    bool learned = true;
    for (size_t i = 0; i < r->config->layers; i++)
        learned = learned && sink->has_learned(sink->self, i);
    if (learned)
        return LB_OK;
    LB_TRY(lb_polish_run(&job, layers, report, err));
    for (size_t i = 0; i < r->config->layers; i++)
        LB_TRY(sink->save_learned(sink->self, i, layers + i * LB_BLOCK_LINEARS, LB_BLOCK_LINEARS, err));
    return LB_OK;
}

static lb_status polish(run *r, lb_layer *layers, lb_polish_report *report, lb_error *err)
{
    const double start = lb_now();
    lb_status st = learn_params(r, layers, report, err);
    for (size_t i = 0; i < r->config->layers * LB_BLOCK_LINEARS; i++)
        release_layer(&layers[i]);
    for (size_t i = 0; st == LB_OK && i < r->config->layers; i++)
        st = recommit_block(r, i, layers + i * LB_BLOCK_LINEARS, err);
    r->times->polish = lb_now() - start;
    return st;
}

static void describe_layers(const lb_pipeline *p, lb_layer *layers)
{
    const lb_config *c = &p->weights->config;
    for (size_t i = 0; i < c->layers * LB_BLOCK_LINEARS; i++) {
        lb_layer *l = &layers[i];
        *l = (lb_layer){0};
        lb_linear_name(i / LB_BLOCK_LINEARS, (unsigned)(i % LB_BLOCK_LINEARS), l->name, sizeof l->name);
        lb_linear_shape(c, (unsigned)(i % LB_BLOCK_LINEARS), &l->rows, &l->cols);
        l->format = *lb_recipe_layer(p->recipe, i / LB_BLOCK_LINEARS, (unsigned)(i % LB_BLOCK_LINEARS));
    }
}

lb_status lb_pipeline_run(const lb_pipeline *pipeline, lb_layer *layers, lb_block_report *blocks,
                          lb_polish_report *polished, lb_stage_times *times, lb_error *err)
{
    run r = {.p = pipeline,
             .config = &pipeline->weights->config,
             .streams = {.kernels = pipeline->kernels,
                         .config = &pipeline->weights->config,
                         .samples = pipeline->samples,
                         .whole_blocks = pipeline->recipe->method->reconstruct != NULL},
             .times = times};
    lb_status st = LB_OK;
    *times = (lb_stage_times){0};
    *polished = (lb_polish_report){.before = NAN, .after = NAN};
    describe_layers(pipeline, layers);
    const lb_recipe *recipe = pipeline->recipe;
    LB_GO(lb_inputs_create(r.config, &recipe->transform, NULL, &r.streams.original.inputs, err));
    LB_GO(lb_inputs_create(r.config, &recipe->transform, &recipe->act, &r.streams.quantized.inputs, err));
    if (pipeline->samples->count > 0)
        LB_GO(lb_streams_start(&r.streams, pipeline->weights, err));
    for (size_t i = 0; i < r.config->layers; i++) {
        snprintf(r.label, sizeof r.label, "block %zu/%zu", i + 1, r.config->layers);
        LB_GO(lb_progress_tell(&pipeline->progress, r.label, i, r.config->layers, err));
        LB_GO(quantize_block(&r, i, layers + i * LB_BLOCK_LINEARS, &blocks[i], err));
    }
    if (recipe->polish.steps > 0)
        LB_GO(polish(&r, layers, polished, err));
    st = lb_progress_tell(&pipeline->progress, r.label, r.config->layers, r.config->layers, err);
done:
    lb_streams_free(&r.streams);
    lb_rescaling_free(&r.rescaling);
    lb_channel_orders_free(&r.orders);
    return st;
}

size_t lb_pipeline_memory(const lb_config *c, const lb_recipe *recipe, size_t samples, size_t seqlen)
{
    const size_t q = c->heads * c->head_dim, widest = c->ffn > q ? c->ffn : q;
    const size_t linear = c->hidden * (2 * q + 2 * c->kv_heads * c->head_dim + 3 * c->ffn);
    /* one block: floats twice, codes, and the largest layer's rounded copy and error products */
    size_t bytes = linear * 9 + 3 * c->ffn * c->hidden * sizeof(float);
    if (recipe->transform.rescale != LB_RESCALE_NONE || lb_act_masks(&recipe->act))
        bytes += (2048 + seqlen) * c->hidden * sizeof(float); /* a chunk's activations */
    if (samples > 0) {
        bytes += lb_streams_bytes(c, samples, seqlen) + widest * widest * sizeof(float);
        if (recipe->method->needs_hessian || lb_recipe_has_kinds(recipe))
            bytes += widest * widest * (3 * sizeof(float) + sizeof(double));
    }
    if (recipe->method->memory)
        bytes += recipe->method->memory(recipe, c, samples, seqlen);
    if (recipe->polish.steps > 0)
        bytes += lb_polish_bytes(c, recipe, samples, seqlen);
    return bytes;
}
