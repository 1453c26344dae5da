/* SPDX-License-Identifier: MIT
 * Sensitivities by their definitions, in double: gradients are differences of the loss of a model of a few hundred
 * weights, whose rounding (formats have tests of their own) is held still. */
#ifndef LB_TESTS_SLOW_SENSITIVITY_H
#define LB_TESTS_SLOW_SENSITIVITY_H

#include "scratch.h"
#include "slow_block.h"

#include "base/half.h"
#include "model/head_grad.h"
#include "model/sampled_targets.h"
#include "quantize/sensitivity.h"
#include "tiny_model.h"

enum { LAYERS = 2, LENGTH = 4, MOST_SEQUENCES = 9, BATCH = 8, SCORES = LAYERS * LB_BLOCK_LINEARS, MOST = 4 };

static const tiny_model_options tiny = {.seed = 41,
                                        .hidden = 8,
                                        .ffn = 20, /* more than sums have lanes, and no multiple */
                                        .layers = LAYERS,
                                        .heads = 2,
                                        .kv_heads = 1,
                                        .head_dim = 4,
                                        .vocab = 11,
                                        .norm_eps = 1e-2};

typedef struct sensitivity_case {
    tiny_model *made;
    lb_weights *weights;
    lb_recipe recipe;
    lb_format candidates[MOST];
    size_t count;
    uint32_t ids[MOST_SEQUENCES * LENGTH];
    lb_samples samples;
    lb_sensitivity job;
} sensitivity_case;

static inline void save_and_open(sensitivity_case *c)
{
    lb_error err;
    char *folder = scratch_make("lb_sensitivity");
    assert_int_equal(tiny_model_save(folder, c->made), 0);
    ok(lb_weights_open(folder, &c->weights, &err), &err);
    scratch_remove(folder);
    free(folder);
    c->job.weights = c->weights;
}

static inline void open_case(sensitivity_case *c, lb_allocate how, const char *candidates, size_t sequences)
{
    lb_rng rng;
    lb_error err;
    char name[64];
    *c = (sensitivity_case){.made = must(tiny_model_make(&tiny))};
    lb_recipe_default(&c->recipe);
    c->recipe.allocation.how = how;
    c->recipe.fit = LB_FIT_RANGE;
    for (const char *at = candidates; *at; at += strlen(name) + (at[strlen(name)] == ',')) {
        snprintf(name, sizeof name, "%.*s", (int)strcspn(at, ","), at);
        ok(lb_format_parse(name, &c->candidates[c->count++], &err), &err);
    }
    lb_rng_seed(&rng, 42);
    for (size_t i = 0; i < MOST_SEQUENCES * LENGTH; i++)
        c->ids[i] = (uint32_t)lb_rng_below(&rng, tiny.vocab);
    c->samples = (lb_samples){.ids = c->ids, .count = sequences, .length = LENGTH};
    c->job = (lb_sensitivity){
        .kernels = lb_kernels_get(LB_CPU_BEST), .recipe = &c->recipe, .samples = &c->samples};
    save_and_open(c);
}

static inline void close_case(sensitivity_case *c)
{
    lb_weights_close(c->weights);
    tiny_model_free(c->made);
}

static inline void measure(const sensitivity_case *c, double *scores)
{
    lb_error err;
    ok(lb_sensitivity_measure(&c->job, c->candidates, c->count, scores, &err), &err);
}

/* ---- A model in double: two of slow_block's blocks, and ends ----------------------------------------- */

typedef struct slow_model {
    const sensitivity_case *c;
    block_case how;
    setup blocks[LAYERS];
    const uint32_t *ids; /* [sequences, LENGTH] */
    uint32_t targets[BATCH * LENGTH];
    size_t tokens;
} slow_model;

static inline const float *values_of(const sensitivity_case *c, const char *name)
{
    for (size_t i = 0; i < c->made->count; i++)
        if (strcmp(c->made->tensors[i].name, name) == 0)
            return c->made->tensors[i].values;
    fail_msg("no %s", name);
    return NULL;
}

static inline void round_weights(const sensitivity_case *c, const lb_format *format, size_t rows, size_t cols,
                                 float *w)
{
    lb_format bound = *format;
    uint8_t codes[64];
    float params[64];
    assert_true(cols <= 64);
    lb_format_bind(&bound, w, rows * cols);
    for (size_t row = 0; row < rows; row++, w += cols) {
        if (lb_format_is_float(format)) {
            for (size_t i = 0; strcmp(format->name, "bf16") == 0 && i < cols; i++)
                w[i] = lb_bf16_to_float(lb_bf16_from_float(w[i]));
            continue;
        }
        lb_format_encode_row(&bound, w, NULL, cols, c->recipe.fit, codes, params);
        lb_format_decode_row(&bound, codes, params, cols, w);
    }
}

/* The weights of one layer, rotated as its inputs are. */
static inline void original_weights(const slow_model *m, size_t layer, unsigned which, float *out)
{
    const setup *s = &m->blocks[layer];
    const lb_linear *l = &s->block.linear[which];
    const lb_rotation *rotation = s->inputs.rotations[lb_block_linears[which].stage];
    char base[96], name[128];
    lb_linear_name(layer, which, base, sizeof base);
    snprintf(name, sizeof name, "%s.weight", base);
    memcpy(out, values_of(m->c, name), l->rows * l->cols * sizeof *out);
    if (rotation)
        lb_rotation_apply(m->c->job.kernels, rotation, out, l->rows);
}

/* What a candidate makes of them, unless a rule says otherwise. */
static inline void rounded_weights(const slow_model *m, size_t layer, unsigned which,
                                   const lb_format *candidate, float *out)
{
    const lb_linear *l = &m->blocks[layer].block.linear[which];
    char name[96];
    lb_linear_name(layer, which, name, sizeof name);
    original_weights(m, layer, which, out);
    round_weights(m->c, lb_recipe_format(&m->c->recipe, name, candidate, NULL), l->rows, l->cols, out);
}

/* Sequences [first, first + count); all layers rounded to `candidate`, or the original where that is NULL. */
static inline void make_model(slow_model *m, const sensitivity_case *c, size_t first, size_t count,
                              const lb_format *candidate)
{
    char transform[LB_TRANSFORM_NAME_BYTES];
    lb_transform_name(&c->recipe.transform, transform);
    *m = (slow_model){.c = c, .ids = c->ids + first * LENGTH, .tokens = count * LENGTH};
    m->how = (block_case){.config = c->weights->config,
                          .sequences = count,
                          .tokens = LENGTH,
                          .transform = transform,
                          .act = candidate ? c->recipe.act.name : NULL};
    for (size_t layer = 0; layer < LAYERS; layer++) {
        setup *s = &m->blocks[layer];
        make(s, &m->how);
        for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
            parameters *p = &s->p[WEIGHT + which];
            if (candidate)
                rounded_weights(m, layer, which, candidate, p->given);
            else
                original_weights(m, layer, which, p->given);
            for (size_t i = 0; i < p->n; i++)
                p->at[i] = (double)p->given[i];
        }
        for (unsigned norm = ATTN_NORM; norm <= FFN_NORM; norm++) {
            char name[96];
            snprintf(name, sizeof name, "model.layers.%zu.%s.weight", layer,
                     norm == ATTN_NORM ? "input_layernorm" : "post_attention_layernorm");
            memcpy(s->p[norm].given, values_of(c, name), tiny.hidden * sizeof(float));
            for (size_t i = 0; i < tiny.hidden; i++)
                s->p[norm].at[i] = (double)s->p[norm].given[i];
        }
    }
    m->how.transform = NULL; /* it was a local's */
    for (size_t t = 0; t < m->tokens; t++)
        m->targets[t] = (t + 1) % LENGTH == 0 ? LB_NO_TARGET : m->ids[t + 1];
}

static inline void drop_model(slow_model *m)
{
    for (size_t layer = 0; layer < LAYERS; layer++)
        drop(&m->blocks[layer]);
}

/* x [tokens, hidden] of the last block; in float as the library computes it, which also fixes what inputs are
 * rounded to: the offsets FED. */
static inline void run_library(slow_model *m, float *out)
{
    const float *embed = values_of(m->c, "model.embed_tokens.weight");
    double *y = must(malloc(m->tokens * tiny.hidden * sizeof *y));
    for (size_t layer = 0; layer < LAYERS; layer++) {
        setup *s = &m->blocks[layer];
        for (size_t i = 0; i < s->p[INPUT].n; i++) {
            const size_t row = m->ids[i / tiny.hidden] * tiny.hidden;
            s->p[INPUT].given[i] = layer ? m->blocks[layer - 1].y[i] : embed[row + i % tiny.hidden];
            s->p[INPUT].at[i] = layer ? y[i] : (double)s->p[INPUT].given[i];
        }
        forward(s);
        slow_block(s, lb_inputs_round(&s->inputs), y);
    }
    memcpy(out, m->blocks[LAYERS - 1].y, m->tokens * tiny.hidden * sizeof *out);
    free(y);
}

/* From block `from` on, whose input stands. */
static inline double model_loss(const slow_model *m, size_t from)
{
    const float *head = values_of(m->c, "lm_head.weight"), *norm = values_of(m->c, "model.norm.weight");
    double *y = must(malloc(m->tokens * tiny.hidden * sizeof *y)), loss = 0.0;
    for (size_t layer = from; layer < LAYERS; layer++) {
        if (layer > from)
            memcpy(m->blocks[layer].p[INPUT].at, y, m->tokens * tiny.hidden * sizeof *y);
        slow_block(&m->blocks[layer], false, y);
    }
    for (size_t t = 0; t < m->tokens; t++) {
        double squares = 0.0, sum = 0.0, own = 0.0;
        const double *x = y + t * tiny.hidden;
        if (m->targets[t] == LB_NO_TARGET)
            continue;
        for (size_t i = 0; i < tiny.hidden; i++)
            squares += x[i] * x[i] / (double)tiny.hidden;
        for (size_t v = 0; v < tiny.vocab; v++) {
            double logit = 0.0;
            for (size_t i = 0; i < tiny.hidden; i++)
                logit += (double)head[v * tiny.hidden + i] * (double)norm[i] * x[i] /
                         sqrt(squares + tiny.norm_eps);
            sum += exp(logit);
            own = v == m->targets[t] ? logit : own;
        }
        loss += log(sum) - own;
    }
    free(y);
    return loss;
}

/* By every entry of a class of parameters of a block, into out [n]. */
static inline void differentiate(const slow_model *m, size_t layer, unsigned class, double *out)
{
    static const double STEP = 1e-4;
    const parameters *p = &m->blocks[layer].p[class];
    for (size_t i = 0; i < p->n; i++) {
        const double kept = p->at[i];
        p->at[i] = kept + STEP;
        out[i] = model_loss(m, layer);
        p->at[i] = kept - STEP;
        out[i] = (out[i] - model_loss(m, layer)) / (2.0 * STEP);
        p->at[i] = kept;
    }
}

/* ---- The scores by their definitions ----------------------------------------------------------------- */

enum { MOST_WEIGHTS = 20 * 8, MOST_FED = BATCH * LENGTH * 20 };

static inline double total_tokens(const sensitivity_case *c)
{
    return (double)(c->samples.count * (LENGTH - 1));
}

/* Added to scores [SCORES]: what one batch has to say on one candidate. */
static inline void add_delta(const sensitivity_case *c, const lb_format *candidate, size_t first,
                             size_t count, double *scores)
{
    slow_model m;
    float last[BATCH * LENGTH * 8], original[MOST_WEIGHTS];
    double d[MOST_FED];
    make_model(&m, c, first, count, candidate);
    run_library(&m, last);
    for (size_t i = 0; i < SCORES; i++) {
        const size_t layer = i / LB_BLOCK_LINEARS;
        const unsigned which = (unsigned)(i % LB_BLOCK_LINEARS), stage = lb_block_linears[which].stage;
        const parameters *p = &m.blocks[layer].p[WEIGHT + which];
        original_weights(&m, layer, which, original);
        differentiate(&m, layer, WEIGHT + which, d);
        for (size_t k = 0; k < p->n; k++)
            scores[i] += fabs(d[k] * (p->at[k] - (double)original[k])) / total_tokens(c);
        if (!lb_inputs_round(&m.blocks[layer].inputs))
            continue;
        /* Its share of what rounding the inputs does: by weights. */
        double share = 0.0, all = 0.0;
        for (unsigned other = 0; other < LB_BLOCK_LINEARS; other++)
            all += lb_block_linears[other].stage == stage ? (double)m.blocks[layer].p[WEIGHT + other].n : 0.0;
        differentiate(&m, layer, FED + stage, d);
        for (size_t k = 0; k < m.blocks[layer].p[FED + stage].n; k++)
            share += fabs(d[k] * m.blocks[layer].p[FED + stage].at[k]);
        scores[i] += share * (double)p->n / all / total_tokens(c);
    }
    drop_model(&m);
}

static inline void check_scores(const sensitivity_case *c, const double *got, const double *want,
                                double relative)
{
    double size = 0.0;
    for (size_t i = 0; i < c->count * SCORES; i++)
        size += want[i] / (double)(c->count * SCORES);
    for (size_t i = 0; i < c->count * SCORES; i++) {
        char name[96];
        lb_linear_name(i % SCORES / LB_BLOCK_LINEARS, (unsigned)(i % LB_BLOCK_LINEARS), name, sizeof name);
        if (lb_recipe_format(&c->recipe, name, NULL, NULL)) /* means nothing */
            continue;
        if (!(fabs(got[i] - want[i]) <= relative * want[i] + 1e-6 * size))
            fail_msg("%s to %s: %.9g, wanted %.9g", name, c->candidates[i / SCORES].name, got[i], want[i]);
    }
}

static inline void check_delta(const sensitivity_case *c, double relative)
{
    double got[MOST * SCORES], want[MOST * SCORES] = {0};
    measure(c, got);
    for (size_t k = 0; k < c->count; k++)
        for (size_t at = 0; at < c->samples.count; at += BATCH)
            add_delta(c, &c->candidates[k], at, c->samples.count - at < BATCH ? c->samples.count - at : BATCH,
                      want + k * SCORES);
    check_scores(c, got, want, relative);
    for (size_t i = 0; i < c->count * SCORES; i++)
        assert_true(lb_format_keeps(&c->candidates[i / SCORES]) || got[i] > 0.0);
}

/* squares [SCORES][MOST_WEIGHTS] of one sequence's gradients, whose next tokens are drawn. */
static inline void add_squares(const sensitivity_case *c, size_t sequence, const uint32_t *targets,
                               double squares[SCORES][MOST_WEIGHTS])
{
    slow_model m;
    float last[LENGTH * 8];
    double d[MOST_WEIGHTS];
    make_model(&m, c, sequence, 1, NULL);
    run_library(&m, last);
    memcpy(m.targets, targets + sequence * LENGTH, LENGTH * sizeof *targets);
    for (size_t i = 0; i < SCORES; i++) {
        const unsigned class = WEIGHT + (unsigned)(i % LB_BLOCK_LINEARS);
        differentiate(&m, i / LB_BLOCK_LINEARS, class, d);
        for (size_t k = 0; k < m.blocks[0].p[class].n; k++)
            squares[i][k] += d[k] * d[k];
    }
    drop_model(&m);
}

static inline void draw_targets(const sensitivity_case *c, uint32_t *targets)
{
    slow_model m;
    lb_error err;
    lb_embedding ends;
    float last[MOST_SEQUENCES * LENGTH * 8];
    for (size_t s = 0; s < c->samples.count; s++) {
        make_model(&m, c, s, 1, NULL);
        run_library(&m, last + s * LENGTH * tiny.hidden);
        memcpy(targets + s * LENGTH, m.targets, LENGTH * sizeof *targets);
        drop_model(&m);
    }
    ok(lb_embedding_load(c->weights, &ends, &err), &err);
    ok(lb_sample_targets(c->job.kernels, &ends, c->recipe.seed, last, c->samples.count * LENGTH, targets,
                         &err),
       &err);
    lb_embedding_free(&ends);
}

static inline void check_fisher(const sensitivity_case *c)
{
    static double squares[SCORES][MOST_WEIGHTS];
    double got[MOST * SCORES], want[MOST * SCORES] = {0};
    float original[MOST_WEIGHTS], rounded[MOST_WEIGHTS];
    uint32_t targets[MOST_SEQUENCES * LENGTH];
    slow_model m;
    memset(squares, 0, sizeof squares);
    draw_targets(c, targets);
    for (size_t s = 0; s < c->samples.count; s++)
        add_squares(c, s, targets, squares);
    make_model(&m, c, 0, 1, NULL);
    for (size_t i = 0; i < c->count * SCORES; i++) {
        const size_t layer = i % SCORES / LB_BLOCK_LINEARS;
        const unsigned which = (unsigned)(i % LB_BLOCK_LINEARS);
        original_weights(&m, layer, which, original);
        rounded_weights(&m, layer, which, &c->candidates[i / SCORES], rounded);
        for (size_t k = 0; k < m.blocks[0].p[WEIGHT + which].n; k++)
            want[i] += 0.5 * squares[i % SCORES][k] * pow((double)rounded[k] - (double)original[k], 2) /
                       total_tokens(c);
    }
    drop_model(&m);
    measure(c, got);
    check_scores(c, got, want, 1e-3);
    for (size_t i = 0; i < c->count * SCORES; i++)
        assert_true(lb_format_keeps(&c->candidates[i / SCORES]) ? got[i] == 0.0 : got[i] > 0.0);
}

#endif
