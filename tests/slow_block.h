/* SPDX-License-Identifier: MIT
 * A decoder block written plainly in double, with everything that its loss can be differentiated by, beside the
 * same block as the library has it. It shares no arithmetic with the library but the frequencies of rotary
 * embedding and the matrices of rotations, which have tests of their own. */
#ifndef LB_TESTS_SLOW_BLOCK_H
#define LB_TESTS_SLOW_BLOCK_H

#include "near.h"

#include <stdlib.h>

#include "base/rng.h"
#include "model/block_grad.h"

/* Everything that the loss, sum dy * y, may be differentiated by. FED is added to what the layers of a stage are
 * fed: it is how gradients with respect to that are found, and how rounding is held still. */
enum {
    WEIGHT,
    BIAS = WEIGHT + LB_BLOCK_LINEARS,
    ATTN_NORM = BIAS + LB_BLOCK_LINEARS,
    FFN_NORM,
    Q_NORM,
    K_NORM,
    FED,
    INPUT = FED + LB_STAGE_COUNT,
    CLASSES
};

static const char *const class_names[CLASSES] = {
    "q",           "k",        "v",      "o",      "gate",       "up",       "down",
    "q bias",      "k bias",   "v bias", "o bias", "gate bias",  "up bias",  "down bias",
    "attn norm",   "ffn norm", "q norm", "k norm", "fed to qkv", "fed to o", "fed to gate and up",
    "fed to down", "input"};

typedef struct parameters {
    size_t n; /* 0: the model has none */
    double *at;
    float *given, *grad; /* what the library sees, and its answer */
} parameters;

typedef struct block_case {
    const char *name;
    lb_config config;
    size_t sequences, tokens; /* tokens of each */
    const char *transform, *act;
} block_case;

typedef struct setup {
    const block_case *how;
    lb_config config;
    size_t tokens; /* of all sequences */
    parameters p[CLASSES];
    double frequencies[LB_MAX_HEAD_DIM / 2];
    double *rotations[LB_STAGE_COUNT]; /* [width, width] or NULL */
    float *dy, *y;
    lb_inputs inputs;
    lb_rope rope;
    lb_block block;
    lb_block_trace trace;
    lb_block_grads grads;
    lb_stage_context c;
} setup;

static inline void *must(void *ptr)
{
    assert_non_null(ptr);
    return ptr;
}

static inline void ok(lb_status st, const lb_error *err)
{
    if (st != LB_OK)
        fail_msg("%s", err->msg);
}

/* ---- The block in double ----------------------------------------------------------------------------- */

static inline void slow_linear(const setup *s, unsigned which, const double *x, double *y)
{
    const lb_linear *l = &s->block.linear[which];
    for (size_t t = 0; t < s->tokens; t++) {
        for (size_t r = 0; r < l->rows; r++) {
            double sum = s->p[BIAS + which].n ? s->p[BIAS + which].at[r] : 0.0;
            for (size_t i = 0; i < l->cols; i++)
                sum += s->p[WEIGHT + which].at[r * l->cols + i] * x[t * l->cols + i];
            y[t * l->rows + r] = sum;
        }
    }
}

static inline void slow_norm(const setup *s, const double *x, const double *weight, size_t rows, size_t n,
                             double *y)
{
    for (size_t row = 0; row < rows; row++) {
        double squares = 0.0;
        for (size_t i = 0; i < n; i++)
            squares += x[row * n + i] * x[row * n + i];
        for (size_t i = 0; i < n; i++)
            y[row * n + i] = x[row * n + i] / sqrt(squares / (double)n + s->config.norm_eps) * weight[i];
    }
}

/* What a stage is fed, from what it is made of; `freeze`: FED becomes what the trace differs by. */
static inline void slow_feed(const setup *s, lb_stage stage, bool freeze, double *x)
{
    const size_t n = lb_stage_width(&s->config, stage);
    double *row = must(malloc(n * sizeof *row));
    for (size_t t = 0; t < s->tokens; t++, x += n) {
        memcpy(row, x, n * sizeof *row);
        for (size_t i = 0; s->rotations[stage] && i < n; i++) {
            x[i] = 0.0;
            for (size_t k = 0; k < n; k++)
                x[i] += row[k] * s->rotations[stage][k * n + i];
        }
        for (size_t i = 0; i < n; i++) {
            double *offset = &s->p[FED + stage].at[t * n + i];
            if (freeze)
                *offset = (double)s->trace.inputs[stage][t * n + i] - x[i];
            x[i] += *offset;
        }
    }
    free(row);
}

static inline void slow_place(const setup *s, const parameters *norm, size_t heads, double *x)
{
    const size_t dim = s->config.head_dim;
    if (norm->n)
        slow_norm(s, x, norm->at, s->tokens * heads, dim, x);
    for (size_t row = 0; row < s->tokens * heads; row++, x += dim) {
        for (size_t i = 0; i < dim / 2; i++) {
            const double angle = (double)(row / heads % s->how->tokens) * s->frequencies[i];
            const double a = x[i], b = x[i + dim / 2];
            x[i] = a * cos(angle) - b * sin(angle);
            x[i + dim / 2] = b * cos(angle) + a * sin(angle);
        }
    }
}

static inline void slow_attention(const setup *s, const double *q, const double *k, const double *v,
                                  double *out)
{
    const lb_config *c = &s->config;
    const size_t dim = c->head_dim;
    double *score = must(malloc(s->how->tokens * sizeof *score));
    for (size_t row = 0; row < s->tokens * c->heads; row++) {
        const size_t token = row / c->heads, own = token % s->how->tokens, first = token - own;
        const size_t kv_head = row % c->heads / (c->heads / c->kv_heads);
        const size_t begin = c->window && own + 1 > c->window ? own + 1 - c->window : 0;
        double sum = 0.0;
        for (size_t i = 0; i < dim; i++)
            out[row * dim + i] = 0.0;
        for (size_t j = begin; j <= own; j++) {
            score[j] = 0.0;
            for (size_t i = 0; i < dim; i++)
                score[j] += q[row * dim + i] * k[((first + j) * c->kv_heads + kv_head) * dim + i];
            sum += score[j] = exp(score[j] / sqrt((double)dim));
        }
        for (size_t j = begin; j <= own; j++)
            for (size_t i = 0; i < dim; i++)
                out[row * dim + i] += score[j] / sum * v[((first + j) * c->kv_heads + kv_head) * dim + i];
    }
    free(score);
}

/* y [tokens, hidden]. */
static inline void slow_block(const setup *s, bool freeze, double *y)
{
    const lb_config *c = &s->config;
    const size_t hidden = s->tokens * c->hidden, ffn = s->tokens * c->ffn;
    const size_t q_n = s->tokens * c->heads * c->head_dim, kv_n = s->tokens * c->kv_heads * c->head_dim;
    double *memory = must(malloc((3 * hidden + 2 * q_n + 2 * kv_n + 2 * ffn) * sizeof *memory));
    double *mid = memory, *h = mid + hidden, *out = h + hidden, *q = out + hidden, *a = q + q_n, *k = a + q_n;
    double *v = k + kv_n, *gate = v + kv_n, *up = gate + ffn;
    slow_norm(s, s->p[INPUT].at, s->p[ATTN_NORM].at, s->tokens, c->hidden, h);
    slow_feed(s, LB_STAGE_QKV, freeze, h);
    slow_linear(s, LB_LINEAR_Q, h, q);
    slow_linear(s, LB_LINEAR_K, h, k);
    slow_linear(s, LB_LINEAR_V, h, v);
    slow_place(s, &s->p[Q_NORM], c->heads, q);
    slow_place(s, &s->p[K_NORM], c->kv_heads, k);
    slow_attention(s, q, k, v, a);
    slow_feed(s, LB_STAGE_O, freeze, a);
    slow_linear(s, LB_LINEAR_O, a, out);
    for (size_t i = 0; i < hidden; i++)
        mid[i] = s->p[INPUT].at[i] + out[i];
    slow_norm(s, mid, s->p[FFN_NORM].at, s->tokens, c->hidden, h);
    slow_feed(s, LB_STAGE_GATE_UP, freeze, h);
    slow_linear(s, LB_LINEAR_GATE, h, gate);
    slow_linear(s, LB_LINEAR_UP, h, up);
    for (size_t i = 0; i < ffn; i++)
        up[i] *= gate[i] / (1.0 + exp(-gate[i]));
    slow_feed(s, LB_STAGE_DOWN, freeze, up);
    slow_linear(s, LB_LINEAR_DOWN, up, out);
    for (size_t i = 0; i < hidden; i++)
        y[i] = mid[i] + out[i];
    free(memory);
}

static inline double slow_loss(const setup *s)
{
    const size_t n = s->tokens * s->config.hidden;
    double *y = must(malloc(n * sizeof *y)), sum = 0.0;
    slow_block(s, false, y);
    for (size_t i = 0; i < n; i++)
        sum += y[i] * (double)s->dy[i];
    free(y);
    return sum;
}

/* The loss's derivative along `direction` (NULL: of entry `which` alone); its error is of order STEP^4. */
static inline double slow_derivative(const setup *s, unsigned class, const double *direction, size_t which)
{
    static const double STEP = 1e-3, offsets[] = {-2, -1, 1, 2}, factors[] = {1, -8, 8, -1};
    const parameters *p = &s->p[class];
    double *kept = must(malloc(p->n * sizeof *kept)), sum = 0.0;
    memcpy(kept, p->at, p->n * sizeof *kept);
    for (size_t o = 0; o < 4; o++) {
        for (size_t i = 0; direction && i < p->n; i++)
            p->at[i] = kept[i] + STEP * offsets[o] * direction[i];
        if (!direction)
            p->at[which] = kept[which] + STEP * offsets[o];
        sum += factors[o] * slow_loss(s);
    }
    memcpy(p->at, kept, p->n * sizeof *kept);
    free(kept);
    return sum / (12.0 * STEP);
}

/* ---- The same block for the library ------------------------------------------------------------------- */

static inline void make_parameters(setup *s, lb_rng *rng, unsigned class, size_t n, double mean,
                                   double spread)
{
    parameters *p = &s->p[class];
    p->n = n;
    p->at = must(malloc(n * sizeof *p->at));
    p->given = must(malloc(n * sizeof *p->given));
    p->grad = must(calloc(n, sizeof *p->grad));
    for (size_t i = 0; i < n; i++)
        p->at[i] = (double)(p->given[i] = (float)(mean + spread * lb_rng_normal(rng)));
}

static inline void make_layers(setup *s, lb_rng *rng)
{
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        lb_linear *l = &s->block.linear[which];
        lb_linear_shape(&s->config, which, &l->rows, &l->cols);
        make_parameters(s, rng, WEIGHT + which, l->rows * l->cols, 0.0, 1.5 / sqrt((double)l->cols));
        l->dense = s->p[WEIGHT + which].given;
        l->type = LB_DENSE_F32;
        s->grads.weights[which] = s->p[WEIGHT + which].grad;
        if (lb_linear_has_bias(&s->config, which))
            make_parameters(s, rng, BIAS + which, l->rows, 0.0, 0.5);
        l->bias = s->p[BIAS + which].given;
        s->grads.biases[which] = s->p[BIAS + which].grad;
    }
    make_parameters(s, rng, ATTN_NORM, s->config.hidden, 1.0, 0.3);
    make_parameters(s, rng, FFN_NORM, s->config.hidden, 1.0, 0.3);
    if (s->config.qk_norm) {
        make_parameters(s, rng, Q_NORM, s->config.head_dim, 1.0, 0.3);
        make_parameters(s, rng, K_NORM, s->config.head_dim, 1.0, 0.3);
    }
    s->block.attn_norm = s->p[ATTN_NORM].given;
    s->block.ffn_norm = s->p[FFN_NORM].given;
    s->block.q_norm = s->p[Q_NORM].given;
    s->block.k_norm = s->p[K_NORM].given;
    s->grads.attn_norm = s->p[ATTN_NORM].grad;
    s->grads.ffn_norm = s->p[FFN_NORM].grad;
    s->grads.q_norm = s->p[Q_NORM].grad;
    s->grads.k_norm = s->p[K_NORM].grad;
}

static inline void make_inputs(setup *s)
{
    lb_error err;
    lb_transform transform;
    lb_act act;
    ok(lb_act_parse(s->how->act ? s->how->act : "f32", &act, &err), &err);
    ok(lb_transform_parse(s->how->transform ? s->how->transform : "none", &transform, &err), &err);
    transform.seed = 5;
    ok(lb_transform_resolve(&transform, &act.format, &s->config, &err), &err);
    ok(lb_inputs_create(&s->config, &transform, &act, &s->inputs, &err), &err);
    for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++) {
        const size_t n = s->inputs.widths[stage];
        if (!s->inputs.rotations[stage])
            continue;
        float *unit = must(calloc(n * n, sizeof *unit));
        for (size_t i = 0; i < n; i++)
            unit[i * n + i] = 1.0f;
        lb_rotation_apply(lb_kernels_get(LB_CPU_REF), s->inputs.rotations[stage], unit, n);
        s->rotations[stage] = must(malloc(n * n * sizeof(double)));
        for (size_t i = 0; i < n * n; i++)
            s->rotations[stage][i] = (double)unit[i];
        free(unit);
    }
}

static inline void make(setup *s, const block_case *how)
{
    lb_rng rng;
    lb_error err;
    *s = (setup){.how = how, .config = how->config, .tokens = how->sequences * how->tokens};
    lb_config *c = &s->config;
    c->rope_theta = c->rope_theta > 0.0 ? c->rope_theta : 1e4;
    c->norm_eps = c->norm_eps > 0.0 ? c->norm_eps : 1e-2; /* large enough to be seen when forgotten */
    lb_rng_seed(&rng, 71);
    make_layers(s, &rng);
    make_inputs(s);
    make_parameters(s, &rng, INPUT, s->tokens * c->hidden, 0.0, 1.0);
    for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++) {
        make_parameters(s, &rng, FED + stage, s->tokens * s->inputs.widths[stage], 0.0, 0.0);
        s->grads.inputs[stage] = s->p[FED + stage].grad;
    }
    s->dy = must(malloc(s->p[INPUT].n * sizeof *s->dy));
    s->y = must(malloc(s->p[INPUT].n * sizeof *s->y));
    for (size_t i = 0; i < s->p[INPUT].n; i++)
        s->dy[i] = (float)lb_rng_normal(&rng);
    lb_rope_frequencies(c, s->frequencies);
    ok(lb_rope_create(c, how->tokens, &s->rope, &err), &err);
    ok(lb_block_trace_create(c, s->tokens, how->tokens, &s->trace, &err), &err);
    s->c = (lb_stage_context){.kernels = lb_kernels_get(LB_CPU_BEST),
                              .config = c,
                              .rope = &s->rope,
                              .block = &s->block,
                              .inputs = &s->inputs};
}

static inline void drop(setup *s)
{
    for (unsigned class = 0; class < CLASSES; class ++) {
        free(s->p[class].at);
        free(s->p[class].given);
        free(s->p[class].grad);
    }
    for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++)
        free(s->rotations[stage]);
    free(s->dy);
    free(s->y);
    lb_inputs_free(&s->inputs);
    lb_rope_free(&s->rope);
    lb_block_trace_free(&s->trace);
}

static inline void forward(setup *s)
{
    lb_error err;
    ok(lb_block_forward_traced(&s->c, s->p[INPUT].given, s->how->sequences, s->how->tokens, &s->trace, s->y,
                               &err),
       &err);
}

static inline void backward(setup *s)
{
    lb_error err;
    ok(lb_block_backward(&s->c, &s->trace, s->dy, &s->grads, s->p[INPUT].grad, &err), &err);
}

static inline void clear(setup *s)
{
    for (unsigned class = 0; class < CLASSES; class ++)
        for (size_t i = 0; i < s->p[class].n; i++)
            s->p[class].grad[i] = 0.0f;
}

#endif
