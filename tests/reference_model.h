/* SPDX-License-Identifier: MIT
 * A transformer written as slowly and plainly as possible, in double: the truth that the library's
 * forward passes are compared with. It shares no code with them. Formulas: Llama (arXiv:2302.13971),
 * rotary embedding in halves (arXiv:2104.09864), grouped queries (arXiv:2305.13245). */
#ifndef LB_TESTS_REFERENCE_MODEL_H
#define LB_TESTS_REFERENCE_MODEL_H

#include "tiny_model.h"

/* NULL when there is no such tensor. */
static inline const float *reference_tensor(const tiny_model *m, const char *name)
{
    for (size_t i = 0; i < m->count; i++)
        if (strcmp(m->tensors[i].name, name) == 0)
            return m->tensors[i].values;
    return NULL;
}

static inline const float *reference_of_layer(const tiny_model *m, size_t layer, const char *suffix)
{
    char name[96];
    snprintf(name, sizeof name, "model.layers.%zu.%s", layer, suffix);
    return reference_tensor(m, name);
}

/* A test that wants to see what layers are fed sets this: w is the layer's weight, x [cols] one token's input. */
static void (*reference_watch)(const float *w, const double *x, size_t cols);

/* out[r] = sum_c w[r][c] x[c] + bias[r] */
static inline void reference_linear(const float *w, const float *bias, size_t rows, size_t cols,
                                    const double *x, double *out)
{
    if (reference_watch)
        reference_watch(w, x, cols);
    for (size_t r = 0; r < rows; r++) {
        out[r] = bias ? (double)bias[r] : 0;
        for (size_t c = 0; c < cols; c++)
            out[r] += (double)w[r * cols + c] * x[c];
    }
}

static inline void reference_norm(const float *weight, size_t n, double eps, const double *x, double *out)
{
    double squares = 0;
    for (size_t i = 0; i < n; i++)
        squares += x[i] * x[i];
    for (size_t i = 0; i < n; i++)
        out[i] = x[i] / sqrt(squares / (double)n + eps) * (double)weight[i];
}

static inline void reference_rotate(double theta, size_t position, size_t dim, double *head)
{
    for (size_t i = 0; i < dim / 2; i++) {
        const double angle = (double)position / pow(theta, 2.0 * (double)i / (double)dim);
        const double a = head[i], b = head[i + dim / 2];
        head[i] = a * cos(angle) - b * sin(angle);
        head[i + dim / 2] = a * sin(angle) + b * cos(angle);
    }
}

/* One head of one query: q [dim] against positions first..last of k, v (rows of `stride`) -> out [dim]. */
static inline void reference_attend(const double *q, const double *k, const double *v, size_t stride,
                                    size_t dim, size_t first, size_t last, double *out)
{
    double largest = -INFINITY, sum = 0;
    double *score = malloc((last + 1) * sizeof *score);
    for (size_t t = first; t <= last; t++) {
        score[t] = 0;
        for (size_t i = 0; i < dim; i++)
            score[t] += q[i] * k[t * stride + i];
        score[t] /= sqrt((double)dim);
        largest = score[t] > largest ? score[t] : largest;
    }
    for (size_t t = first; t <= last; t++)
        sum += score[t] = exp(score[t] - largest);
    for (size_t i = 0; i < dim; i++) {
        out[i] = 0;
        for (size_t t = first; t <= last; t++)
            out[i] += score[t] / sum * v[t * stride + i];
    }
    free(score);
}

static inline void reference_heads(const tiny_model *m, const float *norm, size_t heads, size_t position,
                                   double *x)
{
    const tiny_model_options *o = &m->options;
    for (size_t h = 0; h < heads; h++) {
        if (norm)
            reference_norm(norm, o->head_dim, o->norm_eps, x + h * o->head_dim, x + h * o->head_dim);
        reference_rotate(o->rope_theta, position, o->head_dim, x + h * o->head_dim);
    }
}

/* x [n, hidden] += attention(norm(x)) */
static inline void reference_attention(const tiny_model *m, size_t layer, size_t n, double *x)
{
    const tiny_model_options *o = &m->options;
    const size_t dim = o->head_dim, q_width = o->heads * dim, kv_width = o->kv_heads * dim;
    double *q = malloc(n * q_width * sizeof *q), *k = malloc(n * kv_width * sizeof *k);
    double *v = malloc(n * kv_width * sizeof *v), *h = malloc(o->hidden * sizeof *h);
    double *a = malloc(q_width * sizeof *a);
    for (size_t t = 0; t < n; t++) {
        reference_norm(reference_of_layer(m, layer, "input_layernorm.weight"), o->hidden, o->norm_eps,
                       x + t * o->hidden, h);
        reference_linear(reference_of_layer(m, layer, "self_attn.q_proj.weight"),
                         reference_of_layer(m, layer, "self_attn.q_proj.bias"), q_width, o->hidden, h,
                         q + t * q_width);
        reference_linear(reference_of_layer(m, layer, "self_attn.k_proj.weight"),
                         reference_of_layer(m, layer, "self_attn.k_proj.bias"), kv_width, o->hidden, h,
                         k + t * kv_width);
        reference_linear(reference_of_layer(m, layer, "self_attn.v_proj.weight"),
                         reference_of_layer(m, layer, "self_attn.v_proj.bias"), kv_width, o->hidden, h,
                         v + t * kv_width);
        reference_heads(m, reference_of_layer(m, layer, "self_attn.q_norm.weight"), o->heads, t,
                        q + t * q_width);
        reference_heads(m, reference_of_layer(m, layer, "self_attn.k_norm.weight"), o->kv_heads, t,
                        k + t * kv_width);
    }
    for (size_t t = 0; t < n; t++) {
        const size_t first = o->window && t + 1 > o->window ? t + 1 - o->window : 0;
        for (size_t head = 0; head < o->heads; head++) {
            const size_t shared = head / (o->heads / o->kv_heads) * dim;
            reference_attend(q + t * q_width + head * dim, k + shared, v + shared, kv_width, dim, first, t,
                             a + head * dim);
        }
        reference_linear(reference_of_layer(m, layer, "self_attn.o_proj.weight"), NULL, o->hidden, q_width, a,
                         h);
        for (size_t i = 0; i < o->hidden; i++)
            x[t * o->hidden + i] += h[i];
    }
    free(q);
    free(k);
    free(v);
    free(h);
    free(a);
}

/* x [hidden] += down(silu(gate(h)) * up(h)), h = norm(x) */
static inline void reference_feed_forward(const tiny_model *m, size_t layer, double *x)
{
    const tiny_model_options *o = &m->options;
    double *h = malloc(o->hidden * sizeof *h), *gate = malloc(o->ffn * sizeof *gate);
    double *up = malloc(o->ffn * sizeof *up);
    reference_norm(reference_of_layer(m, layer, "post_attention_layernorm.weight"), o->hidden, o->norm_eps, x,
                   h);
    reference_linear(reference_of_layer(m, layer, "mlp.gate_proj.weight"), NULL, o->ffn, o->hidden, h, gate);
    reference_linear(reference_of_layer(m, layer, "mlp.up_proj.weight"), NULL, o->ffn, o->hidden, h, up);
    for (size_t i = 0; i < o->ffn; i++)
        up[i] *= gate[i] / (1 + exp(-gate[i]));
    reference_linear(reference_of_layer(m, layer, "mlp.down_proj.weight"), NULL, o->hidden, o->ffn, up, h);
    for (size_t i = 0; i < o->hidden; i++)
        x[i] += h[i];
    free(h);
    free(gate);
    free(up);
}

/* ids [n] -> logits [n, vocab] after every token. */
static inline void reference_logits(const tiny_model *m, const uint32_t *ids, size_t n, double *logits)
{
    const tiny_model_options *o = &m->options;
    const float *embed = reference_tensor(m, "model.embed_tokens.weight");
    const float *head = o->tied ? embed : reference_tensor(m, "lm_head.weight");
    double *x = malloc(n * o->hidden * sizeof *x), *h = malloc(o->hidden * sizeof *h);
    for (size_t t = 0; t < n; t++)
        for (size_t i = 0; i < o->hidden; i++)
            x[t * o->hidden + i] = (double)embed[ids[t] * o->hidden + i];
    for (size_t layer = 0; layer < o->layers; layer++) {
        reference_attention(m, layer, n, x);
        for (size_t t = 0; t < n; t++)
            reference_feed_forward(m, layer, x + t * o->hidden);
    }
    for (size_t t = 0; t < n; t++) {
        reference_norm(reference_tensor(m, "model.norm.weight"), o->hidden, o->norm_eps, x + t * o->hidden,
                       h);
        reference_linear(head, NULL, o->vocab, o->hidden, h, logits + t * o->vocab);
    }
    free(x);
    free(h);
}

#endif
