/* SPDX-License-Identifier: MIT */
#include "quantize/sensitivity.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "model/model_grad.h"
#include "model/sampled_targets.h"
#include "transform/rotate.h"

enum { ROWS_PER_CHUNK = 16, DELTA_BATCH = 8 /* sequences, as in the paper's code */ };

typedef struct measuring {
    const lb_sensitivity *job;
    const lb_config *config;
    const lb_format *candidates;
    size_t count; /* of candidates in this pass */
    double *scores; /* [count, layers * LB_BLOCK_LINEARS] */
    lb_inputs inputs;
    lb_embedding ends;
    float *changes[LB_BLOCK_LINEARS]; /* [rows, cols] a candidate's rounded minus the original weights */
    float *squares[LB_BLOCK_LINEARS]; /* [rows, cols] of gradients, summed up: for Fisher only */
    float *unrounded; /* [batch tokens, widest input] where inputs are rounded */
    double *partial; /* [rows or tokens of the largest] */
    double tokens; /* that have a target */
} measuring;

static bool is_fisher(const measuring *m)
{
    return m->job->recipe->allocation.how == LB_ALLOCATE_FISHER;
}

static lb_status load_original(const measuring *m, size_t layer, lb_block *out, lb_error *err)
{
    LB_TRY(lb_block_load(m->job->weights, layer, LB_LOAD_FLOAT, out, err));
    const lb_status st = lb_block_rotate(m->job->kernels, &m->inputs, out, err);
    if (st != LB_OK)
        lb_block_free(out);
    return st;
}

static lb_status round_block(const measuring *m, size_t layer, const lb_format *candidate, lb_block *block,
                             lb_error *err)
{
    char name[128];
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        lb_linear_name(layer, which, name, sizeof name);
        LB_TRY(lb_linear_round(m->job->kernels, &block->linear[which],
                               lb_recipe_format(m->job->recipe, name, candidate, NULL), m->job->recipe->fit,
                               err));
    }
    return LB_OK;
}

static lb_status load_block(void *self, size_t layer, lb_block *out, lb_error *err)
{
    const measuring *m = self;
    LB_TRY(load_original(m, layer, out, err));
    if (is_fisher(m))
        return LB_OK;
    const lb_status st = round_block(m, layer, &m->candidates[0], out, err);
    if (st != LB_OK)
        lb_block_free(out);
    return st;
}

typedef struct row_job {
    const float *a, *b;
    float *out;
    size_t cols;
    double *partial; /* [rows] */
} row_job;

static void subtract_rows(void *arg, size_t begin, size_t end)
{
    const row_job *j = arg;
    for (size_t i = begin * j->cols; i < end * j->cols; i++)
        j->out[i] = j->a[i] - j->b[i];
}

/* Sums of a row in lanes, which compilers turn into vectors. */
enum { LANES = 16 };

static float absolute(float a, float b)
{
    return fabsf(a * b);
}

static float weighted_square(float weight, float x)
{
    return weight * x * x;
}

static inline void sum_rows(const row_job *j, size_t begin, size_t end, float (*term)(float, float))
{
    for (size_t row = begin; row < end; row++) {
        const float *a = j->a + row * j->cols, *b = j->b + row * j->cols;
        float lanes[LANES] = {0};
        double sum = 0.0;
        size_t i = 0;
        for (; i + LANES <= j->cols; i += LANES)
            for (size_t k = 0; k < LANES; k++)
                lanes[k] += term(a[i + k], b[i + k]);
        for (; i < j->cols; i++)
            sum += (double)term(a[i], b[i]);
        for (size_t k = 0; k < LANES; k++)
            sum += (double)lanes[k];
        j->partial[row] = sum;
    }
}

static void absolute_rows(void *arg, size_t begin, size_t end)
{
    sum_rows(arg, begin, end, absolute);
}

static void weighted_square_rows(void *arg, size_t begin, size_t end)
{
    sum_rows(arg, begin, end, weighted_square);
}

static void add_square_rows(void *arg, size_t begin, size_t end)
{
    const row_job *j = arg;
    for (size_t i = begin * j->cols; i < end * j->cols; i++)
        j->out[i] += j->a[i] * j->a[i];
}

/* Sum over all rows, in an order that no thread count changes. */
static double total(const measuring *m, lb_chunk_fn of_rows, const float *a, const float *b, size_t rows,
                    size_t cols)
{
    row_job j = {.a = a, .b = b, .cols = cols, .partial = m->partial};
    double sum = 0.0;
    lb_parallel_for(rows, ROWS_PER_CHUNK, of_rows, &j);
    for (size_t row = 0; row < rows; row++)
        sum += m->partial[row];
    return sum;
}

/* What a candidate does to the weights of a block, of which `given` is the one that was run: rounded to the candidate
 * already, or, for Fisher, the original. */
static lb_status find_changes(measuring *m, size_t layer, const lb_format *candidate, const lb_block *given,
                              lb_error *err)
{
    lb_block other = {0};
    lb_status st = LB_OK;
    LB_GO(load_original(m, layer, &other, err));
    if (is_fisher(m))
        LB_GO(round_block(m, layer, candidate, &other, err));
    const lb_block *rounded = is_fisher(m) ? &other : given, *original = is_fisher(m) ? given : &other;
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        const lb_linear *l = &original->linear[which];
        row_job j = {
            .a = rounded->linear[which].dense, .b = l->dense, .out = m->changes[which], .cols = l->cols};
        lb_parallel_for(l->rows, ROWS_PER_CHUNK, subtract_rows, &j);
    }
done:
    lb_block_free(&other);
    return st;
}

/* Layers of a stage share their inputs, and so what rounding those loses: each has its share by weights. */
static lb_status add_inputs(measuring *m, const lb_block_pass *pass, double *scores, lb_error *err)
{
    const lb_stage_context *c = pass->context;
    for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++) {
        const size_t width = lb_stage_width(m->config, (lb_stage)stage), tokens = pass->trace->tokens;
        size_t all = 0;
        LB_TRY(lb_block_trace_unrounded(c, pass->trace, (lb_stage)stage, m->unrounded, err));
        row_job j = {.a = m->unrounded, .b = pass->trace->inputs[stage], .out = m->unrounded, .cols = width};
        lb_parallel_for(tokens, ROWS_PER_CHUNK, subtract_rows, &j);
        const double sum = total(m, absolute_rows, pass->grads->inputs[stage], m->unrounded, tokens, width);
        for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++)
            all += lb_block_linears[which].stage == stage ? c->block->linear[which].rows : 0;
        for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++)
            if (lb_block_linears[which].stage == stage)
                scores[which] += sum * (double)c->block->linear[which].rows / (double)all / m->tokens;
    }
    return LB_OK;
}

static lb_status take_delta(void *self, const lb_block_pass *pass, lb_error *err)
{
    measuring *m = self;
    double *scores = m->scores + pass->layer * LB_BLOCK_LINEARS;
    if (pass->batch == 0)
        LB_TRY(find_changes(m, pass->layer, &m->candidates[0], pass->context->block, err));
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        const lb_linear *l = &pass->context->block->linear[which];
        scores[which] +=
            total(m, absolute_rows, pass->grads->weights[which], m->changes[which], l->rows, l->cols) /
            m->tokens;
    }
    return m->unrounded ? add_inputs(m, pass, scores, err) : LB_OK;
}

static lb_status take_fisher(void *self, const lb_block_pass *pass, lb_error *err)
{
    measuring *m = self;
    const lb_linear *linear = pass->context->block->linear;
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        const lb_linear *l = &linear[which];
        row_job j = {.a = pass->grads->weights[which], .out = m->squares[which], .cols = l->cols};
        if (pass->batch == 0)
            memset(m->squares[which], 0, l->rows * l->cols * sizeof *m->squares[which]);
        lb_parallel_for(l->rows, ROWS_PER_CHUNK, add_square_rows, &j);
    }
    if (pass->batch + 1 < m->job->samples->count)
        return LB_OK;
    for (size_t k = 0; k < m->count; k++) {
        double *scores = m->scores + (k * m->config->layers + pass->layer) * LB_BLOCK_LINEARS;
        LB_TRY(find_changes(m, pass->layer, &m->candidates[k], pass->context->block, err));
        for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++)
            scores[which] = 0.5 / m->tokens *
                            total(m, weighted_square_rows, m->squares[which], m->changes[which],
                                  linear[which].rows, linear[which].cols);
    }
    return LB_OK;
}

static lb_status draw_targets(void *self, const float *x, size_t tokens, uint32_t *targets, lb_error *err)
{
    const measuring *m = self;
    return lb_sample_targets(m->job->kernels, &m->ends, m->job->recipe->seed, x, tokens, targets, err);
}

static size_t batch_of(lb_allocate how, size_t samples)
{
    return how == LB_ALLOCATE_FISHER ? 1 : samples < DELTA_BATCH ? samples : DELTA_BATCH;
}

static lb_status measure(measuring *m, size_t batch, lb_error *err)
{
    const lb_samples *s = m->job->samples;
    char label[64];
    double loss;
    if (is_fisher(m))
        snprintf(label, sizeof label, "sensitivity");
    else
        snprintf(label, sizeof label, "sensitivity to %s", m->candidates[0].name);
    const lb_model_grad pass = {.kernels = m->job->kernels,
                                .config = m->config,
                                .ends = &m->ends,
                                .inputs = &m->inputs,
                                .ids = s->ids,
                                .sequences = s->count,
                                .length = s->length,
                                .batch = batch,
                                .wants_inputs = m->unrounded != NULL,
                                .progress = m->job->progress,
                                .label = label,
                                .self = m,
                                .load = load_block,
                                .retarget = is_fisher(m) ? draw_targets : NULL,
                                .take = is_fisher(m) ? take_fisher : take_delta};
    return lb_model_backward(&pass, &loss, err);
}

static lb_status make_room(measuring *m, size_t batch, lb_error *err)
{
    const lb_config *c = m->config;
    const size_t tokens = batch * m->job->samples->length;
    size_t most = tokens, widest = 0;
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        size_t rows, cols;
        lb_linear_shape(c, which, &rows, &cols);
        most = rows > most ? rows : most;
        widest = cols > widest ? cols : widest;
        LB_TRY(
            lb_alloc_array(&m->changes[which], rows, cols * sizeof(float), "what a candidate changes", err));
        if (is_fisher(m))
            LB_TRY(
                lb_alloc_array(&m->squares[which], rows, cols * sizeof(float), "squares of gradients", err));
    }
    if (!is_fisher(m) && lb_inputs_round(&m->inputs))
        LB_TRY(lb_alloc_array(&m->unrounded, tokens, widest * sizeof(float), "inputs", err));
    return lb_alloc_array(&m->partial, most, sizeof *m->partial, "sums of rows", err);
}

static lb_status check_scores(const measuring *m, const lb_format *candidates, size_t count,
                              const double *scores, lb_error *err)
{
    const size_t layers = m->config->layers * LB_BLOCK_LINEARS;
    char name[128];
    for (size_t i = 0; i < count * layers; i++) {
        if (isfinite(scores[i]))
            continue;
        lb_linear_name(i % layers / LB_BLOCK_LINEARS, (unsigned)(i % LB_BLOCK_LINEARS), name, sizeof name);
        return lb_fail(err, LB_EINVAL,
                       "%s: its sensitivity to %s is %g, so that bits cannot be allocated by it", name,
                       candidates[i / layers].name, fabs(scores[i])); /* a NaN's sign means nothing */
    }
    return LB_OK;
}

lb_status lb_sensitivity_measure(const lb_sensitivity *job, const lb_format *candidates, size_t count,
                                 double *scores, lb_error *err)
{
    const lb_recipe *recipe = job->recipe;
    const lb_samples *s = job->samples;
    measuring m = {
        .job = job, .config = &job->weights->config, .tokens = (double)(s->count * (s->length - 1))};
    const size_t batch = batch_of(recipe->allocation.how, s->count),
                 layers = m.config->layers * LB_BLOCK_LINEARS;
    lb_status st = LB_OK;
    /* The original model is not rounded; where all candidates are measured at once, only it is run. */
    const lb_act *act = is_fisher(&m) ? NULL : &recipe->act;
    m.count = is_fisher(&m) ? count : 1;
    memset(scores, 0, count * layers * sizeof *scores);
    LB_GO(lb_inputs_create(m.config, &recipe->transform, act, &m.inputs, err));
    LB_GO(lb_embedding_load(job->weights, &m.ends, err));
    LB_GO(make_room(&m, batch, err));
    for (size_t k = 0; k < count; k += m.count) {
        m.candidates = candidates + k;
        m.scores = scores + k * layers;
        LB_GO(measure(&m, batch, err));
    }
    st = check_scores(&m, candidates, count, scores, err);
done:
    lb_inputs_free(&m.inputs);
    lb_embedding_free(&m.ends);
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        lb_free(m.changes[which]);
        lb_free(m.squares[which]);
    }
    lb_free(m.unrounded);
    lb_free(m.partial);
    return st;
}

size_t lb_sensitivity_bytes(const lb_config *c, const lb_recipe *recipe, size_t samples, size_t length)
{
    const size_t pass =
        lb_model_backward_bytes(c, samples, length, batch_of(recipe->allocation.how, samples));
    size_t linear = 0;
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        size_t rows, cols;
        lb_linear_shape(c, which, &rows, &cols);
        linear += rows * cols;
    }
    /* a block, another of it, changes, squares; and the ends, as floats at most */
    return pass + (5 * linear + (c->tied_embeddings ? 1 : 2) * c->vocab * c->hidden) * sizeof(float);
}
