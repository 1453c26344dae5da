/* SPDX-License-Identifier: MIT */
#include "model/input_order.h"

#include <stdio.h>
#include <string.h>

#include "model/inputs.h"

void lb_input_mask_name(size_t layer, lb_stage stage, char *out, size_t out_bytes)
{
    static const char *const names[LB_MASKS_PER_BLOCK] = {[LB_STAGE_QKV] = "self_attn.qkv_input_mask",
                                                          [LB_STAGE_O] = "self_attn.o_input_mask",
                                                          [LB_STAGE_GATE_UP] = "mlp.gate_up_input_mask"};
    snprintf(out, out_bytes, "model.layers.%zu.%s", layer, names[stage]);
}

size_t lb_input_mask_bytes(size_t width)
{
    return width / 8 + (width % 8 != 0);
}

uint64_t lb_input_masks_bytes(const lb_config *config, const lb_act *act)
{
    uint64_t bytes = 0;
    for (unsigned stage = 0; lb_act_masks(act) && stage < LB_MASKS_PER_BLOCK; stage++)
        bytes += config->layers * lb_input_mask_bytes(lb_stage_width(config, (lb_stage)stage));
    return bytes;
}

void lb_input_mask_of(const uint32_t *order, size_t high, size_t width, uint8_t *mask)
{
    memset(mask, 0, lb_input_mask_bytes(width));
    for (size_t i = 0; i < high; i++)
        mask[order[i] / 8] = (uint8_t)(mask[order[i] / 8] | 1u << order[i] % 8);
}

static bool is_high(const lb_tensor *mask, size_t channel)
{
    return mask->data[channel / 8] >> channel % 8 & 1;
}

lb_status lb_input_order_read(const lb_weights *weights, size_t layer, lb_stage stage, uint32_t *order,
                              lb_error *err)
{
    const lb_act *act = &weights->act;
    const size_t width = lb_stage_width(&weights->config, stage);
    size_t at[2] = {0, lb_act_high_channels(act, width)};
    char name[128];
    lb_input_mask_name(layer, stage, name, sizeof name);
    const lb_tensor *mask = lb_tensor_find(&weights->checkpoint.tensors, name);
    if (!mask)
        return lb_fail(err, LB_EFORMAT, "%s: there is no tensor %s, which activation format %s needs",
                       weights->checkpoint.path, name, act->name);
    if (mask->dtype != LB_DTYPE_U8 || mask->rank != 1 || mask->bytes != lb_input_mask_bytes(width))
        return lb_fail(err, LB_EFORMAT, "%s: %s is %s of %zu bytes, want U8 [%zu], a bit for each channel",
                       weights->checkpoint.path, name, lb_dtype_name(mask->dtype), mask->bytes,
                       lb_input_mask_bytes(width));
    for (size_t bank = 0; bank < width; bank += act->bank) {
        size_t count = 0;
        for (size_t i = bank; i < bank + act->bank; i++)
            count += is_high(mask, i);
        if (count != act->high_per_bank)
            return lb_fail(err, LB_EFORMAT, "%s: %s has %zu high channels in bank %zu, want %zu",
                           weights->checkpoint.path, name, count, bank / act->bank, act->high_per_bank);
    }
    for (size_t i = 0; order && i < width; i++)
        order[at[!is_high(mask, i)]++] = (uint32_t)i;
    return LB_OK;
}
