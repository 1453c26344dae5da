/* SPDX-License-Identifier: MIT
 * Any model as a Hugging Face folder of floats: codes become the values that they stand for, rotations and
 * orders of inputs are undone, so that the folder needs nothing of lowbit. What inputs were rounded to has
 * no place in it; the recipe is in the metadata of model.safetensors. */
#include "export/to_safetensors.h"

#include <string.h>

#include "base/alloc.h"
#include "export/hf_folder.h"
#include "model/input_order.h"
#include "model/inputs.h"

typedef struct undoing {
    const lb_kernels *kernels;
    lb_inputs inputs;
} undoing;

/* Stored column k meets channel order[k] of the input. */
static lb_status unorder(const lb_folder *f, const lb_export_item *item, float *values, lb_error *err)
{
    const lb_stage stage = lb_block_linears[item->which].stage;
    const size_t cols = item->weight.cols;
    uint32_t *order = NULL;
    float *row = NULL;
    lb_status st;
    if (!lb_act_masks(&f->weights->act) || (unsigned)stage >= LB_MASKS_PER_BLOCK)
        return LB_OK; /* gate, up and down lie in one order, which is theirs alone */
    LB_GO(lb_alloc_array(&order, cols, sizeof *order, item->weight.name, err));
    LB_GO(lb_alloc_array(&row, cols, sizeof *row, item->weight.name, err));
    LB_GO(lb_input_order_read(f->weights, item->layer, stage, order, err));
    for (size_t r = 0; r < item->weight.rows; r++) {
        float *at = values + r * cols;
        memcpy(row, at, cols * sizeof *row);
        for (size_t k = 0; k < cols; k++)
            at[order[k]] = row[k];
    }
done:
    lb_free(order);
    lb_free(row);
    return st;
}

static lb_status floats(lb_folder *f, const lb_export_item *item, float *values, lb_error *err)
{
    const undoing *u = f->state;
    const lb_weight *w = &item->weight;
    LB_TRY(lb_weight_read(w, 0, w->rows, values, err));
    if (item->which == LB_BLOCK_LINEARS)
        return LB_OK;
    LB_TRY(unorder(f, item, values, err));
    const lb_rotation *rotation = u->inputs.rotations[lb_block_linears[item->which].stage];
    if (rotation)
        lb_rotation_undo(u->kernels, rotation, values, w->rows);
    return LB_OK;
}

lb_status lb_export_safetensors(const lb_weights *weights, const lb_export_options *options,
                                lb_export_result *result, lb_error *err)
{
    static const lb_folder_kind kind = {.name = "safetensors", .floats = floats};
    undoing u = {.kernels = lb_kernels_get(lb_cpu_detect())};
    LB_TRY(lb_inputs_create(&weights->config, &weights->transform, NULL, &u.inputs, err));
    const lb_status st = lb_folder_export(weights, &kind, &u, options, result, err);
    lb_inputs_free(&u.inputs);
    return st;
}
