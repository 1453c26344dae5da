/* SPDX-License-Identifier: MIT
 * Tasks whose answers are generated: GSM8K. */
#ifndef LB_CLI_TASK_GENERATE_H
#define LB_CLI_TASK_GENERATE_H

#include "eval/task_item.h"

typedef struct lb_generated_result {
    size_t items;
    double strict, strict_stderr; /* the number after "#### " is the right one */
    double flexible, flexible_stderr; /* the last number is */
    double seconds;
} lb_generated_result;

/* Greedy, until the next "Question:", an end token, or `most` tokens. limit, shots: as lb_tasks_options has them. */
lb_status lb_task_generate(const char *model, const char *cpu, const lb_task_spec *task, size_t limit,
                           size_t shots, size_t most, const lb_progress *progress, lb_generated_result *out,
                           lb_error *err);

#endif
