/* SPDX-License-Identifier: MIT
 *
 * Which stretch of the training text comes when. An epoch shows every window of `length` + 1 tokens once, in an order
 * drawn for it; windows begin at every multiple of `length` past an offset, drawn for it too, so that the cuts fall
 * elsewhere each time. All of it follows from the seed and the number of windows seen, so that a resumed run goes on
 * where it was.
 */
#ifndef LB_TRAIN_WINDOW_ORDER_H
#define LB_TRAIN_WINDOW_ORDER_H

#include "train/corpus.h"

typedef struct lb_window_order {
    const lb_corpus *corpus;
    size_t length;
    uint64_t seed;
    uint64_t per_epoch; /* windows */
    uint64_t epoch; /* whose order is in memory */
    size_t offset;
    uint32_t *order; /* [per_epoch] */
    bool is_drawn;
} lb_window_order;

lb_status lb_window_order_create(const lb_corpus *corpus, size_t length, uint64_t seed, lb_window_order *out,
                                 lb_error *err);
void lb_window_order_free(lb_window_order *order);

/* The index-th window that training sees: ids [length] and the ids that come next [length]. */
void lb_window_order_read(lb_window_order *order, uint64_t index, uint32_t *ids, uint32_t *targets);

#endif
