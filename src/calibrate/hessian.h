/* SPDX-License-Identifier: MIT
 * Second moments of a layer's inputs: H = mean over tokens of x x^T, the Hessian of the squared output
 * error of a linear layer (up to a factor that no method depends on); and, where the layer's inputs in
 * the original model are known too, how these drift from what they were: E = mean of x (x_original - x)^T. */
#ifndef LB_CALIBRATE_HESSIAN_H
#define LB_CALIBRATE_HESSIAN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

typedef struct lb_hessian {
    size_t n, tokens;
    float *h; /* [n, n]; sums until lb_hessian_finish, which makes it symmetric and a mean */
    float *drift; /* [n, n] E, or NULL */
} lb_hessian;

lb_status lb_hessian_create(size_t n, bool with_drift, lb_hessian *out, lb_error *err);
void lb_hessian_free(lb_hessian *hessian);

/* x [tokens, n]. With drift, `original` [tokens, n] holds the same inputs in the original model, and is
 * overwritten; otherwise it is not looked at. */
void lb_hessian_add(lb_hessian *hessian, const float *x, float *original, size_t tokens);
void lb_hessian_finish(lb_hessian *hessian);

/* Mean square of each input channel, out [n], held above a millionth of the largest, so that a channel
 * which calibration never excited still counts a little. All ones when H is zero. */
void lb_hessian_importance(const lb_hessian *hessian, float *out);

/* tr(D H D^T) of D [rows, n]: the expected squared output error of an error D in the weights. Needs
 * rows * n floats of memory. */
lb_status lb_hessian_energy(const lb_hessian *hessian, const float *d, size_t rows, double *out,
                            lb_error *err);

#endif
