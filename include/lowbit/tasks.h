/* SPDX-License-Identifier: MIT
 *
 * The tasks that people judge models by: multiple choice and last words, scored by likelihood as the field's usual
 * harness does (prompts, acc, acc_norm, standard errors).
 *
 * A choice's score is the sum of log-probabilities of its tokens after the question's: both are tokenized together, and
 * the choice's tokens are those after as many as the question alone has. acc takes the best sum; acc_norm the best sum
 * per character of the choice. A question that is too long loses its beginning.
 */
#ifndef LOWBIT_TASKS_H
#define LOWBIT_TASKS_H

#include <stdbool.h>
#include <stdint.h>

#include "lowbit/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lb_task_spec {
    const char *
        name; /* "piqa", "arc-easy", "arc-challenge", "hellaswag", "winogrande", "openbookqa", "boolq", "mmlu",
                       * "lambada", "choice" */
    const char *data; /* a file of a JSON object per line */
    const char
        *examples; /* the same, for `shots`; NULL: the first lines of `data`, which are not scored then */
    const void *reserved[4]; /* NULL */
} lb_task_spec;

enum { LB_TASK_MAX_CHOICES = 16 };

/* One item's scores. */
typedef struct lb_task_scores {
    size_t index, choices, gold; /* index: line of the data, from 0 */
    double sums[LB_TASK_MAX_CHOICES]; /* log-likelihoods, nats */
    bool greedy[LB_TASK_MAX_CHOICES]; /* whether each token was the likeliest */
    bool right, right_norm;
} lb_task_scores;

typedef void (*lb_task_scores_fn)(void *user, size_t task, const lb_task_scores *scores);

typedef struct lb_tasks_options {
    size_t struct_size;
    const char *model;
    const lb_task_spec *tasks;
    size_t task_count;
    size_t limit; /* items of a task; 0: all */
    size_t shots; /* examples before each question */
    bool bos; /* begin with BOS where the model's tokenizer adds one: the harness does not */
    const char *cpu;
    lb_progress progress;
    lb_task_scores_fn on_item; /* in the order of the data, when a task is done; may be NULL */
    void *on_item_user;
} lb_tasks_options;

LB_API void lb_tasks_options_init_sized(lb_tasks_options *options, size_t size);
#define lb_tasks_options_init(options) lb_tasks_options_init_sized((options), sizeof *(options))

typedef struct lb_task_result {
    size_t items;
    double acc, acc_stderr;
    double acc_norm, acc_norm_stderr; /* NaN where the harness has none */
    double perplexity, perplexity_stderr; /* of last words, per word; NaN for choices */
    double seconds;
    size_t reserved[8]; /* 0 */
} lb_task_result;

/* results [task_count]. All files are read before the first is scored. After a failure those tasks that were finished
 * have their results, and the others 0 items. */
LB_API lb_status lb_tasks_run(const lb_tasks_options *options, lb_task_result *results, lb_error *err);

#ifdef __cplusplus
}
#endif
#endif
