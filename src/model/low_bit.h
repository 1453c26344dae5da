/* SPDX-License-Identifier: MIT
 *
 * Training in low precision: all operands of the products of linear layers are rounded to a block format, each from
 * the original numbers along the axis that its product sums over (arXiv:2510.25602, section on training):
 *
 *   Y  = X W^T    X [T, K] along K, W [N, K] along K
 *   dX = dY W     dY [T, N] along N, W along N
 *   dW = dY^T X   dY along T, X along T
 *
 * Gradients pass rounding unchanged (straight-through). Norms, attention's products, embedding and head are not
 * rounded, nor are the weights that the optimizer keeps.
 */
#ifndef LB_MODEL_LOW_BIT_H
#define LB_MODEL_LOW_BIT_H

#include "kernels/kernels.h"
#include "model/linear.h"

typedef struct lb_low_bit {
    lb_format format;
    /* Scratch; nothing in it outlives a call. */
    float *x, *d; /* [max_tokens, widest input], [max_tokens, widest output] */
    float *w; /* the largest matrix */
} lb_low_bit;

/* LB_EUNSUPPORTED where the format is not one of blocks with a scale of their own (MX), LB_EINVAL where its blocks do
 * not divide a length that is summed over; `length` is of the sequences. */
lb_status lb_low_bit_check(const lb_format *format, const lb_config *config, size_t length, lb_error *err);

/* For sequences of `length` tokens, max_tokens of them at once; what lb_low_bit_check refuses, refused. */
lb_status lb_low_bit_create(const lb_format *format, const lb_config *config, size_t max_tokens,
                            size_t length, lb_low_bit *out, lb_error *err);
void lb_low_bit_free(lb_low_bit *low_bit);

/* x [rows, cols] -> out, rounded in blocks along a row; or along a column, of which rows is a multiple of a block. */
void lb_low_bit_rows(const lb_kernels *kernels, const lb_low_bit *low_bit, const float *x, size_t rows,
                     size_t cols, float *out);
void lb_low_bit_columns(const lb_kernels *kernels, const lb_low_bit *low_bit, const float *x, size_t rows,
                        size_t cols, float *out);

/* `count` layers with one input x [tokens, cols]: outs[i] = x W_i^T + b_i. Weights are float32. */
void lb_low_bit_apply(const lb_kernels *kernels, const lb_low_bit *low_bit, const lb_linear *layers,
                      size_t count, const float *x, size_t tokens, float *const *outs);
/* ds[i] [tokens, rows of layer i], gradients with respect to outs[i]: dx [tokens, cols] is set, sums[i] (NULL: not
 * wanted) [rows, cols] added to. */
void lb_low_bit_input_gradient(const lb_kernels *kernels, const lb_low_bit *low_bit, const lb_linear *layers,
                               size_t count, const float *const *ds, size_t tokens, float *dx);
void lb_low_bit_weight_gradients(const lb_kernels *kernels, const lb_low_bit *low_bit,
                                 const lb_linear *layers, size_t count, const float *const *ds,
                                 const float *x, size_t tokens, float *const *sums);

#endif
