/* SPDX-License-Identifier: MIT
 * A linear layer in memory: y = W x + b, for many tokens through BLAS, or for one or a few through the decode
 * kernels. */
#ifndef LB_MODEL_LINEAR_H
#define LB_MODEL_LINEAR_H

#include "kernels/dense.h"
#include "kernels/qmat.h"
#include "kernels/qrows.h"
#include "model/weights.h"

/* What to keep in memory. */
typedef enum lb_load {
    LB_LOAD_FLOAT, /* float32, dequantized if need be: for calibration and evaluation */
    LB_LOAD_NATIVE /* for generation: as small as it is on disk, or as there are kernels for */
} lb_load;

typedef struct lb_linear {
    size_t rows, cols;
    lb_qmat *quantized; /* NULL: dense */
    bool encoded; /* of a format with codes: quantized, or a dense copy of the values */
    lb_dense_type type; /* of dense */
    void *dense; /* [rows, cols], owned unless borrowed */
    bool borrowed; /* dense belongs to someone else: a tied embedding */
    float *bias; /* [rows] or NULL */
} lb_linear;

/* Reads `weight` (and `bias` unless NULL). */
lb_status lb_linear_load(const lb_weight *weight, const lb_weight *bias, lb_load how, lb_linear *out,
                         lb_error *err);
void lb_linear_free(lb_linear *linear);

/* Where lb_linear_build gets a row: codes [cols], params [groups * format->params]; scratch [cols] is free to
 * be used. Called from several threads. */
typedef lb_status (*lb_row_source)(const void *context, size_t row, float *scratch, uint8_t *codes,
                                   float *params, lb_error *err);

/* A layer of `format` (bound, and not a float format) as kernels multiply it: a quantized matrix, or else
 * dense: bfloat16 where that holds all values, float32 where not. `name` is for messages. */
lb_status lb_linear_build(const lb_format *format, size_t rows, size_t cols, const char *name,
                          lb_row_source source, const void *context, lb_linear *out, lb_error *err);

/* y [tokens, rows] = x [tokens, cols] W^T + b. */
lb_status lb_linear_apply(const lb_kernels *kernels, const lb_linear *linear, const float *x, size_t tokens,
                          float *y, lb_error *err);

/* A few tokens, each as if it were alone. `vectors` is scratch for as many of at least cols entries, used by
 * quantized layers only; when `vectors_are_set` they already hold x, so that layers that share an input quantize
 * it once. A quantized layer sees x rounded to 8 bits, or 10 (kernels/qmat.h). */
void lb_linear_decode(const lb_kernels *kernels, const lb_linear *linear, const float *x, size_t tokens,
                      lb_qvec *vectors, bool vectors_are_set, float *y);

/* y [tokens, rows] = x W^T + b of a matrix that lb_qmat_takes_rows, in integers. */
void lb_linear_times_rows(const lb_kernels *kernels, const lb_linear *linear, const lb_qrows *x,
                          size_t tokens, float *y);

/* Row `row` as floats: an embedding look-up. */
void lb_linear_row(const lb_kernels *kernels, const lb_linear *linear, size_t row, float *out);

/* Rounds a float32 layer's weights to `format` in place (fit + round + value, no calibration). */
lb_status lb_linear_round(const lb_kernels *kernels, lb_linear *linear, const lb_format *format, lb_fit fit,
                          lb_error *err);

/* Bytes that one product with a vector reads. */
size_t lb_linear_bytes(const lb_linear *linear);

#endif
