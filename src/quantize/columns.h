/* SPDX-License-Identifier: MIT
 *
 * What all rows of a layer share when its columns are rounded one after the other, in the geometry of its inputs: the
 * order of columns, where groups begin, and the factor U of the inverse Hessian.
 *
 *   (H + damp I)^-1 = U^T U        [GPTQ step 3, arXiv:2210.17323]
 *
 * There are three orders (recipe.h). In group order columns move only inside their group and groups move as
 * wholes (BPDQ, arXiv:2602.04163, calls it group-aware reordering), so that nothing of the order has to be
 * stored; a group's parameters are fitted when its turn comes, to weights that already carry what earlier
 * columns left to them. In act order columns of all groups mix, so every group's parameters are fitted before
 * the sweep.
 */
#ifndef LB_QUANTIZE_COLUMNS_H
#define LB_QUANTIZE_COLUMNS_H

#include "quantize/method.h"

/* A span has at most so many columns. */
enum { LB_SPAN_COLUMNS = 128 };

/* A run of columns between two updates of everything to their right. */
typedef struct lb_span {
    size_t begin, end;
} lb_span;

typedef struct lb_columns {
    size_t n;
    size_t *column; /* [n] original column of each visited one */
    size_t *group; /* [n] its group */
    uint8_t *starts; /* [n] whether its group's parameters are fitted here */
    lb_span *spans; /* of whole groups where these are no wider than 128 columns, else of at most 128 */
    size_t span_count;
    float *u; /* [n, n] in visiting order, upper triangular */
    float *importance; /* [n] in visiting order: what an error costs when later columns make up for it */
} lb_columns;

/* For layers of `format`, of which the group size matters only; `order` and damping from the recipe. Where the
 * damping is not enough for a factor there is more. */
lb_status lb_columns_create(const lb_recipe *recipe, lb_order order, const lb_format *format,
                            const lb_hessian *h, lb_columns *out, lb_error *err);
void lb_columns_free(lb_columns *columns);

/* Calls `choose` for every layer with its columns, which layers of one group size share: they have one input. */
typedef lb_status (*lb_columns_fn)(const lb_recipe *recipe, const lb_columns *columns, const lb_hessian *h,
                                   const lb_layer *layer, lb_error *err);
lb_status lb_columns_for_layers(const lb_recipe *recipe, lb_order order, const lb_hessian *h,
                                const lb_layer *layers, size_t count, lb_columns_fn choose, lb_error *err);

/* What the layer should weigh so that, fed by the quantized stream, it puts out what the original layer
 * puts out on the original stream: the least-squares answer, taken recipe->compensate of the way.
 *   W' = W + compensate * W E^T (H + damp I)^-1,   E = mean of x (x_original - x)^T
 * target [rows, n] in stored order. Without a drift in h: W. */
lb_status lb_columns_target(const lb_columns *columns, const lb_recipe *recipe, const lb_hessian *h,
                            const lb_layer *layer, float *target, lb_error *err);

#endif
