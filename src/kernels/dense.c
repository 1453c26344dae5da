/* SPDX-License-Identifier: MIT */
#include "kernels/dense.h"

#include <stdint.h>
#include <string.h>

#include "base/thread.h"

/* As in qmat.c; the kernels go four rows at a time. */
enum { CHUNK_BYTES = 32 << 10, SERIAL_BYTES = 128 << 10, TILE_ROWS = 4 };

typedef struct product {
    const lb_kernels *kernels;
    lb_dense_type type;
    const uint8_t *weights;
    size_t rows, cols, count;
    const float *x;
    float *y;
} product;

size_t lb_dense_size(lb_dense_type type)
{
    return type == LB_DENSE_F32 ? sizeof(float) : sizeof(uint16_t);
}

static void multiply_rows(void *arg, size_t begin, size_t end)
{
    static const lb_row_type types[] = {
        [LB_DENSE_F32] = LB_ROWS_F32, [LB_DENSE_F16] = LB_ROWS_F16, [LB_DENSE_BF16] = LB_ROWS_BF16};
    const product *p = arg;
    const lb_rows_job job = {.rows = {.values = p->weights + begin * p->cols * lb_dense_size(p->type),
                                      .stride = p->cols,
                                      .n = p->cols},
                             .count = end - begin,
                             .vectors = p->count,
                             .x = p->x,
                             .x_stride = p->cols,
                             .y = p->y + begin,
                             .y_stride = p->rows};
    p->kernels->rows_dot(types[p->type], &job);
}

void lb_dense_times_few(const lb_kernels *kernels, lb_dense_type type, const void *weights, size_t rows,
                        size_t cols, const float *x, size_t count, float *y)
{
    product p = {.kernels = kernels,
                 .type = type,
                 .weights = weights,
                 .rows = rows,
                 .cols = cols,
                 .count = count,
                 .x = x,
                 .y = y};
    const size_t row_work = cols * lb_dense_size(type) * count;
    if (row_work == 0 || rows < SERIAL_BYTES / row_work)
        multiply_rows(&p, 0, rows);
    else
        lb_parallel_for(rows, (CHUNK_BYTES / row_work / TILE_ROWS + 1) * TILE_ROWS, multiply_rows, &p);
}

void lb_dense_times(const lb_kernels *kernels, lb_dense_type type, const void *weights, size_t rows,
                    size_t cols, const float *x, float *y)
{
    lb_dense_times_few(kernels, type, weights, rows, cols, x, 1, y);
}

void lb_dense_to_f32(const lb_kernels *kernels, lb_dense_type type, const void *in, size_t n, float *out)
{
    switch (type) {
    case LB_DENSE_F32:
        memcpy(out, in, n * sizeof *out);
        break;
    case LB_DENSE_F16:
        kernels->f16_to_f32(in, out, n);
        break;
    case LB_DENSE_BF16:
        kernels->bf16_to_f32(in, out, n);
        break;
    }
}
