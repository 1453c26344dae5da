/* SPDX-License-Identifier: MIT */
#include "model/block_trace.h"

#include <string.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "kernels/cast.h"
#include "model/attention_grad.h"
#include "model/norm_grad.h"

enum { ROWS_PER_CHUNK = 32, ARRAYS = 24 };

/* Every array of a trace, how many floats it has, and whether one that shares memory has it of its own. */
typedef struct trace_array {
    float **array;
    size_t floats;
    bool own;
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
        {&t->x, hidden, true},
        {&t->mid, hidden, true},
        {&t->inputs[LB_STAGE_QKV], hidden, false},
        {&t->inputs[LB_STAGE_O], q, true},
        {&t->inputs[LB_STAGE_GATE_UP], hidden, false},
        {&t->inputs[LB_STAGE_DOWN], ffn, false},
        {&t->q, q, true},
        {&t->k, kv, true},
        {&t->v, kv, true},
        {&t->gate, ffn, true},
        {&t->up, ffn, true},
        {&t->scratch.hidden[0], hidden, false},
        {&t->scratch.hidden[1], hidden, false},
        {&t->scratch.heads[0], q, false},
        {&t->scratch.heads[1], q, false},
        {&t->scratch.k, kv, false},
        {&t->scratch.v, kv, false},
        {&t->scratch.wide[0], wide, false},
        {&t->scratch.wide[1], wide, false},
        {&t->scratch.scores, lb_attention_grad_scores(sequence_tokens), false},
        {&t->scratch.partials, partials(c, tokens), false},
        {&t->raw_q, q, true},
        {&t->raw_k, kv, true},
    };
    const size_t count = sizeof arrays / sizeof *arrays;
    _Static_assert(sizeof arrays / sizeof *arrays <= ARRAYS, "ARRAYS is too small");
    memcpy(out, arrays, sizeof arrays);
    return c->qk_norm ? count : count - 2;
}

static size_t bytes(const lb_config *c, size_t max_tokens, size_t max_sequence_tokens, bool shares)
{
    lb_block_trace t;
    trace_array arrays[ARRAYS];
    size_t floats = 0;
    const size_t count = list_arrays(c, max_tokens, max_sequence_tokens, &t, arrays);
    for (size_t i = 0; i < count; i++)
        floats += arrays[i].own || !shares ? arrays[i].floats : 0;
    return floats * sizeof(float);
}

size_t lb_block_trace_bytes(const lb_config *c, size_t max_tokens, size_t max_sequence_tokens)
{
    return bytes(c, max_tokens, max_sequence_tokens, false);
}

size_t lb_block_trace_shared_bytes(const lb_config *c, size_t max_tokens, size_t max_sequence_tokens)
{
    return bytes(c, max_tokens, max_sequence_tokens, true);
}

static lb_status create(const lb_config *c, lb_block_trace *t, lb_error *err)
{
    trace_array arrays[ARRAYS];
    const size_t count = list_arrays(c, t->max_tokens, t->max_sequence_tokens, t, arrays);
    for (size_t i = 0; i < count; i++)
        if (arrays[i].own || !t->shares)
            LB_TRY(lb_alloc_array(arrays[i].array, arrays[i].floats, sizeof(float), "trace of a block", err));
    return LB_OK;
}

lb_status lb_block_trace_create(const lb_config *c, size_t max_tokens, size_t max_sequence_tokens,
                                lb_block_trace *out, lb_error *err)
{
    lb_block_trace t = {.max_tokens = max_tokens, .max_sequence_tokens = max_sequence_tokens};
    const lb_status st = create(c, &t, err);
    if (st == LB_OK)
        *out = t;
    else
        lb_block_trace_free(&t);
    return st;
}

lb_status lb_block_trace_share(const lb_config *c, const lb_block_trace *owner, lb_block_trace *out,
                               lb_error *err)
{
    lb_block_trace t = {.max_tokens = owner->max_tokens,
                        .max_sequence_tokens = owner->max_sequence_tokens,
                        .shares = true,
                        .scratch = owner->scratch};
    memcpy(t.inputs, owner->inputs, sizeof t.inputs);
    t.inputs[LB_STAGE_O] = NULL;
    const lb_status st = create(c, &t, err);
    if (st == LB_OK)
        *out = t;
    else
        lb_block_trace_free(&t);
    return st;
}

void lb_block_trace_free(lb_block_trace *t)
{
    static const lb_config with_all = {.heads = 1, .kv_heads = 1, .qk_norm = true};
    trace_array arrays[ARRAYS];
    const size_t count = list_arrays(&with_all, 0, 0, t, arrays);
    for (size_t i = 0; i < count; i++)
        if (arrays[i].own || !t->shares)
            lb_free(*arrays[i].array);
    *t = (lb_block_trace){0};
}

lb_status lb_block_forward_traced(const lb_stage_context *context, const float *x, size_t sequences,
                                  size_t sequence_tokens, lb_block_trace *t, float *y, lb_error *err)
{
    const size_t tokens = sequences * sequence_tokens, x_bytes = tokens * context->config->hidden * sizeof *x;
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
    memcpy(t->x, x, x_bytes);
    memcpy(t->mid, x, x_bytes);
    LB_TRY(lb_block_attention_input(&c, t->x, tokens, err));
    LB_TRY(lb_block_attend(&c, sequences, sequence_tokens, err));
    LB_TRY(lb_block_attention_output(&c, ws.a, t->mid, tokens, err));
    ws.h = t->inputs[LB_STAGE_GATE_UP];
    LB_TRY(lb_block_ffn_input(&c, t->mid, tokens, err));
    LB_TRY(lb_block_ffn_inner(&c, tokens, err));
    memcpy(y, t->mid, x_bytes);
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

lb_status lb_block_trace_restore(const lb_stage_context *c, lb_block_trace *t, lb_error *err)
{
    static const lb_stage stages[] = {LB_STAGE_QKV, LB_STAGE_GATE_UP, LB_STAGE_DOWN};
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++) {
        float *input = t->inputs[stages[i]];
        LB_TRY(lb_block_trace_unrounded(c, t, stages[i], input, err));
        if (lb_inputs_round(c->inputs))
            LB_TRY(lb_cast_act(c->kernels, &c->inputs->act, input, t->tokens,
                               lb_stage_width(c->config, stages[i]), err));
    }
    return LB_OK;
}
