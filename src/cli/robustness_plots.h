/* SPDX-License-Identifier: MIT
 * The plots of `lowbit robustness`, after the figures of arXiv:2510.06213. */
#ifndef LB_CLI_ROBUSTNESS_PLOTS_H
#define LB_CLI_ROBUSTNESS_PLOTS_H

#include "base/text.h"
#include "cli/robustness_measure.h"

enum { LB_ROBUST_MAX_PLOTS = 2 + 4 * LB_ROBUST_MAX_FORMATS };

typedef struct lb_robust_plot_file {
    char name[LB_ROBUST_FORMAT_BYTES + 32]; /* "error-int3-g128.svg" */
    char caption[160];
    lb_text svg; /* empty: there is nothing to draw */
} lb_robust_plot_file;

typedef struct lb_robust_plots {
    lb_robust_plot_file plots[LB_ROBUST_MAX_PLOTS];
    size_t count;
} lb_robust_plots;

/* LB_EUNSUPPORTED without gnuplot. */
lb_status lb_robust_plot(const lb_robust_study *study, lb_robust_plots *out, lb_error *err);
void lb_robust_plots_free(lb_robust_plots *plots);

#endif
