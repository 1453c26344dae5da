/* SPDX-License-Identifier: MIT */
#include "quantize/awq.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "quantize/clip_weights.h"
#include "transform/rotate.h"

/* Attention is looked at on whole sequences of up to ATTENTION_TOKENS, the rest on up to TOKENS of their tokens. */
enum { STEPS = 20, ATTENTION_TOKENS = 1024, TOKENS = 512 };

static const double least_scale = 1e-4;

/* What comes into the stages of a block, and what their modules make of it. */
typedef struct inspection {
    const lb_channel_scaler *job;
    lb_inputs inputs; /* rotations, and the format that inputs are rounded to */
    const lb_inputs *through; /* what the job's block wants done to its inputs; NULL: nothing */
    size_t sequences, tokens; /* of `tokens` every `stride`-th counts beyond attention */
    size_t stride;
    float *x; /* [tokens, hidden] */
    float *fed[LB_STAGE_COUNT]; /* [tokens, width], or for all but q k v every stride-th of them */
    float *target[LB_STAGE_COUNT]; /* [as many, hidden] */
    float *seen, *y; /* scratch [tokens, widest], [tokens, hidden] */
    float *weights[LB_BLOCK_LINEARS]; /* scratch, as the layers of the stage at hand */
} inspection;

static size_t count_of(const inspection *in, lb_stage stage)
{
    return stage == LB_STAGE_QKV ? in->tokens : (in->tokens + in->stride - 1) / in->stride;
}

static void free_weights(inspection *in)
{
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        lb_free(in->weights[which]);
        in->weights[which] = NULL;
    }
}

static void close_inspection(inspection *in)
{
    for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++) {
        lb_free(in->fed[stage]);
        lb_free(in->target[stage]);
    }
    free_weights(in);
    lb_free(in->x);
    lb_free(in->seen);
    lb_free(in->y);
    lb_inputs_free(&in->inputs);
}

static lb_stage_context context(const inspection *in, const lb_block *block)
{
    const lb_channel_scaler *job = in->job;
    return (lb_stage_context){.kernels = job->kernels,
                              .config = job->config,
                              .rope = job->rope,
                              .block = block,
                              .inputs = in->through,
                              .ws = job->ws};
}

/* y = what the module that a stage belongs to makes of the stage's inputs x, with the weights of `block`. */
static lb_status run_module(const inspection *in, lb_stage stage, const lb_block *block, const float *x,
                            float *y, lb_error *err)
{
    const lb_workspace *ws = in->job->ws;
    const lb_stage_context c = context(in, block);
    const size_t n = count_of(in, stage), width = lb_stage_width(in->job->config, stage);
    float *const into[LB_STAGE_COUNT] = {ws->h, ws->a, ws->h, ws->m};
    memset(y, 0, n * in->job->config->hidden * sizeof *y);
    memcpy(into[stage], x, n * width * sizeof *x);
    if (stage == LB_STAGE_QKV)
        LB_TRY(lb_block_attend(&c, in->sequences, in->job->length, err));
    if (stage == LB_STAGE_GATE_UP)
        LB_TRY(lb_block_ffn_inner(&c, n, err));
    return stage <= LB_STAGE_O ? lb_block_attention_output(&c, ws->a, y, n, err)
                               : lb_block_ffn_output(&c, y, n, err);
}

/* The rows that count of a stage's inputs. */
static void keep(inspection *in, lb_stage stage, const float *x)
{
    const size_t width = lb_stage_width(in->job->config, stage),
                 stride = stage == LB_STAGE_QKV ? 1 : in->stride;
    for (size_t t = 0; t < count_of(in, stage); t++)
        memcpy(in->fed[stage] + t * width, x + t * stride * width, width * sizeof *x);
}

static lb_status feed(inspection *in, lb_error *err)
{
    const lb_workspace *ws = in->job->ws;
    const lb_stage_context c = context(in, in->job->block);
    LB_TRY(lb_block_attention_input(&c, in->x, in->tokens, err));
    keep(in, LB_STAGE_QKV, ws->h);
    LB_TRY(lb_block_attend(&c, in->sequences, in->job->length, err));
    keep(in, LB_STAGE_O, ws->a);
    LB_TRY(lb_block_attention_output(&c, ws->a, in->x, in->tokens, err));
    LB_TRY(lb_block_ffn_input(&c, in->x, in->tokens, err));
    keep(in, LB_STAGE_GATE_UP, ws->h);
    LB_TRY(lb_block_ffn_inner(&c, in->tokens, err));
    keep(in, LB_STAGE_DOWN, ws->m);
    return LB_OK;
}

/* Sequences spread evenly over the calibration's, through the job's block, which the recipe's transform may have
 * `rewritten`. */
static lb_status open_inspection(const lb_channel_scaler *job, bool rewritten, inspection *in, lb_error *err)
{
    const lb_config *c = job->config;
    const lb_recipe *recipe = job->recipe;
    /* Which channels are high is chosen after scales are. */
    const bool looks = !rewritten && !lb_act_masks(&recipe->act);
    size_t wanted = job->length < ATTENTION_TOKENS ? ATTENTION_TOKENS / job->length : 1;
    wanted = wanted < job->chunk_sequences ? wanted : job->chunk_sequences;
    *in = (inspection){.job = job, .sequences = wanted < job->sequences ? wanted : job->sequences};
    in->tokens = in->sequences * job->length;
    in->stride = (in->tokens + TOKENS - 1) / TOKENS;
    LB_TRY(lb_inputs_create(c, &recipe->transform, looks ? &recipe->act : NULL, &in->inputs, err));
    in->through = rewritten ? &in->inputs : NULL;
    LB_TRY(lb_alloc_array(&in->x, in->tokens, c->hidden * sizeof *in->x, "inspected tokens", err));
    LB_TRY(lb_alloc_array(&in->y, in->tokens, c->hidden * sizeof *in->y, "inspected tokens", err));
    LB_TRY(lb_alloc_array(&in->seen, in->tokens, lb_widest_input(c) * sizeof *in->seen, "inspected tokens",
                          err));
    for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++) {
        const size_t n = count_of(in, (lb_stage)stage), width = lb_stage_width(c, (lb_stage)stage);
        LB_TRY(lb_alloc_array(&in->fed[stage], n, width * sizeof(float), "inspected tokens", err));
        LB_TRY(lb_alloc_array(&in->target[stage], n, c->hidden * sizeof(float), "inspected tokens", err));
    }
    for (size_t i = 0; i < in->sequences; i++) {
        const size_t from = i * job->sequences / in->sequences, size = job->length * c->hidden;
        memcpy(in->x + i * size, job->x + from * size, size * sizeof *in->x);
    }
    return feed(in, err);
}

/* ---- Scales ------------------------------------------------------------------------------------------------- */

/* The layers of a stage, rescaled by s, rotated and rounded: `block` has them in in->weights instead of its own. */
static lb_status round_stage(inspection *in, lb_stage stage, const float *s, lb_block *block, lb_error *err)
{
    const lb_channel_scaler *job = in->job;
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        const lb_linear *from = &job->block->linear[which];
        if (lb_block_linears[which].stage != stage)
            continue;
        float *w = in->weights[which];
        block->linear[which].dense = w;
        for (size_t r = 0; r < from->rows; r++)
            for (size_t i = 0; i < from->cols; i++)
                w[r * from->cols + i] = ((const float *)from->dense)[r * from->cols + i] *
                                        s[lb_rescale_source(job->config, stage, i)];
        if (in->inputs.rotations[stage])
            lb_rotation_apply(job->kernels, in->inputs.rotations[stage], w, from->rows);
        LB_TRY(lb_linear_round(job->kernels, &block->linear[which], &job->layers[which].format,
                               job->recipe->fit, err));
    }
    return LB_OK;
}

static double square_error(const float *a, const float *b, size_t n)
{
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) {
        const double d = (double)a[i] - (double)b[i];
        sum += d * d;
    }
    return sum;
}

/* What the module's output loses when the stage is rescaled by s and rounded. */
static lb_status find_loss(inspection *in, lb_stage stage, const float *s, double *loss, lb_error *err)
{
    const lb_channel_scaler *job = in->job;
    const size_t n = count_of(in, stage), width = lb_stage_width(job->config, stage);
    lb_block block = *job->block;
    LB_TRY(round_stage(in, stage, s, &block, err));
    for (size_t t = 0; t < n; t++)
        for (size_t i = 0; i < width; i++)
            in->seen[t * width + i] =
                in->fed[stage][t * width + i] / s[lb_rescale_source(job->config, stage, i)];
    LB_TRY(lb_inputs_prepare(job->kernels, &in->inputs, stage, in->seen, n, err));
    LB_TRY(run_module(in, stage, &block, in->seen, in->y, err));
    *loss = square_error(in->y, in->target[stage], n * job->config->hidden);
    return LB_OK;
}

/* s [width] for an exponent, from the channels' mean magnitudes. */
static void make_scales(const double *means, size_t width, double exponent, float *s)
{
    double most = 0.0, least = HUGE_VAL;
    for (size_t i = 0; i < width; i++) {
        const double power = pow(means[i], exponent), held = power > least_scale ? power : least_scale;
        most = held > most ? held : most;
        least = held < least ? held : least;
    }
    for (size_t i = 0; i < width; i++) {
        const double power = pow(means[i], exponent), held = power > least_scale ? power : least_scale;
        s[i] = (float)(held / sqrt(most * least));
    }
}

/* Channels that share a factor count as one. */
static void mean_sizes(const lb_channel_scaler *job, const lb_channel_sizes *sizes, lb_stage stage,
                       double *means)
{
    const size_t width = lb_rescale_width(job->config, stage), all = sizes->widths[stage];
    for (size_t i = 0; i < width; i++)
        means[i] = 0.0;
    for (size_t i = 0; i < all; i++)
        means[lb_rescale_source(job->config, stage, i)] +=
            lb_channel_mean(sizes, stage, i) * (double)width / (double)all;
}

/* Room for the stage's layers; *any: whether one of them is to be rounded. */
static lb_status begin_stage(inspection *in, lb_stage stage, bool *any, lb_error *err)
{
    *any = false;
    free_weights(in);
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        const lb_linear *l = &in->job->block->linear[which];
        if (lb_block_linears[which].stage != stage)
            continue;
        *any = *any || !lb_format_is_float(&in->job->layers[which].format);
        LB_TRY(lb_alloc_array(&in->weights[which], l->rows, l->cols * sizeof(float), "rounded weights", err));
    }
    return LB_OK;
}

static lb_status choose_stage(inspection *in, const lb_channel_sizes *sizes, lb_stage stage, float *s,
                              lb_error *err)
{
    const lb_channel_scaler *job = in->job;
    const size_t width = lb_rescale_width(job->config, stage);
    double *means = NULL, least = HUGE_VAL;
    float *tried = NULL;
    bool any;
    lb_status st = LB_OK;
    LB_GO(begin_stage(in, stage, &any, err));
    if (!any)
        goto done;
    LB_GO(lb_alloc_array(&means, width, sizeof *means, "channel scales", err));
    LB_GO(lb_alloc_array(&tried, width, sizeof *tried, "channel scales", err));
    mean_sizes(job, sizes, stage, means);
    LB_GO(run_module(in, stage, job->block, in->fed[stage], in->target[stage], err));
    for (int step = 0; step < STEPS; step++) {
        double loss;
        make_scales(means, width, (double)step / STEPS, tried);
        LB_GO(find_loss(in, stage, tried, &loss, err));
        LB_GO(lb_progress_tell(job->progress, job->label, 0, 0, err));
        if (loss < least) {
            least = loss;
            memcpy(s, tried, width * sizeof *s);
        }
    }
done:
    lb_free(means);
    lb_free(tried);
    return st;
}

lb_status lb_awq_scales(const lb_channel_scaler *job, const lb_channel_sizes *sizes, lb_rescaling *out,
                        lb_error *err)
{
    inspection in;
    lb_status st = LB_OK;
    LB_GO(open_inspection(job, false, &in, err));
    for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++)
        LB_GO(choose_stage(&in, sizes, (lb_stage)stage, out->s[stage], err));
done:
    close_inspection(&in);
    return st;
}

/* ---- Clipping ----------------------------------------------------------------------------------------------- */

lb_status lb_awq_clip(const lb_channel_scaler *job, lb_block *block, lb_error *err)
{
    inspection in;
    lb_status st = LB_OK;
    LB_GO(open_inspection(job, true, &in, err));
    for (unsigned which = LB_LINEAR_V; which < LB_BLOCK_LINEARS; which++) {
        const lb_stage stage = lb_block_linears[which].stage;
        const lb_linear *l = &block->linear[which];
        lb_format format = job->layers[which].format;
        if (lb_format_is_float(&format))
            continue;
        const size_t stride = stage == LB_STAGE_QKV ? in.stride : 1;
        const size_t n = (count_of(&in, stage) + stride - 1) / stride;
        for (size_t t = 0; t < n; t++)
            memcpy(in.seen + t * l->cols, in.fed[stage] + t * stride * l->cols, l->cols * sizeof(float));
        lb_format_bind(&format, l->dense, l->rows * l->cols);
        LB_GO(lb_clip_weights(&format, in.seen, n, l->dense, l->rows, l->cols, err));
        LB_GO(lb_progress_tell(job->progress, job->label, 0, 0, err));
    }
done:
    close_inspection(&in);
    return st;
}
