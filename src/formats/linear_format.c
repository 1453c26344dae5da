/* SPDX-License-Identifier: MIT */
#include "formats/linear_format.h"

#include <math.h>

/* Cholesky: a + ridge = L L^T. */
bool lb_solve_normal(unsigned count, const double *a, const double *b, double ridge, double *x)
{
    double l[LB_LINEAR_MOST][LB_LINEAR_MOST], y[LB_LINEAR_MOST];
    for (unsigned i = 0; i < count; i++) {
        for (unsigned j = 0; j <= i; j++) {
            double sum = a[i * count + j] + (i == j ? ridge : 0.0);
            for (unsigned k = 0; k < j; k++)
                sum -= l[i][k] * l[j][k];
            if (i != j) {
                l[i][j] = sum / l[j][j];
                continue;
            }
            /* what is left of a pivot may be nothing but rounding errors */
            if (!(sum > 1e-12 * (a[i * count + i] + ridge)) || !isfinite(sum))
                return false;
            l[i][i] = sqrt(sum);
        }
    }
    for (unsigned i = 0; i < count; i++) {
        double sum = b[i];
        for (unsigned k = 0; k < i; k++)
            sum -= l[i][k] * y[k];
        y[i] = sum / l[i][i];
    }
    for (unsigned i = count; i-- > 0;) {
        double sum = y[i];
        for (unsigned k = i + 1; k < count; k++)
            sum -= l[k][i] * x[k];
        x[i] = sum / l[i][i];
    }
    return true;
}
