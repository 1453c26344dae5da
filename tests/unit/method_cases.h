/* SPDX-License-Identifier: MIT
 * Small layers with correlated inputs for the tests of quantization methods, and their errors in double. */
#ifndef LB_TESTS_METHOD_CASES_H
#define LB_TESTS_METHOD_CASES_H

#include "near.h"

#include <stdlib.h>

#include "base/half.h"
#include "base/rng.h"
#include "quantize/method.h"

typedef struct method_case {
    lb_recipe recipe;
    lb_hessian hessian;
    lb_layer layer;
    size_t params_per_row;
} method_case;

static inline void *case_alloc(size_t count, size_t size)
{
    void *ptr = calloc(count ? count : 1, size);
    assert_non_null(ptr);
    return ptr;
}

/* Inputs of n channels: a few shared directions plus noise, channels of different size; those of them
 * with i % dead_every == 2 (when it is not 0) are never excited. */
static inline float *case_inputs(lb_rng *rng, size_t tokens, size_t n, size_t dead_every)
{
    enum { SHARED = 6 };
    float *mix = case_alloc(n * SHARED, sizeof *mix), *size = case_alloc(n, sizeof *size);
    float *x = case_alloc(tokens * n, sizeof *x);
    for (size_t i = 0; i < n; i++) {
        size[i] = dead_every && i % dead_every == 2 ? 0.0f : (float)exp(0.7 * lb_rng_normal(rng));
        for (size_t k = 0; k < SHARED; k++)
            mix[i * SHARED + k] = (float)lb_rng_normal(rng);
    }
    for (size_t t = 0; t < tokens; t++) {
        double shared[SHARED];
        for (size_t k = 0; k < SHARED; k++)
            shared[k] = lb_rng_normal(rng);
        for (size_t i = 0; i < n; i++) {
            double value = 0.7 * lb_rng_normal(rng);
            for (size_t k = 0; k < SHARED; k++)
                value += (double)mix[i * SHARED + k] * shared[k];
            x[t * n + i] = size[i] * (float)value;
        }
    }
    free(mix);
    free(size);
    return x;
}

static inline method_case case_create(const char *format, size_t rows, size_t cols, size_t dead_every,
                                      uint64_t seed)
{
    method_case c = {.layer = {.name = "test", .rows = rows, .cols = cols}};
    lb_rng rng;
    lb_rng_seed(&rng, seed);
    lb_recipe_default(&c.recipe);
    c.recipe.refine = 0; /* test_refine.c */
    assert_int_equal(lb_format_parse(format, &c.layer.format, NULL), LB_OK);
    c.recipe.format = c.layer.format;
    c.params_per_row = lb_format_groups(&c.layer.format, cols) * c.layer.format.params;
    c.layer.w = case_alloc(rows * cols, sizeof *c.layer.w);
    c.layer.codes = case_alloc(rows * cols, 1);
    c.layer.params = case_alloc(rows * c.params_per_row, sizeof *c.layer.params);
    for (size_t i = 0; i < rows * cols; i++)
        c.layer.w[i] = (float)(0.05 * lb_rng_normal(&rng));
    const size_t tokens = 2 * cols + 30;
    float *x = case_inputs(&rng, tokens, cols, dead_every);
    assert_int_equal(lb_hessian_create(cols, false, &c.hessian, NULL), LB_OK);
    lb_hessian_add(&c.hessian, x, NULL, tokens);
    lb_hessian_finish(&c.hessian);
    free(x);
    return c;
}

static inline void case_free(method_case *c)
{
    lb_hessian_free(&c->hessian);
    free(c->layer.w);
    free(c->layer.codes);
    free(c->layer.params);
}

static inline void case_run(method_case *c, const lb_method *method)
{
    lb_error err;
    memset(c->layer.codes, 0xff, c->layer.rows * c->layer.cols);
    memset(c->layer.params, 0xff, c->layer.rows * c->params_per_row * sizeof *c->layer.params); /* NaN */
    if (method->quantize(&c->recipe, &c->hessian, &c->layer, 1, &err) != LB_OK)
        fail_msg("%s", err.msg);
    for (size_t i = 0; i < c->layer.rows * c->layer.cols; i++)
        assert_true(c->layer.codes[i] < 1u << c->layer.format.bits);
    for (size_t i = 0; i < c->layer.rows * c->params_per_row; i++)
        assert_true(isfinite(c->layer.params[i]));
}

/* What a run gave, to compare another run with. */
typedef struct outcome {
    uint8_t *codes;
    float *params;
} outcome;

static inline outcome run_alone(method_case *c, const lb_method *method)
{
    outcome o = {case_alloc(c->layer.rows * c->layer.cols, 1),
                 case_alloc(c->layer.rows * c->params_per_row, sizeof(float))};
    case_run(c, method);
    memcpy(o.codes, c->layer.codes, c->layer.rows * c->layer.cols);
    memcpy(o.params, c->layer.params, c->layer.rows * c->params_per_row * sizeof(float));
    return o;
}

static inline void check_outcome(const method_case *c, const outcome *o)
{
    assert_memory_equal(c->layer.codes, o->codes, c->layer.rows * c->layer.cols);
    assert_memory_equal(c->layer.params, o->params, c->layer.rows * c->params_per_row * sizeof(float));
}

static inline void outcome_free(outcome *o)
{
    free(o->codes);
    free(o->params);
}

/* What the code of row r and column i stands for. */
static inline double case_value(const method_case *c, const uint8_t *codes, const float *params, size_t r,
                                size_t i)
{
    const lb_format *f = &c->layer.format;
    const float *p = params + r * c->params_per_row + (f->group ? i / f->group : 0) * f->params;
    return (double)p[0] * ((double)codes[r * c->layer.cols + i] - (double)p[1]);
}

/* tr(D H D^T), D = target - values; the target is the layer's weights unless one is given. */
static inline double case_energy(const method_case *c, const double *target, const uint8_t *codes,
                                 const float *params)
{
    const size_t n = c->layer.cols;
    double total = 0.0, *d = case_alloc(n, sizeof *d);
    for (size_t r = 0; r < c->layer.rows; r++) {
        for (size_t i = 0; i < n; i++)
            d[i] = (target ? target[r * n + i] : (double)c->layer.w[r * n + i]) -
                   case_value(c, codes, params, r, i);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++)
                total += d[i] * (double)c->hessian.h[i * n + j] * d[j];
    }
    free(d);
    return total;
}

/* Parameters that cover the extremes of w, written out again: scale in f16 (ties and limits do not occur
 * here), symmetric with the code 0 for the largest weight, or from the least weight to the greatest. */
static inline void case_fit_range(const lb_format *f, const double *w, size_t n, float *params)
{
    double low = 0.0, high = 0.0, half = ldexp(1.0, (int)f->bits - 1), top = 2.0 * half - 1.0;
    for (size_t i = 0; i < n; i++) {
        low = fmin(low, w[i]);
        high = fmax(high, w[i]);
    }
    if (f->symmetric) {
        params[0] = lb_f16_to_float(lb_f16_from_float((float)((high >= -low ? -high : -low) / half)));
        params[1] = (float)half;
    } else {
        params[0] = lb_f16_to_float(lb_f16_from_float((float)((high - low) / top)));
        params[1] = params[0] == 0.0f ? 0.0f : (float)fmin(rint(-low / (double)params[0]), top);
    }
}

static inline uint8_t case_round(const lb_format *f, const float *params, double w)
{
    unsigned best = 0;
    for (unsigned code = 1; code < 1u << f->bits; code++) {
        const double now = fabs(w - (double)params[0] * ((double)code - (double)params[1]));
        if (now < fabs(w - (double)params[0] * ((double)best - (double)params[1])))
            best = code;
    }
    return (uint8_t)best;
}

#endif
