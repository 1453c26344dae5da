/* SPDX-License-Identifier: MIT */
#include "quantize/pipeline.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/thread.h"
#include "model/block.h"
#include "model/embedding.h"
#include "transform/rotate.h"

enum { CHUNK_TOKENS = 2048 }; /* tokens that go through a stage at a time */

/* One of the two streams of activations, with the weights that drive it. */
typedef struct stream {
    float *x; /* [tokens, hidden] */
    float *attended; /* [tokens, heads * head_dim] inputs of o, kept between two stages */
    lb_block block;
    lb_inputs inputs; /* the original stream's are rotated too, but never rounded */
    lb_workspace ws;
} stream;

typedef struct run {
    const lb_pipeline *p;
    const lb_config *config;
    lb_rope rope;
    size_t tokens, chunk_sequences;
    stream original, quantized;
    lb_stage_times *times;
    char label[48];
} run;

static lb_stage_context stage_context(const run *r, stream *s)
{
    return (lb_stage_context){.kernels = r->p->kernels,
                              .config = r->config,
                              .rope = &r->rope,
                              .block = &s->block,
                              .inputs = &s->inputs,
                              .ws = &s->ws};
}

static bool has_calibration(const run *r)
{
    return r->tokens > 0;
}

static void stream_free(stream *s)
{
    lb_workspace_free(&s->ws);
    lb_block_free(&s->block);
    lb_inputs_free(&s->inputs);
    lb_free(s->x);
    lb_free(s->attended);
}

static void run_free(run *r)
{
    lb_rope_free(&r->rope);
    stream_free(&r->original);
    stream_free(&r->quantized);
}

static lb_status stream_start(const run *r, stream *s, bool weights_stay, lb_error *err)
{
    const lb_config *c = r->config;
    LB_TRY(lb_workspace_create(c, r->chunk_sequences * r->p->samples->length, &s->ws, err));
    LB_TRY(lb_alloc_array(&s->x, r->tokens, c->hidden * sizeof(float), "activations", err));
    if (weights_stay)
        return LB_OK;
    return lb_alloc_array(&s->attended, r->tokens, c->heads * c->head_dim * sizeof(float), "activations",
                          err);
}

static lb_status start_streams(run *r, lb_error *err)
{
    const lb_samples *s = r->p->samples;
    lb_embedding e = {0};
    lb_status st = LB_OK;
    r->tokens = s->count * s->length;
    r->chunk_sequences = s->length < CHUNK_TOKENS ? CHUNK_TOKENS / s->length : 1;
    LB_GO(lb_rope_create(r->config, s->length, &r->rope, err));
    LB_GO(stream_start(r, &r->original, true, err));
    LB_GO(stream_start(r, &r->quantized, false, err));
    LB_GO(lb_embedding_load(r->p->weights, &e, err));
    LB_GO(lb_embedding_look_up(r->p->kernels, &e, s->ids, r->tokens, r->original.x, err));
    memcpy(r->quantized.x, r->original.x, r->tokens * r->config->hidden * sizeof(float));
done:
    lb_embedding_free(&e);
    return st;
}

/* Brings one stream, for the sequences that begin at token `at`, to the inputs of a stage's linear
 * layers, and says where they are. */
typedef lb_status (*advance)(run *r, stream *s, size_t at, size_t sequences, float **inputs, lb_error *err);

static lb_status advance_to_qkv(run *r, stream *s, size_t at, size_t sequences, float **inputs, lb_error *err)
{
    lb_stage_context c = stage_context(r, s);
    *inputs = s->ws.h;
    return lb_block_attention_input(&c, s->x + at * r->config->hidden, sequences * r->p->samples->length,
                                    err);
}

static lb_status advance_to_o(run *r, stream *s, size_t at, size_t sequences, float **inputs, lb_error *err)
{
    const size_t tokens = sequences * r->p->samples->length, width = r->config->heads * r->config->head_dim;
    float *x = s->x + at * r->config->hidden;
    lb_stage_context c = stage_context(r, s);
    LB_TRY(lb_block_attention_input(&c, x, tokens, err));
    LB_TRY(lb_block_attend(&c, sequences, r->p->samples->length, err));
    *inputs = s->ws.a;
    if (!s->attended)
        return lb_block_attention_output(&c, s->ws.a, x, tokens, err);
    memcpy(s->attended + at * width, s->ws.a, tokens * width * sizeof(float));
    return LB_OK;
}

static lb_status advance_to_gate_up(run *r, stream *s, size_t at, size_t sequences, float **inputs,
                                    lb_error *err)
{
    const size_t tokens = sequences * r->p->samples->length, width = r->config->heads * r->config->head_dim;
    float *x = s->x + at * r->config->hidden;
    lb_stage_context c = stage_context(r, s);
    if (s->attended)
        LB_TRY(lb_block_attention_output(&c, s->attended + at * width, x, tokens, err));
    *inputs = s->ws.h;
    return lb_block_ffn_input(&c, x, tokens, err);
}

static lb_status advance_to_down(run *r, stream *s, size_t at, size_t sequences, float **inputs,
                                 lb_error *err)
{
    const size_t tokens = sequences * r->p->samples->length;
    float *x = s->x + at * r->config->hidden;
    lb_stage_context c = stage_context(r, s);
    LB_TRY(lb_block_ffn_input(&c, x, tokens, err));
    LB_TRY(lb_block_ffn_inner(&c, tokens, err));
    *inputs = s->ws.m;
    return s->attended ? LB_OK : lb_block_ffn_output(&c, x, tokens, err);
}

/* The inputs of down are wide and there are many: the quantized stream's are computed twice rather than
 * kept. */
static lb_status advance_to_end(run *r, stream *s, size_t at, size_t sequences, float **inputs, lb_error *err)
{
    *inputs = s->ws.m;
    if (!s->attended)
        return LB_OK;
    LB_TRY(advance_to_down(r, s, at, sequences, inputs, err));
    lb_stage_context c = stage_context(r, s);
    return lb_block_ffn_output(&c, s->x + at * r->config->hidden, sequences * r->p->samples->length, err);
}

static const advance advances[LB_STAGE_COUNT] = {
    [LB_STAGE_QKV] = advance_to_qkv,
    [LB_STAGE_O] = advance_to_o,
    [LB_STAGE_GATE_UP] = advance_to_gate_up,
    [LB_STAGE_DOWN] = advance_to_down,
};

/* Both streams, chunk by chunk; their inputs go into h unless it is NULL. */
static lb_status advance_streams(run *r, advance step, lb_hessian *h, lb_error *err)
{
    const size_t length = r->p->samples->length;
    const double start = lb_now();
    double in_hessian = 0.0;
    for (size_t i = 0; i < r->p->samples->count; i += r->chunk_sequences) {
        const size_t left = r->p->samples->count - i;
        const size_t sequences = left < r->chunk_sequences ? left : r->chunk_sequences;
        float *x, *original;
        LB_TRY(step(r, &r->quantized, i * length, sequences, &x, err));
        LB_TRY(step(r, &r->original, i * length, sequences, &original, err));
        if (h) {
            const double before = lb_now();
            lb_hessian_add(h, x, original, sequences * length);
            in_hessian += lb_now() - before;
        }
        LB_TRY(lb_progress_tell(&r->p->progress, r->label, 0, 0, err));
    }
    r->times->hessian += in_hessian;
    r->times->capture += lb_now() - start - in_hessian;
    return LB_OK;
}

static lb_status alloc_layer(lb_layer *l, lb_error *err)
{
    const size_t params = lb_format_groups(&l->format, l->cols) * l->format.params;
    LB_TRY(lb_alloc_array(&l->codes, l->rows, l->cols, l->name, err));
    return lb_alloc_array(&l->params, l->rows, params * sizeof *l->params, l->name, err);
}

static void release_layer(lb_layer *l)
{
    lb_free(l->codes);
    lb_free(l->params);
    l->codes = NULL;
    l->params = NULL;
    l->w = NULL; /* belonged to the block */
}

typedef struct decode_job {
    const lb_layer *layer;
    float *out;
} decode_job;

static void decode_rows(void *arg, size_t begin, size_t end)
{
    const decode_job *job = arg;
    const lb_layer *l = job->layer;
    const size_t params = lb_format_groups(&l->format, l->cols) * l->format.params;
    for (size_t row = begin; row < end; row++)
        lb_format_decode_row(&l->format, l->codes + row * l->cols, l->params + row * params, l->cols,
                             job->out + row * l->cols);
}

static double square_sum(const float *x, size_t n)
{
    double total = 0.0;
    for (size_t i = 0; i < n; i++)
        total += (double)x[i] * (double)x[i];
    return total;
}

/* Replaces the layer's weights by their rounded values and notes what that does to its output. */
static lb_status put_in_place(lb_layer *l, const lb_hessian *h, lb_error *err)
{
    const size_t n = l->rows * l->cols;
    double error, energy;
    float *rounded;
    LB_TRY(lb_alloc_array(&rounded, n, sizeof *rounded, l->name, err));
    decode_job job = {l, rounded};
    lb_parallel_for(l->rows, 32, decode_rows, &job);
    lb_status st = LB_OK;
    if (h)
        st = lb_hessian_energy(h, l->w, l->rows, &energy, err);
    else
        energy = square_sum(l->w, n);
    for (size_t i = 0; i < n; i++) {
        const float value = rounded[i];
        rounded[i] = l->w[i] - value;
        l->w[i] = value;
    }
    if (st == LB_OK && h)
        st = lb_hessian_energy(h, rounded, l->rows, &error, err);
    else
        error = square_sum(rounded, n);
    l->relative_error = energy > 0.0 ? error / energy : 0.0;
    if (st == LB_OK && !isfinite(l->relative_error))
        st = lb_fail(
            err, LB_EINVAL,
            "%s: its weights are so large that %s rounds some to infinity; keep it with --layer '%s=bf16'",
            l->name, l->format.name, l->name);
    lb_free(rounded);
    return st;
}

/* A stage from its inputs to rounded weights; layers [LB_BLOCK_LINEARS] of the block. */
static lb_status quantize_stage(run *r, lb_stage stage, lb_layer *layers, bool restored, lb_error *err)
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
        LB_GO(advance_streams(r, advances[stage], measured ? &h : NULL, err));
    if (measured)
        lb_hessian_finish(&h);
    const double start = lb_now();
    if (count > 0 && !restored)
        LB_GO(r->p->recipe->method->quantize(r->p->recipe, measured ? &h : NULL, group, count, err));
    for (size_t i = 0; i < count; i++) {
        const double known = chosen[i]->relative_error;
        LB_GO(put_in_place(chosen[i], measured ? &h : NULL, err));
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
    const size_t n = r->tokens * r->config->hidden;
    const double energy = square_sum(r->original.x, n);
    double difference = 0.0;
    for (size_t i = 0; i < n; i++) {
        const double d = (double)r->quantized.x[i] - (double)r->original.x[i];
        difference += d * d;
    }
    return energy > 0.0 ? difference / energy : 0.0;
}

/* Scales of the integer formats are 16-bit floats. A layer beyond their reach would come out saturated, or as
 * zeros, and nothing else would say so. (Block formats have scales with a float's range.) */
static lb_status check_magnitude(const lb_layer *l, lb_error *err)
{
    float largest = 0.0f;
    if (l->format.element)
        return LB_OK;
    for (size_t i = 0; i < l->rows * l->cols; i++)
        largest = fabsf(l->w[i]) > largest ? fabsf(l->w[i]) : largest;
    if (largest == 0.0f || (largest >= 1e-6f && largest <= 65504.0f))
        return LB_OK;
    return lb_fail(
        err, LB_EINVAL,
        "%s: its largest weight is %g, outside the 1e-6 to 65504 that 16-bit scales can follow; keep it "
        "with --layer '%s=bf16'",
        l->name, (double)largest, l->name);
}

static lb_status load_rotated(const run *r, size_t index, stream *s, lb_error *err)
{
    LB_TRY(lb_block_load(r->p->weights, index, LB_LOAD_FLOAT, &s->block, err));
    return lb_block_rotate(r->p->kernels, &s->inputs, &s->block, err);
}

static lb_status quantize_block(run *r, size_t index, lb_layer *layers, lb_block_report *report,
                                lb_error *err)
{
    const bool restored = r->p->sink.has(r->p->sink.self, index);
    double start = lb_now();
    lb_status st = LB_OK;
    *report = (lb_block_report){.output_error = NAN};
    LB_GO(load_rotated(r, index, &r->quantized, err));
    if (has_calibration(r))
        LB_GO(load_rotated(r, index, &r->original, err));
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        layers[which].w = r->quantized.block.linear[which].dense;
        if (lb_format_is_float(&layers[which].format))
            continue;
        LB_GO(check_magnitude(&layers[which], err));
        lb_format_bind(&layers[which].format, layers[which].w, layers[which].rows * layers[which].cols);
        LB_GO(alloc_layer(&layers[which], err));
    }
    if (restored)
        LB_GO(r->p->sink.restore(r->p->sink.self, index, layers, LB_BLOCK_LINEARS, err));
    r->times->load += lb_now() - start;
    for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++)
        LB_GO(quantize_stage(r, (lb_stage)stage, layers, restored, err));
    if (has_calibration(r)) {
        LB_GO(advance_streams(r, advance_to_end, NULL, err));
        report->output_error = output_error(r);
    }
    start = lb_now();
    if (!restored)
        LB_GO(r->p->sink.commit(r->p->sink.self, index, layers, LB_BLOCK_LINEARS, err));
    r->times->write += lb_now() - start;
done:
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++)
        release_layer(&layers[which]);
    lb_block_free(&r->original.block);
    lb_block_free(&r->quantized.block);
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
        l->format = *lb_recipe_format(p->recipe, l->name, &p->recipe->format, NULL);
    }
}

lb_status lb_pipeline_run(const lb_pipeline *pipeline, lb_layer *layers, lb_block_report *blocks,
                          lb_stage_times *times, lb_error *err)
{
    run r = {.p = pipeline, .config = &pipeline->weights->config, .times = times};
    lb_status st = LB_OK;
    *times = (lb_stage_times){0};
    describe_layers(pipeline, layers);
    const lb_recipe *recipe = pipeline->recipe;
    LB_GO(lb_inputs_create(r.config, &recipe->transform, NULL, &r.original.inputs, err));
    LB_GO(lb_inputs_create(r.config, &recipe->transform, &recipe->act, &r.quantized.inputs, err));
    if (pipeline->samples->count > 0)
        LB_GO(start_streams(&r, err));
    for (size_t i = 0; i < r.config->layers; i++) {
        snprintf(r.label, sizeof r.label, "block %zu/%zu", i + 1, r.config->layers);
        LB_GO(lb_progress_tell(&pipeline->progress, r.label, i, r.config->layers, err));
        LB_GO(quantize_block(&r, i, layers + i * LB_BLOCK_LINEARS, &blocks[i], err));
    }
    st = lb_progress_tell(&pipeline->progress, r.label, r.config->layers, r.config->layers, err);
done:
    run_free(&r);
    return st;
}

size_t lb_pipeline_memory(const lb_config *c, const lb_recipe *recipe, size_t samples, size_t seqlen)
{
    const size_t q = c->heads * c->head_dim, widest = c->ffn > q ? c->ffn : q;
    const size_t linear = c->hidden * (2 * q + 2 * c->kv_heads * c->head_dim + 3 * c->ffn);
    /* one block: floats twice, codes, and the largest layer's rounded copy and error products */
    size_t bytes = linear * 9 + 3 * c->ffn * c->hidden * sizeof(float);
    if (samples > 0) {
        const size_t chunk = seqlen < CHUNK_TOKENS ? CHUNK_TOKENS / seqlen * seqlen : seqlen;
        bytes += samples * seqlen * (2 * c->hidden + q) * sizeof(float);
        bytes += 2 * lb_workspace_bytes(c, chunk) + c->vocab * c->hidden * sizeof(float);
        bytes += widest * widest * sizeof(float);
        if (recipe->method->needs_hessian)
            bytes += widest * widest * (3 * sizeof(float) + sizeof(double));
    }
    return bytes;
}
