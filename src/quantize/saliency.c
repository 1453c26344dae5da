/* SPDX-License-Identifier: MIT */
#include "quantize/saliency.h"

enum { COLUMNS = 64 };

/* [H^-1]_ii = sum over k <= i of U_ki^2, of channels [first, first + count). */
static void inverse_diagonal(const lb_columns *c, size_t first, size_t count, double *out)
{
    for (size_t j = 0; j < count; j++)
        out[j] = 0.0;
    for (size_t k = 0; k < first + count; k++) {
        const float *u = c->u + k * c->n + first; /* zeros below the diagonal */
        for (size_t j = 0; j < count; j++)
            out[j] += (double)u[j] * (double)u[j];
    }
}

static float score(lb_saliency how, double diagonal, float u)
{
    switch (how) {
    case LB_SALIENCY_OBS:
        return (float)(1.0 / diagonal);
    case LB_SALIENCY_PAPER:
        return (float)(1.0 / (diagonal * diagonal));
    case LB_SALIENCY_CHOL:
        return 1.0f / (u * u);
    default:
        return 1.0f;
    }
}

void lb_saliency_scores(lb_saliency how, const lb_columns *columns, float *out)
{
    const size_t n = columns->n;
    for (size_t first = 0; first < n; first += COLUMNS) {
        const size_t count = n - first < COLUMNS ? n - first : COLUMNS;
        double diagonal[COLUMNS];
        inverse_diagonal(columns, first, count, diagonal);
        for (size_t i = first; i < first + count; i++)
            out[i] = score(how, diagonal[i - first], columns->u[i * n + i]);
    }
}
