/* SPDX-License-Identifier: MIT
 * See qrows.h. */
#include "kernels/qrows.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "formats/int.h"
#include "kernels/qmat_kind.h"

/* Tokens whose products with a panel are made before they are put where they belong. */
enum { BATCH = 64, ROWS_PER_CHUNK = 8, CHUNK_PRODUCTS = 1 << 18 };

/* One part of every row. Columns of other parts are zero, so that a block that two parts share is right in both. */
typedef struct part {
    int8_t *codes; /* [count][blocks * 32] */
    int32_t *sums; /* [count][blocks] */
    float *scales; /* [count] */
} part;

struct lb_qrows {
    size_t count, cols, blocks, split;
    size_t room; /* rows times blocks that there is memory for, and rows */
    size_t room_rows;
    part parts[LB_QROWS_PARTS];
};

bool lb_qrows_takes(const lb_format *format)
{
    return format->ops == &lb_int_format && format->symmetric && format->group == 0;
}

lb_status lb_qrows_create(lb_qrows **out, lb_error *err)
{
    lb_qrows *r = lb_alloc_zero(1, sizeof *r);
    if (!r)
        return lb_fail(err, LB_ENOMEM, "rows of integers: no memory for %zu bytes", sizeof *r);
    *out = r;
    return LB_OK;
}

static void free_parts(lb_qrows *r)
{
    for (unsigned p = 0; p < LB_QROWS_PARTS; p++) {
        lb_free(r->parts[p].codes);
        lb_free(r->parts[p].sums);
        lb_free(r->parts[p].scales);
        r->parts[p] = (part){0};
    }
    r->room = r->room_rows = 0;
}

void lb_qrows_destroy(lb_qrows *r)
{
    if (!r)
        return;
    free_parts(r);
    lb_free(r);
}

static lb_status make_room(lb_qrows *r, size_t count, size_t blocks, lb_error *err)
{
    static const char what[] = "rows of integers";
    if (count * blocks <= r->room && count <= r->room_rows)
        return LB_OK;
    const size_t rows = count > r->room_rows ? count : r->room_rows,
                 room = count * blocks > r->room ? count * blocks : r->room;
    free_parts(r);
    for (unsigned p = 0; p < LB_QROWS_PARTS; p++) {
        LB_TRY(lb_alloc_array(&r->parts[p].codes, room, LB_PANEL_COLS, what, err));
        LB_TRY(lb_alloc_array(&r->parts[p].sums, room, sizeof *r->parts[p].sums, what, err));
        LB_TRY(lb_alloc_array(&r->parts[p].scales, rows, sizeof *r->parts[p].scales, what, err));
    }
    r->room = room;
    r->room_rows = rows;
    return LB_OK;
}

typedef struct encode_job {
    const lb_qrows *rows;
    const lb_row_parts *parts;
    const float *x;
} encode_job;

static bool all_finite(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return false;
    return true;
}

/* Columns [begin, end) of a row as one group of `format`. */
static void encode_part(const part *p, const lb_format *format, size_t blocks, size_t row, const float *x,
                        size_t begin, size_t end)
{
    enum { TILE = 256 };
    int8_t *codes = p->codes + row * blocks * LB_PANEL_COLS;
    int32_t *sums = p->sums + row * blocks;
    float params[LB_FORMAT_MAX_PARAMS] = {NAN};
    uint8_t unsigned_codes[TILE];
    memset(codes, 0, blocks * LB_PANEL_COLS);
    if (all_finite(x + begin, end - begin)) {
        format->ops->fit(format, x + begin, NULL, end - begin, LB_FIT_RANGE, params);
        for (size_t at = begin; at < end; at += TILE) {
            const size_t n = end - at < TILE ? end - at : TILE;
            format->ops->round(format, params, x + at, n, unsigned_codes);
            for (size_t i = 0; i < n; i++)
                codes[at + i] = (int8_t)((int)unsigned_codes[i] - (1 << (format->bits - 1)));
        }
    }
    p->scales[row] = params[LB_INT_SCALE];
    for (size_t b = 0; b < blocks; b++) {
        sums[b] = 0;
        for (size_t i = 0; i < LB_PANEL_COLS; i++)
            sums[b] += codes[b * LB_PANEL_COLS + i];
    }
}

static void encode_rows(void *arg, size_t begin, size_t end)
{
    const encode_job *j = arg;
    const lb_qrows *r = j->rows;
    const size_t split = j->parts->split;
    for (size_t row = begin; row < end; row++) {
        const float *x = j->x + row * r->cols;
        if (split > 0)
            encode_part(&r->parts[0], j->parts->formats[0], r->blocks, row, x, 0, split);
        if (split < r->cols)
            encode_part(&r->parts[1], j->parts->formats[1], r->blocks, row, x, split, r->cols);
    }
}

lb_status lb_qrows_set(lb_qrows *r, const lb_row_parts *parts, const float *x, size_t count, size_t cols,
                       lb_error *err)
{
    assert(cols > 0 && cols <= LB_QROWS_MOST_COLS && parts->split <= cols);
    r->count = 0;
    LB_TRY(make_room(r, count, lb_divide_up(cols, LB_PANEL_COLS), err));
    r->cols = cols;
    r->blocks = lb_divide_up(cols, LB_PANEL_COLS);
    r->split = parts->split;
    r->count = count;
    encode_job job = {r, parts, x};
    lb_parallel_for(count, ROWS_PER_CHUNK, encode_rows, &job);
    return LB_OK;
}

bool lb_qmat_takes_rows(const lb_qmat *matrix)
{
    return matrix->kind->times_rows && matrix->cols <= LB_QROWS_MOST_COLS && matrix->kind->takes_rows(matrix);
}

/* What a kernel reads of part p for rows from `row` on. */
static lb_qrows_view view_of(const lb_qrows *r, unsigned p, size_t row)
{
    const size_t blocks = r->blocks;
    return (lb_qrows_view){.codes = r->parts[p].codes + row * blocks * LB_PANEL_COLS,
                           .sums = r->parts[p].sums + row * blocks,
                           .scales = r->parts[p].scales + row,
                           .blocks = blocks,
                           .first = p ? r->split / LB_PANEL_COLS : 0,
                           .end = p ? blocks : lb_divide_up(r->split, LB_PANEL_COLS)};
}

typedef struct product {
    const lb_kernels *kernels;
    const lb_qmat *matrix;
    const lb_qrows *x;
    float *y;
} product;

/* out [count][16] */
static void multiply_batch(const product *p, size_t panel, size_t row, size_t count, float *out)
{
    float other[BATCH * LB_PANEL_ROWS];
    const bool first = p->x->split > 0, second = p->x->split < p->x->cols;
    for (unsigned k = first ? 0 : 1; k < (second ? 2u : 1u); k++) {
        const lb_qrows_view view = view_of(p->x, k, row);
        p->matrix->kind->times_rows(p->kernels, p->matrix, panel, &view, count, k && first ? other : out);
    }
    for (size_t i = 0; first && second && i < count * LB_PANEL_ROWS; i++)
        out[i] += other[i];
}

static void multiply_panels(void *arg, size_t begin, size_t end)
{
    const product *p = arg;
    const size_t all = p->matrix->rows;
    float out[BATCH * LB_PANEL_ROWS];
    for (size_t panel = begin; panel < end; panel++) {
        const size_t at = panel * LB_PANEL_ROWS, left = all - at,
                     rows = left < LB_PANEL_ROWS ? left : LB_PANEL_ROWS;
        for (size_t row = 0; row < p->x->count; row += BATCH) {
            const size_t count = p->x->count - row < BATCH ? p->x->count - row : BATCH;
            multiply_batch(p, panel, row, count, out);
            for (size_t i = 0; i < count; i++)
                memcpy(p->y + (row + i) * all + at, out + i * LB_PANEL_ROWS, rows * sizeof *out);
        }
    }
}

void lb_qmat_times_rows(const lb_kernels *kernels, const lb_qmat *matrix, const lb_qrows *x, float *y)
{
    assert(x->cols == matrix->cols && lb_qmat_takes_rows(matrix));
    product p = {.kernels = kernels, .matrix = matrix, .x = x, .y = y};
    const size_t work = matrix->cols * LB_PANEL_ROWS * x->count;
    if (matrix->panels * work < CHUNK_PRODUCTS)
        multiply_panels(&p, 0, matrix->panels);
    else
        lb_parallel_for(matrix->panels, lb_divide_up(CHUNK_PRODUCTS / 2, work), multiply_panels, &p);
}
