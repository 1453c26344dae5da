/* SPDX-License-Identifier: MIT */
#include "cli/quantize_page.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "cli/output.h"
#include "report/plot.h"
#include "report/table.h"

/* Layers of a block have a series each, blocks are the x axis. */
enum { MOST_KINDS = 8, MOST_CANDIDATES = 16 };

typedef struct layers {
    const lb_quantize_result *r;
    size_t kinds, blocks;
    const char *labels[MOST_KINDS]; /* "q_proj" */
    double *x, *y; /* [blocks], [kinds, blocks] */
} layers;

/* Of names like "model.layers.3.mlp.up_proj", in order of the blocks. */
static size_t kinds_of(const lb_quantize_result *r)
{
    static const char first[] = "model.layers.0.";
    size_t kinds = 0;
    while (kinds < r->layer_count && strncmp(r->layers[kinds].name, first, sizeof first - 1) == 0)
        kinds++;
    return kinds;
}

static lb_status layers_create(const lb_quantize_result *r, layers *out, lb_error *err)
{
    layers l = {.r = r, .kinds = kinds_of(r)};
    if (l.kinds == 0 || l.kinds > MOST_KINDS)
        return lb_fail(err, LB_EINVAL, "a report of %zu layers a block", l.kinds);
    l.blocks = r->layer_count / l.kinds;
    LB_TRY(lb_alloc_array(&l.x, (1 + l.kinds) * l.blocks, sizeof *l.x, "plot", err));
    l.y = l.x + l.blocks;
    for (size_t b = 0; b < l.blocks; b++)
        l.x[b] = (double)b;
    for (size_t k = 0; k < l.kinds; k++) {
        const char *dot = strrchr(r->layers[k].name, '.');
        l.labels[k] = dot ? dot + 1 : r->layers[k].name;
    }
    *out = l;
    return LB_OK;
}

static double bits(const lb_quantize_result *r, size_t layer, size_t which)
{
    (void)which;
    return r->layers[layer].bits_per_weight;
}

static double output_error(const lb_quantize_result *r, size_t layer, size_t which)
{
    (void)which;
    return lb_relative_root(r->layers[layer].relative_error);
}

static double sensitivity(const lb_quantize_result *r, size_t layer, size_t which)
{
    return r->sensitivities[which * r->layer_count + layer];
}

typedef struct figure {
    const char *title, *y_title, *caption;
    double (*value)(const lb_quantize_result *r, size_t layer, size_t which);
    size_t which; /* candidate */
    bool logarithmic;
} figure;

/* A figure with nothing to show, such as errors in a dry run, is left out. */
static lb_status draw(layers *l, const figure *what, lb_html *html, bool *missing, lb_error *err)
{
    lb_plot_series series[MOST_KINDS] = {0};
    lb_text svg = {0};
    double most = 0.0;
    for (size_t k = 0; k < l->kinds; k++) {
        for (size_t b = 0; b < l->blocks; b++) {
            const double value = what->value(l->r, b * l->kinds + k, what->which);
            l->y[k * l->blocks + b] = value;
            most = value > most ? value : most;
        }
        series[k] = (lb_plot_series){.label = l->labels[k],
                                     .x = l->x,
                                     .y = l->y + k * l->blocks,
                                     .n = l->blocks,
                                     .style = LB_PLOT_LINE_POINTS};
    }
    if (*missing || !(most > 0.0))
        return LB_OK;
    const lb_plot plot = {.title = what->title,
                          .x_title = "block",
                          .y_title = what->y_title,
                          .y_log = what->logarithmic,
                          .series = series,
                          .series_count = l->kinds};
    lb_status st = lb_plot_svg(&plot, &svg, err);
    *missing = st == LB_EUNSUPPORTED;
    if (st == LB_OK)
        st = lb_html_svg(html, svg.data, svg.length, what->caption, err);
    lb_text_free(&svg);
    return *missing ? LB_OK : st;
}

static lb_status add_plots(const lb_quantize_result *r, lb_html *html, bool *missing, lb_error *err)
{
    static const figure bits_figure = {.title = "Bits per weight by layer",
                                       .y_title = "bits per weight, parameters of groups included",
                                       .caption = "What each layer takes.",
                                       .value = bits};
    static const figure error_figure = {.title = "Output error by layer",
                                        .y_title = "error, % of the output's magnitude",
                                        .caption = "The difference that rounding makes to a layer's output "
                                                   "on calibration inputs (of the weights alone "
                                                   "where there is no calibration).",
                                        .value = output_error};
    char title[96];
    layers l;
    lb_status st = LB_OK;
    LB_TRY(layers_create(r, &l, err));
    LB_GO(draw(&l, &bits_figure, html, missing, err));
    for (size_t k = 0; r->sensitivities && k < r->candidate_count; k++) {
        snprintf(title, sizeof title, "Sensitivity to %s by layer", r->candidates[k].name);
        const figure sensitivity_figure = {.title = title,
                                           .y_title = "nats per token",
                                           .caption = "What rounding that layer alone is thought to cost.",
                                           .value = sensitivity,
                                           .which = k,
                                           .logarithmic = true};
        LB_GO(draw(&l, &sensitivity_figure, html, missing, err));
    }
    LB_GO(draw(&l, &error_figure, html, missing, err));
done:
    lb_free(l.x);
    return st;
}

static void add_fact(lb_table *table, const char *name, const char *format, double value)
{
    lb_table_add(table, name);
    lb_table_add_format(table, format, value);
}

static void add_summary(const lb_quantize_findings *f, lb_html *html)
{
    static const lb_column columns[] = {{"", false}, {"", true}};
    const lb_quantize_result *r = f->result;
    lb_table table = {.columns = columns, .column_count = 2};
    char bytes[32];
    add_fact(&table, "bits per weight, quantized layers", "%.3f", r->quantized_bits_per_weight);
    add_fact(&table, "bits per weight, whole model", "%.3f", r->bits_per_weight);
    lb_table_add(&table, "size of all tensors");
    lb_table_add(&table, lb_bytes_text((double)r->bytes, bytes));
    if (r->candidates)
        add_fact(&table, "bits per weight, layers decided on", "%.3f", r->allocated_bits_per_weight);
    if (r->candidates)
        add_fact(&table, "time to allocate bits, s", "%.1f", r->seconds_allocate);
    if (!f->dry_run) {
        add_fact(&table, "time, s", "%.1f", r->seconds);
        lb_table_add(&table, "most memory");
        lb_table_add(&table, lb_bytes_text((double)r->peak_rss_bytes, bytes));
    }
    if (f->eval) {
        add_fact(&table, "perplexity of the original", "%.3f", f->eval->reference.perplexity);
        add_fact(&table, "perplexity of the result", "%.3f", f->eval->model.perplexity);
        add_fact(&table, "mean KL divergence, nats per token", "%.4f", f->eval->kl_mean);
        add_fact(&table, "top-1 agreement, %", "%.1f", f->eval->top1_agreement);
    }
    lb_table_html(&table, NULL, html);
    lb_table_free(&table);
}

static void add_layers(const lb_quantize_findings *f, lb_html *html)
{
    static const lb_column always[] = {
        {"layer", false}, {"format", false}, {"bits/weight", true}, {"output error %", true}};
    enum { ALWAYS = sizeof always / sizeof *always };
    lb_column columns[ALWAYS + MOST_CANDIDATES];
    char names[MOST_CANDIDATES][64];
    const lb_quantize_result *r = f->result;
    const size_t candidates = r->sensitivities ? r->candidate_count : 0;
    lb_table table = {.columns = columns, .column_count = ALWAYS + candidates};
    memcpy(columns, always, sizeof always);
    for (size_t k = 0; k < candidates; k++) {
        snprintf(names[k], sizeof names[k], "sensitivity to %s", r->candidates[k].name);
        columns[ALWAYS + k] = (lb_column){names[k], true};
    }
    for (size_t i = 0; i < r->layer_count; i++) {
        const lb_quantize_layer *l = &r->layers[i];
        lb_table_add(&table, l->name);
        lb_table_add(&table, l->format);
        lb_table_add_format(&table, "%.3f", l->bits_per_weight);
        if (isfinite(l->relative_error))
            lb_table_add_format(&table, "%.2f", lb_relative_root(l->relative_error));
        else
            lb_table_add(&table, "-");
        for (size_t k = 0; k < candidates; k++) {
            const double lost = r->sensitivities[k * r->layer_count + i];
            if (isfinite(lost))
                lb_table_add_format(&table, "%.3g", lost);
            else
                lb_table_add(&table, "-");
        }
    }
    lb_table_html(&table, NULL, html);
    lb_table_free(&table);
}

lb_status lb_quantize_page(const lb_quantize_findings *f, const char *command, const char *path,
                           bool *plots_missing, lb_error *err)
{
    lb_html html = {0};
    lb_status st = LB_OK;
    *plots_missing = false;
    lb_html_begin(&html, f->dry_run ? "Quantization planned" : "Quantization");
    lb_html_paragraph(&html, "Model: %s", f->model);
    lb_html_code(&html, command);
    lb_html_paragraph(&html, "Recipe:");
    lb_html_code(&html, f->result->recipe);
    add_summary(f, &html);
    lb_html_heading(&html, 2, "Layers");
    LB_GO(add_plots(f->result, &html, plots_missing, err));
    if (f->result->sensitivities)
        lb_html_paragraph(
            &html, "Sensitivity: what rounding a layer to a format is thought to cost the model; none where "
                   "--layer gives the format.");
    add_layers(f, &html);
    st = lb_html_finish(&html, path, err);
done:
    lb_html_free(&html);
    return st;
}
