/* SPDX-License-Identifier: MIT
 * Matrices in SQ-format for the checks of their kernels: multiplied here in the slow obvious way, and compared with
 * whatever table of kernels is to be checked. For programs of one file: everything is static inline. */
#ifndef LB_TESTS_KERNELS_SQ_CASES_H
#define LB_TESTS_KERNELS_SQ_CASES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/half.h"
#include "base/rng.h"
#include "formats/kinds.h"
#include "formats/sq.h"
#include "kernels/qmat.h"
#include "kernels/qvec.h"

enum { SQ_MOST_COLS = 1280, SQ_GUARDS = 16 };

typedef enum sq_kind {
    SQ_RANDOM,
    SQ_LARGEST, /* all integers and activations the largest: the largest sums there are */
    SQ_LARGEST_NEGATIVE,
    SQ_CLUSTERED, /* the high elements of a row lie side by side, elsewhere in each row and bank */
    SQ_ZERO_VECTOR,
    SQ_KINDS
} sq_kind;

typedef struct sq_case {
    size_t rows, cols, banks;
    lb_format format;
    uint8_t *codes; /* [rows, cols] */
    float *params; /* [rows, banks, 2] */
    float x[SQ_MOST_COLS];
    lb_qmat *matrix;
    lb_qvec *vector;
} sq_case;

static inline void sq_destroy(sq_case *q)
{
    lb_free(q->codes);
    lb_free(q->params);
    lb_qmat_destroy(q->matrix);
    lb_qvec_destroy(q->vector);
}

/* One bank's codes: high_count places drawn without replacement. */
static inline void sq_fill_bank(const lb_format *f, lb_rng *rng, sq_kind kind, uint8_t *codes)
{
    const size_t run = lb_rng_below(rng, f->group);
    bool high[LB_KINDS_MOST_GROUP] = {false};
    for (size_t k = 0; k < f->high_count;) {
        const size_t at = kind == SQ_CLUSTERED ? (run + k) % f->group : lb_rng_below(rng, f->group);
        k += !high[at];
        high[at] = true;
    }
    for (size_t i = 0; i < f->group; i++) {
        const int top = high[i] ? lb_sq_high_top(f) : lb_sq_low_top(f);
        const int q = kind == SQ_LARGEST            ? top
                      : kind == SQ_LARGEST_NEGATIVE ? -top
                                                    : (int)lb_rng_below(rng, 2 * (unsigned)top + 1) - top;
        codes[i] = lb_sq_code(f, high[i], q);
    }
}

static inline void sq_create(sq_case *q, lb_rng *rng, size_t rows, size_t cols, const char *format,
                             sq_kind kind)
{
    *q = (sq_case){.rows = rows, .cols = cols};
    assert_true(cols <= SQ_MOST_COLS);
    assert_int_equal(lb_format_parse(format, &q->format, NULL), LB_OK);
    q->banks = cols / q->format.group;
    q->codes = lb_alloc(rows * cols, 1);
    q->params = lb_alloc(rows * q->banks * LB_SQ_PARAMS, sizeof(float));
    assert_non_null(q->codes);
    assert_non_null(q->params);
    for (size_t i = 0; i < rows * cols; i += q->format.group)
        sq_fill_bank(&q->format, rng, kind, q->codes + i);
    for (size_t i = 0; i < rows * q->banks * LB_SQ_PARAMS; i++)
        q->params[i] = lb_round_to_f16((float)fabs(lb_rng_normal(rng)));
    for (size_t c = 0; c < cols; c++)
        q->x[c] = kind == SQ_ZERO_VECTOR                              ? 0.0f
                  : kind == SQ_LARGEST || kind == SQ_LARGEST_NEGATIVE ? 3.0f
                                                                      : (float)lb_rng_normal(rng);
    assert_true(lb_qmat_holds(&q->format));
    assert_int_equal(lb_qmat_create_format(rows, cols, &q->format, &q->matrix, NULL), LB_OK);
    assert_int_equal(lb_qvec_create(1, cols, &q->vector, NULL), LB_OK);
    for (size_t r = 0; r < rows; r++)
        lb_qmat_set_encoded(q->matrix, r, q->codes + r * cols, q->params + r * q->banks * LB_SQ_PARAMS);
}

/* Sum of one kind's integers times codes over columns [begin, end). */
static inline int32_t sq_integer_sum(const sq_case *q, const lb_qvec_view *x, size_t row, bool high,
                                     size_t begin, size_t end)
{
    int32_t sum = 0;
    for (size_t c = begin; c < end; c++) {
        const uint8_t code = q->codes[row * q->cols + c];
        if (lb_sq_is_high(&q->format, code) == high)
            sum += lb_sq_integer(&q->format, code) * x->codes[c];
    }
    return sum;
}

/* What kernels.def promises of the low panel, bit for bit. */
static inline float sq_promised_low(const sq_case *q, const lb_qvec_view *x, size_t row)
{
    const size_t bank = q->format.group, width = x->halves || bank == 16 ? 16 : 32;
    const float *params = q->params + row * q->banks * LB_SQ_PARAMS;
    const int32_t zero = 1 << (q->format.low_bits - 1);
    float y = 0.0f;
    for (size_t b = 0; b < q->banks; b++) {
        float sum = 0.0f, x_sum = 0.0f;
        for (size_t c = b * bank; c < (b + 1) * bank; c += width) {
            int32_t integers = sq_integer_sum(q, x, row, false, c, c + width);
            if (bank == 16) {
                y += params[b * LB_SQ_PARAMS + LB_SQ_LOW] * ((float)integers * x->scales[c / 16]);
                continue;
            }
            for (size_t i = c; i < c + width; i++) /* a group's zero is taken off in floats */
                integers += zero * x->codes[i];
            sum += (float)integers * x->scales[c / 16];
            x_sum += c % 32 == 0 ? x->sums[c / 32] : 0.0f;
        }
        if (bank != 16)
            y += params[b * LB_SQ_PARAMS + LB_SQ_LOW] * (sum - (float)zero * x_sum);
    }
    return y;
}

static inline float sq_promised(const sq_case *q, const lb_qvec_view *x, size_t row)
{
    const size_t bank = q->format.group, width = x->halves || bank == 16 ? 16 : 32;
    float y = sq_promised_low(q, x, row);
    for (size_t b = 0; b < q->banks; b++) {
        float sum = 0.0f;
        for (size_t c = b * bank; c < (b + 1) * bank; c += width)
            sum += (float)sq_integer_sum(q, x, row, true, c, c + width) * x->scales[c / 16];
        y += q->params[(row * q->banks + b) * LB_SQ_PARAMS + LB_SQ_HIGH] * sum;
    }
    return y;
}

/* y = W x by `kernels`, of the vector as it is set: the promised bits, and what the same codes give as numbers, in
 * double. Nothing may be written after the last row. */
static inline void check_sq_product(const sq_case *q, const lb_kernels *kernels)
{
    const lb_qvec_view x = lb_qvec_codes(q->vector, 0);
    const float guard = -12345.0f;
    float *y = lb_alloc(q->rows + SQ_GUARDS, sizeof *y), w[SQ_MOST_COLS];
    assert_non_null(y);
    for (size_t i = 0; i < q->rows + SQ_GUARDS; i++)
        y[i] = guard;
    lb_qmat_times(kernels, q->matrix, q->vector, y);
    for (size_t r = 0; r < q->rows; r++) {
        const float want = sq_promised(q, &x, r);
        double exact = 0.0, magnitude = 0.0;
        if (lb_float_bits(y[r]) != lb_float_bits(want))
            fail_msg("%s, %zu x %zu, row %zu: got %a, wanted %a", q->format.name, q->rows, q->cols, r,
                     (double)y[r], (double)want);
        lb_format_decode_row(&q->format, q->codes + r * q->cols, q->params + r * q->banks * LB_SQ_PARAMS,
                             q->cols, w);
        for (size_t c = 0; c < q->cols; c++) {
            const double value = (double)x.scales[c / 16] * (double)x.codes[c];
            exact += (double)w[c] * value;
            /* low integers are multiplied together with their zero */
            magnitude +=
                (fabs((double)w[c]) + 16.0 * (double)q->params[(r * q->banks + c / q->format.group) * 2]) *
                fabs(value);
        }
        const double bound = ((double)q->cols / 16.0 + 8.0) * 0x1p-24 * magnitude + 0x1p-140;
        if (!(fabs((double)y[r] - exact) <= bound))
            fail_msg("%s, row %zu: got %g, wanted %g within %g", q->format.name, r, (double)y[r], exact,
                     bound);
    }
    for (size_t i = q->rows; i < q->rows + SQ_GUARDS; i++)
        assert_true(y[i] == guard);
    lb_free(y);
}

/* Every third code the least that a byte holds. */
static inline void sq_set_least_codes(const sq_case *q)
{
    lb_qvec *v = q->vector;
    for (size_t c = 0; c < q->cols; c += 3)
        v->codes[c] = -128;
    for (size_t b = 0; b < (q->cols + 31) / 32; b++) {
        for (size_t h = 2 * b; h < 2 * b + 2; h++) {
            v->code_sums[h] = 0;
            for (size_t c = 16 * h; c < 16 * h + 16; c++)
                v->code_sums[h] += v->codes[c];
        }
        v->sums[b] = v->scales[2 * b] * (float)(v->code_sums[2 * b] + v->code_sums[2 * b + 1]);
    }
}

static inline void check_sq_times(sq_case *q, const lb_kernels *kernels, const lb_kernels *setting)
{
    static const char *const acts[] = {"mxint8", "nvint4"};
    lb_qvec_set(setting, q->vector, q->x, 1, q->cols);
    check_sq_product(q, kernels);
    sq_set_least_codes(q);
    check_sq_product(q, kernels);
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++) {
        lb_format act;
        assert_int_equal(lb_format_parse(acts[i], &act, NULL), LB_OK);
        assert_true(lb_qvec_set_format(setting, q->vector, &act, q->x, 1, q->cols));
        assert_true(lb_qmat_takes(q->matrix, q->vector));
        check_sq_product(q, kernels);
    }
}

/* Rows [first, first + count) are what the format decodes. */
static inline void check_sq_dequantize(const sq_case *q, const lb_kernels *kernels, size_t first,
                                       size_t count)
{
    const float guard = -12345.0f;
    float *out = lb_alloc(count * q->cols + SQ_GUARDS, sizeof *out), w[SQ_MOST_COLS];
    assert_non_null(out);
    for (size_t i = 0; i < count * q->cols + SQ_GUARDS; i++)
        out[i] = guard;
    lb_qmat_dequantize(kernels, q->matrix, first, count, out);
    for (size_t r = 0; r < count; r++) {
        lb_format_decode_row(&q->format, q->codes + (first + r) * q->cols,
                             q->params + (first + r) * q->banks * LB_SQ_PARAMS, q->cols, w);
        for (size_t c = 0; c < q->cols; c++)
            if (out[r * q->cols + c] != w[c])
                fail_msg("%s, row %zu, column %zu: %g, wanted %g", q->format.name, first + r, c,
                         (double)out[r * q->cols + c], (double)w[c]);
    }
    for (size_t i = count * q->cols; i < count * q->cols + SQ_GUARDS; i++)
        assert_true(out[i] == guard);
    lb_free(out);
}

/* Every pair of widths, bank, fraction and odd number of rows, and every extreme. `setting` makes the vectors. */
static inline void check_sq_shapes(lb_rng *rng, const lb_kernels *const *all, size_t count,
                                   const lb_kernels *setting, bool few)
{
    static const char *const widths[] = {"8/4", "8/3", "8/2", "4/2", "6/4"};
    static const char *const fractions[] = {"0.5", "0.75", "0.875", "0.9375"};
    static const size_t rows[] = {1, 15, 16, 17, 40}, banks[] = {16, 32, 64, 128, 256};
    const size_t all_of_them = 5 * 4 * 5 * SQ_KINDS, steps = few ? 7 : 1; /* coprime to all the counts */
    for (size_t i = 0; i < all_of_them; i += steps) {
        char name[LB_FORMAT_NAME_BYTES];
        const size_t bank = banks[i / 20 % 5];
        sq_case q;
        snprintf(name, sizeof name, "sq%s-b%zu-s%s", widths[i % 5], bank, fractions[i / 5 % 4]);
        sq_create(&q, rng, rows[(i + i / 100) % 5], bank * (1 + i % 4 * (bank < 256 ? 1 : 0) + i % 2), name,
                  (sq_kind)(i / 100));
        const size_t first = lb_rng_below(rng, q.rows), some = 1 + lb_rng_below(rng, q.rows - first);
        for (size_t t = 0; t < count; t++) {
            check_sq_times(&q, all[t], setting);
            check_sq_dequantize(&q, all[t], 0, q.rows);
            check_sq_dequantize(&q, all[t], first, some);
        }
        sq_destroy(&q);
    }
}

#endif
