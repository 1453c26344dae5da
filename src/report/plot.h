/* SPDX-License-Identifier: MIT
 *
 * Plots as SVG, drawn by gnuplot, which is looked for when a plot is asked for and not before.
 *
 *     const lb_plot_series series[] = {
 *         {.label = "mxint8", .x = crest, .y = db, .n = 40, .style = LB_PLOT_LINE},
 *         {.x = measured_crest, .y = measured_db, .n = 5, .style = LB_PLOT_POINTS, .color = 1},
 *     };
 *     const lb_plot plot = {.x_title = "crest factor", .y_title = "QSNR (dB)",
 *                           .series = series, .series_count = 2};
 *     LB_TRY(lb_plot_write(&plot, "qsnr.svg", err));
 */
#ifndef LB_REPORT_PLOT_H
#define LB_REPORT_PLOT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/text.h"

typedef enum lb_plot_style {
    LB_PLOT_LINE,
    LB_PLOT_POINTS,
    LB_PLOT_LINE_POINTS,
    LB_PLOT_BARS, /* side by side with the other series of bars, at x = 0, 1, ... (see categories) */
    LB_PLOT_LABELS /* the points' labels alone */
} lb_plot_style;

typedef struct lb_plot_series {
    const char *label; /* in the legend; NULL: not there */
    const double *x,
        *y; /* points with a coordinate that is not finite, or not above 0 on a logarithmic axis, are
                          * left out and interrupt a line */
    const double *error; /* half the height of error bars, or NULL */
    const char *const *labels; /* a text beside each point, or NULL; items may be NULL */
    size_t n;
    lb_plot_style style;
    unsigned color; /* 0: the next of the palette; k: its k-th, counted from 1 */
    bool dashed;
} lb_plot_series;

typedef struct lb_plot {
    const char *title, *x_title, *y_title; /* any may be NULL */
    bool x_log, y_log;
    double x_min, x_max, y_min, y_max; /* both 0: from the data */
    const char *const *categories; /* names of x = 0, 1, ... instead of numbers, or NULL */
    size_t category_count;
    const lb_plot_series *series;
    size_t series_count;
    unsigned width, height; /* 0: 840 x 520, or as high as the legend */
} lb_plot;

enum { LB_PLOT_COLORS = 12 };

/* Appends an SVG document without an XML declaration: a file of its own, or part of an HTML page. Texts may
 * be anything. LB_EINVAL where there is no point to draw; LB_EUNSUPPORTED without gnuplot; LB_EIO where it
 * fails. */
lb_status lb_plot_svg(const lb_plot *plot, lb_text *svg, lb_error *err);

/* The same into a file, which appears when it is whole. */
lb_status lb_plot_write(const lb_plot *plot, const char *path, lb_error *err);

#endif
