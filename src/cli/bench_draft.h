/* SPDX-License-Identifier: MIT
 * What a draft gains: a model continues the built-in text with and without it, in turn. */
#ifndef LB_CLI_BENCH_DRAFT_H
#define LB_CLI_BENCH_DRAFT_H

#include <jansson.h>
#include <stddef.h>

#include "infer/bench.h"
#include "lowbit/generate.h"

typedef struct lb_draft_bench {
    const char *model, *draft, *cpu, *kv;
    size_t prompt, generate, repeats, draft_tokens;
    double confidence;
    lb_progress progress;
} lb_draft_bench;

typedef struct lb_draft_report {
    const char *draft;
    size_t drafted, accepted, passes, generated; /* of one run: greedy ones are all the same */
    lb_bench_spread with, without; /* tokens a second */
    lb_bench_spread gain; /* of neighbouring runs */
} lb_draft_report;

lb_status lb_bench_draft(const lb_draft_bench *bench, lb_draft_report *out, lb_error *err);
json_t *lb_draft_json(const lb_draft_report *report);
void lb_draft_print(const lb_draft_report *report);

#endif
