/* SPDX-License-Identifier: MIT
 * What `lowbit robustness` measures: checkpoints of training runs, averages of them, and models that stand alone. */
#ifndef LB_CLI_ROBUSTNESS_POINTS_H
#define LB_CLI_ROBUSTNESS_POINTS_H

#include <stdbool.h>
#include <stdint.h>

#include "train/average_named.h"

/* A run, or a model that stands alone. */
typedef struct lb_robust_run {
    char *path, *name;
    bool is_run;
    size_t parent; /* index of the run that it branches off, where that is measured too; SIZE_MAX: none */
    uint64_t parent_step;
} lb_robust_run;

/* Something that is quantized. */
typedef struct lb_robust_point {
    size_t run; /* index */
    char *model; /* the checkpoint */
    const char
        *average; /* "latest:10", of the run's checkpoints up to this one; NULL: the checkpoint itself */
    uint64_t step, tokens; /* 0: of no run */
    double rate, train_loss; /* as the run's log has them; NaN: unknown */
} lb_robust_point;

typedef struct lb_robust_points {
    lb_robust_run *runs;
    lb_robust_point *points; /* run by run; of a run plain checkpoints by step, then each average by step */
    size_t run_count, count, capacity;
} lb_robust_points;

/* Of every run the checkpoints at multiples of `every` steps (0: all) and the last, and where each average of these has
 * all the checkpoints that it is of. *out is to be freed whatever is returned. */
lb_status lb_robust_points_list(const char *const *models, size_t count, uint64_t every,
                                const lb_average_named *averages, size_t average_count, lb_robust_points *out,
                                lb_error *err);
void lb_robust_points_free(lb_robust_points *points);

#endif
