/* SPDX-License-Identifier: MIT
 * Factors for the channels of a block (transform/rescale.h), chosen by what the original model's activations and
 * weights look like: SmoothQuant's (channel_scales.c) or AWQ's (awq.c). */
#ifndef LB_QUANTIZE_CHANNEL_SCALES_H
#define LB_QUANTIZE_CHANNEL_SCALES_H

#include "calibrate/channel_sizes.h"
#include "quantize/method.h"
#include "transform/rescale.h"

typedef struct lb_channel_scaler {
    const lb_kernels *kernels;
    const lb_config *config;
    const lb_rope *rope;
    const lb_recipe *recipe;
    const lb_block *block; /* float32, as the model has it */
    const lb_layer *layers; /* [LB_BLOCK_LINEARS] whose formats count */
    const float *x; /* [sequences * length, hidden]: what the original model feeds the block */
    size_t sequences, length, chunk_sequences; /* sequences that go through a stage at a time */
    lb_workspace *ws; /* for so many */
    const char *label; /* what progress is told */
    const lb_progress *progress;
} lb_channel_scaler;

/* Sizes of what the block's layers are fed over the whole calibration. */
lb_status lb_measure_channels(const lb_channel_scaler *job, lb_channel_sizes *sizes, lb_error *err);

/* The recipe's transform rescales. The same factors at any thread count. */
lb_status lb_channel_scales_choose(const lb_channel_scaler *job, lb_rescaling *out, lb_error *err);

#endif
