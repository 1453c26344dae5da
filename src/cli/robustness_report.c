/* SPDX-License-Identifier: MIT */
#include "cli/robustness_report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "analyze/rank_correlation.h"
#include "base/alloc.h"
#include "base/file.h"
#include "cli/report_files.h"
#include "cli/robustness_plots.h"
#include "report/html.h"
#include "report/table.h"

/* ---- Tables ---------------------------------------------------------------------------------------------- */

enum { MOST_COLUMNS = 16 + 5 * LB_ROBUST_MAX_FORMATS };

/* Columns whose names have formats in them. */
typedef struct columns {
    lb_column columns[MOST_COLUMNS];
    char names[MOST_COLUMNS][LB_ROBUST_FORMAT_BYTES + 32];
    size_t count;
} columns;

static void add_column(columns *c, bool number, const char *name, const char *of)
{
    snprintf(c->names[c->count], sizeof c->names[0], "%s%s", of, name);
    c->columns[c->count] = (lb_column){c->names[c->count], number};
    c->count++;
}

/* A number that may be unknown. */
static void add_number(lb_table *t, const char *format, double value)
{
    char text[64] = "";
    if (isfinite(value))
        snprintf(text, sizeof text, format, value);
    lb_table_add(t, text);
}

/* The next point is of another run, or another average. */
static bool is_last(const lb_robust_study *study, size_t i)
{
    const lb_robust_point *p = &study->points.points[i];
    return i + 1 == study->points.count || p[1].run != p->run || p[1].average != p->average;
}

static void add_overview_row(const lb_robust_study *study, size_t i, lb_table *t)
{
    const lb_robust_point *p = &study->points.points[i];
    const lb_robust_row *r = &study->rows[i];
    lb_table_add_format(t, "%s%s%s", study->points.runs[p->run].name, p->average ? ", " : "",
                        p->average ? p->average : "");
    if (p->step > 0)
        lb_table_add_format(t, "%llu", (unsigned long long)p->step);
    else
        lb_table_add(t, "");
    add_number(t, "%.3g", p->rate);
    add_number(t, "%.4f", r->loss);
    for (size_t f = 0; f < study->format_count; f++) {
        add_number(t, "%.4f", r->scores[f].loss);
        add_number(t, "%.2f %%", 100.0 * r->scores[f].error);
        lb_table_add_format(t, "%.5f \xc2\xb1 %.5f", r->scores[f].kl, r->scores[f].kl_stderr);
    }
}

/* `c` outlives the table. */
static lb_table overview(const lb_robust_study *study, bool all, columns *c)
{
    *c = (columns){0};
    add_column(c, false, "run", "");
    add_column(c, true, "step", "");
    add_column(c, true, "learning rate", "");
    add_column(c, true, "loss", "");
    for (size_t f = 0; f < study->format_count; f++) {
        add_column(c, true, " loss", study->formats[f]);
        add_column(c, true, "error", "");
        add_column(c, true, "KL", "");
    }
    lb_table t = {.columns = c->columns, .column_count = c->count};
    for (size_t i = 0; i < study->points.count; i++)
        if (all || is_last(study, i))
            add_overview_row(study, i, &t);
    return t;
}

static lb_table everything(const lb_robust_study *study, columns *c)
{
    static const char *const plain[] = {"average",    "step", "tokens",      "learning_rate",
                                        "train_loss", "loss", "weight_norm", "crest"};
    static const char *const of_format[] = {"_loss", "_error", "_kl_mean", "_kl_stderr", "_bits_per_weight"};
    *c = (columns){0};
    add_column(c, false, "run", "");
    add_column(c, false, "parent", "");
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        add_column(c, i > 0, plain[i], "");
    for (size_t f = 0; f < study->format_count; f++)
        for (size_t i = 0; i < sizeof of_format / sizeof *of_format; i++)
            add_column(c, true, of_format[i], study->formats[f]);
    lb_table t = {.columns = c->columns, .column_count = c->count};
    for (size_t i = 0; i < study->points.count; i++) {
        const lb_robust_point *p = &study->points.points[i];
        const lb_robust_run *run = &study->points.runs[p->run];
        const lb_robust_row *r = &study->rows[i];
        lb_table_add(&t, run->name);
        lb_table_add(&t, run->parent == SIZE_MAX ? "" : study->points.runs[run->parent].name);
        lb_table_add(&t, p->average ? p->average : "");
        lb_table_add_format(&t, "%llu", (unsigned long long)p->step);
        lb_table_add_format(&t, "%llu", (unsigned long long)p->tokens);
        add_number(&t, "%.9g", p->rate);
        add_number(&t, "%.6f", p->train_loss);
        add_number(&t, "%.6f", r->loss);
        add_number(&t, "%.6g", r->norm);
        add_number(&t, "%.5f", r->crest);
        for (size_t f = 0; f < study->format_count; f++) {
            const lb_robust_score *s = &r->scores[f];
            const double values[] = {s->loss, s->error, s->kl, s->kl_stderr, s->bits};
            for (size_t k = 0; k < sizeof values / sizeof *values; k++)
                add_number(&t, "%.6g", values[k]);
        }
    }
    return t;
}

/* ---- What the error goes with ---------------------------------------------------------------------------- */

enum { CAUSES = 5 };
static const char *const causes[CAUSES] = {"learning rate", "tokens", "loss", "norm of weights",
                                           "crest factor"};

static double cause(const lb_robust_study *study, size_t point, unsigned which)
{
    const lb_robust_point *p = &study->points.points[point];
    const lb_robust_row *r = &study->rows[point];
    switch (which) {
    case 0:
        return p->rate;
    case 1:
        return p->step > 0 ? (double)p->tokens : NAN;
    case 2:
        return r->loss;
    case 3:
        return r->norm;
    default:
        return r->crest;
    }
}

/* Rank correlations over all checkpoints of runs; averages are left out, since they have no learning rate. */
static lb_status correlations(const lb_robust_study *study, columns *c, lb_table *out, lb_error *err)
{
    const size_t n = study->points.count;
    double *x, rho;
    lb_status st = LB_OK;
    *c = (columns){0};
    add_column(c, false, "rank correlation of the error with", "");
    for (size_t f = 0; f < study->format_count; f++)
        add_column(c, true, study->formats[f], "");
    *out = (lb_table){.columns = c->columns, .column_count = c->count};
    LB_TRY(lb_alloc_array(&x, 2 * n, sizeof *x, "correlations", err));
    double *y = x + n;
    for (unsigned which = 0; which < CAUSES; which++) {
        lb_table_add(out, causes[which]);
        for (size_t f = 0; f < study->format_count; f++) {
            for (size_t i = 0; i < n; i++) {
                x[i] = study->points.points[i].average ? NAN : cause(study, i, which);
                y[i] = study->rows[i].scores[f].error;
            }
            LB_GO(lb_rank_correlation(x, y, n, &rho, err));
            add_number(out, "%+.2f", rho);
        }
    }
done:
    lb_free(x);
    return st;
}

lb_status lb_robust_overview(const lb_robust_study *study, lb_text *out, lb_error *err)
{
    columns c, k;
    lb_table table = overview(study, false, &c), related = {0};
    const lb_status st = correlations(study, &k, &related, err);
    lb_table_text(&table, out);
    if (st == LB_OK && study->points.count > 2) {
        lb_text_add_string(out, "\n");
        lb_table_text(&related, out);
    }
    lb_table_free(&table);
    lb_table_free(&related);
    return st == LB_OK && out->failed ? lb_fail(err, LB_ENOMEM, "no memory to print a table") : st;
}

/* ---- Files ----------------------------------------------------------------------------------------------- */

static void describe(const lb_robust_study *study, lb_text *out)
{
    lb_text_add_format(
        out,
        "Each checkpoint is quantized (%s) and both are scored on %s. Loss: mean negative log-likelihood, "
        "nats per token. Error: quantized loss / loss - 1 (arXiv:2510.06213). KL: mean divergence of the "
        "quantized model from the checkpoint, nats per token, with its standard error.",
        study->recipe.method, study->text);
}

static lb_status save_markdown(const lb_robust_study *study, const char *command, lb_error *err)
{
    columns c, k;
    lb_text text = {0};
    lb_table ends = overview(study, false, &c), related = {0};
    lb_status st = correlations(study, &k, &related, err);
    lb_text_add_string(&text, "# Training and quantization error\n\n");
    describe(study, &text);
    lb_text_add_format(&text,
                       "\n\n```sh\n%s\n```\n\nThe last checkpoint of every run; all are in results.csv.\n\n",
                       command);
    lb_table_markdown(&ends, &text);
    lb_text_add_string(&text, "\n");
    lb_table_markdown(&related, &text);
    lb_table_free(&ends);
    lb_table_free(&related);
    if (st == LB_OK)
        return lb_report_save(study->output, "results.md", &text, err);
    lb_text_free(&text);
    return st;
}

static lb_status save_page(const lb_robust_study *study, const char *command, const lb_robust_plots *plots,
                           lb_error *err)
{
    columns c, a, k;
    lb_html html = {0};
    lb_text description = {0};
    lb_table ends = overview(study, false, &c), all = overview(study, true, &a), related = {0};
    char *path = lb_path_join(study->output, "report.html");
    lb_status st = correlations(study, &k, &related, err);
    if (st != LB_OK)
        goto done;
    describe(study, &description);
    lb_html_begin(&html, "Training and quantization error");
    lb_html_paragraph(&html, "%s", description.data ? description.data : "");
    lb_html_code(&html, command);
    lb_html_heading(&html, 2, "The end of every run");
    lb_table_html(&ends, NULL, &html);
    lb_html_heading(&html, 2, "What the error goes with");
    lb_table_html(&related, "Spearman's rank correlation over all checkpoints, averages left out", &html);
    lb_html_heading(&html, 2, "Plots");
    for (size_t i = 0; i < plots->count; i++)
        if (plots->plots[i].svg.length > 0)
            LB_GO(lb_html_svg(&html, plots->plots[i].svg.data, plots->plots[i].svg.length,
                              plots->plots[i].caption, err));
    lb_html_heading(&html, 2, "All checkpoints");
    lb_table_html(&all, NULL, &html);
    st = path && !description.failed ? lb_html_finish(&html, path, err)
                                     : lb_fail(err, LB_ENOMEM, "no memory to write report.html");
done:
    lb_html_free(&html);
    lb_text_free(&description);
    lb_table_free(&ends);
    lb_table_free(&all);
    lb_table_free(&related);
    lb_free(path);
    return st;
}

lb_status lb_robust_write(const lb_robust_study *study, const char *command, bool *plots_missing,
                          lb_error *err)
{
    columns c;
    lb_robust_plots plots = {0};
    lb_status st = lb_robust_plot(study, &plots, err);
    *plots_missing = st == LB_EUNSUPPORTED;
    if (st != LB_OK && !*plots_missing)
        goto done;
    LB_GO(save_page(study, command, &plots, err));
    for (size_t i = 0; i < plots.count; i++)
        if (plots.plots[i].svg.length > 0)
            LB_GO(lb_report_save(study->output, plots.plots[i].name, &plots.plots[i].svg, err));
    LB_GO(save_markdown(study, command, err));
    st = lb_report_save_csv(study->output, "results.csv", everything(study, &c), err);
done:
    lb_robust_plots_free(&plots);
    return st;
}
