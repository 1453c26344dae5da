/* SPDX-License-Identifier: MIT
 * See distribution.h. Normal values: Marsaglia's polar method; Student's t: a normal value over the root of a
 * gamma one (Marsaglia & Tsang 2000). */
#include "analyze/distribution.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

enum { MAX_BLOCK = 4096 }; /* that a crest factor is asked for */

static const struct {
    const char *name;
    lb_shape shape;
    double preset; /* 0: the parameter must be given */
    double low, high;
} shapes[] = {
    {"gaussian", LB_SHAPE_GAUSSIAN, 1.0, 1e-30, 1e30},
    {"laplace", LB_SHAPE_LAPLACE, 1.0, 1e-30, 1e30},
    {"student-t", LB_SHAPE_STUDENT_T, 5.0, 1.0, 1e6},
    {"uniform", LB_SHAPE_UNIFORM, 1.0, 1e-30, 1e30},
    {"gaussian-crest", LB_SHAPE_GAUSSIAN_CREST, 0.0, 1.0, 64.0},
};
enum { SHAPE_COUNT = sizeof shapes / sizeof *shapes };

static lb_status parse_parameter(const char *text, size_t which, double *out, lb_error *err)
{
    char *end;
    if (*text == '\0' || text[strspn(text, "+-.0123456789eE")] != '\0')
        return lb_fail(err, LB_EINVAL, "the parameter of %s is \"%.40s\", want a number", shapes[which].name,
                       text);
    const double value = strtod(text, &end);
    if (*end != '\0' || !(value >= shapes[which].low && value <= shapes[which].high))
        return lb_fail(err, LB_EINVAL, "the parameter of %s is \"%.40s\", want a number from %g to %g",
                       shapes[which].name, text, shapes[which].low, shapes[which].high);
    *out = value;
    return LB_OK;
}

lb_status lb_distribution_parse(const char *text, lb_distribution *out, lb_error *err)
{
    const size_t length = strcspn(text, ":");
    for (size_t i = 0; i < SHAPE_COUNT; i++) {
        if (strlen(shapes[i].name) != length || memcmp(shapes[i].name, text, length) != 0)
            continue;
        lb_distribution d = {.shape = shapes[i].shape, .parameter = shapes[i].preset};
        if (text[length] == ':')
            LB_TRY(parse_parameter(text + length + 1, i, &d.parameter, err));
        else if (d.parameter == 0.0)
            return lb_fail(err, LB_EINVAL, "%s wants its crest factor: %s:3", shapes[i].name, shapes[i].name);
        snprintf(d.name, sizeof d.name, "%s", text);
        *out = d;
        return LB_OK;
    }
    return lb_fail(err, LB_EINVAL,
                   "distribution \"%.40s\" is not known: there are gaussian[:SIGMA], laplace[:SIGMA], "
                   "student-t[:DOF], uniform[:WIDTH], gaussian-crest:CREST",
                   text);
}

bool lb_distribution_has_blocks(const lb_distribution *distribution)
{
    return distribution->shape == LB_SHAPE_GAUSSIAN_CREST;
}

typedef struct source {
    lb_rng rng;
    double spare;
    bool has_spare;
} source;

static source source_of(uint64_t seed)
{
    source s = {.has_spare = false};
    lb_rng_seed(&s.rng, seed);
    return s;
}

static double normal(source *s)
{
    if (s->has_spare) {
        s->has_spare = false;
        return s->spare;
    }
    double u, v, square;
    do {
        u = 2.0 * lb_rng_uniform(&s->rng) - 1.0;
        v = 2.0 * lb_rng_uniform(&s->rng) - 1.0;
        square = u * u + v * v;
    } while (square >= 1.0 || square == 0.0);
    const double factor = sqrt(-2.0 * log(square) / square);
    s->spare = v * factor;
    s->has_spare = true;
    return u * factor;
}

/* Uniform in (0, 1). */
static double open_uniform(source *s)
{
    return ((double)(lb_rng_u64(&s->rng) >> 12) + 0.5) * 0x1p-52;
}

static double laplace(source *s, double sigma)
{
    const double u = open_uniform(s) - 0.5;
    return copysign(log(1.0 - 2.0 * fabs(u)), u) * -sigma * 0.70710678118654752;
}

/* Gamma with shape a >= 1/3 + something positive and mean a. */
static double gamma_value(source *s, double a)
{
    const double d = a - 1.0 / 3.0, c = 1.0 / sqrt(9.0 * d);
    for (;;) {
        const double x = normal(s), v = 1.0 + c * x;
        if (v <= 0.0)
            continue;
        const double cube = v * v * v;
        if (log(open_uniform(s)) < 0.5 * x * x + d - d * cube + d * log(cube))
            return d * cube;
    }
}

/* dof >= 1. Below two degrees gamma's shape is below 1: one more, and a power of a uniform one instead. */
static double student_t(source *s, double dof)
{
    const double half = 0.5 * dof, boost = half < 1.0 ? pow(open_uniform(s), 1.0 / half) : 1.0;
    const double gamma = gamma_value(s, half < 1.0 ? half + 1.0 : half) * boost;
    return normal(s) / sqrt(gamma / half);
}

/* A block with the crest factor, before scaling: false when it has to be drawn anew. *rms is its rms. */
static bool draw_crest(source *s, double crest, double *x, size_t block, double *rms)
{
    double square = 0.0, second = 0.0;
    size_t largest = 0;
    for (size_t i = 0; i < block; i++) {
        x[i] = normal(s);
        largest = fabs(x[i]) > fabs(x[largest]) ? i : largest;
    }
    for (size_t i = 0; i < block; i++) {
        if (i == largest)
            continue;
        square += x[i] * x[i];
        second = fabs(x[i]) > second ? fabs(x[i]) : second;
    }
    /* crest^2 = max^2 / ((square + max^2) / block) */
    const double max = crest * sqrt(square / ((double)block - crest * crest));
    x[largest] = copysign(max, x[largest]);
    *rms = max / crest;
    return second <= max;
}

lb_status lb_distribution_check(const lb_distribution *distribution, size_t block, lb_error *err)
{
    enum { TRIALS = 2000, ENOUGH = 20 };
    const double crest = distribution->parameter;
    double x[MAX_BLOCK], rms;
    size_t hits = 0;
    if (!lb_distribution_has_blocks(distribution))
        return LB_OK;
    if (block < 2 || block > MAX_BLOCK)
        return lb_fail(err, LB_EINVAL, "%s wants blocks of 2 to %d values, not %zu", distribution->name,
                       MAX_BLOCK, block);
    if (crest * crest >= (double)block)
        return lb_fail(err, LB_EINVAL, "%s: a block of %zu values has a crest factor below %.4g",
                       distribution->name, block, sqrt((double)block));
    source s = source_of(1);
    for (int i = 0; i < TRIALS && hits < ENOUGH; i++)
        hits += draw_crest(&s, crest, x, block, &rms);
    if (hits == ENOUGH)
        return LB_OK;
    return lb_fail(err, LB_EINVAL, "%s: less than 1 in 100 blocks of %zu normal values is that even",
                   distribution->name, block);
}

static void fill_crest(source *s, double crest, size_t block, float *out, size_t n)
{
    double x[MAX_BLOCK], rms = 1.0;
    for (size_t at = 0; at < n; at += block) {
        while (!draw_crest(s, crest, x, block, &rms))
            ;
        const double scale = 1.0 / (rms * sqrt(1.0 - 0.75 * lb_rng_uniform(&s->rng)));
        const size_t count = n - at < block ? n - at : block;
        for (size_t i = 0; i < count; i++)
            out[at + i] = (float)(x[i] * scale);
    }
}

void lb_distribution_fill(const lb_distribution *distribution, uint64_t seed, size_t block, float *x,
                          size_t n)
{
    const double p = distribution->parameter;
    source s = source_of(seed);
    switch (distribution->shape) {
    case LB_SHAPE_GAUSSIAN:
        for (size_t i = 0; i < n; i++)
            x[i] = (float)(normal(&s) * p);
        break;
    case LB_SHAPE_LAPLACE:
        for (size_t i = 0; i < n; i++)
            x[i] = (float)laplace(&s, p);
        break;
    case LB_SHAPE_STUDENT_T:
        for (size_t i = 0; i < n; i++)
            x[i] = (float)student_t(&s, p);
        break;
    case LB_SHAPE_UNIFORM:
        for (size_t i = 0; i < n; i++)
            x[i] = (float)((2.0 * open_uniform(&s) - 1.0) * p);
        break;
    case LB_SHAPE_GAUSSIAN_CREST:
        fill_crest(&s, p, block, x, n);
        break;
    }
}
