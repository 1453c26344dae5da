/* SPDX-License-Identifier: MIT */
#include "quantize/polish.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "base/thread.h"
#include "formats/linear_format.h"
#include "model/model_grad.h"
#include "quantize/layer.h"

enum { ROWS_PER_CHUNK = 8, CHECKS = 4 };

/* What is learned of one layer; arrays [rows, groups, count]. */
typedef struct learned {
    const lb_linear_format_ops *linear; /* NULL: nothing */
    unsigned count; /* coefficients of a group */
    size_t groups; /* of a row */
    float *coefficients, *unit, *mean, *square, *gradient;
    float *best; /* params of the best check */
} learned;

typedef struct polishing {
    const lb_polish *job;
    const lb_config *config;
    lb_layer
        *layers; /* of all blocks; codes, and params of which nothing is learned, of one block at a time */
    size_t loaded; /* that block */
    learned *learned;
    lb_inputs inputs;
    lb_embedding ends;
    size_t *order, training, held, next, batch;
    uint32_t *ids; /* [batch, length] */
    float *teacher; /* [batch, length, hidden] */
    double share; /* of the learning rate */
    size_t step;
    char label[48]; /* what progress is told */
} polishing;

static void learned_free(learned *l)
{
    float *const arrays[] = {l->coefficients, l->unit, l->mean, l->square, l->gradient, l->best};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        lb_free(arrays[i]);
    *l = (learned){0};
}

static void polishing_free(polishing *p)
{
    for (size_t i = 0; p->learned && i < p->config->layers * LB_BLOCK_LINEARS; i++)
        learned_free(&p->learned[i]);
    lb_free(p->learned);
    lb_inputs_free(&p->inputs);
    lb_embedding_free(&p->ends);
    lb_free(p->order);
    lb_free(p->ids);
    lb_free(p->teacher);
}

bool lb_polish_takes(const lb_format *format)
{
    return format->ops && format->ops->linear;
}

/* All of the loaded block that is not learned. */
static void release_block(polishing *p)
{
    lb_layer *layers = p->layers + p->loaded * LB_BLOCK_LINEARS;
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        lb_free(layers[which].codes);
        layers[which].codes = NULL;
        if (lb_polish_takes(&layers[which].format))
            continue;
        lb_free(layers[which].params);
        layers[which].params = NULL;
    }
}

/* Codes of a block, and its `floats` unless NULL, instead of those of the one before; params too where there are none,
 * which are those that it was stored with. */
static lb_status restore_block(polishing *p, size_t block, lb_block *floats, lb_error *err)
{
    release_block(p);
    p->loaded = block;
    lb_layer *layers = p->layers + block * LB_BLOCK_LINEARS, stored[LB_BLOCK_LINEARS];
    lb_status st = LB_OK;
    memcpy(stored, layers, sizeof stored);
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        stored[which].codes = NULL; /* of all of them, before anything fails */
        stored[which].params = NULL;
    }
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        lb_layer *l = &stored[which];
        if (lb_format_is_float(&l->format))
            continue;
        LB_GO(lb_layer_alloc(l, err));
    }
    LB_GO(p->job->sink->restore(p->job->sink->self, block, stored, LB_BLOCK_LINEARS, floats, err));
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        lb_layer *l = &layers[which];
        l->codes = stored[which].codes;
        stored[which].codes = NULL;
        if (l->params)
            continue;
        l->params = stored[which].params;
        stored[which].params = NULL;
    }
done:
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        lb_free(stored[which].codes);
        lb_free(stored[which].params);
    }
    return st;
}

typedef struct layer_job {
    const polishing *p;
    lb_layer *layer;
    learned *learned;
    const float *by_weight; /* [rows, cols] */
} layer_job;

/* A block with the values of its codes and of the coefficients as learned so far. */
static lb_status load_block(void *self, size_t index, lb_block *out, lb_error *err)
{
    polishing *p = self;
    lb_layer *layers = p->layers + index * LB_BLOCK_LINEARS;
    lb_status st = LB_OK;
    LB_TRY(lb_block_load(p->job->weights, index, LB_LOAD_FLOAT, out, err));
    LB_GO(restore_block(p, index, out, err));
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++)
        if (layers[which].codes)
            lb_layer_decode(&layers[which], out->linear[which].dense);
done:
    if (st != LB_OK)
        lb_block_free(out);
    return st;
}

/* Root of the mean square of the group's values over that of what multiplies the coefficient. */
static void find_units(const lb_layer *l, size_t row, size_t g, learned *to)
{
    enum { MOST_CODES = 256 };
    float basis[MOST_CODES * LB_LINEAR_MOST];
    const size_t at = (row * to->groups + g) * to->count, begin = g * l->format.group;
    const float *params = l->params + row * lb_layer_row_params(l) + g * l->format.params;
    const uint8_t *codes = l->codes + row * l->cols + begin;
    double values = 0.0, squares[LB_LINEAR_MOST] = {0};
    to->linear->basis(&l->format, params, basis);
    to->linear->get(&l->format, params, to->coefficients + at);
    for (size_t k = 0; k < lb_format_group_size(&l->format, l->cols, g); k++) {
        double value = 0.0;
        for (unsigned i = 0; i < to->count; i++) {
            const double b = (double)basis[codes[k] * to->count + i];
            squares[i] += b * b;
            value += b * (double)to->coefficients[at + i];
        }
        values += value * value;
    }
    for (unsigned i = 0; i < to->count; i++)
        to->unit[at + i] = squares[i] > 0.0 ? (float)sqrt(values / squares[i]) : 0.0f;
}

static void begin_rows(void *arg, size_t begin, size_t end)
{
    const layer_job *j = arg;
    for (size_t row = begin; row < end; row++)
        for (size_t g = 0; g < j->learned->groups; g++)
            find_units(j->layer, row, g, j->learned);
}

static lb_status begin_layer(lb_layer *layer, learned *out, lb_error *err)
{
    if (!lb_polish_takes(&layer->format))
        return LB_OK;
    *out = (learned){.linear = layer->format.ops->linear,
                     .count = layer->format.ops->linear->count(&layer->format),
                     .groups = lb_format_groups(&layer->format, layer->cols)};
    const size_t n = layer->rows * out->groups * out->count;
    float **const arrays[] = {&out->coefficients, &out->unit, &out->mean, &out->square, &out->gradient};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        LB_TRY(lb_alloc_array(arrays[i], n, sizeof(float), layer->name, err));
        memset(*arrays[i], 0, n * sizeof(float));
    }
    LB_TRY(lb_alloc_array(&out->best, layer->rows, lb_layer_row_params(layer) * sizeof(float), layer->name,
                          err));
    memcpy(out->best, layer->params, layer->rows * lb_layer_row_params(layer) * sizeof(float));
    layer_job j = {.layer = layer, .learned = out};
    lb_parallel_for(layer->rows, ROWS_PER_CHUNK, begin_rows, &j);
    return LB_OK;
}

/* d / d coefficient_i = sum over the group of d / d value * basis_i(code). */
static void gradient_rows(void *arg, size_t begin, size_t end)
{
    enum { MOST_CODES = 256 };
    const layer_job *j = arg;
    const lb_layer *l = j->layer;
    learned *to = j->learned;
    float basis[MOST_CODES * LB_LINEAR_MOST];
    for (size_t row = begin; row < end; row++) {
        for (size_t g = 0; g < to->groups; g++) {
            const size_t first = row * l->cols + g * l->format.group;
            double sums[LB_LINEAR_MOST] = {0};
            to->linear->basis(&l->format, l->params + row * lb_layer_row_params(l) + g * l->format.params,
                              basis);
            for (size_t k = 0; k < lb_format_group_size(&l->format, l->cols, g); k++)
                for (unsigned i = 0; i < to->count; i++)
                    sums[i] += (double)(j->by_weight[first + k] * basis[l->codes[first + k] * to->count + i]);
            for (unsigned i = 0; i < to->count; i++)
                to->gradient[(row * to->groups + g) * to->count + i] = (float)sums[i];
        }
    }
}

static lb_status take_gradients(void *self, const lb_block_pass *pass, lb_error *err)
{
    polishing *p = self;
    (void)err;
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        const size_t at = pass->layer * LB_BLOCK_LINEARS + which;
        layer_job j = {
            .layer = &p->layers[at], .learned = &p->learned[at], .by_weight = pass->grads->weights[which]};
        if (p->learned[at].linear)
            lb_parallel_for(j.layer->rows, ROWS_PER_CHUNK, gradient_rows, &j);
    }
    return LB_OK;
}

/* Adam (arXiv:1412.6980). */
static void step_rows(void *arg, size_t begin, size_t end)
{
    static const float KEEP_MEAN = 0.9f, KEEP_SQUARE = 0.98f;
    const layer_job *j = arg;
    const lb_layer *l = j->layer;
    learned *to = j->learned;
    const double step = (double)j->p->step;
    const float mean_share = 1.0f - (float)pow((double)KEEP_MEAN, step),
                square_share = 1.0f - (float)pow((double)KEEP_SQUARE, step),
                rate = (float)(j->p->job->recipe->polish.lr * j->p->share);
    for (size_t i = begin * to->groups * to->count; i < end * to->groups * to->count; i++) {
        const float g = to->gradient[i] * to->unit[i];
        to->mean[i] = KEEP_MEAN * to->mean[i] + (1.0f - KEEP_MEAN) * g;
        to->square[i] = KEEP_SQUARE * to->square[i] + (1.0f - KEEP_SQUARE) * g * g;
        const float size = sqrtf(to->square[i] / square_share);
        if (size > 0.0f)
            to->coefficients[i] -= rate * to->unit[i] * (to->mean[i] / mean_share) / size;
    }
    for (size_t row = begin; row < end; row++)
        for (size_t g = 0; g < to->groups; g++)
            to->linear->set(&l->format, to->coefficients + (row * to->groups + g) * to->count,
                            l->params + row * lb_layer_row_params(l) + g * l->format.params);
}

static void take_step(polishing *p)
{
    p->step++;
    for (size_t i = 0; i < p->config->layers * LB_BLOCK_LINEARS; i++) {
        layer_job j = {.p = p, .layer = &p->layers[i], .learned = &p->learned[i]};
        if (p->learned[i].linear)
            lb_parallel_for(p->layers[i].rows, ROWS_PER_CHUNK, step_rows, &j);
    }
}

/* Of `count` samples: their divergence, in nats, and its gradients unless `loss_only`. A divergence that is no number,
 * which too long a step leads to, is no failure. */
static lb_status run_samples(polishing *p, const size_t *samples, size_t count, bool loss_only, double *loss,
                             lb_error *err)
{
    const lb_samples *s = p->job->samples;
    const size_t state = s->length * p->config->hidden;
    for (size_t i = 0; i < count; i++) {
        memcpy(p->ids + i * s->length, s->ids + samples[i] * s->length, s->length * sizeof *p->ids);
        memcpy(p->teacher + i * state, p->job->teacher + samples[i] * state, state * sizeof *p->teacher);
    }
    const lb_model_grad pass = {.kernels = p->job->kernels,
                                .config = p->config,
                                .ends = &p->ends,
                                .inputs = &p->inputs,
                                .ids = p->ids,
                                .sequences = count,
                                .length = s->length,
                                .teacher = p->teacher,
                                .loss_only = loss_only,
                                .batch = count,
                                .progress = p->job->progress,
                                .label = p->label,
                                .self = p,
                                .load = load_block,
                                .take = take_gradients};
    lb_error failure;
    *loss = 0.0;
    const lb_status st = lb_model_backward(&pass, loss, &failure);
    if (st == LB_OK || !isfinite(*loss))
        return LB_OK;
    if (err)
        *err = failure;
    return st;
}

/* Mean divergence of the samples held aside. */
static lb_status check(polishing *p, double *mean, lb_error *err)
{
    double total = 0.0;
    snprintf(p->label, sizeof p->label, "polishing, held aside");
    for (size_t at = 0; at < p->held; at += p->batch) {
        const size_t left = p->held - at;
        double loss;
        LB_TRY(
            run_samples(p, p->order + p->training + at, left < p->batch ? left : p->batch, true, &loss, err));
        total += loss;
    }
    *mean = total / (double)(p->held * p->job->samples->length);
    return LB_OK;
}

/* Params of all layers there (to `best`), or back. */
static void keep(polishing *p, bool back)
{
    for (size_t i = 0; i < p->config->layers * LB_BLOCK_LINEARS; i++) {
        const lb_layer *l = &p->layers[i];
        const size_t bytes = l->rows * lb_layer_row_params(l) * sizeof(float);
        if (p->learned[i].linear)
            memcpy(back ? l->params : p->learned[i].best, back ? p->learned[i].best : l->params, bytes);
    }
}

static lb_status learn(polishing *p, lb_polish_report *report, lb_error *err)
{
    const lb_polish_recipe *how = &p->job->recipe->polish;
    const size_t warm_up = how->steps / 16;
    lb_rng rng;
    lb_rng_seed(&rng, p->job->recipe->seed + 0x94d049bb133111ebu);
    LB_TRY(check(p, &report->before, err));
    if (!isfinite(report->before))
        return lb_fail(
            err, LB_EINVAL,
            "polishing: the quantized model's divergence from the original on the calibration text is "
            "no number, so that nothing can be learned from it");
    report->after = report->before;
    for (size_t i = 0; i < how->steps; i++) {
        double loss;
        snprintf(p->label, sizeof p->label, "polishing %zu/%zu", i + 1, how->steps);
        if (p->next + p->batch > p->training) {
            lb_rng_shuffle(&rng, p->order, p->training);
            p->next = 0;
        }
        LB_TRY(run_samples(p, p->order + p->next, p->batch, false, &loss, err));
        if (!isfinite(loss))
            break;
        p->next += p->batch;
        p->share = i < warm_up ? (double)(i + 1) / (double)warm_up
                               : (double)(how->steps - i) / (double)(how->steps - warm_up);
        take_step(p);
        if ((i + 1) % ((how->steps + CHECKS - 1) / CHECKS) == 0 || i + 1 == how->steps) {
            double now;
            LB_TRY(check(p, &now, err));
            if (now < report->after) {
                report->after = now;
                keep(p, false);
            }
        }
    }
    keep(p, true);
    return LB_OK;
}

static lb_status make_room(polishing *p, lb_error *err)
{
    const lb_samples *s = p->job->samples;
    const size_t blocks = p->config->layers;
    p->learned = lb_alloc_zero(blocks * LB_BLOCK_LINEARS, sizeof *p->learned);
    if (!p->learned)
        return lb_fail(err, LB_ENOMEM, "polishing: no memory for %zu layers", blocks * LB_BLOCK_LINEARS);
    LB_TRY(lb_alloc_array(&p->order, s->count, sizeof *p->order, "order of samples", err));
    LB_TRY(lb_alloc_array(&p->ids, p->batch, s->length * sizeof *p->ids, "mini-batch", err));
    LB_TRY(lb_alloc_array(&p->teacher, p->batch * s->length, p->config->hidden * sizeof *p->teacher,
                          "mini-batch", err));
    for (size_t i = 0; i < blocks; i++) {
        LB_TRY(restore_block(p, i, NULL, err));
        for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++)
            LB_TRY(begin_layer(&p->layers[i * LB_BLOCK_LINEARS + which],
                               &p->learned[i * LB_BLOCK_LINEARS + which], err));
    }
    return LB_OK;
}

lb_status lb_polish_run(const lb_polish *job, lb_layer *layers, lb_polish_report *report, lb_error *err)
{
    const lb_recipe *recipe = job->recipe;
    const lb_samples *s = job->samples;
    const size_t held = s->count < 8 ? s->count / 2 : s->count / 8;
    polishing p = {.job = job, .config = &job->weights->config, .layers = layers, .held = held};
    lb_rng rng;
    lb_status st = LB_OK;
    if (s->count < 2 || s->length < 2)
        return lb_fail(err, LB_EINVAL,
                       "polishing wants at least 2 calibration samples of 2 tokens, got %zu of %zu", s->count,
                       s->length);
    p.training = s->count - held;
    p.batch = recipe->polish.batch < p.training ? recipe->polish.batch : p.training;
    p.next = p.training; /* the first batch shuffles */
    LB_GO(lb_inputs_create(p.config, &recipe->transform, &recipe->act, &p.inputs, err));
    LB_GO(lb_embedding_load(job->weights, &p.ends, err));
    LB_GO(make_room(&p, err));
    lb_rng_seed(&rng, recipe->seed + 0x2545f4914f6cdd1du);
    for (size_t i = 0; i < s->count; i++)
        p.order[i] = i;
    lb_rng_shuffle(&rng, p.order, s->count);
    st = learn(&p, report, err);
done:
    release_block(&p);
    polishing_free(&p);
    return st;
}

size_t lb_polish_bytes(const lb_config *c, const lb_recipe *recipe, size_t samples, size_t seqlen)
{
    const size_t batch = recipe->polish.batch < samples ? recipe->polish.batch : samples;
    const lb_embedding ends = {.vocab = c->vocab, .hidden = c->hidden};
    const size_t matrix = c->vocab * c->hidden * sizeof(float);
    size_t linear = 0, stored = 0, kept = 0;
    for (size_t i = 0; i < c->layers; i++) {
        size_t params = 0;
        linear = 0;
        for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
            const lb_format *f = lb_recipe_layer(recipe, i, which);
            size_t rows, cols;
            lb_linear_shape(c, which, &rows, &cols);
            const size_t groups = rows * lb_format_groups(f, cols);
            linear += rows * cols;
            params += groups * f->params;
            if (lb_polish_takes(f))
                kept += groups * (5 * f->ops->linear->count(f) + 2 * f->params);
        }
        stored = params > stored ? params : stored;
    }
    /* a block as floats and codes, with the params that it was stored with */
    return lb_model_backward_bytes(c, batch, seqlen, batch) + lb_head_teacher_bytes(&ends) +
           linear * (sizeof(float) + 1) + (stored + kept) * sizeof(float) +
           batch * seqlen * (c->hidden + 1) * sizeof(float) + samples * sizeof(size_t) +
           (c->tied_embeddings ? 1 : 2) * matrix;
}
