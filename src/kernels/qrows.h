/* SPDX-License-Identifier: MIT
 *
 * Rows of activations as integers, with one scale for all of a token's channels, or one for its first channels and
 * another for the rest, and their product with a matrix of integer codes (qmat.h). Unlike an lb_qvec's blocks, a
 * whole group of weights is summed in integers, exactly:
 *
 *   y = sum over parts p of  x_scale[p] * (sum over groups g of  w_scale[g] * (float)(sum of (w_code - zero) * x_code))
 *
 * Two parts of 8 and of 4 bits are the two products of SQ-format's activations (arXiv:2512.05409), side by side.
 */
#ifndef LB_KERNELS_QROWS_H
#define LB_KERNELS_QROWS_H

#include "kernels/qmat.h"

/* More columns might overflow a 32-bit sum: 255 * 128 * 2^16 does not. */
enum { LB_QROWS_MOST_COLS = 1 << 16, LB_QROWS_PARTS = 2 };

typedef struct lb_qrows lb_qrows;

/* What a row consists of: columns [0, split) in formats[0], the rest in formats[1]. */
typedef struct lb_row_parts {
    const lb_format *formats[LB_QROWS_PARTS]; /* each lb_qrows_takes */
    size_t split; /* 0: all in formats[1] */
} lb_row_parts;

/* Symmetric integers with one group to a row. */
bool lb_qrows_takes(const lb_format *format);

lb_status lb_qrows_create(lb_qrows **out, lb_error *err);
void lb_qrows_destroy(lb_qrows *rows);

/* Codes of x [count, cols], each row's parts as lb_format_encode_row finds them by range: exactly what lb_cast_rows
 * makes values of. A number that is not finite makes NaNs of its row's products. */
lb_status lb_qrows_set(lb_qrows *rows, const lb_row_parts *parts, const float *x, size_t count, size_t cols,
                       lb_error *err);

/* Whether the matrix can be multiplied by such rows. */
bool lb_qmat_takes_rows(const lb_qmat *matrix);

/* y [count, rows of the matrix] = x W^T. Threaded over panels; the same bits at any thread count and from every
 * instruction set. */
void lb_qmat_times_rows(const lb_kernels *kernels, const lb_qmat *matrix, const lb_qrows *x, float *y);

#endif
