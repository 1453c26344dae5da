/* SPDX-License-Identifier: MIT */
#include "cli/robustness_plots.h"

#include <math.h>
#include <stdio.h>

#include "base/alloc.h"
#include "report/plot.h"

/* What a plot shows of a point. */
typedef enum metric { LOSS, RATE, QUANTIZED_LOSS, ERROR, DIVERGENCE } metric;

/* A run's checkpoints, or one of its averages: the points that one line joins. */
typedef struct line {
    size_t first, count; /* in study->points */
    size_t parent_point; /* where a branch begins; SIZE_MAX: nowhere */
    unsigned color;
    char label[128];
} line;

/* Room for all lines of one plot: series, and coordinates [2][total]. */
typedef struct sketch {
    const lb_robust_study *study;
    line *lines;
    size_t line_count, total;
    lb_plot_series *series;
    double *x, *y;
} sketch;

static double value(const lb_robust_study *study, size_t point, metric m, size_t format)
{
    const lb_robust_row *r = &study->rows[point];
    switch (m) {
    case LOSS:
        return r->loss;
    case RATE:
        return study->points.points[point].rate;
    case QUANTIZED_LOSS:
        return r->scores[format].loss;
    case DIVERGENCE:
        return r->scores[format].kl;
    default:
        return 100.0 * r->scores[format].error;
    }
}

/* The trunk's colour, whose branches and averages have it too: the next one for each run that is no branch. */
static unsigned color_of(const lb_robust_points *points, size_t run)
{
    size_t trunks = 0;
    for (size_t hops = 0; hops < points->run_count && points->runs[run].parent != SIZE_MAX; hops++)
        run = points->runs[run].parent;
    for (size_t i = 0; i < run; i++)
        trunks += points->runs[i].parent == SIZE_MAX;
    return (unsigned)(trunks % LB_PLOT_COLORS) + 1;
}

static size_t parent_point(const lb_robust_points *points, const lb_robust_run *run)
{
    for (size_t i = 0; run->parent != SIZE_MAX && i < points->count; i++)
        if (points->points[i].run == run->parent && !points->points[i].average &&
            points->points[i].step == run->parent_step)
            return i;
    return SIZE_MAX;
}

static void find_lines(sketch *s)
{
    const lb_robust_points *points = &s->study->points;
    for (size_t i = 0; i < points->count; i++) {
        const lb_robust_point *p = &points->points[i];
        if (i == 0 || p->run != p[-1].run || p->average != p[-1].average) {
            const lb_robust_run *run = &points->runs[p->run];
            line *l = &s->lines[s->line_count++];
            *l = (line){.first = i,
                        .parent_point = p->average ? SIZE_MAX : parent_point(points, run),
                        .color = color_of(points, p->run)};
            snprintf(l->label, sizeof l->label, "%s%s%s", run->name, p->average ? ", " : "",
                     p->average ? p->average : "");
            s->total += l->parent_point != SIZE_MAX;
        }
        s->lines[s->line_count - 1].count++;
        s->total++;
    }
}

static void fill_point(sketch *s, size_t at, size_t point, metric x, metric y, bool over_tokens,
                       size_t format)
{
    const lb_robust_point *p = &s->study->points.points[point];
    s->x[at] = !over_tokens ? value(s->study, point, x, format) : p->step > 0 ? (double)p->tokens / 1e6 : NAN;
    s->y[at] = value(s->study, point, y, format);
}

/* One series per line: y over tokens, or over another metric. */
static size_t fill(sketch *s, metric x, metric y, bool over_tokens, size_t format)
{
    size_t at = 0;
    for (size_t k = 0; k < s->line_count; k++) {
        const line *l = &s->lines[k];
        const bool average = s->study->points.points[l->first].average != NULL;
        const size_t begin = at;
        if (l->parent_point != SIZE_MAX)
            fill_point(s, at++, l->parent_point, x, y, over_tokens, format);
        for (size_t i = 0; i < l->count; i++)
            fill_point(s, at++, l->first + i, x, y, over_tokens, format);
        /* A branch is dashed, in its trunk's colour, and needs no name of its own. */
        s->series[k] = (lb_plot_series){.label = l->parent_point == SIZE_MAX ? l->label : NULL,
                                        .x = s->x + begin,
                                        .y = s->y + begin,
                                        .n = at - begin,
                                        .style = at - begin == 1 ? LB_PLOT_POINTS
                                                 : average       ? LB_PLOT_LINE_POINTS
                                                                 : LB_PLOT_LINE,
                                        .color = l->color,
                                        .dashed = l->parent_point != SIZE_MAX};
    }
    return s->line_count;
}

/* A file is left empty where there is no point to draw, such as tokens of models that are in no run. */
static lb_status draw(const lb_plot *plot, lb_robust_plots *out, const char *name, const char *of,
                      const char *caption, lb_error *err)
{
    lb_robust_plot_file *file = &out->plots[out->count++];
    snprintf(file->name, sizeof file->name, "%s%s.svg", name, of);
    snprintf(file->caption, sizeof file->caption, "%s", caption);
    const lb_status st = lb_plot_svg(plot, &file->svg, err);
    return st == LB_EINVAL ? LB_OK : st;
}

static lb_status draw_over_tokens(sketch *s, metric y, size_t format, const char *title, const char *y_title,
                                  const char *name, const char *of, lb_robust_plots *out, lb_error *err)
{
    const lb_plot plot = {.title = title,
                          .x_title = "million tokens",
                          .y_title = y_title,
                          .series = s->series,
                          .series_count = fill(s, LOSS, y, true, format)};
    return draw(&plot, out, name, of, title, err);
}

/* Float loss against quantized loss, with the line on which quantization costs nothing. */
static lb_status draw_plane(sketch *s, size_t format, lb_robust_plots *out, lb_error *err)
{
    double ends[2] = {HUGE_VAL, -HUGE_VAL};
    char title[LB_ROBUST_FORMAT_BYTES + 64];
    const char *name = s->study->formats[format];
    const size_t count = fill(s, LOSS, QUANTIZED_LOSS, false, format);
    for (size_t i = 0; i < s->study->points.count; i++) {
        ends[0] = fmin(ends[0], s->study->rows[i].loss);
        ends[1] = fmax(ends[1], s->study->rows[i].loss);
    }
    s->series[count] = (lb_plot_series){.label = "no loss",
                                        .x = ends,
                                        .y = ends,
                                        .n = 2,
                                        .style = LB_PLOT_LINE,
                                        .color = LB_PLOT_COLORS,
                                        .dashed = true};
    snprintf(title, sizeof title, "What %s makes of a checkpoint's loss", name);
    const lb_plot plot = {.title = title,
                          .x_title = "loss, nats per token",
                          .y_title = "loss when quantized",
                          .series = s->series,
                          .series_count = count + 1};
    return draw(&plot, out, "losses-", name, title, err);
}

static lb_status draw_format(sketch *s, size_t format, lb_robust_plots *out, lb_error *err)
{
    const char *name = s->study->formats[format];
    char title[LB_ROBUST_FORMAT_BYTES + 64];
    snprintf(title, sizeof title, "Quantization error at %s", name);
    LB_TRY(
        draw_over_tokens(s, ERROR, format, title, "quantized loss / loss - 1, %", "error-", name, out, err));
    snprintf(title, sizeof title, "Divergence of %s from its checkpoint", name);
    LB_TRY(
        draw_over_tokens(s, DIVERGENCE, format, title, "KL, nats per token", "divergence-", name, out, err));
    snprintf(title, sizeof title, "Loss when quantized to %s", name);
    LB_TRY(
        draw_over_tokens(s, QUANTIZED_LOSS, format, title, "nats per token", "quantized-", name, out, err));
    return draw_plane(s, format, out, err);
}

lb_status lb_robust_plot(const lb_robust_study *study, lb_robust_plots *out, lb_error *err)
{
    const size_t n = study->points.count;
    sketch s = {.study = study};
    lb_status st = LB_OK;
    LB_GO(lb_alloc_array(&s.lines, n, sizeof *s.lines, "plots", err));
    LB_GO(lb_alloc_array(&s.series, n + 1, sizeof *s.series, "plots", err));
    find_lines(&s);
    LB_GO(lb_alloc_array(&s.x, s.total, sizeof *s.x, "plots", err));
    LB_GO(lb_alloc_array(&s.y, s.total, sizeof *s.y, "plots", err));
    LB_GO(draw_over_tokens(&s, LOSS, 0, "Loss of the checkpoints", "nats per token", "loss", "", out, err));
    LB_GO(draw_over_tokens(&s, RATE, 0, "Learning rate", "learning rate", "learning-rate", "", out, err));
    for (size_t f = 0; f < study->format_count; f++)
        LB_GO(draw_format(&s, f, out, err));
done:
    lb_free(s.lines);
    lb_free(s.series);
    lb_free(s.x);
    lb_free(s.y);
    return st;
}

void lb_robust_plots_free(lb_robust_plots *plots)
{
    for (size_t i = 0; i < plots->count; i++)
        lb_text_free(&plots->plots[i].svg);
}
