/* SPDX-License-Identifier: MIT
 * Averages of a run's checkpoints, as one word names them. */
#ifndef LB_TRAIN_AVERAGE_NAMED_H
#define LB_TRAIN_AVERAGE_NAMED_H

#include "base/error.h"
#include "lowbit/train.h"

/* "latest:K", "latest:K:SPACING" (steps between the checkpoints that are averaged), "ema:KEEP". */
typedef struct lb_average_named {
    const char *text;
    size_t latest, spacing;
    double keep; /* of an EMA; negative: a mean of the latest */
} lb_average_named;

lb_status lb_average_parse(const char *text, lb_average_named *out, lb_error *err);

/* Everything but which run, until when, and where to. */
void lb_average_choose(const lb_average_named *average, lb_average_options *options);

#endif
