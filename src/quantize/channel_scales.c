/* SPDX-License-Identifier: MIT
 * What the inputs of a block's layers look like in the original model, and SmoothQuant's factors
 * (arXiv:2211.10438, equation 4), of which a strength a says how much of the difficulty moves from activations
 * to weights:
 *
 *   s_j = max |X_j|^a / max_i |W_ij|^(1-a)
 *
 * over all tokens, and all rows of the layers that share the input. */
#include "quantize/channel_scales.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "quantize/awq.h"

/* As the released code: a scale never falls below this. */
static const double least_scale = 1e-5;

/* The block on some sequences up to the inputs of down; x [tokens, hidden] is used up. */
static lb_status measure_chunk(const lb_channel_scaler *job, size_t sequences, float *x,
                               lb_channel_sizes *sizes, lb_error *err)
{
    const size_t tokens = sequences * job->length;
    const lb_workspace *ws = job->ws;
    const lb_stage_context c = {.kernels = job->kernels,
                                .config = job->config,
                                .rope = job->rope,
                                .block = job->block,
                                .ws = job->ws};
    LB_TRY(lb_block_attention_input(&c, x, tokens, err));
    lb_channel_sizes_add(sizes, LB_STAGE_QKV, ws->h, tokens);
    LB_TRY(lb_block_attend(&c, sequences, job->length, err));
    lb_channel_sizes_add(sizes, LB_STAGE_O, ws->a, tokens);
    LB_TRY(lb_block_attention_output(&c, ws->a, x, tokens, err));
    LB_TRY(lb_block_ffn_input(&c, x, tokens, err));
    lb_channel_sizes_add(sizes, LB_STAGE_GATE_UP, ws->h, tokens);
    LB_TRY(lb_block_ffn_inner(&c, tokens, err));
    lb_channel_sizes_add(sizes, LB_STAGE_DOWN, ws->m, tokens);
    return LB_OK;
}

lb_status lb_measure_channels(const lb_channel_scaler *job, lb_channel_sizes *sizes, lb_error *err)
{
    const size_t width = job->config->hidden;
    float *x;
    lb_status st = LB_OK;
    LB_TRY(lb_alloc_array(&x, job->chunk_sequences * job->length, width * sizeof *x, "activations", err));
    for (size_t done = 0, n; done < job->sequences; done += n) {
        const size_t left = job->sequences - done;
        n = left < job->chunk_sequences ? left : job->chunk_sequences;
        memcpy(x, job->x + done * job->length * width, n * job->length * width * sizeof *x);
        LB_GO(measure_chunk(job, n, x, sizes, err));
        LB_GO(lb_progress_tell(job->progress, job->label, 0, 0, err));
    }
done:
    lb_free(x);
    return st;
}

/* The largest weight that each factor of a stage meets, out [lb_rescale_width]. */
static void largest_weights(const lb_channel_scaler *job, lb_stage stage, float *out)
{
    memset(out, 0, lb_rescale_width(job->config, stage) * sizeof *out);
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        const lb_linear *l = &job->block->linear[which];
        const float *w = l->dense;
        if (lb_block_linears[which].stage != stage)
            continue;
        for (size_t row = 0; row < l->rows; row++, w += l->cols) {
            for (size_t i = 0; i < l->cols; i++) {
                float *most = &out[lb_rescale_source(job->config, stage, i)];
                *most = fabsf(w[i]) > *most ? fabsf(w[i]) : *most;
            }
        }
    }
}

/* A channel that is always zero, or meets only zeros, needs no factor: what calibration never excited must not be
 * divided by next to nothing. */
static float smooth_scale(double largest_input, double largest_weight, double strength)
{
    if (!(largest_input > 0.0 && largest_weight > 0.0))
        return 1.0f;
    const double s = pow(largest_input, strength) / pow(largest_weight, 1.0 - strength);
    return (float)(s > least_scale ? s : least_scale);
}

static lb_status smooth_stage(const lb_channel_scaler *job, const lb_channel_sizes *sizes, lb_stage stage,
                              float *s, lb_error *err)
{
    const size_t width = lb_rescale_width(job->config, stage);
    float *inputs, *weights;
    LB_TRY(lb_alloc_array(&inputs, 2 * width, sizeof *inputs, "channel scales", err));
    weights = inputs + width;
    memset(inputs, 0, width * sizeof *inputs);
    for (size_t i = 0; i < sizes->widths[stage]; i++) {
        float *most = &inputs[lb_rescale_source(job->config, stage, i)];
        *most = sizes->largest[stage][i] > *most ? sizes->largest[stage][i] : *most;
    }
    largest_weights(job, stage, weights);
    for (size_t i = 0; i < width; i++)
        s[i] = smooth_scale((double)inputs[i], (double)weights[i], job->recipe->transform.strength);
    lb_free(inputs);
    return LB_OK;
}

lb_status lb_channel_scales_choose(const lb_channel_scaler *job, lb_rescaling *out, lb_error *err)
{
    lb_channel_sizes sizes = {0};
    lb_rescaling scales = {0};
    lb_status st = LB_OK;
    LB_GO(lb_channel_sizes_create(job->config, &sizes, err));
    LB_GO(lb_rescaling_create(job->config, &scales, err));
    LB_GO(lb_measure_channels(job, &sizes, err));
    if (job->recipe->transform.rescale == LB_RESCALE_AWQ)
        LB_GO(lb_awq_scales(job, &sizes, &scales, err));
    for (unsigned stage = 0; job->recipe->transform.rescale == LB_RESCALE_SMOOTH && stage < LB_STAGE_COUNT;
         stage++)
        LB_GO(smooth_stage(job, &sizes, (lb_stage)stage, scales.s[stage], err));
    *out = scales;
    scales = (lb_rescaling){0};
done:
    lb_channel_sizes_free(&sizes);
    lb_rescaling_free(&scales);
    return st;
}
