/* SPDX-License-Identifier: MIT */
#include "cli/study_report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/file.h"
#include "cli/output.h"
#include "cli/report_files.h"
#include "cli/study_plots.h"
#include "report/html.h"

/* In how many of its 12 models arXiv:2510.25602 finds the integer format ahead (KL; tables 3 to 6). */
static const unsigned paper_wins[LB_STUDY_PAIRS][LB_STUDY_WAYS] = {{12, 12}, {0, 1}, {0, 0}, {0, 12}};
enum { PAPER_MODELS = 12 };

static const char *const ways[LB_STUDY_WAYS] = {"plain", "rotated"};

size_t lb_study_cast_index(unsigned pair, unsigned way, unsigned which)
{
    return (pair * LB_STUDY_WAYS + way) * 2 + which;
}

static const lb_eval_result *result_of(const lb_study_findings *f, unsigned pair, unsigned way,
                                       unsigned which)
{
    return &f->results[lb_study_cast_index(pair, way, which)];
}

/* A difference of less than two standard errors, taken as if the two were independent, decides nothing. */
static const char *winner(const lb_eval_result *integer, const lb_eval_result *floating)
{
    const double difference = floating->kl_mean - integer->kl_mean;
    if (difference == 0.0)
        return "-";
    const double error =
        sqrt(integer->kl_stderr * integer->kl_stderr + floating->kl_stderr * floating->kl_stderr);
    if (fabs(difference) < 2.0 * error)
        return difference > 0.0 ? "INT?" : "FP?";
    return difference > 0.0 ? "INT" : "FP";
}

/* A dash where there is nothing to tell: all tensors were exact, or zero. */
static void add_tally(lb_table *table, const lb_study_tally *t)
{
    if (t->tensors == 0) {
        for (int i = 0; i < 3; i++)
            lb_table_add(table, "-");
        return;
    }
    lb_table_add_format(table, "%.2f", t->db[0]);
    lb_table_add_format(table, "%.2f", t->db[1]);
    lb_table_add_format(table, "%.0f %%", 100.0 * (double)t->integer_wins / (double)t->tensors);
}

lb_table lb_study_overview(const lb_study_findings *f)
{
    static const lb_column columns[] = {{"pair", false},
                                        {"", false},
                                        {"weights dB INT", true},
                                        {"FP", true},
                                        {"INT ahead", true},
                                        {"inputs dB INT", true},
                                        {"FP", true},
                                        {"INT ahead", true},
                                        {"KL INT", true},
                                        {"KL FP", true},
                                        {"perplexity INT", true},
                                        {"FP", true},
                                        {"lower KL", false},
                                        {"paper: INT", true}};
    lb_table table = {.columns = columns, .column_count = sizeof columns / sizeof *columns};
    for (unsigned pair = 0; pair < LB_STUDY_PAIRS; pair++) {
        for (unsigned way = 0; way < LB_STUDY_WAYS; way++) {
            const lb_eval_result *integer = result_of(f, pair, way, 0),
                                 *floating = result_of(f, pair, way, 1);
            const lb_study_tally w = lb_study_sum(&f->tensors, pair, way, LB_STUDY_WEIGHTS);
            const lb_study_tally x = lb_study_sum(&f->tensors, pair, way, LB_STUDY_INPUTS);
            lb_table_add(&table, lb_study_pairs[pair].name);
            lb_table_add(&table, ways[way]);
            add_tally(&table, &w);
            add_tally(&table, &x);
            lb_table_add_format(&table, "%.5f", integer->kl_mean);
            lb_table_add_format(&table, "%.5f", floating->kl_mean);
            lb_table_add_format(&table, "%.3f", integer->model.perplexity);
            lb_table_add_format(&table, "%.3f", floating->model.perplexity);
            lb_table_add(&table, winner(integer, floating));
            lb_table_add_format(&table, "%u of %d", paper_wins[pair][way], PAPER_MODELS);
        }
    }
    return table;
}

/* What arXiv:2510.25602 prints as KL: the mean over tokens and over the 25 entries, in millionths. */
static double paper_kl(const lb_eval_result *r)
{
    return r->kl_top25_mean / 25.0 * 1e6;
}

/* Every number, one line per cast. */
static lb_table details(const lb_study_findings *f)
{
    static const lb_column columns[] = {
        {"pair", false},           {"format", false},        {"transform", false},
        {"weights_qsnr_db", true}, {"inputs_qsnr_db", true}, {"weights_crest", true},
        {"inputs_crest", true},    {"perplexity", true},     {"perplexity_stderr", true},
        {"kl_mean", true},         {"kl_stderr", true},      {"kl_median", true},
        {"kl_p99", true},          {"kl_top25_mean", true},  {"kl_paper_1e6", true},
        {"top1_agreement", true}};
    lb_table table = {.columns = columns, .column_count = sizeof columns / sizeof *columns};
    for (unsigned i = 0; i < LB_STUDY_CASTS; i++) {
        const unsigned which = i % 2, way = i / 2 % LB_STUDY_WAYS, pair = i / 2 / LB_STUDY_WAYS;
        const lb_eval_result *r = result_of(f, pair, way, which);
        const lb_study_tally w = lb_study_sum(&f->tensors, pair, way, LB_STUDY_WEIGHTS);
        const lb_study_tally x = lb_study_sum(&f->tensors, pair, way, LB_STUDY_INPUTS);
        const double numbers[] = {w.db[which],      x.db[which],         w.crest,
                                  x.crest,          r->model.perplexity, r->model.perplexity_stderr,
                                  r->kl_mean,       r->kl_stderr,        r->kl_median,
                                  r->kl_p99,        r->kl_top25_mean,    paper_kl(r),
                                  r->top1_agreement};
        lb_table_add(&table, lb_study_pairs[pair].name);
        lb_table_add(&table, lb_study_pairs[pair].formats[which]);
        lb_table_add(&table, lb_study_ways[way]);
        for (size_t k = 0; k < sizeof numbers / sizeof *numbers; k++)
            lb_table_add_format(&table, "%.6g", numbers[k]);
    }
    return table;
}

static void tensor_name(const lb_study_tensor *t, char out[96])
{
    static const char *const inputs[LB_STAGE_COUNT] = {[LB_STAGE_QKV] = "self_attn.qkv_input",
                                                       [LB_STAGE_O] = "self_attn.o_input",
                                                       [LB_STAGE_GATE_UP] = "mlp.gate_up_input",
                                                       [LB_STAGE_DOWN] = "mlp.down_input"};
    snprintf(out, 96, "model.layers.%zu.%s", t->block,
             t->is_input ? inputs[t->which] : lb_block_linears[t->which].suffix);
}

/* Every tensor, pair and way. */
static lb_table tensors(const lb_study_findings *f)
{
    static const lb_column columns[] = {{"tensor", false},         {"kind", false}, {"pair", false},
                                        {"transform", false},      {"crest", true}, {"integer_qsnr_db", true},
                                        {"floating_qsnr_db", true}};
    lb_table table = {.columns = columns, .column_count = sizeof columns / sizeof *columns};
    for (size_t i = 0; i < f->tensors.count; i++) {
        const lb_study_tensor *t = &f->tensors.tensors[i];
        char name[96];
        tensor_name(t, name);
        for (unsigned k = 0; k < LB_STUDY_PAIRS * LB_STUDY_WAYS; k++) {
            const unsigned pair = k / LB_STUDY_WAYS, way = k % LB_STUDY_WAYS;
            lb_table_add(&table, name);
            lb_table_add(&table, t->is_input ? "input" : "weight");
            lb_table_add(&table, lb_study_pairs[pair].name);
            lb_table_add(&table, lb_study_ways[way]);
            lb_table_add_format(&table, "%.5f", t->crest[pair][way]);
            for (unsigned which = 0; which < 2; which++)
                lb_table_add_format(&table, "%.4f", t->db[pair][way][which]);
        }
    }
    return table;
}

static json_t *cast_json(const lb_study_findings *f, unsigned pair, unsigned way, unsigned which)
{
    const lb_eval_result *r = result_of(f, pair, way, which);
    const lb_study_tally w = lb_study_sum(&f->tensors, pair, way, LB_STUDY_WEIGHTS);
    const lb_study_tally x = lb_study_sum(&f->tensors, pair, way, LB_STUDY_INPUTS);
    const struct {
        const char *key;
        double value;
    } numbers[] = {{"weights_qsnr_db", w.db[which]},    {"inputs_qsnr_db", x.db[which]},
                   {"weights_crest", w.crest},          {"inputs_crest", x.crest},
                   {"perplexity", r->model.perplexity}, {"kl_mean", r->kl_mean},
                   {"kl_stderr", r->kl_stderr},         {"kl_top25_mean", r->kl_top25_mean},
                   {"kl_paper_1e6", paper_kl(r)},       {"top1_agreement", r->top1_agreement}};
    json_t *json = json_pack("{s:s, s:s, s:s}", "pair", lb_study_pairs[pair].name, "format",
                             lb_study_pairs[pair].formats[which], "transform", lb_study_ways[way]);
    int failed = json == NULL;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        failed |= json_object_set_new(json, numbers[i].key, lb_json_number(numbers[i].value));
    if (!failed)
        return json;
    json_decref(json);
    return NULL;
}

json_t *lb_study_json(const lb_study_findings *f)
{
    const lb_eval_result *r = &f->results[0];
    json_t *rows = json_array();
    int failed = rows == NULL;
    for (unsigned i = 0; i < LB_STUDY_CASTS; i++)
        failed |=
            json_array_append_new(rows, cast_json(f, i / 2 / LB_STUDY_WAYS, i / 2 % LB_STUDY_WAYS, i % 2));
    if (!failed)
        return json_pack("{s:o, s:o, s:I, s:I, s:I, s:o, s:o}", "model", lb_json_text(f->model), "text",
                         lb_json_text(f->text), "ctx", (json_int_t)r->ctx, "tokens", (json_int_t)r->tokens,
                         "tensor_tokens", (json_int_t)f->tensor_tokens, "reference_perplexity",
                         lb_json_number(r->reference.perplexity), "rows", rows);
    json_decref(rows);
    return NULL;
}

static void describe(const lb_study_findings *f, lb_text *out)
{
    const lb_eval_result *r = &f->results[0];
    lb_text_add_format(
        out,
        "Direct cast, nothing calibrated: weights and inputs of every linear layer but the head are "
        "rounded to the format named. Perplexity (%.4f unquantized) and KL(unquantized || cast), in "
        "nats per token over the full vocabulary, on %zu tokens of %s in %zu windows of %zu; QSNR is "
        "the mean over tensors, inputs measured on the first %zu tokens. INT ahead: the share of "
        "tensors with the higher QSNR. A question mark after the lower KL: the difference is less than "
        "two standard errors. Paper: in how many of the 12 models of arXiv:2510.25602 the integer "
        "format has the lower KL.",
        r->reference.perplexity, r->tokens, f->text, r->windows, r->ctx, f->tensor_tokens);
}

static lb_status save_markdown(const lb_study_findings *f, const char *folder, lb_error *err)
{
    lb_text text = {0};
    lb_table table = lb_study_overview(f);
    lb_text_add_format(&text, "# Integer against floating point on %s\n\n", f->model);
    describe(f, &text);
    lb_text_add_format(&text, "\n\n```sh\n%s\n```\n\n", f->command);
    lb_table_markdown(&table, &text);
    lb_table_free(&table);
    return lb_report_save(folder, "results.md", &text, err);
}

static lb_status save_page(const lb_study_findings *f, const char *folder, const lb_study_plots *plots,
                           lb_error *err)
{
    lb_html html = {0};
    lb_text description = {0};
    lb_table overview = lb_study_overview(f), all = details(f);
    lb_status st = LB_OK;
    char *path = lb_path_join(folder, "report.html");
    describe(f, &description);
    lb_html_begin(&html, "Integer against floating point");
    lb_html_paragraph(&html, "Model: %s", f->model);
    lb_html_paragraph(&html, "%s", description.data ? description.data : "");
    lb_html_code(&html, f->command);
    lb_html_heading(&html, 2, "Who wins");
    lb_table_html(&overview, NULL, &html);
    lb_html_heading(&html, 2, "Plots");
    for (size_t i = 0; i < LB_STUDY_PLOTS; i++) {
        if (plots->svg[i].length > 0)
            LB_GO(lb_html_svg(&html, plots->svg[i].data, plots->svg[i].length, plots->captions[i], err));
    }
    lb_html_heading(&html, 2, "All numbers");
    lb_table_html(&all, NULL, &html);
    st = path && !description.failed ? lb_html_finish(&html, path, err)
                                     : lb_fail(err, LB_ENOMEM, "no memory to write report.html");
done:
    lb_html_free(&html);
    lb_text_free(&description);
    lb_table_free(&overview);
    lb_table_free(&all);
    lb_free(path);
    return st;
}

lb_status lb_study_write(const lb_study_findings *f, const char *folder, bool *plots_missing, lb_error *err)
{
    lb_study_plots plots = {0};
    lb_status st = lb_study_plot(f, &plots, err);
    *plots_missing = st == LB_EUNSUPPORTED;
    if (st != LB_OK && !*plots_missing)
        goto done;
    LB_GO(save_page(f, folder, &plots, err));
    for (size_t i = 0; i < LB_STUDY_PLOTS; i++) {
        if (plots.svg[i].length > 0)
            LB_GO(lb_report_save(folder, plots.names[i], &plots.svg[i], err));
    }
    LB_GO(save_markdown(f, folder, err));
    LB_GO(lb_report_save_csv(folder, "results.csv", details(f), err));
    LB_GO(lb_report_save_csv(folder, "tensors.csv", tensors(f), err));
done:
    lb_study_plots_free(&plots);
    return st;
}
