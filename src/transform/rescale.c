/* SPDX-License-Identifier: MIT */
#include "transform/rescale.h"

#include <math.h>

#include "base/alloc.h"
#include "base/thread.h"

enum { ROWS_PER_CHUNK = 32 };

size_t lb_rescale_width(const lb_config *config, lb_stage stage)
{
    return stage == LB_STAGE_O ? config->kv_heads * config->head_dim : lb_stage_width(config, stage);
}

size_t lb_rescale_source(const lb_config *config, lb_stage stage, size_t channel)
{
    if (stage != LB_STAGE_O)
        return channel;
    const size_t head = channel / config->head_dim, sharing = config->heads / config->kv_heads;
    return head / sharing * config->head_dim + channel % config->head_dim;
}

lb_status lb_rescaling_create(const lb_config *config, lb_rescaling *out, lb_error *err)
{
    lb_rescaling r = {0};
    for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++) {
        const size_t width = lb_rescale_width(config, (lb_stage)stage);
        const lb_status st = lb_alloc_array(&r.s[stage], width, sizeof *r.s[stage], "channel scales", err);
        if (st != LB_OK) {
            lb_rescaling_free(&r);
            return st;
        }
        for (size_t i = 0; i < width; i++)
            r.s[stage][i] = 1.0f;
    }
    *out = r;
    return LB_OK;
}

void lb_rescaling_free(lb_rescaling *rescaling)
{
    for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++)
        lb_free(rescaling->s[stage]);
    *rescaling = (lb_rescaling){0};
}

typedef struct column_job {
    const lb_config *config;
    lb_stage stage;
    const float *s;
    lb_linear *linear;
} column_job;

static void multiply_columns(void *arg, size_t begin, size_t end)
{
    const column_job *j = arg;
    const size_t cols = j->linear->cols;
    float *w = (float *)j->linear->dense + begin * cols;
    for (size_t row = begin; row < end; row++, w += cols)
        for (size_t i = 0; i < cols; i++)
            w[i] *= j->s[lb_rescale_source(j->config, j->stage, i)];
}

static void divide_rows(lb_linear *l, const float *s)
{
    float *w = l->dense;
    for (size_t row = 0; row < l->rows; row++, w += l->cols) {
        for (size_t i = 0; i < l->cols; i++)
            w[i] /= s[row];
        if (l->bias)
            l->bias[row] /= s[row];
    }
}

lb_status lb_block_rescale_stage(const lb_config *config, lb_stage stage, const float *s, lb_block *block,
                                 lb_error *err)
{
    const size_t width = lb_rescale_width(config, stage);
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        const lb_linear *l = &block->linear[which];
        if (l->quantized || l->type != LB_DENSE_F32)
            return lb_fail(err, LB_EINVAL, "%s: only float32 weights can be rescaled",
                           lb_block_linears[which].suffix);
    }
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        column_job j = {.config = config, .stage = stage, .s = s, .linear = &block->linear[which]};
        if (lb_block_linears[which].stage == stage)
            lb_parallel_for(j.linear->rows, ROWS_PER_CHUNK, multiply_columns, &j);
    }
    if (stage == LB_STAGE_O || stage == LB_STAGE_DOWN) {
        divide_rows(&block->linear[stage == LB_STAGE_O ? LB_LINEAR_V : LB_LINEAR_UP], s);
        return LB_OK;
    }
    float *norm = stage == LB_STAGE_QKV ? block->attn_norm : block->ffn_norm;
    for (size_t i = 0; i < width; i++)
        norm[i] /= s[i];
    return LB_OK;
}

lb_status lb_block_rescale(const lb_config *config, const lb_rescaling *by, lb_block *block, lb_error *err)
{
    for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++) {
        if (by->s[stage])
            LB_TRY(lb_block_rescale_stage(config, (lb_stage)stage, by->s[stage], block, err));
    }
    return LB_OK;
}
