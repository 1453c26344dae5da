/* SPDX-License-Identifier: MIT */
#include "kernels/dense.h"

#include <stdint.h>
#include <string.h>

#include "base/thread.h"

/* As in qmat.c. */
enum { CHUNK_BYTES = 32 << 10, SERIAL_BYTES = 128 << 10 };

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

static float dot(const product *p, const void *w, const float *x)
{
    switch (p->type) {
    case LB_DENSE_F16:
        return p->kernels->dot_f16(w, x, p->cols);
    case LB_DENSE_BF16:
        return p->kernels->dot_bf16(w, x, p->cols);
    default:
        return p->kernels->dot_f32(w, x, p->cols);
    }
}

static void multiply_rows(void *arg, size_t begin, size_t end)
{
    const product *p = arg;
    const size_t row_bytes = p->cols * lb_dense_size(p->type);
    for (size_t row = begin; row < end; row++)
        for (size_t i = 0; i < p->count; i++)
            p->y[i * p->rows + row] = dot(p, p->weights + row * row_bytes, p->x + i * p->cols);
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
        lb_parallel_for(rows, CHUNK_BYTES / row_work + 1, multiply_rows, &p);
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
