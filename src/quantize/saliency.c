/* SPDX-License-Identifier: MIT */
#include "quantize/saliency.h"

/* [H^-1]_ii = sum over k <= i of U_ki^2; without the channels before `first`, which are fixed, k begins there. */
static double inverse_diagonal(const lb_columns *c, size_t first, size_t i)
{
    double sum = 0.0;
    for (size_t k = first; k <= i; k++)
        sum += (double)c->u[k * c->n + i] * (double)c->u[k * c->n + i];
    return sum;
}

void lb_saliency_scores(const lb_recipe *recipe, const lb_columns *columns, bool at_once, float *out)
{
    size_t first = 0;
    for (size_t i = 0; i < columns->n; i++) {
        if (columns->starts[i] && !at_once)
            first = i;
        const double diagonal = inverse_diagonal(columns, first, i);
        switch (recipe->saliency) {
        case LB_SALIENCY_OBS:
            out[i] = (float)(1.0 / diagonal);
            break;
        case LB_SALIENCY_PAPER:
            out[i] = (float)(1.0 / (diagonal * diagonal));
            break;
        case LB_SALIENCY_CHOL:
            out[i] = columns->importance[i];
            break;
        case LB_SALIENCY_MAGNITUDE:
            out[i] = 1.0f;
            break;
        }
    }
}
