/* SPDX-License-Identifier: MIT */
#include "model/block_trace.h"

#include <string.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "model/attention_grad.h"
#include "model/norm_grad.h"

enum { ROWS_PER_CHUNK = 32, ARRAYS = 24 };

/* Every array of a trace and how many floats it has. */
typedef struct trace_array {
    float **array;
    size_t floats;
} trace_array;

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Sums of the norms' weights: over tokens, or over all heads of them. */
static size_t partials(const lb_config *c, size_t tokens)
{
    return larger(lb_norm_grad_partials(tokens, c->hidden),
                  lb_norm_grad_partials(tokens * c->heads, c->head_dim));
}

static size_t list_arrays(const lb_config *c, size_t tokens, size_t sequence_tokens, lb_block_trace *t,
                          trace_array *out)
{
    const size_t hidden = tokens * c->hidden, q = tokens * c->heads * c->head_dim;
    const size_t kv = tokens * c->kv_heads * c->head_dim, ffn = tokens * c->ffn, wide = larger(q, ffn);
    const trace_array arrays[] = {
        {&t->x, hidden},
        {&t->mid, hidden},
        {&t->inputs[LB_STAGE_QKV], hidden},
        {&t->inputs[LB_STAGE_O], q},
        {&t->inputs[LB_STAGE_GATE_UP], hidden},
        {&t->inputs[LB_STAGE_DOWN], ffn},
        {&t->q, q},
        {&t->k, kv},
        {&t->v, kv},
        {&t->gate, ffn},
        {&t->up, ffn},
        {&t->scratch.hidden[0], hidden},
        {&t->scratch.hidden[1], hidden},
        {&t->scratch.heads[0], q},
        {&t->scratch.heads[1], q},
        {&t->scratch.k, kv},
        {&t->scratch.v, kv},
        {&t->scratch.wide[0], wide},
        {&t->scratch.wide[1], wide},
        {&t->scratch.scores, lb_attention_grad_scores(sequence_tokens)},
        {&t->scratch.partials, partials(c, tokens)},
        {&t->raw_q, q},
        {&t->raw_k, kv},
    };
    const size_t count = sizeof arrays / sizeof *arrays;
    _Static_assert(sizeof arrays / sizeof *arrays <= ARRAYS, "ARRAYS is too small");
    memcpy(out, arrays, sizeof arrays);
    return c->qk_norm ? count : count - 2;
}

size_t lb_block_trace_bytes(const lb_config *c, size_t max_tokens, size_t max_sequence_tokens)
{
    lb_block_trace t;
    trace_array arrays[ARRAYS];
    size_t floats = 0;
    const size_t count = list_arrays(c, max_tokens, max_sequence_tokens, &t, arrays);
    for (size_t i = 0; i < count; i++)
        floats += arrays[i].floats;
    return floats * sizeof(float);
}

lb_status lb_block_trace_create(const lb_config *c, size_t max_tokens, size_t max_sequence_tokens,
                                lb_block_trace *out, lb_error *err)
{
    lb_block_trace t = {.max_tokens = max_tokens, .max_sequence_tokens = max_sequence_tokens};
    trace_array arrays[ARRAYS];
    lb_status st = LB_OK;
    const size_t count = list_arrays(c, max_tokens, max_sequence_tokens, &t, arrays);
    for (size_t i = 0; i < count; i++)
        LB_GO(lb_alloc_array(arrays[i].array, arrays[i].floats, sizeof(float), "trace of a block", err));
    *out = t;
    t = (lb_block_trace){0};
done:
    lb_block_trace_free(&t);
    return st;
}

void lb_block_trace_free(lb_block_trace *t)
{
    float *const arrays[] = {t->x,
                             t->mid,
                             t->q,
                             t->k,
                             t->v,
                             t->raw_q,
                             t->raw_k,
                             t->gate,
                             t->up,
                             t->scratch.hidden[0],
                             t->scratch.hidden[1],
                             t->scratch.heads[0],
                             t->scratch.heads[1],
                             t->scratch.k,
                             t->scratch.v,
                             t->scratch.wide[0],
                             t->scratch.wide[1],
                             t->scratch.scores,
                             t->scratch.partials};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        lb_free(arrays[i]);
    for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++)
        lb_free(t->inputs[stage]);
    *t = (lb_block_trace){0};
}

lb_status lb_block_forward_traced(const lb_stage_context *context, const float *x, size_t sequences,
                                  size_t sequence_tokens, lb_block_trace *t, float *y, lb_error *err)
{
    const size_t tokens = sequences * sequence_tokens, bytes = tokens * context->config->hidden * sizeof *x;
    lb_workspace ws = {.max_tokens = t->max_tokens,
                       .h = t->inputs[LB_STAGE_QKV],
                       .q = t->q,
                       .k = t->k,
                       .v = t->v,
                       .a = t->inputs[LB_STAGE_O],
                       .gate = t->gate,
                       .m = t->inputs[LB_STAGE_DOWN],
                       .y = t->scratch.hidden[0],
                       .up = t->up,
                       .raw_q = t->raw_q,
                       .raw_k = t->raw_k};
    lb_stage_context c = *context;
    c.ws = &ws;
    t->tokens = t->sequences = t->sequence_tokens = 0;
    if (tokens > t->max_tokens || sequence_tokens > t->max_sequence_tokens)
        return lb_fail(
            err, LB_EINVAL,
            "a block's trace holds %zu tokens in sequences of up to %zu, got %zu in sequences of %zu",
            t->max_tokens, t->max_sequence_tokens, tokens, sequence_tokens);
    memcpy(t->x, x, bytes);
    memcpy(t->mid, x, bytes);
    LB_TRY(lb_block_attention_input(&c, t->x, tokens, err));
    LB_TRY(lb_block_attend(&c, sequences, sequence_tokens, err));
    LB_TRY(lb_block_attention_output(&c, ws.a, t->mid, tokens, err));
    ws.h = t->inputs[LB_STAGE_GATE_UP];
    LB_TRY(lb_block_ffn_input(&c, t->mid, tokens, err));
    LB_TRY(lb_block_ffn_inner(&c, tokens, err));
    memcpy(y, t->mid, bytes);
    LB_TRY(lb_block_ffn_output(&c, y, tokens, err));
    t->sequences = sequences;
    t->sequence_tokens = sequence_tokens;
    t->tokens = tokens;
    return LB_OK;
}

typedef struct again_job {
    const lb_stage_context *c;
    const lb_block_trace *t;
    const float *x, *weight; /* weight NULL: the product of the feed-forward half */
    float *out;
} again_job;

static void again_rows(void *arg, size_t begin, size_t end)
{
    const again_job *j = arg;
    const lb_config *config = j->c->config;
    const size_t n = config->hidden, ffn = config->ffn;
    for (size_t row = begin; j->weight && row < end; row++)
        j->c->kernels->rms_norm(j->x + row * n, j->weight, n, (float)config->norm_eps, j->out + row * n);
    if (!j->weight)
        j->c->kernels->silu_mul(j->t->gate + begin * ffn, j->t->up + begin * ffn, (end - begin) * ffn,
                                j->out + begin * ffn);
}

lb_status lb_block_trace_unrounded(const lb_stage_context *c, const lb_block_trace *t, lb_stage stage,
                                   float *out, lb_error *err)
{
    again_job j = {.c = c, .t = t, .out = out};
    if (stage == LB_STAGE_O) {
        const lb_attention_input in = {
            .q = t->q, .k = t->k, .v = t->v, .sequences = t->sequences, .tokens = t->sequence_tokens};
        LB_TRY(lb_attention(c->kernels, c->config, &in, out, err));
    } else {
        if (stage != LB_STAGE_DOWN) {
            j.x = stage == LB_STAGE_QKV ? t->x : t->mid;
            j.weight = stage == LB_STAGE_QKV ? c->block->attn_norm : c->block->ffn_norm;
        }
        lb_parallel_for(t->tokens, ROWS_PER_CHUNK, again_rows, &j);
    }
    lb_inputs_rotate(c->kernels, c->inputs, stage, out, t->tokens);
    return LB_OK;
}
