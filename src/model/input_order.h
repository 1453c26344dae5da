/* SPDX-License-Identifier: MIT
 *
 * The order in which a stage's layers see the channels of their input, where some of them are held in high precision
 * (formats/act_format.h): those first, then the others, each in their own order. A checkpoint stores which they are as
 * one bit for each channel:
 *
 *   model.layers.L.self_attn.qkv_input_mask, .self_attn.o_input_mask, .mlp.gate_up_input_mask
 *
 * The inputs of down need none: gate and up make them in order.
 */
#ifndef LB_MODEL_INPUT_ORDER_H
#define LB_MODEL_INPUT_ORDER_H

#include "model/weights.h"

enum { LB_MASKS_PER_BLOCK = LB_STAGE_DOWN }; /* of the stages before down */

/* The tensor's name for one of those stages. */
void lb_input_mask_name(size_t layer, lb_stage stage, char *out, size_t out_bytes);
size_t lb_input_mask_bytes(size_t width);
/* Bytes of all masks of a model whose inputs are rounded so; 0 where none are stored. */
uint64_t lb_input_masks_bytes(const lb_config *config, const lb_act *act);

/* order [width], high channels first -> mask, bit i % 8 of byte i / 8 for channel i. */
void lb_input_mask_of(const uint32_t *order, size_t high, size_t width, uint8_t *mask);

/* The order that a stored mask implies, order [width] or NULL; LB_EFORMAT where it is missing, or where a bank has
 * another number of high channels than the format says. */
lb_status lb_input_order_read(const lb_weights *weights, size_t layer, lb_stage stage, uint32_t *order,
                              lb_error *err);

#endif
