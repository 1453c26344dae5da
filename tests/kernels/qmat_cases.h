/* SPDX-License-Identifier: MIT
 * Matrices for the checks of qmat kernels: built from known codes, scales and zeros, multiplied here in
 * the slow obvious way, and compared with whatever table of kernels is to be checked.
 * For programs of one file: everything is static inline. */
#ifndef LB_TESTS_KERNELS_QMAT_CASES_H
#define LB_TESTS_KERNELS_QMAT_CASES_H

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
#include "kernels/qmat.h"
#include "kernels/qvec.h"

typedef enum weights_kind {
    WEIGHTS_RANDOM,
    WEIGHTS_ALL_MAX,
    WEIGHTS_ZERO,
    WEIGHTS_SUBNORMAL_SCALES,
    WEIGHTS_HUGE_SCALES,
    WEIGHTS_KINDS
} weights_kind;

typedef enum vector_kind {
    VECTOR_RANDOM,
    VECTOR_ALL_MAX,
    VECTOR_ALL_MIN,
    VECTOR_ALTERNATING, /* +-max */
    VECTOR_ZERO,
    VECTOR_HALVES, /* random, and nvint4 instead of 8 bits: a scale per 16 */
    VECTOR_KINDS
} vector_kind;

typedef struct qmat_case {
    size_t rows, cols, group, groups, blocks;
    unsigned bits;
    bool symmetric;
    uint8_t *codes; /* [rows, cols] */
    float *scales, *zeros; /* [rows, groups] */
    lb_qmat *matrix;
    lb_qvec *vector;
} qmat_case;

static inline void case_destroy(qmat_case *q)
{
    lb_free(q->codes);
    lb_free(q->scales);
    lb_free(q->zeros);
    lb_qmat_destroy(q->matrix);
    lb_qvec_destroy(q->vector);
}

static inline float random_scale(lb_rng *rng, weights_kind kind)
{
    double u = lb_rng_uniform(rng) + 0.01;
    if (kind == WEIGHTS_SUBNORMAL_SCALES)
        return lb_round_to_f16((float)(u * 0x1p-15));
    if (kind == WEIGHTS_HUGE_SCALES)
        return lb_rng_below(rng, 2) ? 65504.0f : -65504.0f;
    return kind == WEIGHTS_ZERO ? 0.0f : lb_round_to_f16((float)(u * 0.02));
}

static inline void case_create(qmat_case *q, lb_rng *rng, size_t rows, size_t cols, unsigned bits,
                               size_t group, bool symmetric, weights_kind kind)
{
    const unsigned most = (1u << bits) - 1;
    size_t width = group ? group : cols;
    *q = (qmat_case){.rows = rows, .cols = cols, .group = width, .bits = bits, .symmetric = symmetric};
    q->groups = (cols + width - 1) / width;
    q->blocks = (cols + LB_QMAT_COLS - 1) / LB_QMAT_COLS;
    q->codes = lb_alloc(rows * cols, 1);
    q->scales = lb_alloc(rows * q->groups, sizeof(float));
    q->zeros = lb_alloc(rows * q->groups, sizeof(float));
    assert_non_null(q->codes);
    assert_non_null(q->scales);
    assert_non_null(q->zeros);
    for (size_t i = 0; i < rows * cols; i++)
        q->codes[i] = (uint8_t)(kind == WEIGHTS_ALL_MAX ? most
                                : kind == WEIGHTS_ZERO  ? 0
                                                        : lb_rng_below(rng, most + 1));
    for (size_t i = 0; i < rows * q->groups; i++) {
        q->scales[i] = random_scale(rng, kind);
        q->zeros[i] = (float)(symmetric                 ? 1u << (bits - 1)
                              : kind == WEIGHTS_ALL_MAX ? 0
                                                        : lb_rng_below(rng, most + 1));
    }
    lb_error err = {LB_OK, ""};
    assert_int_equal(lb_qmat_create(rows, cols, bits, group, symmetric, &q->matrix, &err), LB_OK);
    assert_int_equal(lb_qvec_create(1, cols, &q->vector, &err), LB_OK);
    for (size_t r = 0; r < rows; r++)
        lb_qmat_set_row(q->matrix, r, q->codes + r * cols, q->scales + r * q->groups,
                        symmetric ? NULL : q->zeros + r * q->groups);
}

static inline void case_set_vector(qmat_case *q, lb_rng *rng, const lb_kernels *kernels, vector_kind kind)
{
    float *x = lb_alloc(q->cols, sizeof *x);
    assert_non_null(x);
    for (size_t c = 0; c < q->cols; c++)
        x[c] = kind == VECTOR_RANDOM || kind == VECTOR_HALVES ? (float)lb_rng_normal(rng)
               : kind == VECTOR_ALL_MAX                       ? 3.7f
               : kind == VECTOR_ALL_MIN                       ? -3.7f
               : kind == VECTOR_ZERO                          ? 0.0f
               : lb_rng_below(rng, 2)                         ? 3.7f
                                                              : -3.7f;
    lb_format nvint4;
    assert_int_equal(lb_format_parse("nvint4", &nvint4, NULL), LB_OK);
    if (kind == VECTOR_HALVES)
        assert_true(lb_qvec_set_format(kernels, q->vector, &nvint4, x, 1, q->cols));
    else
        lb_qvec_set(kernels, q->vector, x, 1, q->cols);
    assert_int_equal(q->vector->halves, kind == VECTOR_HALVES);
    lb_free(x);
}

/* Half a block's sums of code * x and of x, from the original codes. */
static inline void half_sums(const qmat_case *q, size_t row, size_t half, int64_t *products, int64_t *alone)
{
    *products = *alone = 0;
    for (size_t c = half * 16; c < q->cols && c < (half + 1) * 16; c++) {
        *products += (int64_t)q->codes[row * q->cols + c] * q->vector->codes[c];
        *alone += q->vector->codes[c];
    }
}

/* What kernels.def promises, bit for bit, for one row. */
static inline float promised(const qmat_case *q, size_t row)
{
    float total = 0.0f, sum = 0.0f, x_sum = 0.0f;
    const float *scales = q->vector->scales;
    for (size_t b = 0; b < q->blocks; b++) {
        int64_t products[2], alone[2];
        half_sums(q, row, 2 * b, &products[0], &alone[0]);
        half_sums(q, row, 2 * b + 1, &products[1], &alone[1]);
        if (q->vector->halves) {
            sum += (float)products[0] * scales[2 * b];
            sum += (float)products[1] * scales[2 * b + 1];
            x_sum += scales[2 * b] * (float)alone[0] + scales[2 * b + 1] * (float)alone[1];
        } else {
            sum += (float)(products[0] + products[1]) * scales[2 * b];
            x_sum += scales[2 * b] * (float)(alone[0] + alone[1]);
        }
        size_t group = b * LB_QMAT_COLS / q->group, next = (b + 1) * LB_QMAT_COLS / q->group;
        if (b + 1 == q->blocks || next != group) {
            size_t at = row * q->groups + group;
            total += q->scales[at] * (sum - q->zeros[at] * x_sum);
            sum = x_sum = 0.0f;
        }
    }
    return total;
}

/* The product in double, and a bound on the error of any order of float additions. */
static inline double obvious(const qmat_case *q, size_t row, double *bound)
{
    double total = 0.0, magnitude = 0.0;
    for (size_t h = 0; h < 2 * q->blocks && h * 16 < q->cols; h++) {
        int64_t products, alone;
        half_sums(q, row, h, &products, &alone);
        size_t at = row * q->groups + h * 16 / q->group;
        double step = (double)q->scales[at] * (double)q->vector->scales[h];
        total += step * ((double)products - (double)q->zeros[at] * (double)alone);
        magnitude += fabs(step) * (fabs((double)products) + (double)q->zeros[at] * fabs((double)alone));
    }
    *bound = (2.0 * (double)q->blocks + 6.0) * 0x1p-24 * magnitude + 0x1p-140;
    return total;
}

static inline void check_bits(const char *what, const qmat_case *q, size_t at, float got, float want)
{
    if (lb_float_bits(got) == lb_float_bits(want))
        return;
    fail_msg("%s: %zu x %zu, %u bits, group %zu, %s, at %zu: got %a, wanted %a", what, q->rows, q->cols,
             q->bits, q->group, q->symmetric ? "symmetric" : "asymmetric", at, (double)got, (double)want);
}

enum { GUARDS = 16 };
static const float GUARD = -12345.0f;

/* Seven vectors at once: each gets the bits that it gets alone. */
static inline void check_few(const qmat_case *q, const lb_kernels *kernels)
{
    enum { FEW = 7 };
    lb_rng rng;
    lb_qvec *all, *one;
    lb_rng_seed(&rng, q->rows * 1000 + q->cols);
    float *x = lb_alloc(FEW * q->cols, sizeof *x), *y = lb_alloc(FEW * q->rows + GUARDS, sizeof *y),
          *alone = lb_alloc(q->rows, sizeof *alone);
    assert_true(x && y && alone);
    for (size_t i = 0; i < FEW * q->cols; i++)
        x[i] = (float)lb_rng_normal(&rng);
    for (size_t i = 0; i < GUARDS; i++)
        y[FEW * q->rows + i] = GUARD;
    assert_int_equal(lb_qvec_create(FEW, q->cols, &all, NULL), LB_OK);
    assert_int_equal(lb_qvec_create(1, q->cols, &one, NULL), LB_OK);
    lb_qvec_set(kernels, all, x, FEW, q->cols);
    lb_qmat_times(kernels, q->matrix, all, y);
    for (size_t i = 0; i < FEW; i++) {
        lb_qvec_set(kernels, one, x + i * q->cols, 1, q->cols);
        lb_qmat_times(kernels, q->matrix, one, alone);
        for (size_t r = 0; r < q->rows; r++)
            check_bits("one of seven vectors", q, r, y[i * q->rows + r], alone[r]);
    }
    for (size_t i = 0; i < GUARDS; i++)
        assert_true(y[FEW * q->rows + i] == GUARD);
    lb_qvec_destroy(all);
    lb_qvec_destroy(one);
    lb_free(x);
    lb_free(y);
    lb_free(alone);
}

/* y = W x by `kernels`, against both versions above; nothing may be written after the last row. */
static inline void check_times(const qmat_case *q, const lb_kernels *kernels)
{
    float *y = lb_alloc(q->rows + GUARDS, sizeof *y);
    assert_non_null(y);
    for (size_t i = 0; i < q->rows + GUARDS; i++)
        y[i] = GUARD;
    lb_qmat_times(kernels, q->matrix, q->vector, y);
    for (size_t r = 0; r < q->rows; r++) {
        double bound, want = obvious(q, r, &bound);
        check_bits("product", q, r, y[r], promised(q, r));
        if (!(fabs((double)y[r] - want) <= bound))
            fail_msg("row %zu: got %g, wanted %g within %g", r, (double)y[r], want, bound);
    }
    for (size_t i = q->rows; i < q->rows + GUARDS; i++)
        check_bits("guard after the product", q, i, y[i], GUARD);
    lb_free(y);
    if (q->rows * q->cols <= 1 << 14)
        check_few(q, kernels);
}

/* Rows [first, first + count) as floats. */
static inline void check_dequantize(const qmat_case *q, const lb_kernels *kernels, size_t first, size_t count)
{
    float *out = lb_alloc(count * q->cols + GUARDS, sizeof *out);
    assert_non_null(out);
    for (size_t i = 0; i < count * q->cols + GUARDS; i++)
        out[i] = GUARD;
    lb_qmat_dequantize(kernels, q->matrix, first, count, out);
    for (size_t i = 0; i < count * q->cols; i++) {
        size_t row = first + i / q->cols, column = i % q->cols;
        size_t at = row * q->groups + column / q->group;
        double steps = (double)q->codes[row * q->cols + column] - (double)q->zeros[at];
        double want = (double)q->scales[at] * steps;
        if ((double)out[i] != want)
            check_bits("expanded", q, i, out[i], (float)want);
    }
    for (size_t i = count * q->cols; i < count * q->cols + GUARDS; i++)
        check_bits("guard after the rows", q, i, out[i], GUARD);
    lb_free(out);
}

#endif
