/* SPDX-License-Identifier: MIT
 * Rows beside vectors (rows.h), every type, against sums in double; tiles of every shape give the bits of
 * one row and one vector; scaled integers those of float32. For programs of one file: everything is static
 * inline. */
#ifndef LB_TESTS_KERNELS_ROWS_CASES_H
#define LB_TESTS_KERNELS_ROWS_CASES_H

#include "kernels/dense_cases.h"

#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "kernels/kernels.h"

typedef struct rows_case {
    size_t count, n, stride, vectors;
    uint8_t *values, *scales;
    float *x; /* [vectors, max(n, count)] */
    double *wide; /* [count, n] */
    lb_rows rows;
} rows_case;

static inline void *rows_alloc(size_t bytes)
{
    void *p = malloc(bytes + 1);
    assert_non_null(p);
    return p;
}

static inline float rows_draw(lb_rng *rng, int one_sign)
{
    return one_sign ? (float)lb_rng_uniform(rng) + 0.5f : (float)lb_rng_normal(rng) * 3.0f;
}

/* One element, and what it is worth. `at` counts within the row. */
static inline double rows_put(rows_case *c, lb_row_type type, lb_rng *rng, size_t row, size_t at, float value)
{
    const size_t i = row * c->stride + at;
    if (type == LB_ROWS_F32) {
        ((float *)(void *)c->values)[i] = value;
        return (double)value;
    }
    if (type == LB_ROWS_F16 || type == LB_ROWS_BF16) {
        const uint16_t half = type == LB_ROWS_F16 ? lb_f16_from_float(value) : lb_bf16_from_float(value);
        ((uint16_t *)(void *)c->values)[i] = half;
        return half_value(half, type == LB_ROWS_F16 ? 10 : 7);
    }
    const int code = (int)lb_rng_below(rng, 255) - 127;
    c->values[i] = (uint8_t)code;
    if (type == LB_ROWS_INT8) /* the product as a float: that is what the kernels promise to multiply */
        return (double)((float)code * ((float *)(void *)c->scales)[row * c->rows.scale_stride]);
    return ldexp(code, c->scales[row * c->rows.scale_stride + at / LB_ROWS_BLOCK] - 127);
}

static inline rows_case rows_make(lb_row_type type, size_t count, size_t n, size_t vectors, lb_rng *rng)
{
    rows_case c = {.count = count, .n = n, .stride = n + lb_rng_below(rng, 20), .vectors = vectors};
    const size_t scales = type == LB_ROWS_INT8     ? 1 + lb_rng_below(rng, 3)
                          : type == LB_ROWS_MXINT8 ? (n + LB_ROWS_BLOCK - 1) / LB_ROWS_BLOCK + 1
                                                   : 0;
    const size_t longest = n > count ? n : count;
    const int one_sign = lb_rng_below(rng, 2) == 1; /* then nothing cancels */
    c.values = rows_alloc((count * c.stride + 1) * sizeof(float));
    c.scales = rows_alloc((count * scales + 1) * sizeof(float));
    c.x = rows_alloc(vectors * longest * sizeof *c.x);
    c.wide = rows_alloc(count * n * sizeof *c.wide);
    c.rows =
        (lb_rows){.values = c.values, .stride = c.stride, .n = n, .scales = c.scales, .scale_stride = scales};
    for (size_t i = 0; i < count * scales; i++) {
        if (type == LB_ROWS_INT8)
            ((float *)(void *)c.scales)[i] = (float)lb_rng_uniform(rng) / 64.0f;
        else
            c.scales[i] = (uint8_t)(i % 17 == 16 ? 0 : 110 + lb_rng_below(rng, 30));
    }
    for (size_t r = 0; r < count; r++)
        for (size_t i = 0; i < n; i++)
            c.wide[r * n + i] = rows_put(&c, type, rng, r, i, rows_draw(rng, one_sign));
    for (size_t i = 0; i < vectors * longest; i++)
        c.x[i] = rows_draw(rng, one_sign);
    return c;
}

static inline void rows_free(rows_case *c)
{
    free(c->values);
    free(c->scales);
    free(c->x);
    free(c->wide);
}

/* y [vectors, outs], and one beyond. */
static inline float *rows_run(const lb_kernels *kernels, lb_row_type type, const rows_case *c, int mixes)
{
    const size_t outs = mixes ? c->n : c->count, ins = mixes ? c->count : c->n;
    float *y = rows_alloc((c->vectors * outs + 1) * sizeof *y);
    const lb_rows_job job = {.rows = c->rows,
                             .count = c->count,
                             .vectors = c->vectors,
                             .x = c->x,
                             .x_stride = ins,
                             .y = y,
                             .y_stride = outs};
    for (size_t i = 0; i <= c->vectors * outs; i++)
        y[i] = 0.25f;
    (mixes ? kernels->rows_mix : kernels->rows_dot)(type, &job);
    assert_true(y[c->vectors * outs] == 0.25f);
    return y;
}

/* The same one row and one vector at a time: rows_mix in as many calls as there are rows. */
static inline void rows_check_single(const lb_kernels *kernels, lb_row_type type, const rows_case *c,
                                     int mixes, const float *y)
{
    const size_t outs = mixes ? c->n : c->count, ins = mixes ? c->count : c->n;
    float *own = rows_alloc((outs + 1) * sizeof *own);
    for (size_t v = 0; v < c->vectors; v++) {
        for (size_t i = 0; i < outs; i++)
            own[i] = 0.25f;
        for (size_t r = 0; r < c->count; r++) {
            const size_t element = type == LB_ROWS_F32                           ? 4
                                   : type == LB_ROWS_F16 || type == LB_ROWS_BF16 ? 2
                                                                                 : 1;
            const size_t scale = type == LB_ROWS_INT8 ? sizeof(float) : 1;
            lb_rows_job job = {.rows = c->rows,
                               .count = 1,
                               .vectors = 1,
                               .x = c->x + v * ins + (mixes ? r : 0),
                               .x_stride = ins,
                               .y = own + (mixes ? 0 : r),
                               .y_stride = outs};
            job.rows.values = c->values + r * c->stride * element;
            job.rows.scales = c->scales + r * c->rows.scale_stride * scale;
            (mixes ? kernels->rows_mix : kernels->rows_dot)(type, &job);
        }
        assert_memory_equal(own, y + v * outs, outs * sizeof *own);
    }
    free(own);
}

static inline void rows_check_sums(const rows_case *c, int mixes, const float *y)
{
    const size_t outs = mixes ? c->n : c->count, ins = mixes ? c->count : c->n;
    double *w = rows_alloc((ins + 1) * sizeof *w);
    float *x = rows_alloc((ins + 1) * sizeof *x);
    for (size_t v = 0; v < c->vectors; v++) {
        for (size_t o = 0; o < outs; o++) {
            for (size_t i = 0; i < ins; i++) {
                w[i] = mixes ? c->wide[i * c->n + o] : c->wide[o * c->n + i];
                x[i] = c->x[v * ins + i];
            }
            w[ins] = 1.0; /* rows_mix adds to what is there */
            x[ins] = 0.25f;
            check_dot(mixes ? "rows_mix" : "rows_dot", y[v * outs + o], w, x, ins + (mixes ? 1 : 0));
        }
    }
    free(w);
    free(x);
}

/* The case once more as float32: the same bits. */
static inline void rows_check_floats(const lb_kernels *kernels, const rows_case *c, int mixes, const float *y)
{
    rows_case f = *c;
    float *values = rows_alloc(c->count * c->n * sizeof *values);
    for (size_t i = 0; i < c->count * c->n; i++)
        values[i] = (float)c->wide[i];
    f.values = (uint8_t *)values;
    f.stride = c->n;
    f.rows = (lb_rows){.values = values, .stride = c->n, .n = c->n};
    float *again = rows_run(kernels, LB_ROWS_F32, &f, mixes);
    assert_memory_equal(again, y, c->vectors * (mixes ? c->n : c->count) * sizeof *y);
    free(again);
    free(values);
}

static inline void rows_check(const lb_kernels *kernels, size_t count, size_t n, size_t vectors, lb_rng *rng)
{
    for (unsigned type = 0; type < LB_ROW_TYPES; type++) {
        rows_case c = rows_make((lb_row_type)type, count, n, vectors, rng);
        for (int mixes = 0; mixes <= 1; mixes++) {
            float *y = rows_run(kernels, (lb_row_type)type, &c, mixes);
            rows_check_sums(&c, mixes, y);
            rows_check_single(kernels, (lb_row_type)type, &c, mixes, y);
            rows_check_floats(kernels, &c, mixes, y);
            free(y);
        }
        rows_free(&c);
    }
}

static inline void check_all_rows(const lb_kernels *kernels)
{
    lb_rng rng;
    lb_rng_seed(&rng, 21);
    for (size_t n = 1; n <= 70; n++)
        rows_check(kernels, 1 + n % 9, n, 1 + n % 7, &rng);
    for (size_t vectors = 1; vectors <= 9; vectors++)
        for (size_t count = 1; count <= 9; count++)
            rows_check(kernels, count, 40 + count, vectors, &rng);
    rows_check(kernels, 300, 64, 3, &rng);
    rows_check(kernels, 7, 2500, 5, &rng);
    rows_check(kernels, 0, 12, 2, &rng);
}

#endif
