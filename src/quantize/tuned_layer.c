/* SPDX-License-Identifier: MIT */
#include "quantize/tuned_layer.h"

#include <string.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "formats/tune.h"

enum { ROWS_PER_CHUNK = 8 };

/* 2 / iters lets an offset reach the next code but one, which pays at few bits and many steps only. */
static double first_rate(const lb_tuning *t, const lb_format *format)
{
    if (t->lr > 0.0 || t->iters == 0)
        return t->lr;
    return (t->iters >= 1000 && format->bits <= 3 ? 2.0 : 1.0) / (double)t->iters;
}

void lb_tuned_layer_free(lb_tuned_layer *t)
{
    float *const arrays[] = {t->v, t->factors, t->start, t->rounded, t->grad};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        lb_free(arrays[i]);
    *t = (lb_tuned_layer){0};
}

size_t lb_tuned_layer_bytes(size_t rows, size_t cols)
{
    /* a group of 16, the smallest there is, has two factors and two params at most; of 32, five of each */
    return rows * cols * 3 * sizeof(float) + rows * cols / 32 * 10 * sizeof(float);
}

typedef struct rows_job {
    const lb_tuned_layer *t;
    const lb_recipe *recipe;
    const float *importance;
    float step;
} rows_job;

static lb_tune_group find_group(const lb_tuned_layer *t, size_t row, size_t g)
{
    const lb_layer *l = t->layer;
    const size_t at = row * l->cols + g * l->format.group, index = row * t->groups + g;
    lb_tune_group group = {.w = l->w + at,
                           .v = t->v + at,
                           .n = lb_format_group_size(&l->format, l->cols, g),
                           .start = t->start ? t->start + index * l->format.params : NULL};
    memcpy(group.factors, t->factors + index * t->factor_count, t->factor_count * sizeof *t->factors);
    return group;
}

static void start_rows(void *arg, size_t begin, size_t end)
{
    const rows_job *j = arg;
    const lb_tuned_layer *t = j->t;
    const lb_format *f = &t->layer->format;
    float params[LB_FORMAT_MAX_PARAMS];
    for (size_t row = begin; row < end; row++) {
        for (size_t g = 0; g < t->groups; g++) {
            const lb_tune_group group = find_group(t, row, g);
            const size_t column = g * f->group;
            if (t->start)
                f->ops->fit(f, group.w, j->importance + column, group.n, j->recipe->fit,
                            t->start + (row * t->groups + g) * f->params);
            f->ops->tune->forward(f, &group, params, NULL, t->rounded + row * t->layer->cols + column);
        }
    }
}

lb_status lb_tuned_layer_create(const lb_recipe *recipe, lb_layer *layer, const float *importance,
                                lb_tuned_layer *out, lb_error *err)
{
    lb_tuned_layer t = {.layer = layer, .groups = lb_format_groups(&layer->format, layer->cols)};
    const lb_tuning *how = &recipe->tuning;
    const size_t n = layer->rows * layer->cols, groups = layer->rows * t.groups;
    lb_status st = LB_OK;
    if (!layer->format.ops->tune) {
        st = lb_fail(err, LB_EINVAL, "%s: rounding to %s cannot be learned", layer->name, layer->format.name);
        goto done;
    }
    LB_GO(lb_alloc_array(&t.v, n, sizeof *t.v, "learned rounding", err));
    t.factor_count = layer->format.ops->tune->factors(&layer->format);
    LB_GO(lb_alloc_array(&t.factors, groups, t.factor_count * sizeof *t.factors, "learned rounding", err));
    LB_GO(lb_alloc_array(&t.rounded, n, sizeof *t.rounded, "learned rounding", err));
    LB_GO(lb_alloc_array(&t.grad, n, sizeof *t.grad, "learned rounding", err));
    if (how->multiplier || recipe->fit == LB_FIT_SEARCH)
        LB_GO(lb_alloc_array(&t.start, groups, layer->format.params * sizeof *t.start, "learned rounding",
                             err));
    memset(t.v, 0, n * sizeof *t.v);
    memset(t.grad, 0, n * sizeof *t.grad);
    for (size_t i = 0; i < groups * t.factor_count; i++)
        t.factors[i] = 1.0f;
    t.lr = first_rate(how, &layer->format);
    t.largest_factor = t.start ? 2.0f : 1.0f;
    t.trains_factors = how->multiplier || !t.start;
    rows_job job = {.t = &t, .recipe = recipe, .importance = importance};
    lb_parallel_for(layer->rows, ROWS_PER_CHUNK, start_rows, &job);
    *out = t;
    t = (lb_tuned_layer){0};
done:
    lb_tuned_layer_free(&t);
    return st;
}

static float sign_of(float x)
{
    return x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : 0.0f;
}

static float stepped(float factor, float step, float gradient, float largest)
{
    factor -= step * sign_of(gradient);
    return factor < 0.0f ? 0.0f : factor > largest ? largest : factor;
}

/* A group's gradients have no room of their own: those of the offsets take the place of those of the values. */
static void step_rows(void *arg, size_t begin, size_t end)
{
    const rows_job *j = arg;
    const lb_tuned_layer *t = j->t;
    const lb_format *f = &t->layer->format;
    float params[LB_FORMAT_MAX_PARAMS];
    for (size_t row = begin; row < end; row++) {
        for (size_t g = 0; g < t->groups; g++) {
            const size_t at = row * t->layer->cols + g * f->group;
            float *factors = t->factors + (row * t->groups + g) * t->factor_count;
            lb_tune_group group = find_group(t, row, g);
            lb_tune_gradient gradient = {.v = t->grad + at};
            f->ops->tune->backward(f, &group, t->grad + at, &gradient);
            for (size_t i = 0; i < group.n; i++) {
                t->v[at + i] -= j->step * sign_of(gradient.v[i]);
                gradient.v[i] = 0.0f;
            }
            for (unsigned k = 0; t->trains_factors && k < t->factor_count; k++)
                factors[k] = group.factors[k] =
                    stepped(group.factors[k], j->step, gradient.factors[k], t->largest_factor);
            f->ops->tune->forward(f, &group, params, NULL, t->rounded + at);
        }
    }
}

void lb_tuned_layer_step(lb_tuned_layer *tuned, double share)
{
    rows_job job = {.t = tuned, .step = (float)(tuned->lr * share)};
    lb_parallel_for(tuned->layer->rows, ROWS_PER_CHUNK, step_rows, &job);
}

static void store_rows(void *arg, size_t begin, size_t end)
{
    const rows_job *j = arg;
    const lb_layer *l = j->t->layer;
    for (size_t row = begin; row < end; row++) {
        for (size_t g = 0; g < j->t->groups; g++) {
            const lb_tune_group group = find_group(j->t, row, g);
            l->format.ops->tune->forward(&l->format, &group,
                                         l->params + (row * j->t->groups + g) * l->format.params,
                                         l->codes + row * l->cols + g * l->format.group, NULL);
        }
    }
}

void lb_tuned_layer_store(const lb_tuned_layer *tuned)
{
    rows_job job = {.t = tuned};
    lb_parallel_for(tuned->layer->rows, ROWS_PER_CHUNK, store_rows, &job);
}
