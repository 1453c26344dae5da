/* SPDX-License-Identifier: MIT
 * Matrices of block formats for the checks of qmat kernels: random codes and scales as a format's encoding
 * has them, multiplied here from the formats' own decoding, and compared with a table of kernels.
 * For programs of one file: everything is static inline. */
#ifndef LB_TESTS_KERNELS_BLOCK_CASES_H
#define LB_TESTS_KERNELS_BLOCK_CASES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/half.h"
#include "base/rng.h"
#include "formats/block_format.h"
#include "kernels/qmat.h"
#include "kernels/qvec.h"

/* Every block format that a matrix holds, and every kind of vector: NULL is the one of lb_qvec_set. */
static const char *const held_formats[] = {
    "mxint8",      "mxint8-ocp",        "mxint8-exact", "mxint8-asym",  "mxint6",
    "mxint4",      "mxint4-exact-asym", "nvint4",       "nvint4-exact", "nvint4-asym",
    "mxfp4",       "mxfp4-exact",       "nvfp4",        "nvfp4-exact",  "mxfp6",
    "mxfp6-exact", "mxint6-exact",      "mxfp4-even",   "mxint6-asym",  "mxint4-floor"};
static const char *const vector_formats[] = {NULL,          "mxint8",       "mxint6",
                                             "mxint4",      "nvint4",       "mxint8-exact",
                                             "mxint4-asym", "nvint4-exact", "mxint6-ocp"};
enum {
    HELD_FORMATS = sizeof held_formats / sizeof *held_formats,
    VECTOR_FORMATS = sizeof vector_formats / sizeof *vector_formats,
    MOST_COLS = 1200
};

/* Exponents of the scales. */
typedef struct exponents {
    int weights, spread, x; /* 2^(weights +- spread), x ~ 2^x */
} exponents;

typedef struct block_case {
    lb_format format;
    size_t rows, cols, groups;
    uint8_t *codes; /* [rows, cols] */
    float *params; /* [rows, groups * params] */
    lb_qmat *matrix;
    lb_qvec *vector;
    /* The vector, as it was encoded: its block, and of each entry the integer and its scale. */
    size_t x_block;
    int x_codes[MOST_COLS];
    float x_scales[MOST_COLS];
} block_case;

static inline void block_case_destroy(block_case *q)
{
    lb_free(q->codes);
    lb_free(q->params);
    lb_qmat_destroy(q->matrix);
    lb_qvec_destroy(q->vector);
}

/* A scale near 2^exponent that the format can store and a matrix holds exactly: an eighth of a float that is
 * no power of two must not be subnormal. */
static inline void random_params(const lb_format *f, lb_rng *rng, int exponent, float *params)
{
    const float any = (float)ldexp(1.0 + lb_rng_uniform(rng), exponent < -122 ? -122 : exponent);
    if (f->rule == LB_SCALE_EXACT) {
        for (unsigned i = 0; i < f->params; i++)
            params[i] = any;
    } else if (f->rule == LB_SCALE_TWO_LEVEL) {
        params[LB_NV_BLOCK_FACTOR] = lb_element_decode(&lb_e4m3, (uint8_t)lb_rng_below(rng, 0x7f));
        params[LB_BLOCK_SCALE] = params[LB_NV_BLOCK_FACTOR] * f->tensor_scale;
    } else {
        params[LB_BLOCK_SCALE] = lb_power_of_two(exponent < -127 ? -127 : exponent > 127 ? 127 : exponent);
    }
}

static inline void block_case_create(block_case *q, lb_rng *rng, const char *name, size_t rows, size_t cols,
                                     exponents e)
{
    lb_error err = {LB_OK, ""};
    *q = (block_case){.rows = rows, .cols = cols};
    assert_true(cols <= MOST_COLS);
    assert_int_equal(lb_format_parse(name, &q->format, &err), LB_OK);
    if (lb_format_has_tensor_scale(&q->format)) {
        const int exponent = e.weights < -112 ? -112 : e.weights > 110 ? 110 : e.weights;
        q->format.tensor_scale = (float)ldexp(1.0 + lb_rng_uniform(rng), exponent);
    }
    q->groups = lb_format_groups(&q->format, cols);
    q->codes = lb_alloc(rows * cols, 1);
    q->params = lb_alloc(rows * q->groups * q->format.params, sizeof *q->params);
    assert_non_null(q->codes);
    assert_non_null(q->params);
    for (size_t i = 0; i < rows * cols; i++)
        q->codes[i] = (uint8_t)lb_rng_below(rng, 1u << q->format.bits);
    for (size_t i = 0; i < rows * q->groups; i++) {
        const int shift = e.spread ? (int)lb_rng_below(rng, 2 * (uint64_t)e.spread + 1) - e.spread : 0;
        random_params(&q->format, rng, e.weights + shift, q->params + i * q->format.params);
    }
    assert_true(lb_qmat_holds(&q->format));
    assert_int_equal(lb_qmat_create_format(rows, cols, &q->format, &q->matrix, &err), LB_OK);
    assert_int_equal(lb_qvec_create(1, cols, &q->vector, &err), LB_OK);
    for (size_t r = 0; r < rows; r++)
        lb_qmat_set_encoded(q->matrix, r, q->codes + r * cols, q->params + r * q->groups * q->format.params);
}

/* The vector of x in that format, and what it must mean by the format's own encoding. */
static inline void block_case_set(block_case *q, const lb_kernels *kernels, const char *name, const float *x)
{
    lb_format act;
    uint8_t codes[MOST_COLS];
    float params[MOST_COLS];
    q->x_block = 32;
    if (!name) {
        lb_qvec_set(kernels, q->vector, x, 1, q->cols);
        for (size_t c = 0; c < q->cols; c++) {
            q->x_codes[c] = q->vector->codes[c];
            q->x_scales[c] = q->vector->scales[c / 16];
        }
        return;
    }
    assert_int_equal(lb_format_parse(name, &act, NULL), LB_OK);
    assert_true(lb_qvec_set_format(kernels, q->vector, &act, x, 1, q->cols));
    lb_format_bind(&act, x, q->cols);
    lb_format_encode_row(&act, x, NULL, q->cols, LB_FIT_RANGE, codes, params);
    q->x_block = act.group;
    for (size_t c = 0; c < q->cols; c++) {
        q->x_codes[c] = (int)lb_element_decode(act.element, codes[c]);
        q->x_scales[c] = params[c / act.group * act.params + LB_BLOCK_SCALE];
    }
}

static inline void block_case_random_vector(block_case *q, lb_rng *rng, const lb_kernels *kernels,
                                            const char *name, int exponent)
{
    float x[MOST_COLS];
    for (size_t c = 0; c < q->cols; c++)
        x[c] = (float)ldexp(lb_rng_normal(rng), exponent);
    block_case_set(q, kernels, name, x);
}

static inline float case_scale(const block_case *q, size_t row, size_t column)
{
    return q->params[(row * q->groups + column / q->format.group) * q->format.params + LB_BLOCK_SCALE];
}

static inline double case_element(const block_case *q, size_t row, size_t column)
{
    return (double)lb_element_decode(q->format.element, q->codes[row * q->cols + column]);
}

/* What kernels.def promises, bit for bit: exact sums over the blocks that both sides share, in units of the
 * elements' least positive value (for integers 1). */
static inline float promised_blocks(const block_case *q, size_t row)
{
    const lb_element *e = q->format.element;
    const double unit = e == &lb_e2m1 ? 0.5 : e == &lb_e2m3 ? 0.125 : 1.0;
    const size_t block = q->x_block < q->format.group ? q->x_block : q->format.group;
    float total = 0.0f;
    for (size_t at = 0; at < q->cols; at += block) {
        double sum = 0.0; /* of integers far below 2^53 */
        for (size_t c = at; c < at + block && c < q->cols; c++)
            sum += case_element(q, row, c) / unit * q->x_codes[c];
        const float scale = case_scale(q, row, at) * (float)unit;
        total += scale * ((float)sum * q->x_scales[at]);
    }
    return total;
}

/* scale * element as a float decodes it; where that is infinite the product may be finite all the same. */
static inline double decoded(float scale, double element)
{
    const float value = scale * (float)element;
    return isfinite(value) ? (double)value : (double)scale * element;
}

/* The float simulation: both sides' values as the formats decode them, multiplied and added in double. With
 * u = 2^-24 and n blocks, the kernel makes 2 roundings in each block's term and n - 1 in the additions, and a
 * value of either side may have been rounded once: (n + 3) u of the sum of magnitudes, and some u^2. Where a
 * float is subnormal a rounding costs up to 2^-150 instead. */
static inline double simulated(const block_case *q, size_t row, double *bound)
{
    double total = 0.0, magnitude = 0.0, most = 1.0;
    for (size_t c = 0; c < q->cols; c++) {
        const double w = decoded(case_scale(q, row, c), case_element(q, row, c));
        const double x = decoded(q->x_scales[c], q->x_codes[c]);
        total += w * x;
        magnitude += fabs(w * x);
        most = fmax(most, fmax((double)case_scale(q, row, c), fabs(x) + fabs(w)));
    }
    const double n = (double)(q->cols / 16 + 1);
    *bound = (n + 3.0) * 0x1.01p-24 * magnitude + 4.0 * n * 0x1p-150 * most;
    return total;
}

static inline void check_block_times(const block_case *q, const char *vector, const lb_kernels *kernels)
{
    const float guard = -12345.0f;
    float *y = lb_alloc(q->rows + 16, sizeof *y);
    assert_non_null(y);
    for (size_t i = 0; i < q->rows + 16; i++)
        y[i] = guard;
    lb_qmat_times(kernels, q->matrix, q->vector, y);
    for (size_t r = 0; r < q->rows; r++) {
        double bound, want = simulated(q, r, &bound);
        const float exact = promised_blocks(q, r);
        if (lb_float_bits(y[r]) != lb_float_bits(exact))
            fail_msg("%s x %s, level %d, %zu x %zu, row %zu: got %a, wanted %a", q->format.name,
                     vector ? vector : "8 bits", kernels->level, q->rows, q->cols, r, (double)y[r],
                     (double)exact);
        if (!(fabs((double)y[r] - want) <= bound))
            fail_msg("%s x %s, %zu x %zu, row %zu: got %g, wanted %g within %g", q->format.name,
                     vector ? vector : "8 bits", q->rows, q->cols, r, (double)y[r], want, bound);
    }
    for (size_t i = q->rows; i < q->rows + 16; i++)
        assert_true(y[i] == guard);
    lb_free(y);
}

/* Rows [first, first + count) must be what the format decodes. */
static inline void check_block_rows(const block_case *q, const lb_kernels *kernels, size_t first,
                                    size_t count)
{
    float want[MOST_COLS], *out = lb_alloc(count * q->cols + 1, sizeof *out);
    assert_non_null(out);
    out[count * q->cols] = 77.0f;
    lb_qmat_dequantize(kernels, q->matrix, first, count, out);
    for (size_t i = 0; i < count; i++) {
        const size_t row = first + i;
        lb_format_decode_row(&q->format, q->codes + row * q->cols,
                             q->params + row * q->groups * q->format.params, q->cols, want);
        for (size_t c = 0; c < q->cols; c++)
            if (out[i * q->cols + c] != want[c]) /* the sign of a zero is lost */
                fail_msg("%s, %zu x %zu, row %zu, column %zu: got %a, wanted %a", q->format.name, q->rows,
                         q->cols, row, c, (double)out[i * q->cols + c], (double)want[c]);
    }
    assert_true(out[count * q->cols] == 77.0f);
    lb_free(out);
}

/* Every format times every vector. */
static inline void check_block_shape(lb_rng *rng, size_t rows, size_t cols, exponents e,
                                     const lb_kernels *const *tables, size_t count, bool expands)
{
    for (size_t f = 0; f < HELD_FORMATS; f++) {
        block_case q;
        block_case_create(&q, rng, held_formats[f], rows, cols, e);
        for (size_t v = 0; v < VECTOR_FORMATS; v++) {
            block_case_random_vector(&q, rng, tables[0], vector_formats[v], e.x);
            for (size_t t = 0; t < count; t++)
                check_block_times(&q, vector_formats[v], tables[t]);
        }
        const size_t first = lb_rng_below(rng, rows);
        for (size_t t = 0; expands && t < count; t++) {
            check_block_rows(&q, tables[t], 0, rows);
            check_block_rows(&q, tables[t], first, 1 + (rows - first) / 2);
        }
        block_case_destroy(&q);
    }
}

/* Scales from one end of their range to the other, with vectors that bring the products back. */
static inline void check_block_extremes(lb_rng *rng, const lb_kernels *const *tables, size_t count)
{
    for (int exponent = -127; exponent <= 120; exponent += 13) {
        const int back = exponent < -100 ? 100 : exponent > 110 ? -115 : -exponent;
        check_block_shape(rng, 17, 77, (exponents){exponent, 0, back}, tables, count, true);
        check_block_shape(rng, 3, 300, (exponents){exponent, 6, back / 2}, tables, count, true);
    }
    check_block_shape(rng, 2, 32, (exponents){127, 0, -120}, tables, count, false);
}

#endif
