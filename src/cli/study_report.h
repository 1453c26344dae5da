/* SPDX-License-Identifier: MIT
 * What `lowbit study` found, as tables for a terminal and for programs, as plots and as one HTML page. */
#ifndef LB_CLI_STUDY_REPORT_H
#define LB_CLI_STUDY_REPORT_H

#include <jansson.h>

#include "analyze/study.h"
#include "lowbit/eval.h"
#include "report/table.h"

enum { LB_STUDY_CASTS = LB_STUDY_PAIRS * LB_STUDY_WAYS * 2 };

typedef struct lb_study_findings {
    const char *model, *text, *command; /* command: as typed, for the report */
    size_t tensor_tokens; /* that the layers' inputs were measured on */
    lb_study tensors;
    lb_eval_result results[LB_STUDY_CASTS]; /* lb_study_cast_index */
} lb_study_findings;

/* The cast of a pair's integer (0) or floating (1) format. */
size_t lb_study_cast_index(unsigned pair, unsigned way, unsigned which);

/* One line per pair and way, as people read it; lb_table_free. */
lb_table lb_study_overview(const lb_study_findings *f);

json_t *lb_study_json(const lb_study_findings *f);

/* Fills an existing folder: results.md, results.csv, tensors.csv, *.svg, report.html. Without gnuplot there are
 * no plots: *plots_missing says so. */
lb_status lb_study_write(const lb_study_findings *f, const char *folder, bool *plots_missing, lb_error *err);

#endif
