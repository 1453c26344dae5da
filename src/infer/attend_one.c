/* SPDX-License-Identifier: MIT */
#include "infer/attend_one.h"

#include <math.h>
#include <string.h>

#include "base/thread.h"

/* Below so many products of a query's and a key's entries no second thread is worth waking. */
enum { SERIAL_PRODUCTS = 1 << 17 };

typedef struct attention {
    const lb_kernels *kernels;
    const lb_config *config;
    const float *q, *k, *v;
    size_t begin, end; /* positions that the token sees */
    float *scores;
    size_t stride;
    float *out;
} attention;

/* scores[head][t] for the heads that share key heads begin .. end - 1. Positions are the outer loop: keys
 * come from memory in the order in which they lie there, and each is read once for all its heads. */
static void score(const attention *a, size_t begin, size_t end)
{
    const size_t dim = a->config->head_dim, width = a->config->kv_heads * dim;
    const size_t shared_by = a->config->heads / a->config->kv_heads;
    const float scale = 1.0f / sqrtf((float)dim);
    for (size_t t = a->begin; t < a->end; t++) {
        for (size_t head = begin * shared_by; head < end * shared_by; head++) {
            const float *key = a->k + t * width + head / shared_by * dim;
            a->scores[head * a->stride + t] = scale * a->kernels->dot_f32(key, a->q + head * dim, dim);
        }
    }
}

static void add_scaled(const float *restrict x, float factor, size_t n, float *restrict out)
{
    for (size_t i = 0; i < n; i++)
        out[i] += factor * x[i];
}

/* out[head] = sum_t scores[head][t] * v[t], in the same order of reading. */
static void mix(const attention *a, size_t begin, size_t end)
{
    const size_t dim = a->config->head_dim, width = a->config->kv_heads * dim;
    const size_t shared_by = a->config->heads / a->config->kv_heads;
    memset(a->out + begin * shared_by * dim, 0, (end - begin) * shared_by * dim * sizeof *a->out);
    for (size_t t = a->begin; t < a->end; t++) {
        for (size_t head = begin * shared_by; head < end * shared_by; head++)
            add_scaled(a->v + t * width + head / shared_by * dim, a->scores[head * a->stride + t], dim,
                       a->out + head * dim);
    }
}

static void attend_kv_heads(void *arg, size_t begin, size_t end)
{
    const attention *a = arg;
    const size_t shared_by = a->config->heads / a->config->kv_heads;
    score(a, begin, end);
    for (size_t head = begin * shared_by; head < end * shared_by; head++)
        a->kernels->softmax(a->scores + head * a->stride + a->begin, a->end - a->begin);
    mix(a, begin, end);
}

void lb_attend_one(const lb_kernels *kernels, const lb_config *config, const float *q, const float *k,
                   const float *v, size_t past, float *scores, size_t stride, float *out)
{
    attention a = {kernels, config, q, k, v, 0, past + 1, scores, stride, out};
    if (config->window && a.end > config->window)
        a.begin = a.end - config->window;
    /* A head's bits do not depend on its chunk, so a chunk may be as wide as the threads allow. */
    const size_t products = (a.end - a.begin) * config->heads * config->head_dim;
    const size_t pieces = products < SERIAL_PRODUCTS ? 1 : lb_thread_count();
    lb_parallel_for(config->kv_heads, (config->kv_heads + pieces - 1) / pieces, attend_kv_heads, &a);
}
