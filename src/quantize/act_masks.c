/* SPDX-License-Identifier: MIT */
#include "quantize/act_masks.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"

/* What the weights contribute to the scores of a stage's channels, out [width]. */
static void weigh_columns(const lb_channel_scaler *job, lb_stage stage, size_t width, double *out)
{
    const lb_mask_score how = job->recipe->mask_score;
    memset(out, 0, width * sizeof *out);
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        const lb_linear *l = &job->block->linear[which];
        const float *w = l->dense;
        if (lb_block_linears[which].stage != stage)
            continue;
        for (size_t row = 0; row < l->rows; row++, w += l->cols)
            for (size_t i = 0; i < width; i++)
                out[i] += how == LB_MASK_SIGNED ? (double)w[i] : (double)w[i] * (double)w[i];
    }
    for (size_t i = 0; i < width; i++)
        out[i] = how == LB_MASK_ABSOLUTE ? 1.0 : how == LB_MASK_SIGNED ? fabs(out[i]) : sqrt(out[i]);
}

void lb_order_by_score(const lb_act *act, const double *score, size_t width, uint32_t *order)
{
    size_t at[2] = {0, lb_act_high_channels(act, width)};
    for (size_t bank = 0; bank < width; bank += act->bank) {
        for (size_t i = bank; i < bank + act->bank; i++) {
            size_t better = 0; /* channels of the bank that come before this one */
            for (size_t k = bank; k < bank + act->bank; k++)
                better += score[k] > score[i] || (score[k] == score[i] && k < i);
            order[at[better >= act->high_per_bank]++] = (uint32_t)i;
        }
    }
}

lb_status lb_act_masks_choose(const lb_channel_scaler *job, lb_channel_orders *out, lb_error *err)
{
    lb_channel_sizes sizes = {0};
    lb_channel_orders orders = {0};
    double *score = NULL;
    lb_status st = LB_OK;
    LB_GO(lb_channel_sizes_create(job->config, &sizes, err));
    LB_GO(lb_measure_channels(job, &sizes, err));
    LB_GO(lb_alloc_array(&score, lb_widest_input(job->config), sizeof *score, "scores of channels", err));
    for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++) {
        const size_t width = sizes.widths[stage];
        LB_GO(lb_alloc_array(&orders.order[stage], width, sizeof(uint32_t), "an order of channels", err));
        weigh_columns(job, (lb_stage)stage, width, score);
        for (size_t i = 0; i < width; i++)
            score[i] *= lb_channel_mean(&sizes, (lb_stage)stage, i);
        lb_order_by_score(&job->recipe->act, score, width, orders.order[stage]);
    }
    *out = orders;
    orders = (lb_channel_orders){0};
done:
    lb_channel_sizes_free(&sizes);
    lb_channel_orders_free(&orders);
    lb_free(score);
    return st;
}
