/* SPDX-License-Identifier: MIT
 *
 * With P = softmax(S), S = Q K^T / sqrt(d) under the mask, and O = P V:
 *
 *   dV = P^T dO     dP = dO V^T     dS = P * (dP - rowsum(P * dP))     dQ = dS K / sqrt(d)
 *   dK = dS^T Q / sqrt(d)
 *
 * P is made again, a block of queries at a time, so that it is never stored. A sequence and query head is one
 * unit of threading and has keys' and values' gradients of its own; those of heads that share a key-value head
 * are then added up in the order of the heads.
 */
#include "model/attention_grad.h"

#include <cblas.h>
#include <math.h>
#include <string.h>

#include "base/thread.h"
#include "linalg/gemm.h"

/* SLOTS bounds the scratch: units are dealt to so many chunks, each of which has its own. */
enum { QUERY_BLOCK = 64, SLOTS = 32, ROWS_PER_CHUNK = 32 };

typedef struct attention_grad {
    const lb_kernels *kernels;
    const lb_config *config;
    const lb_attention_input *in;
    const lb_attention_grad *g;
    size_t grain; /* units of a chunk */
    size_t slot_floats;
} attention_grad;

/* Queries [first, first + queries) of a head, and the keys [from, from + keys) that any of them sees. */
typedef struct query_block {
    size_t first, queries, from, keys;
    size_t q_at, kv_at; /* where its first row is in q, and the first key in k */
    size_t own_at; /* the first key in head_dk */
    float *p, *dp; /* [queries, keys] */
} query_block;

static size_t block_rows(size_t tokens)
{
    return tokens < QUERY_BLOCK ? tokens : QUERY_BLOCK;
}

size_t lb_attention_grad_scores(size_t sequence_tokens)
{
    return (size_t)SLOTS * 2 * block_rows(sequence_tokens) * sequence_tokens;
}

/* The window's first position for a query. */
static size_t first_seen(const lb_config *c, size_t query)
{
    return c->window && query + 1 > c->window ? query + 1 - c->window : 0;
}

/* Scores -> probabilities, and gradients of probabilities -> those of scores; 0 where nothing is seen. */
static void through_softmax(const attention_grad *a, const query_block *b)
{
    for (size_t i = 0; i < b->queries; i++) {
        float *p = b->p + i * b->keys, *dp = b->dp + i * b->keys;
        const size_t begin = first_seen(a->config, b->first + i) - b->from;
        const size_t end = b->first + i + 1 - b->from;
        a->kernels->softmax(p + begin, end - begin);
        a->kernels->softmax_grad(p + begin, dp + begin, end - begin);
        memset(p, 0, begin * sizeof *p);
        memset(dp, 0, begin * sizeof *dp);
        memset(p + end, 0, (b->keys - end) * sizeof *p);
        memset(dp + end, 0, (b->keys - end) * sizeof *dp);
    }
}

static void backward_block(const attention_grad *a, const query_block *b)
{
    const lb_config *c = a->config;
    const lb_attention_input *in = a->in;
    const lb_attention_grad *g = a->g;
    const int queries = (int)b->queries, keys = (int)b->keys, dim = (int)c->head_dim;
    const int q_stride = (int)(c->heads * c->head_dim), kv_stride = (int)(c->kv_heads * c->head_dim);
    const float scale = 1.0f / sqrtf((float)c->head_dim);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, queries, keys, dim, scale, in->q + b->q_at, q_stride,
                in->k + b->kv_at, kv_stride, 0.0f, b->p, keys);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, queries, keys, dim, 1.0f, g->dout + b->q_at,
                q_stride, in->v + b->kv_at, kv_stride, 0.0f, b->dp, keys);
    through_softmax(a, b);
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, keys, dim, queries, 1.0f, b->p, keys,
                g->dout + b->q_at, q_stride, 1.0f, g->head_dv + b->own_at, dim);
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, keys, dim, queries, scale, b->dp, keys,
                in->q + b->q_at, q_stride, 1.0f, g->head_dk + b->own_at, dim);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, queries, dim, keys, scale, b->dp, keys,
                in->k + b->kv_at, kv_stride, 0.0f, g->dq + b->q_at, q_stride);
}

static void backward_head(const attention_grad *a, size_t sequence, size_t head, float *scratch)
{
    const lb_config *c = a->config;
    const size_t tokens = a->in->tokens, dim = c->head_dim;
    const size_t q_stride = c->heads * dim, kv_stride = c->kv_heads * dim;
    const size_t own = (sequence * c->heads + head) * tokens * dim;
    const size_t kv_head = head / (c->heads / c->kv_heads);
    memset(a->g->head_dk + own, 0, tokens * dim * sizeof(float));
    memset(a->g->head_dv + own, 0, tokens * dim * sizeof(float));
    for (size_t first = 0; first < tokens; first += QUERY_BLOCK) {
        query_block b = {.first = first, .from = first_seen(c, first), .p = scratch};
        b.queries = tokens - first < QUERY_BLOCK ? tokens - first : QUERY_BLOCK;
        b.keys = first + b.queries - b.from;
        b.dp = scratch + b.queries * b.keys;
        b.q_at = (sequence * tokens + first) * q_stride + head * dim;
        b.kv_at = (sequence * tokens + b.from) * kv_stride + kv_head * dim;
        b.own_at = own + b.from * dim;
        backward_block(a, &b);
    }
}

static void backward_units(void *arg, size_t begin, size_t end)
{
    const attention_grad *a = arg;
    float *scratch = a->g->scores + begin / a->grain * a->slot_floats;
    lb_blas_prepare();
    for (size_t unit = begin; unit < end; unit++)
        backward_head(a, unit / a->config->heads, unit % a->config->heads, scratch);
}

/* One token's share of a key-value head: the sum over the query heads that used it. */
static void sum_heads(const attention_grad *a, const float *heads, size_t token, size_t kv_head, float *out)
{
    const lb_config *c = a->config;
    const size_t dim = c->head_dim, group = c->heads / c->kv_heads, tokens = a->in->tokens;
    const size_t first = token / tokens * c->heads + kv_head * group;
    const float *head = heads + (first * tokens + token % tokens) * dim;
    memcpy(out, head, dim * sizeof *out);
    for (size_t h = 1; h < group; h++) {
        head += tokens * dim;
        for (size_t i = 0; i < dim; i++)
            out[i] += head[i];
    }
}

static void sum_rows(void *arg, size_t begin, size_t end)
{
    const attention_grad *a = arg;
    const size_t kv_heads = a->config->kv_heads, dim = a->config->head_dim;
    for (size_t token = begin; token < end; token++) {
        for (size_t head = 0; head < kv_heads; head++) {
            const size_t at = (token * kv_heads + head) * dim;
            sum_heads(a, a->g->head_dk, token, head, a->g->dk + at);
            sum_heads(a, a->g->head_dv, token, head, a->g->dv + at);
        }
    }
}

void lb_attention_backward(const lb_kernels *kernels, const lb_config *config, const lb_attention_input *in,
                           const lb_attention_grad *grad)
{
    const size_t units = in->sequences * config->heads;
    attention_grad a = {.kernels = kernels,
                        .config = config,
                        .in = in,
                        .g = grad,
                        .grain = (units + SLOTS - 1) / SLOTS,
                        .slot_floats = 2 * block_rows(in->tokens) * in->tokens};
    lb_parallel_for(units, a.grain, backward_units, &a);
    lb_parallel_for(in->sequences * in->tokens, ROWS_PER_CHUNK, sum_rows, &a);
}
