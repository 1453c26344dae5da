/* SPDX-License-Identifier: MIT
 * RMSNorm backward over many rows. */
#ifndef LB_MODEL_NORM_GRAD_H
#define LB_MODEL_NORM_GRAD_H

#include "kernels/kernels.h"

typedef struct lb_norm_grad {
    const float *x, *weight; /* [rows, n], [n]: what went in */
    const float *d; /* [rows, n]: gradient with respect to what came out */
    size_t rows, n;
    double eps;
    const float *plus; /* [rows, n] or NULL: added to dx, the branch around the norm */
    float *dx; /* [rows, n]; may be x, d or plus */
    float *dweight; /* [n], added to; NULL: not wanted */
    float *partials; /* [lb_norm_grad_partials(rows, n)] of scratch; not needed without dweight */
} lb_norm_grad;

size_t lb_norm_grad_partials(size_t rows, size_t n);

void lb_norm_grad_rows(const lb_kernels *kernels, const lb_norm_grad *grad);

#endif
