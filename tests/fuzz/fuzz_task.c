/* SPDX-License-Identifier: MIT
 * Any bytes as a task's data: the first names the task. What is accepted must be questions that can be asked. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "eval/task_item.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const lb_task_item *item)
{
    if (item->choice_count < 1 || item->choice_count > LB_TASK_MAX_CHOICES || item->gold >= item->choice_count ||
        (item->context_count != 1 && item->context_count != item->choice_count))
        abort();
    for (size_t i = 0; i < item->context_count; i++)
        if (!item->contexts[i])
            abort();
    for (size_t i = 0; i < item->choice_count; i++)
        if (!item->choices[i] || item->choices[i][0] != ' ' || item->characters[i] > strlen(item->choices[i]))
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"piqa",   "arc-easy", "hellaswag", "winogrande", "openbookqa",
                                        "boolq", "mmlu",     "lambada",   "gsm8k",      "choice"};
    const lb_task_kind *kind;
    lb_task_items items;
    lb_error err;
    if (size == 0 || lb_task_find(names[data[0] % (sizeof names / sizeof *names)], &kind, &err) != LB_OK)
        return 0;
    if (lb_task_parse(kind, (const char *)data + 1, size - 1, 100, "fuzz.jsonl", &items, &err) != LB_OK)
        return 0;
    const lb_task_set set = {.kind = kind, .items = items, .shots = 1};
    for (size_t i = 0; i < items.count; i++) {
        lb_text heading = {0};
        check(&items.items[i]);
        (void)lb_task_heading(&set, &items.items[i], &heading, &err);
        lb_text_free(&heading);
    }
    lb_task_items_free(&items);
    return 0;
}
