/* SPDX-License-Identifier: MIT
 * What quantized matrices of every kind have in common: the loops over their panels. */
#include "kernels/qmat.h"

#include <assert.h>
#include <string.h>

#include "base/thread.h"
#include "formats/planes.h"
#include "formats/sq.h"
#include "kernels/qmat_kind.h"

/* A matrix below SERIAL_BYTES is done before a second thread would have begun. */
enum { CHUNK_BYTES = 32 << 10, SERIAL_BYTES = 128 << 10 };

lb_status lb_qmat_check_shape(size_t rows, size_t cols, size_t panel_rows, size_t block_cols, lb_error *err)
{
    size_t padded;
    if (rows == 0 || cols == 0)
        return lb_fail(err, LB_EINVAL, "quantized matrix: %zu x %zu has no elements", rows, cols);
    if (rows > SIZE_MAX / 4 || cols > SIZE_MAX / 4 ||
        __builtin_mul_overflow(lb_divide_up(rows, panel_rows) * panel_rows,
                               lb_divide_up(cols, block_cols) * block_cols, &padded) ||
        padded > SIZE_MAX / 4)
        return lb_fail(err, LB_ENOMEM, "quantized matrix: %zu x %zu is too large to address", rows, cols);
    return LB_OK;
}

static bool is_planes(const lb_format *format)
{
    return format->ops == &lb_planes_format;
}

static bool is_sq(const lb_format *format)
{
    return format->ops == &lb_sq_format;
}

bool lb_qmat_holds(const lb_format *format)
{
    return is_planes(format) || is_sq(format) || lb_panel_matrix_holds(format);
}

lb_status lb_qmat_create_format(size_t rows, size_t cols, const lb_format *format, lb_qmat **out,
                                lb_error *err)
{
    if (!lb_qmat_holds(format))
        return lb_fail(err, LB_EUNSUPPORTED, "quantized matrix: format %s has no small integers to multiply",
                       format->name);
    LB_TRY((is_planes(format) ? lb_plane_matrix_create
            : is_sq(format)   ? lb_sq_matrix_create
                              : lb_panel_matrix_create)(rows, cols, format, out, err));
    (*out)->format = *format;
    return LB_OK;
}

void lb_qmat_destroy(lb_qmat *matrix)
{
    if (matrix)
        matrix->kind->destroy(matrix);
}

size_t lb_qmat_rows(const lb_qmat *matrix)
{
    return matrix->rows;
}

size_t lb_qmat_cols(const lb_qmat *matrix)
{
    return matrix->cols;
}

size_t lb_qmat_bytes(const lb_qmat *matrix)
{
    return matrix->kind->bytes(matrix);
}

void lb_qmat_set_encoded(lb_qmat *matrix, size_t row, const uint8_t *codes, const float *params)
{
    assert(row < matrix->rows && matrix->format.ops);
    matrix->kind->set_encoded(matrix, row, codes, params);
}

void lb_qmat_dequantize(const lb_kernels *kernels, const lb_qmat *matrix, size_t first, size_t count,
                        float *out)
{
    const size_t panel_rows = matrix->kind->panel_rows;
    assert(first <= matrix->rows && count <= matrix->rows - first);
    while (count != 0) {
        const size_t lane = first % panel_rows;
        const size_t here = count < panel_rows - lane ? count : panel_rows - lane;
        matrix->kind->dequantize(kernels, matrix, first / panel_rows, lane, here, out);
        first += here;
        count -= here;
        out += here * matrix->cols;
    }
}

typedef struct product {
    const lb_kernels *kernels;
    const lb_qmat *matrix;
    const lb_qvec *x;
    float *y;
} product;

/* The last panel's rows, of which some are padding that y has no room for. */
static void multiply_last(const product *p, size_t panel, size_t index, size_t count)
{
    const lb_qmat *matrix = p->matrix;
    const size_t at = panel * matrix->kind->panel_rows;
    float out[LB_QMAT_MOST_PANEL_ROWS];
    for (size_t i = index; i < index + count; i++) {
        matrix->kind->times(p->kernels, matrix, panel, p->x, i, out);
        memcpy(p->y + i * matrix->rows + at, out, (matrix->rows - at) * sizeof *out);
    }
}

static void multiply_panels(void *arg, size_t begin, size_t end)
{
    const product *p = arg;
    const lb_qmat *matrix = p->matrix;
    const size_t panel_rows = matrix->kind->panel_rows, count = p->x->count;
    const size_t most = matrix->kind->times_few ? LB_QMAT_FEW : 1;
    /* A panel is read once from memory; the vectors after the first find it in a cache. */
    for (size_t panel = begin; panel < end; panel++) {
        for (size_t i = 0; i < count; i += most) {
            const size_t n = count - i < most ? count - i : most;
            float *y = p->y + i * matrix->rows + panel * panel_rows;
            if (matrix->rows - panel * panel_rows < panel_rows)
                multiply_last(p, panel, i, n);
            else if (n == 1)
                matrix->kind->times(p->kernels, matrix, panel, p->x, i, y);
            else
                matrix->kind->times_few(p->kernels, matrix, panel, p->x, i, n, y, matrix->rows);
        }
    }
}

bool lb_qmat_takes(const lb_qmat *matrix, const lb_qvec *x)
{
    return x->x || !is_planes(&matrix->format);
}

bool lb_qmat_many_pays(const lb_kernels *kernels, const lb_qmat *matrix)
{
    return matrix->kind->many_pays && matrix->kind->many_pays(kernels, matrix);
}

void lb_qmat_times(const lb_kernels *kernels, const lb_qmat *matrix, lb_qvec *x, float *y)
{
    assert(x->cols == matrix->cols && lb_qmat_takes(matrix, x));
    product p = {.kernels = kernels, .matrix = matrix, .x = x, .y = y};
    if (matrix->kind->prepare)
        matrix->kind->prepare(kernels, x);
    const size_t work = matrix->panel_bytes * x->count;
    if (matrix->panels * work < SERIAL_BYTES)
        multiply_panels(&p, 0, matrix->panels);
    else
        lb_parallel_for(matrix->panels, lb_divide_up(CHUNK_BYTES, work), multiply_panels, &p);
}
