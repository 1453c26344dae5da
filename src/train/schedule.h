/* SPDX-License-Identifier: MIT
 *
 * The learning rate of every step, 1 .. steps: a linear warm-up from 0 to the peak, then
 *
 *   constant   the peak
 *   cosine     final + (peak - final) (1 + cos(pi x)) / 2      [Loshchilov & Hutter 2017]
 *   wsd        the peak until the last `decay` steps, then     [warm-up, stable, decay: Hu et al. 2024]
 *              peak + (final - peak) x           (linear), or
 *              peak + (final - peak) sqrt(x)     (1 - sqrt: Haegele et al. 2024)
 *
 * with x from just above 0 at the first step after the stable part to just below 1 at the last one: k / (n + 1) for the
 * k-th of n, so that no step is made at the final rate, which may be 0.
 */
#ifndef LB_TRAIN_SCHEDULE_H
#define LB_TRAIN_SCHEDULE_H

#include <stdint.h>

#include "base/error.h"

typedef enum lb_schedule_kind { LB_SCHEDULE_CONSTANT, LB_SCHEDULE_COSINE, LB_SCHEDULE_WSD } lb_schedule_kind;
typedef enum lb_decay_shape { LB_DECAY_LINEAR, LB_DECAY_SQRT } lb_decay_shape;

typedef struct lb_schedule {
    lb_schedule_kind kind;
    lb_decay_shape shape;
    double peak, final; /* learning rates */
    uint64_t steps, warmup, decay;
} lb_schedule;

/* "constant", "cosine", "wsd"; "linear", "sqrt". */
lb_status lb_schedule_parse(const char *kind, const char *shape, lb_schedule *out, lb_error *err);

double lb_schedule_rate(const lb_schedule *schedule, uint64_t step);

#endif
