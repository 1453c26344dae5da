/* SPDX-License-Identifier: MIT
 * How large each channel of what the layers of a block are fed gets, stage by stage: its largest magnitude
 * (what SmoothQuant goes by) and its mean one (AWQ; masks of channels). */
#ifndef LB_CALIBRATE_CHANNEL_SIZES_H
#define LB_CALIBRATE_CHANNEL_SIZES_H

#include "model/inputs.h"

typedef struct lb_channel_sizes {
    size_t widths[LB_STAGE_COUNT], tokens[LB_STAGE_COUNT];
    float *largest[LB_STAGE_COUNT]; /* [width] */
    double *sums[LB_STAGE_COUNT]; /* [width] of magnitudes */
} lb_channel_sizes;

lb_status lb_channel_sizes_create(const lb_config *config, lb_channel_sizes *out, lb_error *err);
void lb_channel_sizes_free(lb_channel_sizes *sizes);

/* x [tokens, width of the stage]. The same bits at any thread count. */
void lb_channel_sizes_add(lb_channel_sizes *sizes, lb_stage stage, const float *x, size_t tokens);

/* The mean magnitude of a channel; 0 where no token was seen. */
double lb_channel_mean(const lb_channel_sizes *sizes, lb_stage stage, size_t channel);

#endif
