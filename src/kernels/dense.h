/* SPDX-License-Identifier: MIT
 * Unquantized matrices, row after row without padding, times one vector or a few; and their rows as floats. */
#ifndef LB_KERNELS_DENSE_H
#define LB_KERNELS_DENSE_H

#include <stddef.h>

#include "kernels/kernels.h"

typedef enum lb_dense_type {
    LB_DENSE_F32,
    LB_DENSE_F16,
    LB_DENSE_BF16
} lb_dense_type;

/* Bytes of one element. */
size_t lb_dense_size(lb_dense_type type);

/* y [rows] = W x, W [rows, cols] as `type`, aligned to its elements. Threaded over rows: the same bits
 * at any thread count (not across instruction sets). */
void lb_dense_times(const lb_kernels *kernels, lb_dense_type type, const void *weights, size_t rows,
                    size_t cols, const float *x, float *y);

/* y [count, rows] = x [count, cols] W^T, each vector as lb_dense_times would; a row of W comes from memory once. */
void lb_dense_times_few(const lb_kernels *kernels, lb_dense_type type, const void *weights, size_t rows,
                        size_t cols, const float *x, size_t count, float *y);

/* out [n] = the elements in [n], exactly. Single-threaded. */
void lb_dense_to_f32(const lb_kernels *kernels, lb_dense_type type, const void *in, size_t n, float *out);

#endif
