/* SPDX-License-Identifier: MIT */
#include "train/optimizer.h"

#include <math.h>

#include "base/alloc.h"
#include "base/thread.h"

enum { SEGMENT = 1 << 14, NORM_CHUNK = 1 << 12, NORM_GRAIN = 16 };

static bool decays(const lb_parameter *p, bool all)
{
    return all || p->kind == LB_PARAMETER_MATRIX;
}

lb_status lb_optimizer_create(const lb_kernels *kernels, const lb_parameters *parameters, bool decay_all,
                              lb_optimizer *out, lb_error *err)
{
    lb_optimizer o = {.kernels = kernels, .floats = parameters->floats};
    size_t count = 0;
    for (size_t i = 0; i < parameters->count; i++)
        count += (parameters->list[i].rows * parameters->list[i].cols + SEGMENT - 1) / SEGMENT;
    LB_TRY(lb_alloc_array(&o.segments, count, sizeof *o.segments, "optimizer", err));
    const lb_status st =
        lb_alloc_array(&o.partials, o.floats / NORM_CHUNK + 1, sizeof *o.partials, "optimizer", err);
    if (st != LB_OK) {
        lb_optimizer_free(&o);
        return st;
    }
    for (size_t i = 0; i < parameters->count; i++) {
        const lb_parameter *p = &parameters->list[i];
        const size_t n = p->rows * p->cols;
        for (size_t at = 0; at < n; at += SEGMENT)
            o.segments[o.segment_count++] =
                (lb_segment){p->at + at, n - at < SEGMENT ? n - at : SEGMENT, decays(p, decay_all)};
    }
    *out = o;
    return LB_OK;
}

void lb_optimizer_free(lb_optimizer *o)
{
    lb_free(o->segments);
    lb_free(o->partials);
    *o = (lb_optimizer){0};
}

typedef struct norm_job {
    const lb_optimizer *o;
    const float *x;
} norm_job;

static void square_chunks(void *arg, size_t begin, size_t end)
{
    const norm_job *j = arg;
    for (size_t chunk = begin; chunk < end; chunk++) {
        const size_t at = chunk * NORM_CHUNK, left = j->o->floats - at;
        j->o->partials[chunk] =
            (double)j->o->kernels->sum_squares(j->x + at, left < NORM_CHUNK ? left : NORM_CHUNK);
    }
}

double lb_optimizer_norm(const lb_optimizer *o, const float *x)
{
    const size_t chunks = (o->floats + NORM_CHUNK - 1) / NORM_CHUNK;
    norm_job j = {o, x};
    double sum = 0.0;
    lb_parallel_for(chunks, NORM_GRAIN, square_chunks, &j);
    for (size_t i = 0; i < chunks; i++)
        sum += o->partials[i];
    return sqrt(sum);
}

typedef struct step_job {
    const lb_optimizer *o;
    lb_adamw_step with, without; /* decay */
    const float *grads;
    lb_train_state *state;
} step_job;

static void step_segments(void *arg, size_t begin, size_t end)
{
    const step_job *j = arg;
    for (size_t i = begin; i < end; i++) {
        const lb_segment *s = &j->o->segments[i];
        j->o->kernels->adamw(s->decays ? &j->with : &j->without, j->grads + s->at, s->n,
                             j->state->weights + s->at, j->state->first + s->at, j->state->second + s->at);
    }
}

void lb_optimizer_step(const lb_optimizer *o, uint64_t t, double rate, double norm, const float *grads,
                       lb_train_state *state)
{
    const double scale = o->clip > 0 && norm > o->clip ? o->clip / norm : 1.0;
    step_job j = {.o = o, .grads = grads, .state = state};
    j.with = (lb_adamw_step){.scale = (float)scale,
                             .beta1 = (float)o->beta1,
                             .beta2 = (float)o->beta2,
                             .keep = (float)(1.0 - rate * o->weight_decay),
                             .rate = (float)(rate / (1.0 - pow(o->beta1, (double)t))),
                             .root = (float)(1.0 / sqrt(1.0 - pow(o->beta2, (double)t))),
                             .eps = (float)o->eps};
    j.without = j.with;
    j.without.keep = 1.0f;
    lb_parallel_for(o->segment_count, 1, step_segments, &j);
}
