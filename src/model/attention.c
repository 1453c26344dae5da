/* SPDX-License-Identifier: MIT
 *
 * Queries are taken in blocks, so that the scores of one block and head stay in cache and the part of
 * the square above the diagonal is mostly not computed. A block and head is one unit of threading.
 */
#include "model/attention.h"

#include <cblas.h>
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "linalg/gemm.h"

enum { QUERY_BLOCK = 64 };

typedef struct attention {
    const lb_kernels *kernels;
    const lb_config *config;
    const lb_attention_input *in;
    float *out;
    size_t blocks; /* query blocks of one sequence */
    atomic_int failed;
} attention;

/* Rows of scores -> probabilities; what a query must not see gets 0. */
static void mask_and_normalize(const attention *a, float *scores, size_t first_query, size_t queries,
                               size_t keys)
{
    for (size_t i = 0; i < queries; i++) {
        float *row = scores + i * keys;
        const size_t end = a->in->past + first_query + i + 1;
        const size_t begin = a->config->window && end > a->config->window ? end - a->config->window : 0;
        a->kernels->softmax(row + begin, end - begin);
        memset(row, 0, begin * sizeof *row);
        memset(row + end, 0, (keys - end) * sizeof *row);
    }
}

static void attend_block(attention *a, size_t sequence, size_t head, size_t block, float *scores)
{
    const lb_config *c = a->config;
    const lb_attention_input *in = a->in;
    const size_t first = block * QUERY_BLOCK;
    const size_t queries = in->tokens - first < QUERY_BLOCK ? in->tokens - first : QUERY_BLOCK;
    const size_t keys = in->past + first + queries;
    const size_t q_stride = c->heads * c->head_dim, kv_stride = c->kv_heads * c->head_dim;
    const size_t kv_head = head / (c->heads / c->kv_heads);
    const size_t q_at = (sequence * in->tokens + first) * q_stride + head * c->head_dim;
    const size_t kv_at = sequence * (in->past + in->tokens) * kv_stride + kv_head * c->head_dim;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)queries, (int)keys, (int)c->head_dim,
                1.0f / sqrtf((float)c->head_dim), in->q + q_at, (int)q_stride, in->k + kv_at, (int)kv_stride,
                0.0f, scores, (int)keys);
    mask_and_normalize(a, scores, first, queries, keys);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)queries, (int)c->head_dim, (int)keys, 1.0f,
                scores, (int)keys, in->v + kv_at, (int)kv_stride, 0.0f, a->out + q_at, (int)q_stride);
}

static void attend_units(void *arg, size_t begin, size_t end)
{
    attention *a = arg;
    const size_t rows = a->in->tokens < QUERY_BLOCK ? a->in->tokens : QUERY_BLOCK;
    float *scores = lb_alloc(rows * (a->in->past + a->in->tokens), sizeof *scores);
    if (!scores) {
        atomic_store(&a->failed, 1);
        return;
    }
    lb_blas_prepare();
    for (size_t unit = begin; unit < end; unit++) {
        size_t head = unit / a->blocks % a->config->heads;
        attend_block(a, unit / a->blocks / a->config->heads, head, unit % a->blocks, scores);
    }
    lb_free(scores);
}

lb_status lb_attention(const lb_kernels *kernels, const lb_config *config, const lb_attention_input *in,
                       float *out, lb_error *err)
{
    attention a = {.kernels = kernels, .config = config, .in = in, .out = out};
    a.blocks = (in->tokens + QUERY_BLOCK - 1) / QUERY_BLOCK;
    /* A single token's heads are too little work to wake threads for, until the context is long. */
    const size_t units = in->sequences * config->heads * a.blocks;
    const size_t grain = in->tokens > 1 || in->past * config->head_dim > 16384 ? 1 : units;
    lb_parallel_for(units, grain, attend_units, &a);
    return atomic_load(&a.failed)
               ? lb_fail(err, LB_ENOMEM, "attention: no memory for scores over %zu positions",
                         in->past + in->tokens)
               : LB_OK;
}
