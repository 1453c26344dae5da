/* SPDX-License-Identifier: MIT
 * Tasks whose answers are generated: GSM8K. Everything about the files is found out by lb_generated_read, before the
 * model does any work. */
#ifndef LB_CLI_TASK_GENERATE_H
#define LB_CLI_TASK_GENERATE_H

#include "eval/task_item.h"

typedef struct lb_generated_options {
    const char *model, *cpu;
    size_t limit, shots; /* as lb_tasks_options has them */
    size_t most; /* tokens of an answer */
    bool bos; /* begin with BOS where the model's tokenizer adds one */
    lb_progress progress;
} lb_generated_options;

typedef struct lb_generated_prompt {
    uint32_t *ids;
    size_t count;
} lb_generated_prompt;

typedef struct lb_generated_task {
    const lb_task_spec *spec;
    lb_task_set set;
    lb_generated_prompt *prompts; /* [items.count - first of the set] */
    size_t prompt_count;
    size_t context; /* tokens that the longest prompt and its answer take */
} lb_generated_task;

typedef struct lb_generated_result {
    size_t items;
    double strict, strict_stderr; /* the number after "#### " is the right one */
    double flexible, flexible_stderr; /* the last number is */
    double seconds;
} lb_generated_result;

/* Questions as token ids; of one that is too long for the model the beginning is left out, so that an answer of `most`
 * tokens fits behind it, as the harness does. LB_EINVAL where no question would. To be freed whatever is returned. */
lb_status lb_generated_read(const lb_generated_options *options, const lb_task_spec *spec,
                            lb_generated_task *out, lb_error *err);

/* Greedy, until the next "Question:", an end token, or `most` tokens. Adds a JSON object per question, each in a line
 * of its own, to `items` unless it is NULL. */
lb_status lb_generated_run(const lb_generated_options *options, const lb_generated_task *task, lb_text *items,
                           lb_generated_result *out, lb_error *err);

void lb_generated_free(lb_generated_task *task);

#endif
