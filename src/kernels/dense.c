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
    const void *weights;
    size_t cols;
    const float *x;
    float *y;
} product;

size_t lb_dense_size(lb_dense_type type)
{
    return type == LB_DENSE_F32 ? sizeof(float) : sizeof(uint16_t);
}

static void multiply_rows(void *arg, size_t begin, size_t end)
{
    const product *p = arg;
    for (size_t row = begin; row < end; row++) {
        size_t first = row * p->cols;
        switch (p->type) {
        case LB_DENSE_F32:
            p->y[row] = p->kernels->dot_f32((const float *)p->weights + first, p->x, p->cols);
            break;
        case LB_DENSE_F16:
            p->y[row] = p->kernels->dot_f16((const uint16_t *)p->weights + first, p->x, p->cols);
            break;
        case LB_DENSE_BF16:
            p->y[row] = p->kernels->dot_bf16((const uint16_t *)p->weights + first, p->x, p->cols);
            break;
        }
    }
}

void lb_dense_times(const lb_kernels *kernels, lb_dense_type type, const void *weights, size_t rows,
                    size_t cols, const float *x, float *y)
{
    product p = {.kernels = kernels, .type = type, .weights = weights, .cols = cols, .x = x, .y = y};
    size_t row_bytes = cols * lb_dense_size(type);
    if (row_bytes == 0 || rows < SERIAL_BYTES / row_bytes)
        multiply_rows(&p, 0, rows);
    else
        lb_parallel_for(rows, CHUNK_BYTES / row_bytes + 1, multiply_rows, &p);
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
