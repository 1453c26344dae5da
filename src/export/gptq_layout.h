/* SPDX-License-Identifier: MIT
 * The tensors of a layer as AutoGPTQ laid them out, which GPTQModel, AutoRound, vLLM and transformers read.
 * With K inputs, N outputs, G groups, b bits:
 *
 *   qweight  I32 [K b / 32, N]   of each output a stream of codes along K, lowest bit first, whose words lie
 *                                below each other
 *   qzeros   I32 [G, N b / 32]   of each group a stream of zeros along N; version 1 stores zero - 1
 *   scales   F16 [G, N]
 *   g_idx    I32 [K]             the group of each input
 *
 * value = scale * (code - zero). For 3 bits the published code describes 32 codes as words of 10, 10 and 10
 * with two split ones between them: that is the same stream. */
#ifndef LB_EXPORT_GPTQ_LAYOUT_H
#define LB_EXPORT_GPTQ_LAYOUT_H

#include "export/hf_folder.h"

/* Layers of one folder need not agree; the first is the folder's, the others are listed. */
typedef struct lb_gptq_layout {
    const char *tool; /* for messages */
    bool zeros_minus_one; /* version 1 */
    bool has_g_idx;
    bool any_bits; /* 5, 6 and 7 as well; otherwise they are widened to 8 */
} lb_gptq_layout;

/* The two functions of lb_folder_kind, for a folder whose state begins with an lb_gptq_layout. */
lb_status lb_gptq_plan(lb_folder *folder, const lb_export_item *item,
                       lb_tensor_out parts[LB_FOLDER_MAX_PARTS], size_t *count, lb_error *err);
lb_status lb_gptq_fill(lb_folder *folder, const lb_export_item *item, uint8_t *const *parts, lb_error *err);

/* Whether a layer that another tool packed in this layout, and that no format of lowbit has (its columns are
 * in an order of their own, say), goes out as it came in. */
bool lb_gptq_is_copied(const lb_gptq_layout *layout, const lb_weight *weight);

/* The scheme that a layer gets, bits widened. */
lb_status lb_gptq_scheme(const lb_gptq_layout *layout, const lb_weight *weight, lb_int_scheme *out,
                         lb_error *err);

/* Bits, group size (-1: a row) and symmetry as a JSON object of those three keys; what most layers share. */
json_t *lb_gptq_scheme_json(const lb_int_scheme *scheme);

#endif
