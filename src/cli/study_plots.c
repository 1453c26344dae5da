/* SPDX-License-Identifier: MIT */
#include "cli/study_plots.h"

#include <math.h>
#include <stdio.h>

#include "analyze/qsnr_theory.h"
#include "base/alloc.h"
#include "report/plot.h"

/* One group of bars per pair and way, an integer and a floating bar in each. */
static lb_status plot_divergence(const lb_study_findings *f, lb_text *svg, lb_error *err)
{
    enum { GROUPS = LB_STUDY_PAIRS * LB_STUDY_WAYS };
    char names[GROUPS][32];
    const char *categories[GROUPS];
    double x[GROUPS], y[2][GROUPS], error[2][GROUPS];
    for (unsigned k = 0; k < GROUPS; k++) {
        const unsigned pair = k / LB_STUDY_WAYS, way = k % LB_STUDY_WAYS;
        snprintf(names[k], sizeof names[k], way ? "rotated" : "%s", lb_study_pairs[pair].name);
        categories[k] = names[k];
        x[k] = k;
        for (unsigned which = 0; which < 2; which++) {
            const lb_eval_result *r = &f->results[lb_study_cast_index(pair, way, which)];
            y[which][k] = r->kl_mean;
            error[which][k] = r->kl_stderr;
        }
    }
    const lb_plot_series series[] = {
        {.label = "integer", .x = x, .y = y[0], .error = error[0], .n = GROUPS, .style = LB_PLOT_BARS},
        {.label = "floating point",
         .x = x,
         .y = y[1],
         .error = error[1],
         .n = GROUPS,
         .style = LB_PLOT_BARS}};
    const lb_plot plot = {.title = "What a direct cast costs",
                          .y_title = "mean KL from the unquantized model, nats",
                          .y_log = true,
                          .categories = categories,
                          .category_count = GROUPS,
                          .series = series,
                          .series_count = 2};
    return lb_plot_svg(&plot, svg, err);
}

enum { THEORY_POINTS = 60 };

typedef struct curve {
    double x[THEORY_POINTS], y[THEORY_POINTS];
} curve;

static void draw_theory(const char *name, double least, double most, curve *out)
{
    lb_format format;
    const bool known = lb_format_parse(name, &format, NULL) == LB_OK;
    for (size_t i = 0; i < THEORY_POINTS; i++) {
        out->x[i] = least + (most - least) * (double)i / (THEORY_POINTS - 1);
        out->y[i] = known ? lb_theory_qsnr(LB_THEORY_GRID, &format, out->x[i], format.group) : NAN;
    }
}

/* Points [way][format] of all tensors, and the theory of both formats where the points lie. */
static lb_status plot_pair(const lb_study_findings *f, unsigned pair, lb_text *svg, lb_error *err)
{
    const size_t n = f->tensors.count;
    const lb_study_pair *names = &lb_study_pairs[pair];
    double *points, least = HUGE_VAL, most = 0.0;
    char title[64], labels[4][48];
    curve theory[2];
    LB_TRY(lb_alloc_array(&points, n, LB_STUDY_WAYS * 3 * sizeof *points, "plot", err));
    lb_plot_series series[6] = {0};
    for (unsigned way = 0; way < LB_STUDY_WAYS; way++) {
        double *x = points + way * 3 * n;
        for (size_t i = 0; i < n; i++) {
            x[i] = f->tensors.tensors[i].crest[pair][way];
            least = x[i] > 0.0 && x[i] < least ? x[i] : least;
            most = x[i] > most ? x[i] : most;
            for (unsigned which = 0; which < 2; which++)
                x[(1 + which) * n + i] = f->tensors.tensors[i].db[pair][way][which];
        }
        for (unsigned which = 0; which < 2; which++) {
            const unsigned at = way * 2 + which;
            snprintf(labels[at], sizeof labels[at], "%s%s", names->formats[which], way ? ", rotated" : "");
            series[at] = (lb_plot_series){.label = labels[at],
                                          .x = x,
                                          .y = x + (1 + which) * n,
                                          .n = n,
                                          .style = LB_PLOT_POINTS,
                                          .color = 1 + at};
        }
    }
    for (unsigned which = 0; which < 2; which++) {
        draw_theory(names->formats[which], least, most, &theory[which]);
        series[4 + which] = (lb_plot_series){.label = which ? "theory, normal blocks" : NULL,
                                             .x = theory[which].x,
                                             .y = theory[which].y,
                                             .n = THEORY_POINTS,
                                             .style = LB_PLOT_LINE,
                                             .color = 1 + which,
                                             .dashed = true};
    }
    snprintf(title, sizeof title, "%s: a point per tensor", names->name);
    const lb_plot plot = {.title = title,
                          .x_title = "mean crest factor of the tensor's blocks",
                          .y_title = "QSNR, dB",
                          .series = series,
                          .series_count = 6};
    const lb_status st = lb_plot_svg(&plot, svg, err);
    lb_free(points);
    return st;
}

/* A model that no cast changes has nothing to draw on a logarithmic axis: that is no failure. */
static lb_status or_nothing(lb_status st)
{
    return st == LB_EINVAL ? LB_OK : st;
}

lb_status lb_study_plot(const lb_study_findings *f, lb_study_plots *out, lb_error *err)
{
    snprintf(out->names[0], sizeof out->names[0], "divergence.svg");
    snprintf(out->captions[0], sizeof out->captions[0],
             "Divergence of every cast, with standard errors; lower is better.");
    LB_TRY(or_nothing(plot_divergence(f, &out->svg[0], err)));
    for (unsigned pair = 0; pair < LB_STUDY_PAIRS; pair++) {
        const lb_study_pair *names = &lb_study_pairs[pair];
        snprintf(out->names[1 + pair], sizeof out->names[1 + pair], "qsnr-%s.svg", names->formats[0]);
        snprintf(out->captions[1 + pair], sizeof out->captions[1 + pair],
                 "QSNR of %s and %s on every weight and input, against the tensor's mean crest factor.",
                 names->formats[0], names->formats[1]);
        LB_TRY(or_nothing(plot_pair(f, pair, &out->svg[1 + pair], err)));
    }
    return LB_OK;
}

void lb_study_plots_free(lb_study_plots *plots)
{
    for (size_t i = 0; i < LB_STUDY_PLOTS; i++)
        lb_text_free(&plots->svg[i]);
}
