/* SPDX-License-Identifier: MIT
 * Attention from the formula, in double, one query and head at a time. */
#ifndef LB_TESTS_UNIT_SLOW_ATTENTION_H
#define LB_TESTS_UNIT_SLOW_ATTENTION_H

#include "near.h"

#include <stdlib.h>

#include "base/rng.h"
#include "model/attention.h"

typedef struct shape {
    size_t heads, kv_heads, head_dim, sequences, tokens, past, window;
} shape;

static inline void *must(void *ptr)
{
    assert_non_null(ptr);
    return ptr;
}

static inline float *random_floats(lb_rng *rng, size_t n, double size)
{
    float *x = must(malloc(n * sizeof *x));
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(size * lb_rng_normal(rng));
    return x;
}

/* out [head_dim] of one query: softmax(q k / sqrt(d)) v over the positions that it may see, and how far
 * off float may be. */
static inline void slow_head(const shape *s, const lb_attention_input *in, size_t sequence, size_t token,
                             size_t head, double *out, double *bounds)
{
    const size_t d = s->head_dim, positions = s->past + s->tokens, own = s->past + token;
    const float *q = in->q + ((sequence * s->tokens + token) * s->heads + head) * d;
    const size_t kv_head = head * s->kv_heads / s->heads;
    double *p = must(malloc(positions * sizeof *p)), largest = -HUGE_VAL, sum = 0.0, in_scores = 0.0;
    for (size_t j = 0; j < positions; j++) {
        const float *k = in->k + ((sequence * positions + j) * s->kv_heads + kv_head) * d;
        double score = 0.0, size = 0.0;
        for (size_t i = 0; i < d; i++) {
            score += (double)q[i] * (double)k[i] / sqrt((double)d);
            size += fabs((double)q[i] * (double)k[i]) / sqrt((double)d);
        }
        const bool visible = j <= own && (s->window == 0 || own - j < s->window);
        p[j] = visible ? score : -HUGE_VAL;
        if (visible) {
            largest = fmax(largest, score);
            in_scores = fmax(in_scores, size);
        }
    }
    for (size_t j = 0; j < positions; j++)
        sum += p[j] = exp(p[j] - largest);
    for (size_t i = 0; i < d; i++) {
        double magnitude = 0.0;
        out[i] = 0.0;
        for (size_t j = 0; j < positions; j++) {
            const double v = (double)in->v[((sequence * positions + j) * s->kv_heads + kv_head) * d + i];
            out[i] += p[j] / sum * v;
            magnitude += p[j] / sum * fabs(v);
        }
        /* scores: a sum of d products and the rounding of differences, doubled by the softmax's quotient;
         * then sums over the positions */
        bounds[i] =
            U24 * magnitude * (4.0 * sqrt((double)d) * in_scores + 2.0 * sqrt((double)positions) + 40.0);
    }
    free(p);
}

/* Random keys or values of one sequence in a cache of a type, and what they are there as floats. */
typedef struct slow_cache {
    lb_kv kv;
    float *wide; /* [positions, kv_heads * head_dim] */
} slow_cache;

static inline slow_cache slow_cache_make(const lb_kernels *kernels, lb_rng *rng, const shape *s,
                                         lb_kv_type type, double size)
{
    const size_t positions = s->past + s->tokens, width = s->kv_heads * s->head_dim;
    slow_cache c = {.kv = {.type = type, .heads = s->kv_heads, .dim = s->head_dim}};
    float *x = random_floats(rng, positions * width, size), *head;
    c.kv.values = must(malloc(positions * lb_kv_value_bytes(type, s->kv_heads, s->head_dim)));
    if (lb_kv_scale_bytes(type, s->kv_heads, s->head_dim))
        c.kv.scales = must(malloc(positions * lb_kv_scale_bytes(type, s->kv_heads, s->head_dim)));
    lb_kv_set(kernels, &c.kv, 0, s->past, x);
    lb_kv_set(kernels, &c.kv, s->past, s->tokens, x + s->past * width);
    c.wide = x;
    head = must(malloc(positions * s->head_dim * sizeof *head));
    for (size_t h = 0; h < s->kv_heads; h++) {
        lb_kv_get(kernels, &c.kv, h, 0, positions, head);
        for (size_t p = 0; p < positions; p++)
            memcpy(x + p * width + h * s->head_dim, head + p * s->head_dim, s->head_dim * sizeof *head);
    }
    free(head);
    return c;
}

static inline void slow_cache_free(slow_cache *c)
{
    free(c->kv.values);
    free(c->kv.scales);
    free(c->wide);
}

#endif
