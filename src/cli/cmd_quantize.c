/* SPDX-License-Identifier: MIT
 * lowbit quantize: the main job. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "cli/args.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/score_text.h"
#include "formats/format.h"
#include "lowbit/quantize.h"
#include "quantize/method.h"

typedef struct quantize_args {
    lb_common_args common;
    const char *model, *output, *format, *act, *transform, *method, *recipe, *fit, *order, *calibration,
        *eval_text, *signround, *best;
    size_t samples, seqlen, eval_tokens, eval_ctx, iters, batch;
    double damp, compensate, lr;
    lb_arg_list layers;
    bool resume, dry_run, no_multiplier, no_filter;
} quantize_args;

static const lb_arg options[] = {
    {"MODEL", LB_ARG_OPERAND, offsetof(quantize_args, model), .help = "Hugging Face folder or GGUF file"},
    {"--output", LB_ARG_STRING, offsetof(quantize_args, output), .letter = 'o', .value = "OUT",
     .help = "folder to make (not needed with --dry-run)"},
    {"--format", LB_ARG_STRING, offsetof(quantize_args, format), .value = "FORMAT", .preset = "int4-g128",
     .help =
         "number format of the linear layers: intB-gG or intB-row, B = 2..8, G = 32, 64, 128, 256, -asym "
         "for an integer zero point; mxfp8-e4m3, mxfp8-e5m2, mxfp6-e2m3, mxfp6-e3m2, mxfp4, mxint8, mxint6, "
         "mxint4; nvfp4, nvint4"},
    {"--act", LB_ARG_STRING, offsetof(quantize_args, act), .value = "FORMAT", .shown = "not rounded",
     .help = "round the inputs of the linear layers to this format too, here and whenever the result runs"},
    {"--transform", LB_ARG_STRING, offsetof(quantize_args, transform), .value = "NAME", .preset = "none",
     .help = "rewrite layers first without changing what they compute: hadamard (random rotations of the "
             "format's group size, 128 where that is a row), hadamard-N, hadamard-full"},
    {"--method", LB_ARG_STRING, offsetof(quantize_args, method), .value = "METHOD", .preset = "gptq",
     .help = "rtn (round to nearest), gptq, or signround (learned rounding: slow, and the best at 2 and 3 bits)"},
    {"--recipe", LB_ARG_CHOICE, offsetof(quantize_args, recipe), .choices = "fast|default|best",
     .preset = "default",
     .help = "how much calibration: 32, 128 or 512 windows of 512 tokens, or all that the text has; for "
             "signround 128, 128 or 512, and 50, 200 or 1000 steps"},
    {"--calib", LB_ARG_STRING, offsetof(quantize_args, calibration), .value = "FILE",
     .shown = "a built-in text for gptq and signround, none for rtn", .help = "calibration text"},
    {"--samples", LB_ARG_SIZE, offsetof(quantize_args, samples), .low = 1, .high = 1000000,
     .shown = "the recipe's", .help = "calibration windows"},
    {"--seqlen", LB_ARG_SIZE, offsetof(quantize_args, seqlen), .low = 2, .high = 1000000,
     .shown = "the recipe's", .help = "tokens in a calibration window"},
    {"--layer", LB_ARG_LIST, offsetof(quantize_args, layers), .value = "PATTERN=FORMAT",
     .help = "another format for layers that match, like '*.down_proj=int8-g128' or lm_head=int8-g64 (may be "
             "repeated; the last that matches wins)"},
    {"--fit", LB_ARG_CHOICE, offsetof(quantize_args, fit), .choices = "search|range", .preset = "search",
     .help = "choose scales by least weighted error, or from each group's extremes"},
    {"--order", LB_ARG_CHOICE, offsetof(quantize_args, order), .choices = "group|act|none", .preset = "group",
     .help = "gptq: order of columns"},
    {"--damp", LB_ARG_DOUBLE, offsetof(quantize_args, damp), .low = 0, .high = 10, .preset = "0.01",
     .help = "gptq: damping, as a share of the Hessian's mean diagonal"},
    {"--compensate", LB_ARG_DOUBLE, offsetof(quantize_args, compensate), .low = 0, .high = 1, .preset = "0.5",
     .help = "gptq: share of the error of earlier layers that a layer is asked to undo; 0 is plain GPTQ"},
    {"--signround", LB_ARG_CHOICE, offsetof(quantize_args, signround), .choices = "v1|v2", .preset = "v2",
     .help = "signround: v2 has the scale search, a learned multiplier of scales and the filter of errors; v1 "
             "learns to clip ranges instead (--fit range --no-multiplier --no-filter)"},
    {"--iters", LB_ARG_SIZE, offsetof(quantize_args, iters), .high = 1000000, .shown = "the recipe's",
     .help = "signround: steps of learning for each block"},
    {"--batch", LB_ARG_SIZE, offsetof(quantize_args, batch), .low = 1, .high = 1000000, .preset = "8",
     .help = "signround: windows a step"},
    {"--lr", LB_ARG_DOUBLE, offsetof(quantize_args, lr), .low = 0, .high = 1, .shown = "by the steps",
     .help = "signround: learning rate of the first step"},
    {"--best", LB_ARG_CHOICE, offsetof(quantize_args, best), .choices = "held-aside|batch|last",
     .preset = "held-aside",
     .help = "signround: choose the best iterate on windows held aside, on each batch, or take the last"},
    {"--no-multiplier", LB_ARG_FLAG, offsetof(quantize_args, no_multiplier),
     .help = "signround: learn no multiplier of scales; with --fit range, learn to clip instead"},
    {"--no-filter", LB_ARG_FLAG, offsetof(quantize_args, no_filter),
     .help = "signround: keep the largest thousandth of errors, which below 4 bits is left out"},
    {"--resume", LB_ARG_FLAG, offsetof(quantize_args, resume), .help = "go on with an interrupted run"},
    {"--dry-run", LB_ARG_FLAG, offsetof(quantize_args, dry_run),
     .help = "check everything, print the size of the result, and stop"},
    {"--eval-text", LB_ARG_STRING, offsetof(quantize_args, eval_text), .value = "FILE",
     .help = "afterwards, perplexity of the original and the result on this text, and their divergence"},
    {"--eval-tokens", LB_ARG_SIZE, offsetof(quantize_args, eval_tokens), .low = 2, .shown = "all",
     .help = "keep only the first N tokens of that text"},
    {"--eval-ctx", LB_ARG_SIZE, offsetof(quantize_args, eval_ctx), .low = 2, .high = 1 << 24,
     .shown = "2048 or the model's maximum", .help = "tokens in a window of that text"},
};

static const lb_arg_spec spec = {
    "quantize",
    "Quantizes a model's linear layers.",
    options,
    sizeof options / sizeof *options,
    sizeof(quantize_args),
    "lowbit quantize ./model -o ./model-int3 --format int3-g64 --eval-text wiki.txt",
    NULL};

/* A result is called collapsed beyond these bounds (docs/evaluation.md says why these). */
static const double COLLAPSED_TOP1 = 50.0; /* per cent of predictions that agree */
static const double COLLAPSED_PERPLEXITY = 1.5; /* times the original's */

/* signround's are those of arXiv:2309.05516's code, "light", "default" and "best", but for shorter windows. */
static void apply_recipe(const quantize_args *args, lb_quantize_options *o)
{
    static const struct {
        const char *name;
        size_t samples, signround_samples, seqlen, iters;
        double lr;
    } recipes[] = {
        {"fast", 32, 128, 512, 50, 5e-3}, {"default", 128, 128, 512, 200, 0}, {"best", 512, 512, 512, 1000, 0}};
    const bool learns = strcmp(args->method, "signround") == 0;
    for (size_t i = 0; i < sizeof recipes / sizeof *recipes; i++) {
        if (strcmp(args->recipe, recipes[i].name) == 0) {
            const size_t samples = learns ? recipes[i].signround_samples : recipes[i].samples;
            o->samples = args->samples ? args->samples : samples;
            o->seqlen = args->seqlen ? args->seqlen : recipes[i].seqlen;
            o->iters = lb_args_given(&spec, args, "--iters") ? args->iters : recipes[i].iters;
            o->lr = lb_args_given(&spec, args, "--lr") ? args->lr : recipes[i].lr;
        }
    }
}

static void apply_signround(const quantize_args *args, lb_quantize_options *o)
{
    const bool second = strcmp(args->signround, "v2") == 0;
    if (!second && strcmp(args->method, "signround") == 0 && !lb_args_given(&spec, args, "--fit"))
        o->fit = "range";
    o->multiplier = second && !args->no_multiplier;
    o->filter = second && !args->no_filter;
    o->batch = args->batch;
    o->best = args->best;
}

static double relative_root(double energy_ratio)
{
    return 100.0 * sqrt(energy_ratio);
}

static void print_size(const lb_quantize_result *r)
{
    char bytes[32], file[32], weights[32];
    printf("bits/weight   %.3f in quantized layers (%.1f %% of all weights), %.3f over the whole model\n",
           r->quantized_bits_per_weight, 100.0 * (double)r->quantized_weights / (double)r->weights,
           r->bits_per_weight);
    printf("size          %s of tensors for %s weights", lb_bytes_text((double)r->bytes, bytes),
           lb_count_text((size_t)r->weights, weights));
    if (r->file_bytes)
        printf("; the folder has %s, %.3f bits/weight with headers, configuration and tokenizer",
               lb_bytes_text((double)r->file_bytes, file), 8.0 * (double)r->file_bytes / (double)r->weights);
    printf("\n");
}

static void print_calibration(const quantize_args *args, const lb_quantize_result *r)
{
    if (r->samples == 0)
        printf("calibration   none\n");
    else
        printf("calibration   %zu windows of %zu tokens from %s\n", r->samples, r->seqlen,
               args->calibration ? args->calibration : "the built-in text (more with --calib FILE)");
}

static void print_plan(const quantize_args *args, const lb_quantize_result *r)
{
    char memory[32], disk[32];
    printf("recipe        %s\n", r->recipe);
    print_calibration(args, r);
    print_size(r);
    printf("memory        about %s beside the mapped model\n",
           lb_bytes_text((double)r->memory_bytes, memory));
    if (args->output)
        printf("disk          %s free\n", lb_bytes_text((double)r->disk_free_bytes, disk));
    printf("Everything checked; nothing written.\n");
}

static void print_layers(const lb_quantize_result *r)
{
    printf("%-36s %-16s %12s %15s\n", "layer", "format", "bits/weight", "output error %");
    for (size_t i = 0; i < r->layer_count; i++) {
        const lb_quantize_layer *l = &r->layers[i];
        printf("%-36s %-16s %12.3f %15.2f\n", l->name, l->format, l->bits_per_weight,
               relative_root(l->relative_error));
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
               same ? r->layers[k].format : "mixed", bits / n, relative_root(total / n),
               relative_root(worst));
    }
}

static void print_result(const quantize_args *args, const lb_quantize_result *r)
{
    char memory[32], took[32];
    if (args->common.verbose)
        print_layers(r);
    else
        print_layer_summary(r);
    printf("\nrecipe        %s\n", r->recipe);
    print_calibration(args, r);
    print_size(r);
    printf("time          %s: load %.1f, capture %.1f, Hessian %.1f, solve %.1f, tune %.1f, write %.1f s\n",
           lb_duration_text(r->seconds, took), r->seconds_load, r->seconds_capture, r->seconds_hessian,
           r->seconds_solve, r->seconds_tune, r->seconds_write);
    printf("memory        %s at most\n", lb_bytes_text((double)r->peak_rss_bytes, memory));
    if (r->resumed_blocks)
        printf("resumed       %zu blocks were finished before\n", r->resumed_blocks);
    printf("written       %s\n", args->output);
}

static json_t *result_json(const quantize_args *args, const lb_quantize_result *r)
{
    json_t *layers = json_array();
    for (size_t i = 0; i < r->layer_count; i++) {
        const lb_quantize_layer *l = &r->layers[i];
        json_array_append_new(layers, json_pack("{s:s, s:s, s:f, s:f}", "name", l->name, "format", l->format,
                                                "bits_per_weight", l->bits_per_weight, "relative_error",
                                                l->relative_error));
    }
    json_t *json = json_pack(
        "{s:o, s:o, s:f, s:f, s:I, s:I, s:f, s:I, s:o}", "model", lb_json_text(args->model), "recipe",
        json_loads(r->recipe, 0, NULL), "bits_per_weight", r->bits_per_weight, "quantized_bits_per_weight",
        r->quantized_bits_per_weight, "bytes", (json_int_t)r->bytes, "file_bytes", (json_int_t)r->file_bytes,
        "seconds", r->seconds, "peak_rss_bytes", (json_int_t)r->peak_rss_bytes, "layers", layers);
    if (!json)
        return NULL;
    json_object_set_new(json, "output", args->output ? lb_json_text(args->output) : json_null());
    json_object_set_new(json, "dry_run", json_boolean(args->dry_run));
    json_object_set_new(
        json, "calibration",
        json_pack("{s:I, s:I}", "samples", (json_int_t)r->samples, "seqlen", (json_int_t)r->seqlen));
    json_object_set_new(json, "seconds_by_stage",
                        json_pack("{s:f, s:f, s:f, s:f, s:f, s:f}", "load", r->seconds_load, "capture",
                                  r->seconds_capture, "hessian", r->seconds_hessian, "solve",
                                  r->seconds_solve, "tune", r->seconds_tune, "write", r->seconds_write));
    return json;
}

/* Says plainly when the result is not worth using, and what to change. */
static bool collapsed(const lb_eval_result *e)
{
    return e->top1_agreement < COLLAPSED_TOP1 ||
           e->model.perplexity > COLLAPSED_PERPLEXITY * e->reference.perplexity;
}

static void print_verdict(const quantize_args *args, const lb_eval_result *e)
{
    if (!collapsed(e))
        return;
    printf("COLLAPSED: top-1 agreement %.1f %% (bound %.0f %%), perplexity %.2f times the original's (bound "
           "%.1f). "
           "Try %smore bits, a smaller group, or more calibration.\n",
           e->top1_agreement, COLLAPSED_TOP1, e->model.perplexity / e->reference.perplexity,
           COLLAPSED_PERPLEXITY, strcmp(args->method, "rtn") == 0 ? "--method gptq, " : "");
}

static lb_status evaluate(const quantize_args *args, lb_eval_options *o, lb_eval_result *result,
                          lb_error *err)
{
    lb_cli_progress bar;
    lb_eval_options_init(o);
    o->model = args->output;
    o->against = args->model;
    o->text = args->eval_text;
    o->tokens = args->eval_tokens;
    o->ctx = args->eval_ctx;
    o->cpu = args->common.cpu;
    o->progress = lb_cli_progress_begin(&bar, args->common.quiet);
    lb_status st = lb_evaluate(o, result, err);
    lb_cli_progress_end(&bar);
    return st;
}

static int report(const quantize_args *args, const lb_quantize_result *r)
{
    lb_error err;
    lb_eval_options o;
    lb_eval_result e;
    lb_status st = LB_OK;
    const bool evaluates = args->eval_text && !args->dry_run;
    json_t *json = args->common.json ? result_json(args, r) : NULL;
    if (!args->common.json) {
        if (args->dry_run)
            print_plan(args, r);
        else
            print_result(args, r);
        st = lb_output_flush(&err);
    }
    if (st == LB_OK && evaluates)
        st = evaluate(args, &o, &e, &err);
    if (st == LB_OK && evaluates && !args->common.json) {
        printf("\n");
        lb_print_score(&o, &e);
        print_verdict(args, &e);
        st = lb_output_flush(&err);
    }
    if (st == LB_OK && args->common.json) {
        json_t *score = evaluates ? lb_score_json(&o, &e) : json_null();
        if (evaluates)
            json_object_set_new(score, "collapsed", json_boolean(collapsed(&e)));
        json_object_set_new(json, "eval", score);
        return lb_output_json(json, &err) == LB_OK ? LB_EXIT_DONE : lb_cli_failed("quantize", &err, false);
    }
    json_decref(json);
    return st == LB_OK ? LB_EXIT_DONE : lb_cli_failed("quantize", &err, false);
}

/* Names that the command line itself can judge are misuse, exit 2. */
static bool names_are_known(const quantize_args *args, lb_error *err)
{
    lb_recipe recipe;
    lb_recipe_default(&recipe);
    if (lb_format_parse(args->format, &recipe.format, err) != LB_OK ||
        (args->act && lb_format_parse(args->act, &recipe.act, err) != LB_OK) ||
        lb_transform_parse(args->transform, &recipe.transform, err) != LB_OK ||
        lb_method_find(args->method, &recipe.method, err) != LB_OK)
        return false;
    for (size_t i = 0; i < args->layers.count; i++) {
        if (lb_recipe_add_rule(&recipe, args->layers.items[i], err) != LB_OK)
            return false;
    }
    if (!args->output && !args->dry_run) {
        (void)lb_fail(err, LB_EINVAL, "where to? give -o OUT");
        return false;
    }
    return true;
}

/* What evaluation will need, before the work that it comes after: the original stands for the result. */
static lb_status check_eval_text(const quantize_args *args, lb_error *err)
{
    lb_eval_options o;
    lb_eval_result ignored;
    if (!args->eval_text)
        return LB_OK;
    lb_eval_options_init(&o);
    o.model = args->model;
    o.text = args->eval_text;
    o.tokens = args->eval_tokens;
    o.ctx = args->eval_ctx;
    o.dry_run = true;
    return lb_evaluate(&o, &ignored, err);
}

/* Whether an interrupted run left something to go on from. */
static bool left_something(const char *output)
{
    lb_text partial = {0};
    size_t length = strlen(output);
    while (length > 1 && output[length - 1] == '/')
        length--;
    lb_text_add(&partial, output, length);
    lb_text_add_string(&partial, ".partial");
    const bool there = partial.data && lb_path_exists(partial.data);
    lb_text_free(&partial);
    return there;
}

int cmd_quantize(int argc, char **argv)
{
    quantize_args args;
    int code;
    lb_error err;
    lb_cli_progress bar;
    lb_quantize_options o;
    lb_quantize_result r;
    if (!lb_args_parse(&spec, argc, argv, &args, &code))
        return code;
    if (!names_are_known(&args, &err))
        return lb_cli_misused("quantize", err.msg);
    lb_quantize_options_init(&o);
    apply_recipe(&args, &o);
    o.model = args.model;
    o.output = args.output;
    o.format = args.format;
    o.act = args.act;
    o.transform = args.transform;
    o.method = args.method;
    o.fit = args.fit;
    apply_signround(&args, &o);
    o.order = args.order;
    o.damp = args.damp;
    o.compensate = args.compensate;
    o.calibration = args.calibration;
    o.seed = args.common.seed;
    o.layer_rules = args.layers.items;
    o.layer_rule_count = args.layers.count;
    o.resume = args.resume;
    o.dry_run = args.dry_run;
    o.cpu = args.common.cpu;
    o.progress = lb_cli_progress_begin(&bar, args.common.quiet);
    lb_status st = check_eval_text(&args, &err);
    if (st == LB_OK)
        st = lb_quantize(&o, &r, &err);
    lb_cli_progress_end(&bar);
    if (st != LB_OK)
        return lb_cli_failed("quantize", &err, args.output && left_something(args.output));
    code = report(&args, &r);
    lb_quantize_result_free(&r);
    return code;
}
