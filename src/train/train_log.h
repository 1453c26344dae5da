/* SPDX-License-Identifier: MIT
 * log.csv of a run. */
#ifndef LB_TRAIN_TRAIN_LOG_H
#define LB_TRAIN_TRAIN_LOG_H

#include "base/error.h"
#include "base/text.h"
#include "lowbit/train.h"

typedef struct lb_train_log {
    char *path;
    lb_text text;
    double written; /* when, on base/clock.h's clock */
} lb_train_log;

/* The rows up to `step` of the log that is there, if one is. */
lb_status lb_train_log_open(const char *run, uint64_t step, lb_train_log *out, lb_error *err);
void lb_train_log_free(lb_train_log *log);

/* Written to disk at once, or every few seconds. */
lb_status lb_train_log_add(lb_train_log *log, const lb_train_row *row, double seconds, lb_error *err);
lb_status lb_train_log_flush(lb_train_log *log, lb_error *err);

/* The last row of RUN/log.csv that is not beyond `step`, without `steps` and `seconds_left`; *found false: there is
 * none. */
lb_status lb_train_log_find(const char *run, uint64_t step, lb_train_row *out, bool *found, lb_error *err);

#endif
