/* SPDX-License-Identifier: MIT
 *
 * AWQ (arXiv:2306.00978): channels whose inputs are large have their weights made larger before these are rounded,
 * by a power of the inputs' mean magnitude that is found by trying:
 *
 *   s_j = mean |x_j|^r, r = 0, 1/20 ... 19/20, at least 1e-4, divided by sqrt(max s * min s)
 *
 * What is compared is what comes out of the module that the channels belong to (attention, o, the feed-forward part,
 * down) when the weights of the stage are rounded by their own formats, whatever these are, and its inputs by
 * theirs. Where scales come from groups' extremes, weights are clipped then (clip_weights.h), but for q and k, whose
 * products go through softmax.
 */
#ifndef LB_QUANTIZE_AWQ_H
#define LB_QUANTIZE_AWQ_H

#include "quantize/channel_scales.h"

/* `sizes` are those of the whole calibration; `out` holds ones. */
lb_status lb_awq_scales(const lb_channel_scaler *job, const lb_channel_sizes *sizes, lb_rescaling *out,
                        lb_error *err);

/* Clips weights of `block`: the job's block as the transform rewrote it (rescaled, rotated), which is what job->block
 * is then too. Layers of float formats stay. */
lb_status lb_awq_clip(const lb_channel_scaler *job, lb_block *block, lb_error *err);

#endif
