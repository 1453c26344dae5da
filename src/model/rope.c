/* SPDX-License-Identifier: MIT */
#include "model/rope.h"

#include <math.h>

#include "base/alloc.h"
#include "base/thread.h"

static const double TWO_PI = 6.283185307179586;

/* Llama 3.1: wavelengths longer than original / low are stretched by `factor`, those shorter than
 * original / high are kept, and between them the two are blended linearly in 1 / wavelength. */
static double scale_llama3(const lb_config *c, double frequency)
{
    const double original = (double)c->rope_original_context;
    const double turns = original * frequency / TWO_PI; /* full turns within the original context */
    if (turns < c->rope_low_freq_factor)
        return frequency / c->rope_factor;
    if (turns > c->rope_high_freq_factor)
        return frequency;
    double blend = (turns - c->rope_low_freq_factor) / (c->rope_high_freq_factor - c->rope_low_freq_factor);
    return (1.0 - blend) * frequency / c->rope_factor + blend * frequency;
}

void lb_rope_frequencies(const lb_config *config, double *out)
{
    for (size_t i = 0; i < config->head_dim / 2; i++) {
        double frequency = pow(config->rope_theta, -2.0 * (double)i / (double)config->head_dim);
        switch (config->rope_scaling) {
        case LB_ROPE_LINEAR:
            frequency /= config->rope_factor;
            break;
        case LB_ROPE_LLAMA3:
            frequency = scale_llama3(config, frequency);
            break;
        case LB_ROPE_FACTORS:
            frequency /= (double)config->rope_factors[i];
            break;
        case LB_ROPE_PLAIN:
            break;
        }
        out[i] = frequency;
    }
}

typedef struct table_job {
    lb_rope *rope;
    double frequency[LB_MAX_HEAD_DIM / 2];
} table_job;

static void fill_positions(void *arg, size_t begin, size_t end)
{
    const table_job *job = arg;
    const size_t half = job->rope->half;
    for (size_t position = begin; position < end; position++) {
        for (size_t i = 0; i < half; i++) {
            double angle = (double)position * job->frequency[i];
            job->rope->cosine[position * half + i] = (float)cos(angle);
            job->rope->sine[position * half + i] = (float)sin(angle);
        }
    }
}

lb_status lb_rope_create(const lb_config *config, size_t positions, lb_rope *out, lb_error *err)
{
    lb_rope r = {.half = config->head_dim / 2, .positions = positions};
    table_job job = {.rope = &r};
    lb_rope_frequencies(config, job.frequency);
    r.cosine = lb_alloc(positions, r.half * sizeof(float));
    r.sine = lb_alloc(positions, r.half * sizeof(float));
    if (!r.cosine || !r.sine) {
        lb_rope_free(&r);
        return lb_fail(err, LB_ENOMEM, "rotary embedding: no memory for %zu positions", positions);
    }
    lb_parallel_for(positions, 256, fill_positions, &job);
    *out = r;
    return LB_OK;
}

void lb_rope_free(lb_rope *rope)
{
    lb_free(rope->cosine);
    lb_free(rope->sine);
    *rope = (lb_rope){0};
}

void lb_rope_rotate(const lb_rope *rope, size_t position, size_t heads, float *x)
{
    const size_t half = rope->half;
    const float *c = rope->cosine + position * half, *s = rope->sine + position * half;
    for (size_t h = 0; h < heads; h++, x += 2 * half) {
        for (size_t i = 0; i < half; i++) {
            float a = x[i], b = x[i + half];
            x[i] = a * c[i] - b * s[i];
            x[i + half] = b * c[i] + a * s[i];
        }
    }
}

void lb_rope_undo(const lb_rope *rope, size_t position, size_t heads, float *x)
{
    const size_t half = rope->half;
    const float *c = rope->cosine + position * half, *s = rope->sine + position * half;
    for (size_t h = 0; h < heads; h++, x += 2 * half) {
        for (size_t i = 0; i < half; i++) {
            float a = x[i], b = x[i + half];
            x[i] = a * c[i] + b * s[i];
            x[i + half] = b * c[i] - a * s[i];
        }
    }
}
