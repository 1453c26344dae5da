/* SPDX-License-Identifier: MIT
 * What a block is to be reconstructed by: the mean square of the difference between what it puts out and
 * what it should. The last token of every sequence does not count: no prediction depends on it
 * (arXiv:2309.05516's code). The largest thousandth of the differences may be left out: outliers, which at
 * few bits would steer everything (arXiv:2512.04746). */
#ifndef LB_QUANTIZE_BLOCK_LOSS_H
#define LB_QUANTIZE_BLOCK_LOSS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef struct lb_block_loss {
    size_t length, hidden; /* tokens of a sequence, numbers of a token */
    bool filter;
    double *partials; /* scratch */
    uint32_t *counts;
} lb_block_loss;

/* For up to `sequences` sequences at a time. */
lb_status lb_block_loss_create(size_t sequences, size_t length, size_t hidden, bool filter,
                               lb_block_loss *out, lb_error *err);
void lb_block_loss_free(lb_block_loss *loss);

/* y [sequences * length, hidden] becomes y - target, and 0 where it does not count: the gradient, up to a
 * factor > 0. *sum: of its squares; NaN or infinite where y or target are. The same bits at any thread
 * count. */
void lb_block_loss_find(const lb_block_loss *loss, size_t sequences, const float *target, float *y,
                        double *sum);

#endif
