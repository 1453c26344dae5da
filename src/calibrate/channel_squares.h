/* SPDX-License-Identifier: MIT
 * The mean square of each channel of what the layers of a block are fed, stage by stage: the diagonal of
 * hessian.h's H, without the rest of it. */
#ifndef LB_CALIBRATE_CHANNEL_SQUARES_H
#define LB_CALIBRATE_CHANNEL_SQUARES_H

#include "model/inputs.h"

typedef struct lb_channel_squares {
    size_t widths[LB_STAGE_COUNT];
    double *sums[LB_STAGE_COUNT]; /* [width] */
    float *importance[LB_STAGE_COUNT]; /* [width] */
} lb_channel_squares;

lb_status lb_channel_squares_create(const lb_config *config, lb_channel_squares *out, lb_error *err);
void lb_channel_squares_free(lb_channel_squares *squares);

/* x [tokens, width of the stage]. The same bits at any thread count. */
void lb_channel_squares_add(lb_channel_squares *squares, lb_stage stage, const float *x, size_t tokens);

/* [width] up to a factor, held above a millionth of the largest as lb_hessian_importance does; all ones
 * where nothing was excited. Valid until the squares are freed. */
const float *lb_channel_squares_importance(lb_channel_squares *squares, lb_stage stage);

#endif
