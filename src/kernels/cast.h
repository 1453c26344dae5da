/* SPDX-License-Identifier: MIT
 * Values rounded to what a format can hold, and kept as floats: how weights and activations are cast
 * without storing their codes. */
#ifndef LB_KERNELS_CAST_H
#define LB_KERNELS_CAST_H

#include "formats/act_format.h"
#include "kernels/kernels.h"

/* Rounds x [rows, cols] in place to what `format` can hold (fit by range, nearest value). Where a format's
 * groups share a float over the tensor, each row is a tensor of its own when `bind_rows` (a token's
 * activations), otherwise format->tensor_scale must have been bound already. A NaN or an infinity makes NaNs
 * of its group. f32: nothing is done; f16 and bf16: rounds to them. Threaded over rows; the same bits at any
 * level and thread count. LB_EINVAL when the tensor's float is not a finite number above 0, or when
 * rows cannot be cut into whole groups where a format wants that. */
lb_status lb_cast_rows(const lb_kernels *kernels, const lb_format *format, bool bind_rows, float *x,
                       size_t rows, size_t cols, lb_error *err);

/* The same for activations, each row a token's. Banks whose high channels calibration chose lie in the order
 * [high | low]. */
lb_status lb_cast_act(const lb_kernels *kernels, const lb_act *act, float *x, size_t rows, size_t cols,
                      lb_error *err);

#endif
