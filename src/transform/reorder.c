/* SPDX-License-Identifier: MIT */
#include "transform/reorder.h"

#include <string.h>

#include "base/alloc.h"

void lb_channel_orders_free(lb_channel_orders *orders)
{
    for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++)
        lb_free(orders->order[stage]);
    *orders = (lb_channel_orders){0};
}

static lb_status reorder_columns(lb_linear *l, const uint32_t *order, lb_error *err)
{
    float *row, *w = l->dense;
    LB_TRY(lb_alloc_array(&row, l->cols, sizeof *row, "a reordered row", err));
    for (size_t r = 0; r < l->rows; r++, w += l->cols) {
        memcpy(row, w, l->cols * sizeof *row);
        for (size_t i = 0; i < l->cols; i++)
            w[i] = row[order[i]];
    }
    lb_free(row);
    return LB_OK;
}

static lb_status reorder_rows(lb_linear *l, const uint32_t *order, lb_error *err)
{
    const float *from = l->dense;
    float *rows, *bias = NULL;
    LB_TRY(lb_alloc_array(&rows, l->rows, l->cols * sizeof *rows, "reordered rows", err));
    const lb_status st =
        l->bias ? lb_alloc_array(&bias, l->rows, sizeof *bias, "reordered rows", err) : LB_OK;
    if (st != LB_OK) {
        lb_free(rows);
        return st;
    }
    for (size_t r = 0; r < l->rows; r++) {
        memcpy(rows + r * l->cols, from + order[r] * l->cols, l->cols * sizeof *rows);
        if (bias)
            bias[r] = l->bias[order[r]];
    }
    lb_free(l->dense);
    lb_free(l->bias);
    l->dense = rows;
    l->bias = bias;
    return LB_OK;
}

static lb_status reorder_stage(lb_stage stage, const uint32_t *order, lb_block *block, lb_error *err)
{
    size_t cols = 0;
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        if (lb_block_linears[which].stage != stage)
            continue;
        cols = block->linear[which].cols;
        LB_TRY(reorder_columns(&block->linear[which], order, err));
    }
    if (stage == LB_STAGE_DOWN) {
        LB_TRY(reorder_rows(&block->linear[LB_LINEAR_GATE], order, err));
        return reorder_rows(&block->linear[LB_LINEAR_UP], order, err);
    }
    LB_TRY(lb_alloc_array(&block->order[stage], cols, sizeof *order, "an order of channels", err));
    memcpy(block->order[stage], order, cols * sizeof *order);
    return LB_OK;
}

lb_status lb_block_reorder(const lb_channel_orders *orders, lb_block *block, lb_error *err)
{
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        const lb_linear *l = &block->linear[which];
        if (l->quantized || l->type != LB_DENSE_F32)
            return lb_fail(err, LB_EINVAL, "%s: only channels of float32 weights can be reordered",
                           lb_block_linears[which].suffix);
    }
    for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++) {
        if (orders->order[stage])
            LB_TRY(reorder_stage((lb_stage)stage, orders->order[stage], block, err));
    }
    return LB_OK;
}
