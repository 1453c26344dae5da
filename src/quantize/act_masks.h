/* SPDX-License-Identifier: MIT
 *
 * Which channels of layer inputs are worth high precision (SQ-format's activations, arXiv:2512.05409, algorithm 2): of
 * each bank as many as the format says, those with the highest score. With A_j the mean magnitude of channel j over
 * the calibration and W_ij what meets it, in all layers that share the input:
 *
 *   signed      | A_j * sum_i W_ij |     the paper's
 *   absolute    A_j
 *   norm        A_j * sqrt(sum_i W_ij^2) what rounding the channel's numbers does to the outputs
 */
#ifndef LB_QUANTIZE_ACT_MASKS_H
#define LB_QUANTIZE_ACT_MASKS_H

#include "quantize/channel_scales.h"
#include "transform/reorder.h"

/* For the job's block. The same orders at any thread count. */
lb_status lb_act_masks_choose(const lb_channel_scaler *job, lb_channel_orders *out, lb_error *err);

/* score [width] -> order [width]: of each bank its high channels first. */
void lb_order_by_score(const lb_act *act, const double *score, size_t width, uint32_t *order);

#endif
