/* SPDX-License-Identifier: MIT */
#include "train/schedule.h"

#include <math.h>
#include <string.h>

lb_status lb_schedule_parse(const char *kind, const char *shape, lb_schedule *out, lb_error *err)
{
    static const char *const kinds[] = {"constant", "cosine", "wsd"}, *const shapes[] = {"linear", "sqrt"};
    size_t k = 0, s = 0;
    while (k < 3 && strcmp(kind, kinds[k]) != 0)
        k++;
    while (s < 2 && strcmp(shape, shapes[s]) != 0)
        s++;
    if (k == 3)
        return lb_fail(err, LB_EINVAL, "schedule %.40s is not known; there are constant, cosine, wsd", kind);
    if (s == 2)
        return lb_fail(err, LB_EINVAL, "decay %.40s is not known; there are linear, sqrt", shape);
    out->kind = (lb_schedule_kind)k;
    out->shape = (lb_decay_shape)s;
    return LB_OK;
}

double lb_schedule_rate(const lb_schedule *s, uint64_t step)
{
    static const double pi = 3.14159265358979323846;
    if (step < s->warmup)
        return s->peak * (double)step / (double)s->warmup;
    if (s->kind == LB_SCHEDULE_CONSTANT || step > s->steps)
        return s->kind == LB_SCHEDULE_CONSTANT ? s->peak : s->final;
    const uint64_t after_warmup = s->steps > s->warmup ? s->steps - s->warmup : 0;
    const uint64_t n = s->kind == LB_SCHEDULE_COSINE || s->decay > after_warmup ? after_warmup : s->decay;
    const uint64_t begin = s->steps - n;
    if (step <= begin)
        return s->peak;
    const double x = (double)(step - begin) / ((double)n + 1.0);
    if (s->kind == LB_SCHEDULE_COSINE)
        return s->final + (s->peak - s->final) * 0.5 * (1.0 + cos(pi * x));
    return s->peak + (s->final - s->peak) * (s->shape == LB_DECAY_SQRT ? sqrt(x) : x);
}
