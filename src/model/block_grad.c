/* SPDX-License-Identifier: MIT */
#include "model/block_grad.h"

#include <string.h>

#include "base/thread.h"
#include "linalg/gemm.h"
#include "model/attention_grad.h"
#include "model/norm_grad.h"

enum { ROWS_PER_CHUNK = 32, COLUMNS_PER_CHUNK = 64, MOST_OF_A_STAGE = 3 };

/* What has to be computed, from the block's beginning to its end: each needs all that come after it. */
typedef struct wanted {
    bool qkv_input, qkv, o_input, mid, gate_up_input, gate_up, down_input;
} wanted;

typedef struct backward {
    const lb_stage_context *c;
    const lb_block_trace *t;
    const lb_block_grads *grads;
    const float *dy;
    float *dx;
    wanted want;
} backward;

static bool wants_layers(const lb_block_grads *g, unsigned first, unsigned last)
{
    for (unsigned which = first; which <= last; which++)
        if (g->weights[which] || g->biases[which])
            return true;
    return false;
}

static wanted find_wanted(const lb_block_grads *g, const float *dx)
{
    wanted w;
    w.qkv_input = dx || g->attn_norm || g->inputs[LB_STAGE_QKV];
    w.qkv = w.qkv_input || g->q_norm || g->k_norm || wants_layers(g, LB_LINEAR_Q, LB_LINEAR_V);
    w.o_input = w.qkv || g->inputs[LB_STAGE_O];
    w.mid = w.o_input || wants_layers(g, LB_LINEAR_O, LB_LINEAR_O);
    w.gate_up_input = w.mid || g->ffn_norm || g->inputs[LB_STAGE_GATE_UP];
    w.gate_up = w.gate_up_input || wants_layers(g, LB_LINEAR_GATE, LB_LINEAR_UP);
    w.down_input = w.gate_up || g->inputs[LB_STAGE_DOWN];
    return w;
}

/* ---- Linear layers ----------------------------------------------------------------------------------- */

typedef struct column_job {
    const float *d; /* [rows, n] */
    size_t rows, n;
    float *sums;
} column_job;

static void sum_columns(void *arg, size_t begin, size_t end)
{
    const column_job *j = arg;
    double sums[COLUMNS_PER_CHUNK] = {0};
    for (size_t row = 0; row < j->rows; row++)
        for (size_t i = begin; i < end; i++)
            sums[i - begin] += (double)j->d[row * j->n + i];
    for (size_t i = begin; i < end; i++)
        j->sums[i] = (float)((double)j->sums[i] + sums[i - begin]);
}

/* Weights and biases of the layers `first` .. `last`; outs[] are gradients with respect to what they put out. */
static void layer_gradients(const backward *b, unsigned first, unsigned last, const float *const *outs)
{
    lb_gemm_tn products[MOST_OF_A_STAGE];
    size_t count = 0;
    for (unsigned which = first; which <= last; which++) {
        const lb_linear *l = &b->c->block->linear[which];
        if (b->grads->weights[which] && !b->c->low_bit)
            products[count++] = (lb_gemm_tn){.m = l->rows,
                                             .n = l->cols,
                                             .k = b->t->tokens,
                                             .a = outs[which - first],
                                             .b = b->t->inputs[lb_block_linears[which].stage],
                                             .c = b->grads->weights[which]};
        if (b->grads->biases[which]) {
            column_job j = {.d = outs[which - first],
                            .rows = b->t->tokens,
                            .n = l->rows,
                            .sums = b->grads->biases[which]};
            lb_parallel_for(l->rows, COLUMNS_PER_CHUNK, sum_columns, &j);
        }
    }
    lb_gemm_tn_add(products, count);
    if (b->c->low_bit)
        lb_low_bit_weight_gradients(b->c->kernels, b->c->low_bit, &b->c->block->linear[first],
                                    last - first + 1, outs, b->t->inputs[lb_block_linears[first].stage],
                                    b->t->tokens, b->grads->weights + first);
}

/* The gradient with respect to what comes before the rotation and rounding of those layers' input. It lies in
 * `scratch`, or where the caller wanted that of the input itself if that is the same. */
static const float *input_gradient(const backward *b, unsigned first, unsigned last, const float *const *outs,
                                   float *scratch)
{
    const lb_stage stage = lb_block_linears[first].stage;
    const lb_inputs *inputs = b->c->inputs;
    const size_t tokens = b->t->tokens, cols = b->c->block->linear[first].cols;
    float *d = b->grads->inputs[stage] ? b->grads->inputs[stage] : scratch;
    if (b->c->low_bit)
        lb_low_bit_input_gradient(b->c->kernels, b->c->low_bit, &b->c->block->linear[first], last - first + 1,
                                  outs, tokens, d);
    for (unsigned which = first; !b->c->low_bit && which <= last; which++) {
        const lb_linear *l = &b->c->block->linear[which];
        (which == first ? lb_gemm_nn : lb_gemm_nn_add)(tokens, cols, l->rows, outs[which - first], l->rows,
                                                       l->dense, cols, d, cols);
    }
    if (!inputs || !inputs->rotations[stage])
        return d;
    if (d != scratch)
        memcpy(scratch, d, tokens * cols * sizeof *d);
    lb_rotation_undo(b->c->kernels, inputs->rotations[stage], scratch, tokens);
    return scratch;
}

/* ---- The feed-forward half --------------------------------------------------------------------------- */

typedef struct gate_job {
    const backward *b;
    const float *d;
    float *dgate, *dup;
} gate_job;

static void gate_rows(void *arg, size_t begin, size_t end)
{
    const gate_job *j = arg;
    const size_t ffn = j->b->c->config->ffn, at = begin * ffn;
    j->b->c->kernels->silu_mul_grad(j->b->t->gate + at, j->b->t->up + at, j->d + at, (end - begin) * ffn,
                                    j->dgate + at, j->dup + at);
}

static void norm_gradient(const backward *b, const float *x, const float *weight, const float *d,
                          const float *plus, float *out, float *dweight)
{
    const lb_norm_grad g = {.x = x,
                            .weight = weight,
                            .d = d,
                            .rows = b->t->tokens,
                            .n = b->c->config->hidden,
                            .eps = b->c->config->norm_eps,
                            .plus = plus,
                            .dx = out,
                            .dweight = dweight,
                            .partials = b->t->scratch.partials};
    lb_norm_grad_rows(b->c->kernels, &g);
}

/* dy -> dmid. */
static void feed_forward(const backward *b, float *dmid)
{
    const lb_block_trace *t = b->t;
    const float *const down[] = {b->dy}, *const gate_up[] = {t->scratch.wide[1], t->scratch.wide[0]};
    layer_gradients(b, LB_LINEAR_DOWN, LB_LINEAR_DOWN, down);
    if (!b->want.down_input)
        return;
    const float *d = input_gradient(b, LB_LINEAR_DOWN, LB_LINEAR_DOWN, down, t->scratch.wide[0]);
    if (!b->want.gate_up)
        return;
    gate_job j = {.b = b, .d = d, .dgate = t->scratch.wide[1], .dup = t->scratch.wide[0]};
    lb_parallel_for(t->tokens, ROWS_PER_CHUNK, gate_rows, &j);
    layer_gradients(b, LB_LINEAR_GATE, LB_LINEAR_UP, gate_up);
    if (!b->want.gate_up_input)
        return;
    d = input_gradient(b, LB_LINEAR_GATE, LB_LINEAR_UP, gate_up, t->scratch.hidden[0]);
    if (b->want.mid || b->grads->ffn_norm)
        norm_gradient(b, t->mid, b->c->block->ffn_norm, d, b->dy, dmid, b->grads->ffn_norm);
}

/* ---- The attention half ------------------------------------------------------------------------------ */

static void unrotate_rows(void *arg, size_t begin, size_t end)
{
    const backward *b = arg;
    const lb_config *config = b->c->config;
    for (size_t t = begin; t < end; t++) {
        const size_t position = t % b->t->sequence_tokens;
        lb_rope_undo(b->c->rope, position, config->heads,
                     b->t->scratch.heads[1] + t * config->heads * config->head_dim);
        lb_rope_undo(b->c->rope, position, config->kv_heads,
                     b->t->scratch.k + t * config->kv_heads * config->head_dim);
    }
}

static void normalized_heads(const backward *b, const float *raw, const float *weight, size_t heads, float *d,
                             float *dweight)
{
    const lb_norm_grad g = {.x = raw,
                            .weight = weight,
                            .d = d,
                            .rows = b->t->tokens * heads,
                            .n = b->c->config->head_dim,
                            .eps = b->c->config->norm_eps,
                            .dx = d,
                            .dweight = dweight,
                            .partials = b->t->scratch.partials};
    lb_norm_grad_rows(b->c->kernels, &g);
}

/* da, gradient with respect to attention's result, -> those of what q, k and v put out: heads[1], k and v. */
static void attention(const backward *b, const float *da)
{
    const lb_block_trace *t = b->t;
    const lb_config *config = b->c->config;
    const lb_attention_input in = {
        .q = t->q, .k = t->k, .v = t->v, .sequences = t->sequences, .tokens = t->sequence_tokens};
    const lb_attention_grad g = {.dout = da,
                                 .dq = t->scratch.heads[1],
                                 .dk = t->scratch.k,
                                 .dv = t->scratch.v,
                                 .head_dk = t->scratch.wide[0],
                                 .head_dv = t->scratch.wide[1],
                                 .scores = t->scratch.scores};
    lb_attention_backward(b->c->kernels, config, &in, &g);
    backward copy = *b;
    lb_parallel_for(t->tokens, ROWS_PER_CHUNK, unrotate_rows, &copy);
    if (config->qk_norm) {
        const lb_block *block = b->c->block;
        normalized_heads(b, t->raw_q, block->q_norm, config->heads, t->scratch.heads[1], b->grads->q_norm);
        normalized_heads(b, t->raw_k, block->k_norm, config->kv_heads, t->scratch.k, b->grads->k_norm);
    }
}

/* dmid -> dx. */
static void attention_half(const backward *b, const float *dmid)
{
    const lb_block_trace *t = b->t;
    const float *const o[] = {dmid};
    const float *const qkv[] = {t->scratch.heads[1], t->scratch.k, t->scratch.v};
    layer_gradients(b, LB_LINEAR_O, LB_LINEAR_O, o);
    if (!b->want.o_input)
        return;
    const float *d = input_gradient(b, LB_LINEAR_O, LB_LINEAR_O, o, t->scratch.heads[0]);
    if (!b->want.qkv)
        return;
    attention(b, d);
    layer_gradients(b, LB_LINEAR_Q, LB_LINEAR_V, qkv);
    if (!b->want.qkv_input)
        return;
    d = input_gradient(b, LB_LINEAR_Q, LB_LINEAR_V, qkv, t->scratch.hidden[0]);
    if (b->dx || b->grads->attn_norm)
        norm_gradient(b, t->x, b->c->block->attn_norm, d, dmid, b->dx ? b->dx : t->scratch.hidden[0],
                      b->grads->attn_norm);
}

lb_status lb_block_backward(const lb_stage_context *c, const lb_block_trace *trace, const float *dy,
                            const lb_block_grads *grads, float *dx, lb_error *err)
{
    const backward b = {
        .c = c, .t = trace, .grads = grads, .dy = dy, .dx = dx, .want = find_wanted(grads, dx)};
    float *dmid = trace->scratch.hidden[1];
    if (trace->tokens == 0)
        return lb_fail(err, LB_EINVAL, "a block's backward pass needs a forward pass that was traced");
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        const lb_linear *l = &c->block->linear[which];
        if (l->quantized || l->type != LB_DENSE_F32)
            return lb_fail(err, LB_EINVAL, "%s: gradients need float32 weights",
                           lb_block_linears[which].suffix);
    }
    feed_forward(&b, dmid);
    if (b.want.mid)
        attention_half(&b, dmid);
    return LB_OK;
}
