/* SPDX-License-Identifier: MIT
 * Channels of layer inputs put in another order, and with them the columns of the weights that meet them, so that a
 * block computes what it did. The inputs of down are made in that order by gate and up, whose rows are permuted; all
 * others are gathered where they are made (model/block.c): what makes them feeds other layers too, or, for o, whole
 * heads. */
#ifndef LB_TRANSFORM_REORDER_H
#define LB_TRANSFORM_REORDER_H

#include "model/block.h"

typedef struct lb_channel_orders {
    uint32_t *order[LB_STAGE_COUNT]; /* [width]: which channel comes at each place; NULL: as it is */
} lb_channel_orders;

void lb_channel_orders_free(lb_channel_orders *orders);

/* A block of float32 weights, whose inputs have no order of their own yet. */
lb_status lb_block_reorder(const lb_channel_orders *orders, lb_block *block, lb_error *err);

#endif
