/* SPDX-License-Identifier: MIT */
#include "calibrate/channel_sizes.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/thread.h"

enum { CHANNELS_PER_CHUNK = 64 };

lb_status lb_channel_sizes_create(const lb_config *config, lb_channel_sizes *out, lb_error *err)
{
    lb_channel_sizes s = {0};
    lb_status st = LB_OK;
    for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++) {
        const size_t n = s.widths[stage] = lb_stage_width(config, (lb_stage)stage);
        LB_GO(lb_alloc_array(&s.largest[stage], n, sizeof(float), "channel sizes", err));
        LB_GO(lb_alloc_array(&s.sums[stage], n, sizeof(double), "channel sizes", err));
        memset(s.largest[stage], 0, n * sizeof(float));
        memset(s.sums[stage], 0, n * sizeof(double));
    }
    *out = s;
    s = (lb_channel_sizes){0};
done:
    lb_channel_sizes_free(&s);
    return st;
}

void lb_channel_sizes_free(lb_channel_sizes *s)
{
    for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++) {
        lb_free(s->largest[stage]);
        lb_free(s->sums[stage]);
    }
    *s = (lb_channel_sizes){0};
}

typedef struct add_job {
    const float *x;
    size_t tokens, width;
    float *largest;
    double *sums;
} add_job;

static void add_channels(void *arg, size_t begin, size_t end)
{
    const add_job *j = arg;
    for (size_t t = 0; t < j->tokens; t++) {
        const float *x = j->x + t * j->width;
        for (size_t i = begin; i < end; i++) {
            const float size = fabsf(x[i]);
            j->largest[i] = size > j->largest[i] ? size : j->largest[i];
            j->sums[i] += (double)size;
        }
    }
}

void lb_channel_sizes_add(lb_channel_sizes *s, lb_stage stage, const float *x, size_t tokens)
{
    add_job job = {x, tokens, s->widths[stage], s->largest[stage], s->sums[stage]};
    lb_parallel_for(job.width, CHANNELS_PER_CHUNK, add_channels, &job);
    s->tokens[stage] += tokens;
}

double lb_channel_mean(const lb_channel_sizes *s, lb_stage stage, size_t channel)
{
    return s->tokens[stage] ? s->sums[stage][channel] / (double)s->tokens[stage] : 0.0;
}
