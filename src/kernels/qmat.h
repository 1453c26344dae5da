/* SPDX-License-Identifier: MIT
 *
 * A quantized matrix in the layout that decoding wants, and the product with a vector, or a few.
 *
 *   W[r][c] = scale[r][g] * (code[r][c] - zero[r][g]),   g = c / group
 *
 * Rows are interleaved by 16 and columns blocked by 32, so that a SIMD register holds many rows of a
 * few columns: no horizontal sums, and scales are vectors over rows. The last group of a row may be
 * short. Padding (rows to 16, columns to 32) exists in memory only.
 *
 * Bit planes (formats/planes.h) lie in panels of 64 rows, a byte for eight columns of a plane, and are multiplied by
 * looking up sums of four activations (plane_panel.h draws both); rows are padded to 64, columns to 16.
 *
 * SQ-format (formats/sq.h) is a matrix of its low integers, in which high ones count as zeros, and beside it the high
 * ones with their places (high_panel.h).
 *
 * Block formats (formats/block_format.h) whose elements are small integers times a power of two are held
 * the same way, with scales of one byte where the format has those:
 *
 *   format                bits   zero   code - zero is
 *   mxint8 6 4, nvint4    b      2^(b-1)  the element
 *   mxfp4, nvfp4          4      12       2 * the element (from the 4-bit code by a table of 16 bytes)
 *   mxfp6-e2m3            7      60       8 * the element (a seventh bit instead of a table of 64)
 *
 * The other floats (E4M3, E5M2, E3M2) span too many binades for that. A scale is held for one step of those
 * integers, a half or an eighth of the format's: exactly, unless it is no power of two and below 2^-122.
 */
#ifndef LB_KERNELS_QMAT_H
#define LB_KERNELS_QMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "formats/format.h"
#include "kernels/kernels.h"

enum { LB_QMAT_ROWS = 16, LB_QMAT_COLS = 32 };

typedef struct lb_qmat lb_qmat;

/* Whether a matrix can hold weights of `format`. */
bool lb_qmat_holds(const lb_format *format);

/* A matrix for weights of a format that it holds; format->tensor_scale must be bound. All its rows are to be
 * set by lb_qmat_set_encoded. */
lb_status lb_qmat_create_format(size_t rows, size_t cols, const lb_format *format, lb_qmat **out,
                                lb_error *err);
/* One row as the format encodes it: codes [cols], params [groups * format->params]. As set_row below. */
void lb_qmat_set_encoded(lb_qmat *matrix, size_t row, const uint8_t *codes, const float *params);

/* bits 2..8; group a multiple of 32, or 0 for one group per row. A symmetric matrix has one zero,
 * 2^(bits-1), for all groups and stores none. */
lb_status lb_qmat_create(size_t rows, size_t cols, unsigned bits, size_t group, bool symmetric, lb_qmat **out,
                         lb_error *err);
void lb_qmat_destroy(lb_qmat *matrix);

/* codes [cols], scales and zeros [groups] of one row. Scales must be exact in f16, zeros integers in
 * 0..2^bits - 1 (ignored, may be NULL, when symmetric). Different rows of one 16-row block must not
 * be set from two threads at once. */
void lb_qmat_set_row(lb_qmat *matrix, size_t row, const uint8_t *codes, const float *scales,
                     const float *zeros);

/* Rows [first, first + count) as floats, out [count, cols]: scale * (float)(code - zero), one
 * rounding. Single-threaded; for tiles of prompt processing. */
void lb_qmat_dequantize(const lb_kernels *kernels, const lb_qmat *matrix, size_t first, size_t count,
                        float *out);

/* Bytes that one product reads (codes, scales, zeros, with padding). */
size_t lb_qmat_bytes(const lb_qmat *matrix);
size_t lb_qmat_rows(const lb_qmat *matrix);
size_t lb_qmat_cols(const lb_qmat *matrix);

/* Vectors with 8-bit codes, one scale per 32 entries: x[c] ~ scale[c / 32] * code[c],
 * code in -127..127, scale = max|x| / 127. For bit planes with 10-bit codes and one scale per 256 entries
 * (plane_panel.h), made when first multiplied. One or a few, which share what a product reads of a matrix. */
typedef struct lb_qvec lb_qvec;
lb_status lb_qvec_create(size_t max_count, size_t max_cols, lb_qvec **out, lb_error *err);
void lb_qvec_destroy(lb_qvec *vector);
/* x [count, cols] must stay as it is until the vectors are set again. */
void lb_qvec_set(const lb_kernels *kernels, lb_qvec *vectors, const float *x, size_t count, size_t cols);

/* The vectors as a block format of integers (mxint8, mxint6, mxint4, nvint4 by any scale rule) rounds it:
 * exactly the codes and scales of lb_format_encode_row, where a tensor scale is bound to each vector alone.
 * Other formats change nothing and give false: multiply in floats. So does mxint8 with its whole range. */
bool lb_qvec_set_format(const lb_kernels *kernels, lb_qvec *vectors, const lb_format *act, const float *x,
                        size_t count, size_t cols);

/* Whether the two can be multiplied: bit planes want vectors of lb_qvec_set. */
bool lb_qmat_takes(const lb_qmat *matrix, const lb_qvec *x);

/* Whether many vectors (a prompt) are multiplied faster as codes than as floats by BLAS, for which the matrix would be
 * expanded. */
bool lb_qmat_many_pays(const lb_kernels *kernels, const lb_qmat *matrix);

/* y [count, rows] = x W^T. Threaded over panels of rows; the same bits at any thread count, from every instruction
 * set, and with or without other vectors beside one. */
void lb_qmat_times(const lb_kernels *kernels, const lb_qmat *matrix, lb_qvec *x, float *y);

#endif
