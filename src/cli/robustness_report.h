/* SPDX-License-Identifier: MIT
 * What `lowbit robustness` found, as tables, plots and a page. */
#ifndef LB_CLI_ROBUSTNESS_REPORT_H
#define LB_CLI_ROBUSTNESS_REPORT_H

#include "base/text.h"
#include "cli/robustness_measure.h"

/* For a terminal: the last point of every run and of each of its averages, and what the error goes with. */
lb_status lb_robust_overview(const lb_robust_study *study, lb_text *out, lb_error *err);

/* OUTPUT/results.md, results.csv, *.svg, report.html. Without gnuplot there are no plots: *plots_missing says so. */
lb_status lb_robust_write(const lb_robust_study *study, const char *command, bool *plots_missing,
                          lb_error *err);

#endif
