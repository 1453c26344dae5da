/* SPDX-License-Identifier: MIT
 * A training run's folder: its checkpoints (lowbit/train.h shows the layout). */
#ifndef LB_TRAIN_RUN_FOLDER_H
#define LB_TRAIN_RUN_FOLDER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/text.h"

#define LB_INTERRUPTED_NAME "interrupted"
#define LB_RUN_NAME "run.json"
#define LB_AVERAGED_NAME "averaged"

typedef struct lb_run_steps {
    uint64_t *steps; /* ascending */
    size_t count;
} lb_run_steps;

/* Whether a folder is that of a run: one with its record. */
bool lb_run_exists(const char *folder);

/* The steps whose checkpoints (step-N folders) a run has; with_state: only those that one can go on from. */
lb_status lb_run_steps_list(const char *run, bool with_state, lb_run_steps *out, lb_error *err);
void lb_run_steps_free(lb_run_steps *steps);

enum { LB_STEP_NAME_BYTES = 32 };
/* "step-00001000". */
void lb_step_name(uint64_t step, char out[LB_STEP_NAME_BYTES]);

/* "RUN/NAME/FILE" (FILE may be NULL) in new memory, or NULL. */
char *lb_run_path(const char *run, const char *name, const char *file);

#endif
