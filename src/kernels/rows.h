/* SPDX-License-Identifier: MIT
 * Rows of numbers beside a few vectors of floats: unquantized matrices, and the keys and values that
 * attention looks back on. A row is loaded and widened once for all the vectors. */
#ifndef LB_KERNELS_ROWS_H
#define LB_KERNELS_ROWS_H

#include <stddef.h>

/* What a row's elements are. */
typedef enum lb_row_type {
    LB_ROWS_F32,
    LB_ROWS_F16,
    LB_ROWS_BF16,
    LB_ROWS_INT8, /* int8_t times a float of the row */
    LB_ROWS_MXINT8, /* int8_t times 2^(byte - 127), a byte for each LB_ROWS_BLOCK elements of the row */
    LB_ROW_TYPES
} lb_row_type;

enum { LB_ROWS_BLOCK = 32 };

typedef struct lb_rows {
    const void *values; /* aligned to an element; a row begins `stride` elements after the one before it */
    size_t stride, n; /* n elements of each are looked at */
    const void
        *scales; /* of the types that have them; those of a row begin `scale_stride` after the last row's */
    size_t scale_stride;
} lb_rows;

/* `count` rows, and `vectors` vectors of floats that begin `x_stride` apart. */
typedef struct lb_rows_job {
    lb_rows rows;
    size_t count, vectors;
    const float *x;
    size_t x_stride;
    float *y;
    size_t y_stride;
} lb_rows_job;

#endif
