/* SPDX-License-Identifier: MIT
 * The plots of `lowbit study`. */
#ifndef LB_CLI_STUDY_PLOTS_H
#define LB_CLI_STUDY_PLOTS_H

#include "cli/study_report.h"

enum { LB_STUDY_PLOTS = 1 + LB_STUDY_PAIRS };

typedef struct lb_study_plots {
    lb_text svg[LB_STUDY_PLOTS];
    char names[LB_STUDY_PLOTS][32]; /* of the files */
    char captions[LB_STUDY_PLOTS][160];
} lb_study_plots;

/* Divergence by pair, and of each pair QSNR against crest factor, a point per tensor. LB_EUNSUPPORTED without
 * gnuplot; *out is to be freed in any case. */
lb_status lb_study_plot(const lb_study_findings *f, lb_study_plots *out, lb_error *err);
void lb_study_plots_free(lb_study_plots *plots);

#endif
