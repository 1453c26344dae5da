/* SPDX-License-Identifier: MIT
 * See qsnr_measure.h. */
#include "analyze/qsnr_measure.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "formats/block_format.h"
#include "kernels/cast.h"
#include "kernels/hadamard.h"

enum { SLAB_FLOATS = 1 << 20, CHUNK_FLOATS = 16 << 10 };

/* ---- One format ------------------------------------------------------------------------------------ */

static lb_status check_finite(const float *x, size_t rows, size_t cols, const char *name, lb_error *err)
{
    for (size_t row = 0; row < rows; row++) {
        const float *values = x + row * cols;
        if (lb_block_largest(values, cols) < lb_float_bits(INFINITY))
            continue;
        size_t col = 0;
        while (isfinite(values[col]))
            col++;
        return lb_fail(err, LB_EFORMAT, "%s: the value at row %zu, column %zu is %g, not a finite number",
                       name, row, col, (double)values[col]);
    }
    return LB_OK;
}

typedef struct sum_job {
    const float *x, *rounded;
    size_t cols;
    lb_qsnr *rows; /* one for each */
} sum_job;

static void sum_rows(void *arg, size_t begin, size_t end)
{
    const sum_job *j = arg;
    for (size_t row = begin; row < end; row++) {
        const float *x = j->x + row * j->cols, *rounded = j->rounded + row * j->cols;
        double signal[4] = {0.0}, noise[4] = {0.0}; /* four sums hide the time that an addition takes */
        for (size_t i = 0; i < j->cols; i++) {
            const double value = (double)x[i], error = value - (double)rounded[i];
            signal[i % 4] += value * value;
            noise[i % 4] += error * error;
        }
        j->rows[row] = (lb_qsnr){.signal = (signal[0] + signal[1]) + (signal[2] + signal[3]),
                                 .noise = (noise[0] + noise[1]) + (noise[2] + noise[3])};
    }
}

lb_status lb_qsnr_compare(const float *x, const float *rounded, size_t rows, size_t cols, lb_qsnr *sum,
                          lb_error *err)
{
    if (rows == 0 || cols == 0)
        return LB_OK;
    sum_job job = {.x = x, .rounded = rounded, .cols = cols};
    LB_TRY(lb_alloc_array(&job.rows, rows, sizeof *job.rows, "sums of rows", err));
    lb_parallel_for(rows, CHUNK_FLOATS / cols + 1, sum_rows, &job);
    for (size_t i = 0; i < rows; i++) {
        sum->signal += job.rows[i].signal;
        sum->noise += job.rows[i].noise;
    }
    sum->values += rows * cols;
    lb_free(job.rows);
    return LB_OK;
}

/* Of finite values, a few rows at a time. */
static lb_status add_rounded(const lb_kernels *kernels, const lb_format *format, const float *x, size_t rows,
                             size_t cols, lb_qsnr *sum, lb_error *err)
{
    if (rows == 0 || cols == 0)
        return LB_OK;
    size_t slab_rows = cols < SLAB_FLOATS ? SLAB_FLOATS / cols : 1;
    slab_rows = slab_rows < rows ? slab_rows : rows;
    float *rounded = NULL;
    lb_status st = LB_OK;
    LB_GO(lb_alloc_array(&rounded, slab_rows, cols * sizeof *rounded, format->name, err));
    for (size_t row = 0; row < rows; row += slab_rows) {
        const size_t count = rows - row < slab_rows ? rows - row : slab_rows;
        const float *values = x + row * cols;
        memcpy(rounded, values, count * cols * sizeof *rounded);
        LB_GO(lb_cast_rows(kernels, format, false, rounded, count, cols, err));
        LB_GO(lb_qsnr_compare(values, rounded, count, cols, sum, err));
    }
done:
    lb_free(rounded);
    return st;
}

lb_status lb_qsnr_add(const lb_kernels *kernels, const lb_format *format, const float *x, size_t rows,
                      size_t cols, const char *name, lb_qsnr *sum, lb_error *err)
{
    LB_TRY(check_finite(x, rows, cols, name, err));
    return add_rounded(kernels, format, x, rows, cols, sum, err);
}

double lb_qsnr_db(const lb_qsnr *sum)
{
    return sum->noise == 0.0 ? (double)INFINITY : 10.0 * log10(sum->signal / sum->noise);
}

/* ---- Several formats ------------------------------------------------------------------------------- */

/* What formats of one block size share. */
typedef struct view {
    size_t block;
    lb_crest *crest[2]; /* plain and rotated */
} view;

struct lb_qsnr_set {
    const lb_kernels *kernels;
    lb_format *formats;
    size_t *view_of; /* of each format */
    lb_qsnr *sums[2];
    double *bytes; /* stored */
    size_t count;
    view *views;
    size_t view_count;
    bool rotate;
    uint64_t seed;
    size_t tensors;
};

/* Formats without blocks are looked at in the blocks of most others. */
static size_t block_of(const lb_format *format)
{
    return lb_format_is_float(format) ? LB_MX_BLOCK : format->group;
}

static lb_status find_view(lb_qsnr_set *s, size_t block, size_t *out, lb_error *err)
{
    for (size_t i = 0; i < s->view_count; i++) {
        if (s->views[i].block == block) {
            *out = i;
            return LB_OK;
        }
    }
    view *v = &s->views[s->view_count];
    *v = (view){.block = block};
    *out = s->view_count++;
    LB_TRY(lb_crest_create(block, &v->crest[0], err));
    return s->rotate ? lb_crest_create(block, &v->crest[1], err) : LB_OK;
}

lb_status lb_qsnr_set_create(const lb_kernels *kernels, const lb_format *formats, size_t count, bool rotate,
                             uint64_t seed, lb_qsnr_set **out, lb_error *err)
{
    lb_qsnr_set *s = lb_alloc_zero(1, sizeof *s);
    lb_status st = LB_OK;
    if (!s)
        return lb_fail(err, LB_ENOMEM, "measuring formats: no memory");
    s->kernels = kernels;
    s->count = count;
    s->rotate = rotate;
    s->seed = seed;
    s->formats = lb_alloc_zero(count, sizeof *s->formats);
    s->view_of = lb_alloc_zero(count, sizeof *s->view_of);
    s->sums[0] = lb_alloc_zero(count, sizeof **s->sums);
    s->sums[1] = lb_alloc_zero(count, sizeof **s->sums);
    s->bytes = lb_alloc_zero(count, sizeof *s->bytes);
    s->views = lb_alloc_zero(count, sizeof *s->views);
    if (!s->formats || !s->view_of || !s->sums[0] || !s->sums[1] || !s->bytes || !s->views)
        st = lb_fail(err, LB_ENOMEM, "measuring %zu formats: no memory", count);
    for (size_t i = 0; i < count && st == LB_OK; i++) {
        s->formats[i] = formats[i];
        st = find_view(s, block_of(&formats[i]), &s->view_of[i], err);
    }
    if (st == LB_OK)
        *out = s;
    else
        lb_qsnr_set_destroy(s);
    return st;
}

void lb_qsnr_set_destroy(lb_qsnr_set *set)
{
    if (!set)
        return;
    for (size_t i = 0; i < set->view_count; i++) {
        lb_crest_destroy(set->views[i].crest[0]);
        lb_crest_destroy(set->views[i].crest[1]);
    }
    lb_free(set->formats);
    lb_free(set->view_of);
    lb_free(set->sums[0]);
    lb_free(set->sums[1]);
    lb_free(set->bytes);
    lb_free(set->views);
    lb_free(set);
}

/* The tensor as it is (rotated = 0) or rotated, for all formats of a view. */
static lb_status add_to_view(lb_qsnr_set *s, size_t which, int rotated, const float *x, size_t rows,
                             size_t cols, lb_error *err)
{
    LB_TRY(lb_crest_add(s->views[which].crest[rotated], x, rows, cols, err));
    for (size_t i = 0; i < s->count; i++) {
        if (s->view_of[i] != which)
            continue;
        lb_format format = s->formats[i];
        lb_format_bind(&format, x, rows * cols);
        LB_TRY(add_rounded(s->kernels, &format, x, rows, cols, &s->sums[rotated][i], err));
    }
    return LB_OK;
}

static lb_status add_rotated(lb_qsnr_set *s, size_t which, const float *x, size_t rows, size_t cols,
                             const char *name, lb_error *err)
{
    lb_rotation *rotation = NULL;
    float *rotated = NULL;
    lb_status st = LB_OK;
    LB_GO(lb_rotation_create(cols, s->views[which].block, true, s->seed + s->tensors, &rotation, err));
    LB_GO(lb_alloc_array(&rotated, rows, cols * sizeof *rotated, name, err));
    memcpy(rotated, x, rows * cols * sizeof *rotated);
    lb_rotation_apply(s->kernels, rotation, rotated, rows);
    st = check_finite(rotated, rows, cols, name, err);
    if (st != LB_OK) /* values beyond a float's range */
        st = lb_fail_at(err, st, "rotated");
    if (st == LB_OK)
        st = add_to_view(s, which, 1, rotated, rows, cols, err);
done:
    lb_rotation_destroy(rotation);
    lb_free(rotated);
    return st;
}

lb_status lb_qsnr_set_add(lb_qsnr_set *set, const float *x, size_t rows, size_t cols, const char *name,
                          lb_error *err)
{
    LB_TRY(check_finite(x, rows, cols, name, err));
    for (size_t which = 0; which < set->view_count; which++) {
        LB_TRY(add_to_view(set, which, 0, x, rows, cols, err));
        if (set->rotate)
            LB_TRY(add_rotated(set, which, x, rows, cols, name, err));
    }
    for (size_t i = 0; i < set->count; i++)
        set->bytes[i] += (double)lb_format_tensor_bytes(&set->formats[i], rows, cols);
    set->tensors++;
    return LB_OK;
}

lb_qsnr_result lb_qsnr_set_result(const lb_qsnr_set *set, size_t format, bool rotated)
{
    const lb_qsnr *sum = &set->sums[rotated][format];
    const lb_crest *crest = set->views[set->view_of[format]].crest[rotated];
    const lb_format *f = &set->formats[format];
    return (lb_qsnr_result){.qsnr_db = lb_qsnr_db(sum),
                            .theory_db = lb_crest_theory(crest, LB_THEORY_GRID, f),
                            .theory_paper_db = lb_crest_theory(crest, LB_THEORY_PAPER, f),
                            .crest = lb_crest_summarize(crest),
                            .values = sum->values,
                            .bits_per_value =
                                sum->values ? 8.0 * set->bytes[format] / (double)sum->values : 0.0};
}
