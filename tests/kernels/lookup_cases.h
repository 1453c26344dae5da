/* SPDX-License-Identifier: MIT
 * Matrices of bit planes for the checks of look-up kernels: built from known bits and coefficients, multiplied here
 * in the slow obvious way, and compared with whatever table of kernels is to be checked.
 * For programs of one file: everything is static inline. */
#ifndef LB_TESTS_KERNELS_LOOKUP_CASES_H
#define LB_TESTS_KERNELS_LOOKUP_CASES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/half.h"
#include "base/rng.h"
#include "kernels/qmat.h"
#include "kernels/qvec.h"

enum { LOOKUP_MOST_COLS = 1100, LOOKUP_GUARDS = 16 };

typedef enum lookup_kind {
    LOOKUP_RANDOM,
    LOOKUP_ALL_SET, /* all bits 1, all activations the largest: the largest sums there are */
    LOOKUP_ALL_SET_NEGATIVE,
    LOOKUP_NONE_SET,
    LOOKUP_HUGE, /* coefficients of +-65504 */
    LOOKUP_ONE_OUTLIER, /* in a run of small activations */
    LOOKUP_ZERO_VECTOR,
    LOOKUP_KINDS
} lookup_kind;

typedef struct lookup_case {
    size_t rows, cols, groups;
    lb_format format;
    uint8_t *codes; /* [rows, cols] */
    float *params; /* [rows, groups, planes + 1] */
    float x[LOOKUP_MOST_COLS];
    lb_qmat *matrix;
    lb_qvec *vector;
} lookup_case;

static inline void lookup_destroy(lookup_case *q)
{
    lb_free(q->codes);
    lb_free(q->params);
    lb_qmat_destroy(q->matrix);
    lb_qvec_destroy(q->vector);
}

static inline float lookup_activation(lb_rng *rng, lookup_kind kind, size_t c)
{
    switch (kind) {
    case LOOKUP_ALL_SET:
        return 3.7f;
    case LOOKUP_ALL_SET_NEGATIVE:
        return -3.7f;
    case LOOKUP_ONE_OUTLIER:
        return c % 300 == 77 ? 500.0f : (float)lb_rng_normal(rng);
    case LOOKUP_ZERO_VECTOR:
        return 0.0f;
    default:
        return (float)lb_rng_normal(rng);
    }
}

static inline void lookup_create(lookup_case *q, lb_rng *rng, size_t rows, size_t cols, const char *format,
                                 lookup_kind kind)
{
    *q = (lookup_case){.rows = rows, .cols = cols};
    assert_true(cols <= LOOKUP_MOST_COLS);
    assert_int_equal(lb_format_parse(format, &q->format, NULL), LB_OK);
    q->groups = lb_format_groups(&q->format, cols);
    const size_t params = rows * q->groups * q->format.params;
    const unsigned levels = 1u << q->format.bits;
    q->codes = lb_alloc(rows * cols, 1);
    q->params = lb_alloc(params, sizeof(float));
    assert_non_null(q->codes);
    assert_non_null(q->params);
    for (size_t i = 0; i < rows * cols; i++)
        q->codes[i] = (uint8_t)(kind == LOOKUP_ALL_SET || kind == LOOKUP_ALL_SET_NEGATIVE ? levels - 1
                                : kind == LOOKUP_NONE_SET                                 ? 0
                                                          : lb_rng_below(rng, levels));
    for (size_t i = 0; i < params; i++)
        q->params[i] = kind == LOOKUP_HUGE ? (lb_rng_below(rng, 2) ? 65504.0f : -65504.0f)
                                           : lb_round_to_f16((float)lb_rng_normal(rng));
    for (size_t c = 0; c < cols; c++)
        q->x[c] = lookup_activation(rng, kind, c);
    assert_true(lb_qmat_holds(&q->format));
    assert_int_equal(lb_qmat_create_format(rows, cols, &q->format, &q->matrix, NULL), LB_OK);
    assert_int_equal(lb_qvec_create(1, cols, &q->vector, NULL), LB_OK);
    for (size_t r = 0; r < rows; r++)
        lb_qmat_set_encoded(q->matrix, r, q->codes + r * cols, q->params + r * q->groups * q->format.params);
}

static inline int32_t lookup_entry(const uint8_t *quad, unsigned subset)
{
    return quad[subset] + 64 * quad[16 + subset] - 2048;
}

/* The vector's 10-bit codes, out of the tables' sums of one entry. */
static inline void lookup_codes(const lb_sums_view *sums, size_t cols, int32_t *codes)
{
    for (size_t c = 0; c < cols; c++)
        codes[c] = lookup_entry(sums->tables + c / 4 * 32, 1u << c % 4);
}

/* Whether tables, scales and sums are what plane_panel.h says of x [cols]. */
static inline void check_tables(const lb_sums_view *sums, const float *x, size_t cols)
{
    const size_t units = (cols + 15) / 16;
    int32_t codes[LOOKUP_MOST_COLS + 16] = {0};
    lookup_codes(sums, units * 16, codes);
    for (size_t run = 0; run * 256 < cols; run++) {
        double largest = 0.0;
        for (size_t c = run * 256; c < cols && c < run * 256 + 256; c++)
            if (fabs((double)x[c]) > largest)
                largest = fmin(fabs((double)x[c]), (double)FLT_MAX);
        float scale = (float)(largest / 511.0);
        if (!(scale >= FLT_MIN))
            scale = 0.0f;
        assert_true(sums->scales[run] == scale);
        for (size_t c = run * 256; c < units * 16 && c < run * 256 + 256; c++) {
            double exact = c < cols && scale > 0.0f && !isnan(x[c]) ? (double)x[c] / (double)scale : 0.0;
            exact = fmax(-511.0, fmin(511.0, exact));
            /* A multiplication by the rounded inverse may move a tie by 2 roundings. */
            if (!(fabs(codes[c] - exact) <= 0.5 + 511.0 * 0x1p-22))
                fail_msg("entry %zu: %g is %g steps, got code %d", c, (double)x[c], exact, codes[c]);
        }
    }
    for (size_t u = 0; u < units; u++) {
        int32_t alone = 0;
        for (size_t c = u * 16; c < u * 16 + 16; c++)
            alone += codes[c];
        assert_int_equal(sums->code_sums[u], alone);
    }
    for (size_t quad = 0; quad < units * 4; quad++) {
        for (unsigned subset = 0; subset < 16; subset++) {
            const uint8_t *table = sums->tables + quad * 32;
            int32_t want = 0;
            for (unsigned i = 0; i < 4; i++)
                want += subset >> i & 1 ? codes[quad * 4 + i] : 0;
            assert_int_equal(lookup_entry(table, subset), want);
            assert_true(table[subset] < 64 && table[16 + subset] < 64);
        }
    }
}

/* What kernels.def promises, bit for bit, for one row; and the same in double with a bound on the rounding of float
 * additions in any order. */
static inline float lookup_promised(const lookup_case *q, size_t row, double *obvious, double *bound)
{
    const lb_sums_view sums = lb_qvec_sums(q->vector, 0);
    const size_t group = q->format.group ? q->format.group : q->cols, run = group < 256 ? group : 256;
    const unsigned planes = q->format.bits;
    int32_t codes[LOOKUP_MOST_COLS];
    double exact = 0.0, magnitude = 0.0;
    float y = 0.0f;
    lookup_codes(&sums, q->cols, codes);
    for (size_t begin = 0; begin < q->cols; begin += run) {
        const float *c = q->params + (row * q->groups + begin / group) * q->format.params;
        const float scale = sums.scales[begin / 256];
        for (unsigned p = 0; p <= planes; p++) { /* 0: the constant, which goes with all */
            int64_t sum = 0;
            for (size_t i = begin; i < q->cols && i < begin + run; i++)
                sum += p == 0 || (q->codes[row * q->cols + i] >> (p - 1) & 1) ? codes[i] : 0;
            y += c[p] * (scale * (float)sum);
            exact += (double)c[p] * (double)scale * (double)sum;
            magnitude += fabs((double)c[p] * (double)scale * (double)sum);
        }
    }
    *obvious = exact;
    *bound = ((double)(q->cols / run + 1) * (planes + 1) + 3.0) * 0x1p-24 * magnitude + 0x1p-140;
    return y;
}

static inline void check_same_float(const lookup_case *q, const char *what, size_t at, float got, float want)
{
    if (lb_float_bits(got) != lb_float_bits(want))
        fail_msg("%s: %s, %zu x %zu, at %zu: got %a, wanted %a", q->format.name, what, q->rows, q->cols, at,
                 (double)got, (double)want);
}

static inline double lookup_weight(const lookup_case *q, size_t row, size_t c)
{
    const size_t group = q->format.group ? c / q->format.group : 0;
    const float *params = q->params + (row * q->groups + group) * q->format.params;
    double w = (double)params[0];
    for (unsigned p = 0; p < q->format.bits; p++)
        w += q->codes[row * q->cols + c] >> p & 1 ? (double)params[p + 1] : 0.0;
    return w;
}

/* y = W x by `kernels`; nothing may be written after the last row. The last check knows nothing of tables: what ten
 * bits a run of activations can cost at most. */
static inline void check_lookup_times(lookup_case *q, const lb_kernels *kernels)
{
    const float guard = -12345.0f;
    float *y = lb_alloc(q->rows + LOOKUP_GUARDS, sizeof *y);
    assert_non_null(y);
    for (size_t i = 0; i < q->rows + LOOKUP_GUARDS; i++)
        y[i] = guard;
    lb_qvec_set(kernels, q->vector, q->x, 1, q->cols);
    lb_qmat_times(kernels, q->matrix, q->vector, y);
    const lb_sums_view sums = lb_qvec_sums(q->vector, 0);
    check_tables(&sums, q->x, q->cols);
    for (size_t r = 0; r < q->rows; r++) {
        double obvious, bound, exact = 0.0, lost = 0.0;
        check_same_float(q, "product", r, y[r], lookup_promised(q, r, &obvious, &bound));
        if (!(fabs((double)y[r] - obvious) <= bound))
            fail_msg("row %zu: got %g, wanted %g within %g", r, (double)y[r], obvious, bound);
        for (size_t c = 0; c < q->cols; c++) {
            const double w = lookup_weight(q, r, c);
            exact += w * (double)q->x[c];
            lost += fabs(w) * (0.5 + 511.0 * 0x1p-22) * (double)sums.scales[c / 256];
        }
        if (!(fabs((double)y[r] - exact) <= lost + bound))
            fail_msg("row %zu: got %g, wanted %g within %g", r, (double)y[r], exact, lost + bound);
    }
    for (size_t i = q->rows; i < q->rows + LOOKUP_GUARDS; i++)
        check_same_float(q, "guard after the product", i, y[i], guard);
    lb_free(y);
}

/* Rows [first, first + count) are what the format decodes. */
static inline void check_lookup_dequantize(const lookup_case *q, const lb_kernels *kernels, size_t first,
                                           size_t count)
{
    const float guard = -12345.0f;
    float *out = lb_alloc(count * q->cols + LOOKUP_GUARDS, sizeof *out), w[LOOKUP_MOST_COLS];
    assert_non_null(out);
    for (size_t i = 0; i < count * q->cols + LOOKUP_GUARDS; i++)
        out[i] = guard;
    lb_qmat_dequantize(kernels, q->matrix, first, count, out);
    for (size_t r = 0; r < count; r++) {
        lb_format_decode_row(&q->format, q->codes + (first + r) * q->cols,
                             q->params + (first + r) * q->groups * q->format.params, q->cols, w);
        for (size_t c = 0; c < q->cols; c++)
            check_same_float(q, "expanded", r * q->cols + c, out[r * q->cols + c], w[c]);
    }
    for (size_t i = count * q->cols; i < count * q->cols + LOOKUP_GUARDS; i++)
        check_same_float(q, "guard after the rows", i, out[i], guard);
    lb_free(out);
}

/* Every number of planes, grouping and odd size, and every extreme. */
static inline void check_lookup_shapes(lb_rng *rng, const lb_kernels *const *all, size_t count, bool few)
{
    static const size_t rows[] = {1, 63, 64, 65, 200},
                        cols[] = {1, 15, 16, 17, 31, 33, 255, 256, 257, 576, 1099};
    static const char *const groups[] = {"g32", "g64", "g128", "g256", "row"};
    const size_t steps = few ? 7 : 1; /* coprime to all the counts */
    for (size_t i = 0; i < 4 * 5 * 5 * 11; i += steps) {
        char name[LB_FORMAT_NAME_BYTES];
        lookup_case q;
        snprintf(name, sizeof name, "bp%zu-%s", 1 + i % 4, groups[i / 4 % 5]);
        lookup_create(&q, rng, rows[i / 20 % 5], cols[i / 100], name, LOOKUP_RANDOM);
        const size_t first = lb_rng_below(rng, q.rows), some = 1 + lb_rng_below(rng, q.rows - first);
        for (size_t t = 0; t < count; t++) {
            check_lookup_times(&q, all[t]);
            check_lookup_dequantize(&q, all[t], 0, q.rows);
            check_lookup_dequantize(&q, all[t], first, some);
        }
        lookup_destroy(&q);
    }
}

static inline void check_lookup_extremes(lb_rng *rng, const lb_kernels *const *all, size_t count)
{
    static const char *const names[] = {"bp1-g32", "bp2-g256", "bp3-row", "bp4-g128"};
    for (size_t i = 0; i < 4 * LOOKUP_KINDS; i++) {
        lookup_case q;
        lookup_create(&q, rng, 70, 530, names[i % 4], (lookup_kind)(i / 4));
        for (size_t t = 0; t < count; t++)
            check_lookup_times(&q, all[t]);
        lookup_destroy(&q);
    }
}

static inline void check_lookup_strange(lb_rng *rng, const lb_kernels *const *all, size_t count)
{
    const float strange[] = {0.0f,     -0.0f,   NAN,       -NAN,      INFINITY, -INFINITY, FLT_MAX,
                             -FLT_MAX, FLT_MIN, 0x1p-149f, 0x1p-130f, 1.0f,     -3.0f,     FLT_MIN * 511.0f};
    enum { KINDS = sizeof strange / sizeof *strange, COLS = 600 };
    lb_qvec *vector = NULL;
    float x[COLS];
    assert_int_equal(lb_qvec_create(1, COLS, &vector, NULL), LB_OK);
    for (unsigned round = 0; round < 300; round++) {
        const size_t cols = 1 + lb_rng_below(rng, COLS);
        for (size_t c = 0; c < cols; c++)
            x[c] = strange[round < KINDS ? round : lb_rng_below(rng, KINDS)];
        for (size_t t = 0; t < count; t++) {
            lb_qvec_set(all[t], vector, x, 1, cols);
            lb_qvec_make_sums(all[t], vector);
            const lb_sums_view sums = lb_qvec_sums(vector, 0);
            check_tables(&sums, x, cols);
        }
    }
    lb_qvec_destroy(vector);
}

/* Half to even, and the ends of the range. */
static inline void check_lookup_ties(const lb_kernels *const *all, size_t count)
{
    const float x[16] = {511.0f, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 509.5f, 510.5f, -511.0f};
    const int32_t want[16] = {511, 0, 2, 2, 0, -2, -2, 510, 510, -511};
    lb_qvec *vector = NULL;
    assert_int_equal(lb_qvec_create(1, 16, &vector, NULL), LB_OK);
    for (size_t t = 0; t < count; t++) {
        int32_t codes[16];
        lb_qvec_set(all[t], vector, x, 1, 16);
        lb_qvec_make_sums(all[t], vector);
        const lb_sums_view sums = lb_qvec_sums(vector, 0);
        lookup_codes(&sums, 16, codes);
        assert_true(sums.scales[0] == 1.0f);
        assert_memory_equal(codes, want, sizeof want);
    }
    lb_qvec_destroy(vector);
}

#endif
