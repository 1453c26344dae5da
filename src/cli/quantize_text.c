/* SPDX-License-Identifier: MIT */
#include "cli/quantize_text.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/kinds_text.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/score_text.h"
#include "formats/format.h"

/* A result is called collapsed beyond these bounds (docs/evaluation.md says why these). */
static const double COLLAPSED_TOP1 = 50.0; /* per cent of predictions that agree */
static const double COLLAPSED_PERPLEXITY = 1.5; /* times the original's */

double lb_relative_root(double energy_ratio)
{
    return 100.0 * sqrt(energy_ratio);
}

static bool is_first_of_its_format(const lb_quantize_result *r, size_t index)
{
    for (size_t i = 0; i < index; i++)
        if (strcmp(r->layers[i].format, r->layers[index].format) == 0)
            return false;
    return true;
}

static void print_kinds(const char *name)
{
    lb_format format;
    if (lb_format_parse(name, &format, NULL) == LB_OK)
        lb_print_kinds(&format);
}

static void print_size(const lb_quantize_result *r)
{
    char bytes[32], file[32], weights[32];
    printf("bits/weight   %.3f in quantized layers (%.1f %% of all weights), %.3f over the whole model\n",
           r->quantized_bits_per_weight, 100.0 * (double)r->quantized_weights / (double)r->weights,
           r->bits_per_weight);
    for (size_t i = 0; i < r->layer_count; i++)
        if (is_first_of_its_format(r, i))
            print_kinds(r->layers[i].format);
    if (r->candidates)
        printf("allocated     %.3f bits/weight on average over the layers that were to be decided on\n",
               r->allocated_bits_per_weight);
    printf("size          %s of tensors for %s weights", lb_bytes_text((double)r->bytes, bytes),
           lb_count_text((size_t)r->weights, weights));
    if (r->file_bytes)
        printf("; the folder has %s, %.3f bits/weight with headers, configuration and tokenizer",
               lb_bytes_text((double)r->file_bytes, file), 8.0 * (double)r->file_bytes / (double)r->weights);
    printf("\n");
}

static void print_calibration(const lb_quantize_findings *f)
{
    const lb_quantize_result *r = f->result;
    const char *text = f->calibration ? f->calibration : "the built-in text (more with --calib FILE)";
    if (r->samples > 0)
        printf("calibration   %zu windows of %zu tokens from %s\n", r->samples, r->seqlen, text);
    else if (r->sensitivities)
        printf("calibration   none but for sensitivities, which are from %s\n", text);
    else
        printf("calibration   none\n");
}

/* What each layer was given, and what it was thought to lose with each candidate. */
static void print_allocation(const lb_quantize_result *r)
{
    if (!r->candidates)
        return;
    printf("%-36s %-16s", "layer", "format");
    for (size_t k = 0; r->sensitivities && k < r->candidate_count; k++)
        printf(" %14s", r->candidates[k].name);
    printf("\n");
    for (size_t i = 0; i < r->layer_count; i++) {
        printf("%-36s %-16s", r->layers[i].name, r->layers[i].format);
        for (size_t k = 0; r->sensitivities && k < r->candidate_count; k++) {
            const double lost = r->sensitivities[k * r->layer_count + i];
            if (isfinite(lost))
                printf(" %14.3g", lost);
            else
                printf(" %14s", "-"); /* a rule decided */
        }
        printf("\n");
    }
    if (r->sensitivities)
        printf("(sensitivity: what rounding that layer is thought to cost, in nats per token)\n");
    printf("\n");
}

static void print_plan(const lb_quantize_findings *f)
{
    const lb_quantize_result *r = f->result;
    char memory[32], disk[32];
    print_allocation(r);
    printf("recipe        %s\n", r->recipe);
    print_calibration(f);
    print_size(r);
    printf("memory        about %s beside the mapped model\n",
           lb_bytes_text((double)r->memory_bytes, memory));
    if (f->output)
        printf("disk          %s free\n", lb_bytes_text((double)r->disk_free_bytes, disk));
    printf("Everything checked; no model written.\n");
}

static void print_layers(const lb_quantize_result *r)
{
    printf("%-36s %-16s %12s %15s\n", "layer", "format", "bits/weight", "output error %");
    for (size_t i = 0; i < r->layer_count; i++) {
        const lb_quantize_layer *l = &r->layers[i];
        printf("%-36s %-16s %12.3f %15.2f\n", l->name, l->format, l->bits_per_weight,
               lb_relative_root(l->relative_error));
    }
}

/* One line per kind of layer (q_proj, ...), over all blocks: enough for a screen. */
static void print_layer_summary(const lb_quantize_result *r)
{
    const size_t kinds = r->block_count ? r->layer_count / r->block_count : 0;
    printf("%-12s %-16s %12s %15s %8s\n", "layers", "format", "bits/weight", "output error %", "worst %");
    for (size_t k = 0; k < kinds; k++) {
        double total = 0.0, worst = 0.0, bits = 0.0;
        bool same = true;
        for (size_t i = k; i < r->layer_count; i += kinds) {
            total += r->layers[i].relative_error;
            worst = r->layers[i].relative_error > worst ? r->layers[i].relative_error : worst;
            bits += r->layers[i].bits_per_weight;
            same = same && strcmp(r->layers[i].format, r->layers[k].format) == 0;
        }
        const double n = (double)r->block_count;
        const char *dot = strrchr(r->layers[k].name, '.');
        printf("%-12s %-16s %12.3f %15.2f %8.2f\n", dot ? dot + 1 : r->layers[k].name,
               same ? r->layers[k].format : "mixed", bits / n, lb_relative_root(total / n),
               lb_relative_root(worst));
    }
}

static void print_result(const lb_quantize_findings *f, bool verbose)
{
    const lb_quantize_result *r = f->result;
    char memory[32], took[32];
    if (verbose)
        print_layers(r);
    else
        print_layer_summary(r);
    printf("\nrecipe        %s\n", r->recipe);
    print_calibration(f);
    print_size(r);
    printf("time          %s: ", lb_duration_text(r->seconds, took));
    if (r->candidates)
        printf("allocate %.1f, ", r->seconds_allocate);
    printf("load %.1f, capture %.1f, Hessian %.1f, solve %.1f, tune %.1f, ", r->seconds_load,
           r->seconds_capture, r->seconds_hessian, r->seconds_solve, r->seconds_tune);
    if (r->seconds_polish > 0.0)
        printf("polish %.1f, ", r->seconds_polish);
    printf("write %.1f s\n", r->seconds_write);
    if (isfinite(r->kl_before_polish))
        printf("polished      divergence from the original on windows held aside %.4f -> %.4f\n",
               r->kl_before_polish, r->kl_after_polish);
    printf("memory        %s at most\n", lb_bytes_text((double)r->peak_rss_bytes, memory));
    if (r->resumed_blocks)
        printf("resumed       %zu blocks were finished before\n", r->resumed_blocks);
    printf("written       %s\n", f->output);
}

void lb_quantize_print(const lb_quantize_findings *f, bool verbose)
{
    if (f->dry_run)
        print_plan(f);
    else
        print_result(f, verbose);
}

json_t *lb_quantize_json(const lb_quantize_findings *f)
{
    const lb_quantize_result *r = f->result;
    json_t *layers = json_array();
    for (size_t i = 0; i < r->layer_count; i++) {
        const lb_quantize_layer *l = &r->layers[i];
        json_t *layer =
            json_pack("{s:s, s:s, s:f, s:o}", "name", l->name, "format", l->format, "bits_per_weight",
                      l->bits_per_weight, "relative_error", lb_json_number(l->relative_error));
        lb_format format;
        if (lb_format_parse(l->format, &format, NULL) == LB_OK)
            layer = lb_kinds_add_json(&format, layer);
        if (r->sensitivities) {
            json_t *scores = json_object();
            for (size_t k = 0; k < r->candidate_count; k++)
                json_object_set_new(scores, r->candidates[k].name,
                                    lb_json_number(r->sensitivities[k * r->layer_count + i]));
            json_object_set_new(layer, "sensitivity", scores);
        }
        json_array_append_new(layers, layer);
    }
    json_t *json = json_pack("{s:o, s:o, s:f, s:f, s:I, s:I, s:f, s:I, s:o}", "model", lb_json_text(f->model),
                             "recipe", json_loads(r->recipe, 0, NULL), "bits_per_weight", r->bits_per_weight,
                             "quantized_bits_per_weight", r->quantized_bits_per_weight, "bytes",
                             (json_int_t)r->bytes, "file_bytes", (json_int_t)r->file_bytes, "seconds",
                             r->seconds, "peak_rss_bytes", (json_int_t)r->peak_rss_bytes, "layers", layers);
    if (!json)
        return NULL;
    json_object_set_new(json, "output", f->output ? lb_json_text(f->output) : json_null());
    json_object_set_new(json, "dry_run", json_boolean(f->dry_run));
    json_object_set_new(json, "memory_bytes", json_integer((json_int_t)r->memory_bytes));
    if (r->candidates)
        json_object_set_new(json, "allocated_bits_per_weight", json_real(r->allocated_bits_per_weight));
    json_object_set_new(
        json, "calibration",
        json_pack("{s:I, s:I}", "samples", (json_int_t)r->samples, "seqlen", (json_int_t)r->seqlen));
    json_object_set_new(json, "seconds_by_stage",
                        json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "allocate", r->seconds_allocate,
                                  "load", r->seconds_load, "capture", r->seconds_capture, "hessian",
                                  r->seconds_hessian, "solve", r->seconds_solve, "tune", r->seconds_tune,
                                  "polish", r->seconds_polish, "write", r->seconds_write));
    if (isfinite(r->kl_before_polish))
        json_object_set_new(
            json, "polish",
            json_pack("{s:f, s:f}", "kl_before", r->kl_before_polish, "kl_after", r->kl_after_polish));
    return json;
}

/* Says plainly when the result is not worth using, and what to change. */
bool lb_collapsed(const lb_eval_result *e)
{
    return e->top1_agreement < COLLAPSED_TOP1 ||
           e->model.perplexity > COLLAPSED_PERPLEXITY * e->reference.perplexity;
}

static void print_verdict(const lb_quantize_findings *f)
{
    const lb_eval_result *e = f->eval;
    if (!lb_collapsed(e))
        return;
    printf("COLLAPSED: top-1 agreement %.1f %% (bound %.0f %%), perplexity %.2f times the original's (bound "
           "%.1f). "
           "Try %smore bits, a smaller group, or more calibration.\n",
           e->top1_agreement, COLLAPSED_TOP1, e->model.perplexity / e->reference.perplexity,
           COLLAPSED_PERPLEXITY, strcmp(f->method, "rtn") == 0 ? "--method gptq, " : "");
}

void lb_quantize_print_score(const lb_quantize_findings *f)
{
    printf("\n");
    lb_print_score(f->eval_options, f->eval);
    print_verdict(f);
}
