/* SPDX-License-Identifier: MIT
 *
 * A line of a task's data as the question and the answers that the field's usual harness makes of it. Two layouts are
 * read: that in which each task is published, and {"centerpiece", "options", "correct_options_idx"} for all of them.
 */
#ifndef LB_EVAL_TASK_ITEM_H
#define LB_EVAL_TASK_ITEM_H

#include <jansson.h>

#include "base/text.h"
#include "lowbit/tasks.h"

typedef enum lb_task_scoring {
    LB_TASK_CHOICE, /* acc */
    LB_TASK_CHOICE_NORM, /* acc and acc_norm */
    LB_TASK_LAST_WORD, /* acc, which is whether all tokens are the likeliest, and perplexity */
    LB_TASK_GENERATE /* what comes after the question is generated; choices[0] is the reference answer */
} lb_task_scoring;

typedef struct lb_task_item {
    size_t choice_count, gold;
    char *
        contexts[LB_TASK_MAX_CHOICES]; /* [1] or [choice_count]: the question, or as each choice changes it */
    size_t context_count;
    char *choices[LB_TASK_MAX_CHOICES]; /* with the blank before them */
    size_t characters[LB_TASK_MAX_CHOICES]; /* without it */
    char *group; /* examples are of the same group; NULL: all are */
} lb_task_item;

typedef struct lb_task_kind {
    const char *name;
    lb_task_scoring scoring;
    lb_status (*read)(const json_t *line, lb_task_item *out, lb_error *err);
    const char *says_group; /* begins the prompt: "... about %s"; NULL: nothing does */
} lb_task_kind;

/* LB_EINVAL with the names that there are. */
lb_status lb_task_find(const char *name, const lb_task_kind **out, lb_error *err);

typedef struct lb_task_items {
    lb_task_item *items;
    size_t count;
} lb_task_items;

/* text [bytes], an object per line, empty lines left out; at most `limit` of them (0: all). `where` is for
 * messages. This is the entry point that is fuzzed. */
lb_status lb_task_parse(const lb_task_kind *kind, const char *text, size_t bytes, size_t limit,
                        const char *where, lb_task_items *out, lb_error *err);
lb_status lb_task_read(const lb_task_kind *kind, const char *path, size_t limit, lb_task_items *out,
                       lb_error *err);
void lb_task_items_free(lb_task_items *items);

/* A task's questions, and the examples that stand before each. */
typedef struct lb_task_set {
    const lb_task_kind *kind;
    lb_task_items items, others; /* others: examples of a file of their own */
    size_t first; /* of items: those before are examples */
    size_t shots;
} lb_task_set;

/* At most `limit` questions (0: all). LB_EINVAL where nothing is left to ask. To be freed whatever is returned. */
lb_status lb_task_set_read(const lb_task_spec *task, size_t limit, size_t shots, lb_task_set *out, lb_error *err);
void lb_task_set_free(lb_task_set *set);

/* What stands before the item's own question: the kind's heading, and the first examples of its group, each with its
 * answer. LB_EINVAL where there are fewer than shots. */
lb_status lb_task_heading(const lb_task_set *set, const lb_task_item *item, lb_text *out, lb_error *err);

#endif
