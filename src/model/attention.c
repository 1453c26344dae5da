/* SPDX-License-Identifier: MIT
 *
 * Queries and keys are taken in blocks, so that the scores of a pair of blocks stay in cache, and the part
 * of the square above the diagonal is mostly not computed. Over the blocks of keys goes an online softmax
 * (arXiv:2112.05682, arXiv:2205.14135): with m the largest score so far, l = sum e^(s - m) and o = sum e^(s
 * - m) v,
 *
 *   m' = max(m, m_block)   l' = l e^(m - m') + l_block e^(m_block - m')   o' alike;   in the end o / l
 *
 * A block of queries and a key-value head are one unit of threading: what the cache holds is made floats
 * once for all the heads that share it.
 */
#include "model/attention.h"

#include <cblas.h>
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "linalg/gemm.h"

enum { QUERY_BLOCK = 64, KEY_BLOCK = 256 };

typedef struct attention {
    const lb_kernels *kernels;
    const lb_config *config;
    const lb_attention_input *in;
    float *out;
    size_t blocks; /* query blocks of one sequence */
    atomic_int failed;
} attention;

/* A unit at work. */
typedef struct unit {
    const attention *a;
    size_t sequence, kv_head, first, queries; /* queries [first, first + queries) of the sequence */
    size_t begin, keys; /* the block of keys at hand */
    const float *k, *v;
    size_t stride; /* of k and v */
    float *scores; /* [QUERY_BLOCK, KEY_BLOCK] */
    float *wide; /* [2][KEY_BLOCK, head_dim], where keys and values are not floats */
    float *largest, *sums; /* [heads that share, QUERY_BLOCK] */
} unit;

/* The positions that a query sees end here, and begin there. */
static size_t seen_end(const unit *u, size_t query)
{
    return u->a->in->past + u->first + query + 1;
}

static size_t seen_begin(const unit *u, size_t query)
{
    const size_t window = u->a->config->window, end = seen_end(u, query);
    return window && end > window ? end - window : 0;
}

static void load_keys(unit *u)
{
    const attention *a = u->a;
    const lb_attention_input *in = a->in;
    const size_t dim = a->config->head_dim;
    if (!in->keys) {
        u->stride = a->config->kv_heads * dim;
        const size_t at = (u->sequence * (in->past + in->tokens) + u->begin) * u->stride + u->kv_head * dim;
        u->k = in->k + at;
        u->v = in->v + at;
        return;
    }
    lb_kv_get(a->kernels, in->keys, u->kv_head, u->begin, u->keys, u->wide);
    lb_kv_get(a->kernels, in->values, u->kv_head, u->begin, u->keys, u->wide + KEY_BLOCK * dim);
    u->stride = dim;
    u->k = u->wide;
    u->v = u->wide + KEY_BLOCK * dim;
}

static void scale(float *x, float factor, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] *= factor;
}

/* Rows of scores -> e^(s - m), with what is in `out` brought to the same m; what a query does not see gets
 * 0. */
static void weigh(const unit *u, float *largest, float *sums, float *out, size_t out_stride)
{
    const size_t dim = u->a->config->head_dim;
    for (size_t i = 0; i < u->queries; i++) {
        float *row = u->scores + i * u->keys, most;
        size_t from = seen_begin(u, i), to = seen_end(u, i);
        from = from > u->begin ? from - u->begin : 0;
        to = to > u->begin ? to - u->begin : 0;
        to = to < u->keys ? to : u->keys;
        if (from >= to) {
            memset(row, 0, u->keys * sizeof *row);
            continue;
        }
        float sum = u->a->kernels->exp_sum(row + from, to - from, 1.0f, &most);
        memset(row, 0, from * sizeof *row);
        memset(row + to, 0, (u->keys - to) * sizeof *row);
        if (most > largest[i]) {
            const float shrink = expf(largest[i] - most); /* 0 for the first block */
            sums[i] = sums[i] * shrink + sum;
            scale(out + i * out_stride, shrink, dim);
            largest[i] = most;
        } else {
            const float shrink = expf(most - largest[i]);
            sums[i] += sum * shrink;
            scale(row + from, shrink, to - from);
        }
    }
}

/* The keys at hand for one of the heads that share them. */
static void attend_keys(const unit *u, size_t head, size_t shared)
{
    const lb_config *c = u->a->config;
    const size_t stride = c->heads * c->head_dim;
    const size_t at = (u->sequence * u->a->in->tokens + u->first) * stride + head * c->head_dim;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)u->queries, (int)u->keys, (int)c->head_dim,
                1.0f / sqrtf((float)c->head_dim), u->a->in->q + at, (int)stride, u->k, (int)u->stride, 0.0f,
                u->scores, (int)u->keys);
    weigh(u, u->largest + shared * QUERY_BLOCK, u->sums + shared * QUERY_BLOCK, u->a->out + at, stride);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)u->queries, (int)c->head_dim, (int)u->keys,
                1.0f, u->scores, (int)u->keys, u->v, (int)u->stride, 1.0f, u->a->out + at, (int)stride);
}

static void begin_heads(const unit *u, size_t first_head, size_t shared)
{
    const lb_config *c = u->a->config;
    const size_t stride = c->heads * c->head_dim;
    float *out = u->a->out + (u->sequence * u->a->in->tokens + u->first) * stride;
    for (size_t i = 0; i < shared * QUERY_BLOCK; i++) {
        u->largest[i] = -INFINITY;
        u->sums[i] = 0.0f;
    }
    for (size_t i = 0; i < u->queries; i++)
        memset(out + i * stride + first_head * c->head_dim, 0, shared * c->head_dim * sizeof *out);
}

static void end_heads(const unit *u, size_t first_head, size_t shared)
{
    const lb_config *c = u->a->config;
    const size_t stride = c->heads * c->head_dim;
    float *out = u->a->out + (u->sequence * u->a->in->tokens + u->first) * stride;
    for (size_t i = 0; i < u->queries; i++)
        for (size_t h = 0; h < shared; h++)
            scale(out + i * stride + (first_head + h) * c->head_dim, 1.0f / u->sums[h * QUERY_BLOCK + i],
                  c->head_dim);
}

static void attend_unit(unit *u)
{
    const lb_config *c = u->a->config;
    const size_t shared = c->heads / c->kv_heads, first_head = u->kv_head * shared;
    const size_t end = seen_end(u, u->queries - 1), begin = seen_begin(u, 0);
    begin_heads(u, first_head, shared);
    for (u->begin = begin / KEY_BLOCK * KEY_BLOCK; u->begin < end; u->begin += KEY_BLOCK) {
        u->keys = end - u->begin < KEY_BLOCK ? end - u->begin : KEY_BLOCK;
        load_keys(u);
        for (size_t h = 0; h < shared; h++)
            attend_keys(u, first_head + h, h);
    }
    end_heads(u, first_head, shared);
}

static void attend_units(void *arg, size_t begin, size_t end)
{
    attention *a = arg;
    const lb_config *c = a->config;
    const size_t shared = c->heads / c->kv_heads;
    const size_t scores = (size_t)QUERY_BLOCK * KEY_BLOCK, states = shared * QUERY_BLOCK,
                 wide = a->in->keys ? 2 * KEY_BLOCK * c->head_dim : 0;
    float *scratch = lb_alloc(scores + 2 * states + wide, sizeof *scratch);
    if (!scratch) {
        atomic_store(&a->failed, 1);
        return;
    }
    lb_blas_prepare();
    for (size_t i = begin; i < end; i++) {
        unit u = {.a = a,
                  .sequence = i / a->blocks / c->kv_heads,
                  .kv_head = i / a->blocks % c->kv_heads,
                  .first = i % a->blocks * QUERY_BLOCK,
                  .scores = scratch,
                  .largest = scratch + scores,
                  .sums = scratch + scores + states,
                  .wide = scratch + scores + 2 * states};
        u.queries = a->in->tokens - u.first < QUERY_BLOCK ? a->in->tokens - u.first : QUERY_BLOCK;
        attend_unit(&u);
    }
    lb_free(scratch);
}

lb_status lb_attention(const lb_kernels *kernels, const lb_config *config, const lb_attention_input *in,
                       float *out, lb_error *err)
{
    attention a = {.kernels = kernels, .config = config, .in = in, .out = out};
    a.blocks = (in->tokens + QUERY_BLOCK - 1) / QUERY_BLOCK;
    lb_parallel_for(in->sequences * config->kv_heads * a.blocks, 1, attend_units, &a);
    return atomic_load(&a.failed)
               ? lb_fail(err, LB_ENOMEM, "attention: no memory for the scores of a block of tokens")
               : LB_OK;
}
