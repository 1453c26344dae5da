/* SPDX-License-Identifier: MIT */
#include "calibrate/channel_squares.h"

#include <string.h>

#include "base/alloc.h"
#include "base/thread.h"

enum { CHANNELS_PER_CHUNK = 64 };

lb_status lb_channel_squares_create(const lb_config *config, lb_channel_squares *out, lb_error *err)
{
    lb_channel_squares s = {0};
    lb_status st = LB_OK;
    for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++) {
        const size_t n = s.widths[stage] = lb_stage_width(config, (lb_stage)stage);
        LB_GO(lb_alloc_array(&s.sums[stage], n, sizeof(double), "channel importance", err));
        LB_GO(lb_alloc_array(&s.importance[stage], n, sizeof(float), "channel importance", err));
        memset(s.sums[stage], 0, n * sizeof(double));
    }
    *out = s;
    s = (lb_channel_squares){0};
done:
    lb_channel_squares_free(&s);
    return st;
}

void lb_channel_squares_free(lb_channel_squares *s)
{
    for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++) {
        lb_free(s->sums[stage]);
        lb_free(s->importance[stage]);
    }
    *s = (lb_channel_squares){0};
}

typedef struct add_job {
    const float *x;
    size_t tokens, width;
    double *sums;
} add_job;

static void add_channels(void *arg, size_t begin, size_t end)
{
    const add_job *j = arg;
    for (size_t t = 0; t < j->tokens; t++) {
        const float *x = j->x + t * j->width;
        for (size_t i = begin; i < end; i++)
            j->sums[i] += (double)x[i] * (double)x[i];
    }
}

void lb_channel_squares_add(lb_channel_squares *s, lb_stage stage, const float *x, size_t tokens)
{
    add_job job = {x, tokens, s->widths[stage], s->sums[stage]};
    lb_parallel_for(job.width, CHANNELS_PER_CHUNK, add_channels, &job);
}

const float *lb_channel_squares_importance(lb_channel_squares *s, lb_stage stage)
{
    const double *sums = s->sums[stage];
    float *out = s->importance[stage];
    double largest = 0.0;
    for (size_t i = 0; i < s->widths[stage]; i++)
        largest = sums[i] > largest ? sums[i] : largest;
    for (size_t i = 0; i < s->widths[stage]; i++) {
        const double share = largest > 0.0 ? sums[i] / largest : 1.0;
        out[i] = (float)(share > 1e-6 ? share : 1e-6);
    }
    return out;
}
