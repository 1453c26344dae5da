/* SPDX-License-Identifier: MIT
 * Rows of integers times matrices, for the checks of every level: against sums of 64-bit integers, joined in floats as
 * kernels.def says, bit for bit; and against what the float simulation of the same codes gives. */
#ifndef LB_TESTS_KERNELS_QROWS_CASES_H
#define LB_TESTS_KERNELS_QROWS_CASES_H

#include "kernels/qmat_cases.h"

#include "kernels/cast.h"
#include "kernels/qrows.h"

typedef struct rows_case {
    size_t count, split;
    lb_format formats[LB_QROWS_PARTS];
    float *x, *values; /* [count, cols]: as given, and as rounded */
    double *codes; /* [count, cols] */
    float *scales; /* [count][LB_QROWS_PARTS] */
    lb_qrows *rows;
} rows_case;

static inline void rows_destroy(rows_case *r)
{
    lb_free(r->x);
    lb_free(r->values);
    lb_free(r->codes);
    lb_free(r->scales);
    lb_qrows_destroy(r->rows);
}

/* Codes and scale of columns [begin, end) of a row, by the format's own functions. */
static inline void encode_slowly(rows_case *r, const lb_format *f, size_t part, size_t row, size_t begin,
                                 size_t end, size_t cols)
{
    uint8_t codes[1024];
    float params[LB_FORMAT_MAX_PARAMS];
    const float *x = r->x + row * cols + begin;
    if (begin == end)
        return;
    assert_true(end - begin <= sizeof codes);
    lb_format_encode_row(f, x, NULL, end - begin, LB_FIT_RANGE, codes, params);
    lb_format_decode_row(f, codes, params, end - begin, r->values + row * cols + begin);
    for (size_t i = begin; i < end; i++)
        r->codes[row * cols + i] = (double)codes[i - begin] - (double)(1u << (f->bits - 1));
    r->scales[row * LB_QROWS_PARTS + part] = params[0];
}

/* extreme: +-1 only, so that codes are the lowest there is and the highest. */
static inline void rows_create(rows_case *r, lb_rng *rng, const char *high, const char *low, size_t split,
                               size_t count, size_t cols, bool extreme)
{
    lb_error err = {LB_OK, ""};
    *r = (rows_case){.count = count, .split = split};
    assert_int_equal(lb_format_parse(high, &r->formats[0], &err), LB_OK);
    assert_int_equal(lb_format_parse(low, &r->formats[1], &err), LB_OK);
    r->x = lb_alloc(count * cols, sizeof *r->x);
    r->values = lb_alloc(count * cols, sizeof *r->values);
    r->codes = lb_alloc(count * cols, sizeof *r->codes);
    r->scales = lb_alloc(count * LB_QROWS_PARTS, sizeof *r->scales);
    assert_true(r->x && r->values && r->codes && r->scales);
    for (size_t i = 0; i < count * cols; i++)
        r->x[i] = !extreme ? (float)lb_rng_normal(rng) : i % 3 == 0 ? 1.0f : -1.0f;
    for (size_t row = 0; row < count; row++) {
        encode_slowly(r, &r->formats[0], 0, row, 0, split, cols);
        encode_slowly(r, &r->formats[1], 1, row, split, cols, cols);
    }
    const lb_row_parts parts = {.formats = {&r->formats[0], &r->formats[1]}, .split = split};
    assert_int_equal(lb_qrows_create(&r->rows, &err), LB_OK);
    assert_int_equal(lb_qrows_set(r->rows, &parts, r->x, count, cols, &err), LB_OK);
}

/* One part of one product. */
static inline float part_product(const qmat_case *q, const rows_case *r, size_t token, size_t row,
                                 size_t part)
{
    const size_t begin = part ? r->split : 0, end = part ? q->cols : r->split;
    float y = 0.0f;
    for (size_t g = begin / q->group; g * q->group < end; g++) {
        double sum = 0.0; /* exact: integers far below 2^53 */
        for (size_t c = g * q->group; c < (g + 1) * q->group && c < end; c++)
            if (c >= begin)
                sum += ((double)q->codes[row * q->cols + c] - (double)q->zeros[row * q->groups + g]) *
                       r->codes[token * q->cols + c];
        y += q->scales[row * q->groups + g] * (float)sum;
    }
    return y * r->scales[token * LB_QROWS_PARTS + part];
}

static inline double simulated_rows(const qmat_case *q, const rows_case *r, size_t token, size_t row,
                                    double *size)
{
    double sum = 0.0;
    *size = 0.0;
    for (size_t c = 0; c < q->cols; c++) {
        const size_t g = c / q->group;
        const double w = (double)q->scales[row * q->groups + g] *
                         ((double)q->codes[row * q->cols + c] - (double)q->zeros[row * q->groups + g]);
        const double term = w * (double)r->values[token * q->cols + c];
        sum += term;
        *size += fabs(term);
    }
    return sum;
}

static inline void check_rows(const qmat_case *q, const rows_case *r, const lb_kernels *kernels)
{
    float *y = lb_alloc(r->count * q->rows, sizeof *y);
    assert_non_null(y);
    assert_true(lb_qmat_takes_rows(q->matrix));
    lb_qmat_times_rows(kernels, q->matrix, r->rows, y);
    for (size_t i = 0; i < r->count * q->rows; i++) {
        const size_t token = i / q->rows, row = i % q->rows;
        const bool first = r->split > 0, second = r->split < q->cols;
        const float a = first ? part_product(q, r, token, row, 0) : 0.0f,
                    b = second ? part_product(q, r, token, row, 1) : 0.0f;
        const float want = first && second ? a + b : first ? a : b;
        double size;
        const double simulation = simulated_rows(q, r, token, row, &size);
        if (!(y[i] == want))
            fail_msg("%zu x %zu, %u bits in groups of %zu, token %zu, row %zu: %.9g, wanted %.9g", q->rows,
                     q->cols, q->bits, q->group, token, row, (double)y[i], (double)want);
        /* Floats round once a group and part, and once or twice in the end. */
        if (!(fabs((double)y[i] - simulation) <= (double)(2 * q->groups + 4) * 0x1p-24 * size + 1e-37))
            fail_msg("%.9g, simulated %.9g", (double)y[i], simulation);
    }
    lb_free(y);
}

/* Widths, groups, zeros, tokens, a second part that begins anywhere. */
static inline void check_rows_shapes(const lb_kernels *const *levels, size_t level_count)
{
    static const char *const formats[][2] = {
        {"int8-row", "int4-row"}, {"int8-row", "int8-row"}, {"int4-row", "int2-row"}};
    const size_t rows[] = {1, 16, 33}, cols[] = {1, 33, 96, 352}, groups[] = {32, 128, 0},
                 counts[] = {1, 4, 7};
    lb_rng rng;
    lb_rng_seed(&rng, 51);
    for (unsigned bits = 2; bits <= 8; bits++) {
        for (size_t i = 0; i < 3 * 4 * 3 * 2; i++) {
            const size_t n = cols[i / 3 % 4], split = lb_rng_below(&rng, 3) ? lb_rng_below(&rng, n + 1) : 0;
            qmat_case q;
            rows_case r;
            const bool extreme = lb_rng_below(&rng, 3) == 0;
            case_create(&q, &rng, rows[i % 3], n, bits, groups[i / 12 % 3], i >= 36,
                        extreme ? WEIGHTS_ALL_MAX : WEIGHTS_RANDOM);
            rows_create(&r, &rng, formats[i % 3][0], formats[i % 3][1], split, counts[i / 3 % 3], n, extreme);
            for (size_t k = 0; k < level_count; k++)
                check_rows(&q, &r, levels[k]);
            rows_destroy(&r);
            case_destroy(&q);
        }
    }
}

#endif
