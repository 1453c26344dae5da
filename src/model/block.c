/* SPDX-License-Identifier: MIT */
#include "model/block.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "kernels/cast.h"
#include "model/input_order.h"

enum { ROWS_PER_CHUNK = 32 };

static lb_status load_vector(const lb_weights *weights, size_t layer, const char *which, size_t n,
                             float **out, lb_error *err)
{
    lb_weight w;
    char name[128];
    snprintf(name, sizeof name, "model.layers.%zu.%s.weight", layer, which);
    LB_TRY(lb_weights_find(weights, name, 1, n, &w, err));
    LB_TRY(lb_alloc_array(out, n, sizeof **out, name, err));
    return lb_weight_read(&w, 0, 1, *out, err);
}

static lb_status load_linear(const lb_weights *weights, size_t layer, unsigned which, lb_load how,
                             lb_linear *out, lb_error *err)
{
    lb_weight w, bias;
    char base[96], name[128];
    size_t rows, cols;
    const bool has_bias = lb_linear_has_bias(&weights->config, which);
    lb_linear_shape(&weights->config, which, &rows, &cols);
    lb_linear_name(layer, which, base, sizeof base);
    snprintf(name, sizeof name, "%s.weight", base);
    LB_TRY(lb_weights_find(weights, name, rows, cols, &w, err));
    snprintf(name, sizeof name, "%s.bias", base);
    if (has_bias)
        LB_TRY(lb_weights_find(weights, name, 1, rows, &bias, err));
    LB_TRY(lb_linear_load(&w, has_bias ? &bias : NULL, how, out, err));
    lb_weight_forget(weights, &w); /* it is in memory now: the mapped pages need not stay */
    return LB_OK;
}

static lb_status load_order(const lb_weights *weights, size_t layer, lb_stage stage, uint32_t **out,
                            lb_error *err)
{
    LB_TRY(lb_alloc_array(out, lb_stage_width(&weights->config, stage), sizeof **out, "an order of channels",
                          err));
    return lb_input_order_read(weights, layer, stage, *out, err);
}

lb_status lb_block_load(const lb_weights *weights, size_t layer, lb_load how, lb_block *out, lb_error *err)
{
    const lb_config *c = &weights->config;
    lb_block b = {0};
    lb_status st = LB_OK;
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++)
        LB_GO(load_linear(weights, layer, which, how, &b.linear[which], err));
    LB_GO(load_vector(weights, layer, "input_layernorm", c->hidden, &b.attn_norm, err));
    LB_GO(load_vector(weights, layer, "post_attention_layernorm", c->hidden, &b.ffn_norm, err));
    if (c->qk_norm) {
        LB_GO(load_vector(weights, layer, "self_attn.q_norm", c->head_dim, &b.q_norm, err));
        LB_GO(load_vector(weights, layer, "self_attn.k_norm", c->head_dim, &b.k_norm, err));
    }
    for (unsigned stage = 0; lb_act_masks(&weights->act) && stage < LB_MASKS_PER_BLOCK; stage++)
        LB_GO(load_order(weights, layer, (lb_stage)stage, &b.order[stage], err));
    *out = b;
    b = (lb_block){0};
done:
    lb_block_free(&b);
    return st;
}

void lb_block_free(lb_block *block)
{
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++)
        lb_linear_free(&block->linear[which]);
    for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++)
        lb_free(block->order[stage]);
    lb_free(block->attn_norm);
    lb_free(block->ffn_norm);
    lb_free(block->q_norm);
    lb_free(block->k_norm);
    *block = (lb_block){0};
}

float *lb_block_vector_values(const lb_config *config, const lb_block *block, size_t index)
{
    float *const norms[] = {block->attn_norm, block->ffn_norm, block->q_norm, block->k_norm};
    const size_t norm_count = config->qk_norm ? 4 : 2;
    if (index < norm_count)
        return norms[index];
    index -= norm_count;
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++)
        if (lb_linear_has_bias(config, which) && index-- == 0)
            return block->linear[which].bias;
    return NULL;
}

size_t lb_workspace_bytes(const lb_config *c, size_t max_tokens)
{
    const size_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    return max_tokens * sizeof(float) * (2 * c->hidden + 2 * q + 2 * kv + 2 * c->ffn);
}

lb_status lb_workspace_create(const lb_config *c, size_t max_tokens, lb_workspace *out, lb_error *err)
{
    const size_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    lb_workspace ws = {.max_tokens = max_tokens};
    lb_status st = LB_OK;
    const struct {
        float **array;
        size_t width;
    } arrays[] = {{&ws.h, c->hidden}, {&ws.q, q},         {&ws.k, kv},     {&ws.v, kv},
                  {&ws.a, q},         {&ws.gate, c->ffn}, {&ws.m, c->ffn}, {&ws.y, c->hidden}};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        LB_GO(lb_alloc_array(arrays[i].array, max_tokens, arrays[i].width * sizeof(float), "workspace", err));
    LB_GO(lb_qvec_create(max_tokens < LB_CODED_TOKENS ? max_tokens : LB_CODED_TOKENS, lb_widest_input(c),
                         &ws.vectors, err));
    LB_GO(lb_qrows_create(&ws.rows, err));
    *out = ws;
    ws = (lb_workspace){0};
done:
    lb_workspace_free(&ws);
    return st;
}

void lb_workspace_free(lb_workspace *ws)
{
    float *arrays[] = {ws->h, ws->q, ws->k, ws->v, ws->a, ws->gate, ws->m, ws->y};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        lb_free(arrays[i]);
    lb_qvec_destroy(ws->vectors);
    lb_qrows_destroy(ws->rows);
    *ws = (lb_workspace){0};
}

typedef struct row_job {
    const lb_stage_context *c;
    const float *x, *weight;
    float *out, *k;
    size_t width, sequence_tokens, first_position;
} row_job;

static void norm_rows(void *arg, size_t begin, size_t end)
{
    const row_job *j = arg;
    for (size_t t = begin; t < end; t++)
        j->c->kernels->rms_norm(j->x + t * j->width, j->weight, j->width, (float)j->c->config->norm_eps,
                                j->out + t * j->width);
}

static void norm_tokens(const lb_stage_context *c, const float *x, const float *weight, size_t tokens)
{
    row_job j = {.c = c, .x = x, .weight = weight, .out = c->ws->h, .width = c->config->hidden};
    lb_parallel_for(tokens, ROWS_PER_CHUNK, norm_rows, &j);
}

/* Whether the decode kernels are faster for so many tokens than expanding the layer's weights for BLAS. */
static bool codes_pay(const lb_stage_context *c, const lb_linear *l, size_t tokens)
{
    return l->quantized && (tokens <= LB_DECODE_TOKENS || lb_qmat_many_pays(c->kernels, l->quantized));
}

/* Whether a stage's layers go through the decode kernels: a single token or several such, and more where that is
 * faster for one of the layers. */
static bool decodes(const lb_stage_context *c, lb_stage stage, size_t tokens)
{
    bool pays = tokens == 1 || c->positions;
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++)
        if (lb_block_linears[which].stage == stage)
            pays = pays || codes_pay(c, &c->block->linear[which], tokens);
    return pays;
}

static bool takes_rows(const lb_linear *l)
{
    return l->quantized && lb_qmat_takes_rows(l->quantized);
}

/* How a token's inputs are cut into rows of integers (qrows.h), where some of the stage's layers take such. */
static bool has_rows(const lb_stage_context *c, lb_stage stage, lb_row_parts *parts)
{
    const lb_act *act = c->inputs ? &c->inputs->act : NULL;
    bool taken = false;
    if (!c->ws->rows || !act || act->dynamic || !lb_qrows_takes(&act->format))
        return false;
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++)
        taken = taken || (lb_block_linears[which].stage == stage && takes_rows(&c->block->linear[which]));
    *parts = (lb_row_parts){.formats = {&act->high, &act->format},
                            .split = lb_act_high_channels(act, c->inputs->widths[stage])};
    return taken;
}

typedef struct gather_job {
    const uint32_t *order;
    float *x;
    size_t width;
    atomic_int failed;
} gather_job;

static void gather_rows(void *arg, size_t begin, size_t end)
{
    gather_job *j = arg;
    float *row = lb_alloc(j->width, sizeof *row);
    if (!row)
        atomic_store(&j->failed, 1);
    for (size_t t = begin; row && t < end; t++) {
        float *x = j->x + t * j->width;
        memcpy(row, x, j->width * sizeof *row);
        for (size_t i = 0; i < j->width; i++)
            x[i] = row[j->order[i]];
    }
    lb_free(row);
}

/* x [tokens, width] in the order in which the stage's layers want its channels. */
static lb_status put_in_order(const lb_stage_context *c, lb_stage stage, float *x, size_t tokens,
                              lb_error *err)
{
    const lb_block *block = c->block;
    gather_job j = {.order = block->order[stage], .x = x};
    if (!j.order)
        return LB_OK;
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++)
        if (lb_block_linears[which].stage == stage)
            j.width = block->linear[which].cols;
    lb_parallel_for(tokens, ROWS_PER_CHUNK, gather_rows, &j);
    return atomic_load(&j.failed) ? lb_fail(err, LB_ENOMEM, "inputs: no memory for a row of %zu", j.width)
                                  : LB_OK;
}

/* x [tokens, width] made what the layers of a stage see; rounded by the layers where these take codes. */
static lb_status prepare(const lb_stage_context *c, lb_stage stage, float *x, size_t tokens, lb_error *err)
{
    lb_row_parts parts;
    LB_TRY(put_in_order(c, stage, x, tokens, err));
    if (!decodes(c, stage, tokens) && !has_rows(c, stage, &parts))
        return lb_inputs_prepare(c->kernels, c->inputs, stage, x, tokens, err);
    lb_inputs_rotate(c->kernels, c->inputs, stage, x, tokens);
    return LB_OK;
}

/* A layer that no decode kernel takes. BLAS may add up a row in another order beside other rows. */
static lb_status apply_in_floats(const lb_stage_context *c, const lb_linear *l, const float *x, size_t tokens,
                                 float *out, lb_error *err)
{
    if (!c->positions)
        return lb_linear_apply(c->kernels, l, x, tokens, out, err);
    for (size_t t = 0; t < tokens; t++)
        LB_TRY(lb_linear_apply(c->kernels, l, x + t * l->cols, 1, out + t * l->rows, err));
    return LB_OK;
}

/* Layers by the decode kernels: a rounded input has codes, which integer layers multiply as they are. */
static lb_status decode_linears(const lb_stage_context *c, unsigned first, unsigned last, float *x,
                                size_t tokens, float *const *outs, lb_error *err)
{
    const lb_linear *linears = c->block->linear;
    const size_t cols = linears[first].cols;
    const bool rounds = lb_inputs_round(c->inputs);
    lb_qvec *vectors = c->ws->vectors;
    bool done[LB_BLOCK_LINEARS] = {false};
    for (size_t at = 0, n; at < tokens; at += n) {
        const lb_act *act = rounds ? &c->inputs->act : NULL;
        float *tile = x + at * cols;
        n = tokens - at < LB_CODED_TOKENS ? tokens - at : LB_CODED_TOKENS;
        bool are_set = rounds && vectors && act->bank == 0 &&
                       lb_qvec_set_format(c->kernels, vectors, &act->format, tile, n, cols);
        const bool exact = are_set;
        if (rounds)
            LB_TRY(lb_cast_act(c->kernels, act, tile, n, cols, err));
        for (unsigned which = first; which <= last; which++) {
            const lb_linear *l = &linears[which];
            if (!codes_pay(c, l, tokens) || (rounds && !(exact && lb_qmat_takes(l->quantized, vectors))))
                continue;
            lb_linear_decode(c->kernels, l, tile, n, vectors, are_set, outs[which - first] + at * l->rows);
            are_set = done[which] = true;
        }
    }
    for (unsigned which = first; which <= last; which++) {
        const lb_linear *l = &linears[which];
        if (done[which])
            continue;
        if (!l->quantized && (tokens == 1 || c->positions))
            lb_linear_decode(c->kernels, l, x, tokens, vectors, false, outs[which - first]);
        else
            LB_TRY(apply_in_floats(c, l, x, tokens, outs[which - first], err));
    }
    return LB_OK;
}

/* Layers whose inputs are integers with a scale or two a token: the product is made of them as they are, for any number
 * of tokens. */
static lb_status multiply_rows(const lb_stage_context *c, const lb_row_parts *parts, unsigned first,
                               unsigned last, float *x, size_t tokens, float *const *outs, lb_error *err)
{
    const lb_linear *linears = c->block->linear;
    const size_t cols = linears[first].cols;
    bool cast = false;
    LB_TRY(lb_qrows_set(c->ws->rows, parts, x, tokens, cols, err));
    for (unsigned which = first; which <= last; which++) {
        if (takes_rows(&linears[which])) {
            lb_linear_times_rows(c->kernels, &linears[which], c->ws->rows, tokens, outs[which - first]);
            continue;
        }
        if (!cast)
            LB_TRY(lb_cast_act(c->kernels, &c->inputs->act, x, tokens, cols, err));
        cast = true;
        LB_TRY(apply_in_floats(c, &linears[which], x, tokens, outs[which - first], err));
    }
    return LB_OK;
}

/* Linear layers `first` .. `last`, which share the input x [tokens, cols], into outs[]. */
static lb_status apply_linears(const lb_stage_context *c, unsigned first, unsigned last, float *x,
                               size_t tokens, float *const *outs, lb_error *err)
{
    lb_row_parts parts;
    if (c->low_bit) {
        lb_low_bit_apply(c->kernels, c->low_bit, &c->block->linear[first], last - first + 1, x, tokens, outs);
        return LB_OK;
    }
    if (has_rows(c, lb_block_linears[first].stage, &parts))
        return multiply_rows(c, &parts, first, last, x, tokens, outs, err);
    if (decodes(c, lb_block_linears[first].stage, tokens))
        return decode_linears(c, first, last, x, tokens, outs, err);
    for (unsigned which = first; which <= last; which++)
        LB_TRY(lb_linear_apply(c->kernels, &c->block->linear[which], x, tokens, outs[which - first], err));
    return LB_OK;
}

lb_status lb_block_attention_input(const lb_stage_context *c, const float *x, size_t tokens, lb_error *err)
{
    norm_tokens(c, x, c->block->attn_norm, tokens);
    return prepare(c, LB_STAGE_QKV, c->ws->h, tokens, err);
}

static void norm_heads(const row_job *j, const float *weight, size_t heads, const float *x, float *out)
{
    const size_t dim = j->c->config->head_dim;
    for (size_t h = 0; h < heads; h++)
        j->c->kernels->rms_norm(x + h * dim, weight, dim, (float)j->c->config->norm_eps, out + h * dim);
}

static void rotate_rows(void *arg, size_t begin, size_t end)
{
    const row_job *j = arg;
    const lb_config *config = j->c->config;
    const lb_block *block = j->c->block;
    const lb_workspace *ws = j->c->ws;
    for (size_t t = begin; t < end; t++) {
        const size_t q_at = t * config->heads * config->head_dim,
                     k_at = t * config->kv_heads * config->head_dim;
        float *q = ws->q + q_at, *k = j->k + k_at;
        if (config->qk_norm) {
            norm_heads(j, block->q_norm, config->heads, ws->raw_q ? ws->raw_q + q_at : q, q);
            norm_heads(j, block->k_norm, config->kv_heads, ws->raw_k ? ws->raw_k + k_at : k, k);
        }
        const size_t position =
            j->c->positions ? j->c->positions[t] : j->first_position + t % j->sequence_tokens;
        lb_rope_rotate(j->c->rope, position, config->heads, q);
        lb_rope_rotate(j->c->rope, position, config->kv_heads, k);
    }
}

lb_status lb_block_project(const lb_stage_context *c, size_t tokens, size_t sequence_tokens,
                           size_t first_position, float *k, float *v, lb_error *err)
{
    float *const outs[] = {c->ws->raw_q ? c->ws->raw_q : c->ws->q, c->ws->raw_k ? c->ws->raw_k : k, v};
    LB_TRY(apply_linears(c, LB_LINEAR_Q, LB_LINEAR_V, c->ws->h, tokens, outs, err));
    row_job j = {.c = c, .k = k, .sequence_tokens = sequence_tokens, .first_position = first_position};
    lb_parallel_for(tokens, ROWS_PER_CHUNK, rotate_rows, &j);
    return LB_OK;
}

lb_status lb_block_attend(const lb_stage_context *c, size_t sequences, size_t sequence_tokens, lb_error *err)
{
    lb_workspace *ws = c->ws;
    LB_TRY(lb_block_project(c, sequences * sequence_tokens, sequence_tokens, 0, ws->k, ws->v, err));
    lb_attention_input in = {
        .q = ws->q, .k = ws->k, .v = ws->v, .sequences = sequences, .tokens = sequence_tokens, .past = 0};
    LB_TRY(lb_attention(c->kernels, c->config, &in, ws->a, err));
    return lb_block_attention_result(c, sequences * sequence_tokens, err);
}

lb_status lb_block_attention_result(const lb_stage_context *c, size_t tokens, lb_error *err)
{
    return prepare(c, LB_STAGE_O, c->ws->a, tokens, err);
}

static void add(float *x, const float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] += y[i];
}

lb_status lb_block_attention_output(const lb_stage_context *c, float *a, float *x, size_t tokens,
                                    lb_error *err)
{
    float *const outs[] = {c->ws->y};
    LB_TRY(apply_linears(c, LB_LINEAR_O, LB_LINEAR_O, a, tokens, outs, err));
    add(x, c->ws->y, tokens * c->config->hidden);
    return LB_OK;
}

lb_status lb_block_ffn_input(const lb_stage_context *c, const float *x, size_t tokens, lb_error *err)
{
    norm_tokens(c, x, c->block->ffn_norm, tokens);
    return prepare(c, LB_STAGE_GATE_UP, c->ws->h, tokens, err);
}

static void activate_rows(void *arg, size_t begin, size_t end)
{
    const lb_stage_context *c = arg;
    const size_t at = begin * c->config->ffn;
    const float *up = c->ws->up ? c->ws->up : c->ws->m;
    c->kernels->silu_mul(c->ws->gate + at, up + at, (end - begin) * c->config->ffn, c->ws->m + at);
}

lb_status lb_block_ffn_inner(const lb_stage_context *c, size_t tokens, lb_error *err)
{
    float *const outs[] = {c->ws->gate, c->ws->up ? c->ws->up : c->ws->m};
    LB_TRY(apply_linears(c, LB_LINEAR_GATE, LB_LINEAR_UP, c->ws->h, tokens, outs, err));
    lb_stage_context copy = *c;
    lb_parallel_for(tokens, ROWS_PER_CHUNK, activate_rows, &copy);
    return prepare(c, LB_STAGE_DOWN, c->ws->m, tokens, err);
}

lb_status lb_block_ffn_output(const lb_stage_context *c, float *x, size_t tokens, lb_error *err)
{
    float *const outs[] = {c->ws->y};
    LB_TRY(apply_linears(c, LB_LINEAR_DOWN, LB_LINEAR_DOWN, c->ws->m, tokens, outs, err));
    add(x, c->ws->y, tokens * c->config->hidden);
    return LB_OK;
}

static lb_status feed_forward(const lb_stage_context *c, float *x, size_t tokens, lb_error *err)
{
    LB_TRY(lb_block_ffn_input(c, x, tokens, err));
    LB_TRY(lb_block_ffn_inner(c, tokens, err));
    return lb_block_ffn_output(c, x, tokens, err);
}

lb_status lb_block_forward(const lb_stage_context *c, float *x, size_t sequences, size_t sequence_tokens,
                           lb_error *err)
{
    const size_t tokens = sequences * sequence_tokens;
    LB_TRY(lb_block_attention_input(c, x, tokens, err));
    LB_TRY(lb_block_attend(c, sequences, sequence_tokens, err));
    LB_TRY(lb_block_attention_output(c, c->ws->a, x, tokens, err));
    return feed_forward(c, x, tokens, err);
}
