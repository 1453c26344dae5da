/* SPDX-License-Identifier: MIT
 * The average that a run ends with: RUN/averaged. */
#ifndef LB_TRAIN_RUN_AVERAGE_H
#define LB_TRAIN_RUN_AVERAGE_H

#include "train/average_named.h"

/* What of a run is there and what will be, as far as averages of it go. */
typedef struct lb_run_plan {
    const char *run;
    uint64_t step; /* the run is at; it may have checkpoints until there */
    uint64_t last, save_every; /* checkpoints to come: multiples, and the last step */
} lb_run_plan;

/* Whether the run will have as many checkpoints as the average is of. */
lb_status lb_run_average_check(const lb_average_named *average, const lb_run_plan *plan, lb_error *err);

/* Writes RUN/averaged, in the place of the one that is there. */
lb_status lb_run_average_write(const lb_average_named *average, const char *run, const lb_progress *progress,
                               lb_error *err);

#endif
