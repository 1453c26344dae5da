/* SPDX-License-Identifier: MIT
 * lowbit quantize: the main job. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/file.h"
#include "base/text.h"
#include "cli/args.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/quantize_page.h"
#include "cli/score_text.h"
#include "formats/format.h"
#include "lowbit/quantize.h"
#include "quantize/method.h"
#include "quantize/polish.h"

typedef struct quantize_args {
    lb_common_args common;
    const char *model, *output, *format, *act, *transform, *method, *recipe, *fit, *order, *saliency,
        *calibration, *eval_text, *signround, *best, *candidates, *act_mask, *allocate, *report, *init;
    size_t samples, seqlen, eval_tokens, eval_ctx, iters, batch, sensitivity_samples, sensitivity_seqlen,
        polish, polish_batch, refine;
    double damp, compensate, lr, target_bits, polish_lr, smooth;
    lb_arg_list layers;
    bool resume, dry_run, no_multiplier, no_filter, untie, faithful, no_clip;
} quantize_args;

static const lb_arg options[] = {
    {"MODEL", LB_ARG_OPERAND, offsetof(quantize_args, model), .help = "Hugging Face folder or GGUF file"},
    {"--output", LB_ARG_STRING, offsetof(quantize_args, output), .letter = 'o', .value = "OUT",
     .help = "folder to make (not needed with --dry-run)"},
    {"--format", LB_ARG_STRING, offsetof(quantize_args, format), .value = "FORMAT", .preset = "int4-g128",
     .help =
         "number format of the linear layers: intB-gG or intB-row, B = 2..8, G = 32, 64, 128, 256, -asym "
         "for an integer zero point; mxfp8-e4m3, mxfp8-e5m2, mxfp6-e2m3, mxfp6-e3m2, mxfp4, mxint8, mxint6, "
         "mxint4; nvfp4, nvint4; bpK-gG or bpK-row, K = 1..4 bit planes; sqH/L-bB-sS, H and L bits for the "
         "share 1-S and S of each bank of B weights, like sq8/4-b64-s0.875"},
    {"--act", LB_ARG_STRING, offsetof(quantize_args, act), .value = "FORMAT", .shown = "not rounded",
     .help = "round the inputs of the linear layers to this format too, here and whenever the result runs; "
             "int8-row and int4-row have a scale for each token, sqH/L-bB-sS H bits for (1-S)*B channels of "
             "each B "
             "that calibration chooses, L for the others, sqH/L-bB-sS-dynamic each token's own choice"},
    {"--act-mask", LB_ARG_CHOICE, offsetof(quantize_args, act_mask), .choices = "norm|absolute|signed",
     .preset = "norm",
     .help =
         "--act sqH/L-bB-sS: choose high channels by their mean magnitude times the norm of the weights that "
         "they meet, by the magnitude alone, or times the weights' sum (as published)"},
    {"--transform", LB_ARG_STRING, offsetof(quantize_args, transform), .value = "NAME", .preset = "none",
     .help = "rewrite layers first without changing what they compute: hadamard (random rotations of the "
             "format's group size, 128 where that is a row), hadamard-N, hadamard-full; smooth (SmoothQuant) "
             "or awq: channels rescaled by calibration, also before a rotation (smooth+hadamard)"},
    {"--smooth", LB_ARG_DOUBLE, offsetof(quantize_args, smooth), .value = "A", .low = 0, .high = 1,
     .preset = "0.5",
     .help = "--transform smooth: how much of the difficulty moves from activations to weights; 0.5 to 0.9 "
             "are usual"},
    {"--no-clip", LB_ARG_FLAG, offsetof(quantize_args, no_clip),
     .help = "--transform awq --fit range: rescale channels only, clip no weights"},
    {"--method", LB_ARG_STRING, offsetof(quantize_args, method), .value = "METHOD", .preset = "gptq",
     .help = "rtn (round to nearest), gptq, bpdq (gptq that fits scales or bit planes' coefficients to the "
             "layer's output), or "
             "signround (learned rounding: slow, and the best at 2 and 3 bits)"},
    {"--recipe", LB_ARG_CHOICE, offsetof(quantize_args, recipe), .choices = "fast|default|best",
     .preset = "default",
     .help = "how much calibration: 32, 128 or 512 windows of 512 tokens, or all that the text has; for "
             "signround 128, 128 or 512, and 50, 200 or 1000 steps; for bpdq 3, 10 or 20 alternations; for "
             "gptq and bpdq 3, "
             "10 or 10 sweeps of --refine; and best has 100 steps of --polish where the format takes it"},
    {"--calib", LB_ARG_STRING, offsetof(quantize_args, calibration), .value = "FILE",
     .shown = "a built-in text, none for rtn alone", .help = "calibration text"},
    {"--samples", LB_ARG_SIZE, offsetof(quantize_args, samples), .low = 1, .high = 1000000,
     .shown = "the recipe's", .help = "calibration windows"},
    {"--seqlen", LB_ARG_SIZE, offsetof(quantize_args, seqlen), .low = 2, .high = 1000000,
     .shown = "the recipe's", .help = "tokens in a calibration window"},
    {"--layer", LB_ARG_LIST, offsetof(quantize_args, layers), .value = "PATTERN=FORMAT",
     .help = "another format for layers that match, like '*.down_proj=int8-g128' or lm_head=int8-g64 (may be "
             "repeated; the last that matches wins)"},
    {"--target-bits", LB_ARG_DOUBLE, offsetof(quantize_args, target_bits), .value = "B", .low = 0, .high = 32,
     .shown = "one format for all",
     .help =
         "choose each layer's format among the candidates, such that those layers average B bits per weight, "
         "scales included, and the model loses the least"},
    {"--candidates", LB_ARG_STRING, offsetof(quantize_args, candidates), .value = "FORMAT,...",
     .preset = "int2-g128,int3-g128,int4-g128,int8-g128", .help = "--target-bits: formats to choose among"},
    {"--allocate", LB_ARG_CHOICE, offsetof(quantize_args, allocate), .choices = "fisher|deltaloss|head|tail",
     .preset = "fisher",
     .help = "--target-bits: go by what rounding a layer costs to second order (fisher) or as SignRoundV2 "
             "measures "
             "it (deltaloss), or give the bits to the first or the last blocks (for comparison)"},
    {"--untie", LB_ARG_FLAG, offsetof(quantize_args, untie),
     .help = "--target-bits: q k v, and gate up, may get different formats, which some runtimes cannot run"},
    {"--sensitivity-samples", LB_ARG_SIZE, offsetof(quantize_args, sensitivity_samples), .low = 1,
     .high = 1000000, .preset = "32",
     .help = "--target-bits: windows of the calibration text that sensitivities are measured on"},
    {"--sensitivity-seqlen", LB_ARG_SIZE, offsetof(quantize_args, sensitivity_seqlen), .low = 2,
     .high = 1000000, .preset = "256", .help = "--target-bits: tokens in such a window"},
    {"--fit", LB_ARG_CHOICE, offsetof(quantize_args, fit), .choices = "search|range", .preset = "search",
     .help = "choose scales by least weighted error, or from each group's extremes (which rtn with awq, and "
             "signround v1, do unless told otherwise)"},
    {"--order", LB_ARG_CHOICE, offsetof(quantize_args, order), .choices = "group|act|none", .preset = "group",
     .help = "gptq: order of columns"},
    {"--saliency", LB_ARG_CHOICE, offsetof(quantize_args, saliency), .choices = "obs|paper|chol|magnitude",
     .preset = "obs",
     .help = "sqH/L: which weights are high, by w^2/[H^-1]_ii, w^2/[H^-1]_ii^2 (arXiv:2512.05409), "
             "w^2/U_ii^2 with "
             "H^-1 = U^T U, or w^2"},
    {"--damp", LB_ARG_DOUBLE, offsetof(quantize_args, damp), .low = 0, .high = 10, .preset = "0.01",
     .help = "gptq: damping, as a share of the Hessian's mean diagonal"},
    {"--compensate", LB_ARG_DOUBLE, offsetof(quantize_args, compensate), .low = 0, .high = 1, .preset = "0.5",
     .help = "gptq: share of the error of earlier layers that a layer is asked to undo; 0 is plain GPTQ"},
    {"--refine", LB_ARG_SIZE, offsetof(quantize_args, refine), .value = "SWEEPS", .high = 10000,
     .preset = "10",
     .help = "gptq, bpdq: go over a layer's codes and scales again so often, each the best for all the "
             "others; 0 is "
             "plain GPTQ and BPDQ"},
    {"--signround", LB_ARG_CHOICE, offsetof(quantize_args, signround), .choices = "v1|v2", .preset = "v2",
     .help =
         "signround: v2 has the scale search, a learned multiplier of scales and the filter of errors; v1 "
         "learns to clip ranges instead (--fit range --no-multiplier --no-filter)"},
    {"--iters", LB_ARG_SIZE, offsetof(quantize_args, iters), .high = 1000000, .shown = "the recipe's",
     .help = "signround: steps of learning for each block; bpdq: alternations of codes and coefficients, 0 "
             "for one "
             "sweep with what --init gives"},
    {"--init", LB_ARG_CHOICE, offsetof(quantize_args, init), .choices = "search|range|bits",
     .preset = "search",
     .help = "bpdq: begin with the format's own search, a uniform grid, or the highest bits of 8-bit codes"},
    {"--faithful", LB_ARG_FLAG, offsetof(quantize_args, faithful),
     .help = "bpdq: choose as the released code does (--init bits --damp 0.05 --compensate 0 --refine 0 "
             "unless given, "
             "an absolute "
             "ridge, one best iterate for all rows)"},
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
    {"--polish", LB_ARG_SIZE, offsetof(quantize_args, polish), .value = "STEPS", .high = 1000000,
     .shown = "the recipe's",
     .help = "afterwards train all scales, or bit planes' coefficients, of the whole model so many steps to "
             "predict "
             "what the original predicts (formats int and bp, after any method; 64 is a good start)"},
    {"--polish-batch", LB_ARG_SIZE, offsetof(quantize_args, polish_batch), .low = 1, .high = 1000000,
     .preset = "2", .help = "--polish: calibration windows a step"},
    {"--polish-lr", LB_ARG_DOUBLE, offsetof(quantize_args, polish_lr), .low = 0, .high = 1, .preset = "0.005",
     .help = "--polish: learning rate of the first step"},
    {"--resume", LB_ARG_FLAG, offsetof(quantize_args, resume), .help = "go on with an interrupted run"},
    {"--dry-run", LB_ARG_FLAG, offsetof(quantize_args, dry_run),
     .help = "check everything, print the size of the result, and stop"},
    {"--report", LB_ARG_STRING, offsetof(quantize_args, report), .value = "FILE.html",
     .help = "write a page with all numbers, and plots of bits, sensitivity and error by layer"},
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

/* Whether a recipe's polishing is wanted: the format of layers that no rule decides on, or one of the candidates, has
 * what it trains, and there is calibration in any case. */
static bool can_polish(const quantize_args *args)
{
    lb_recipe recipe;
    lb_recipe_default(&recipe);
    if (strcmp(args->method, "rtn") == 0 || lb_format_parse(args->format, &recipe.format, NULL) != LB_OK ||
        lb_candidates_parse(args->candidates, &recipe.allocation, NULL) != LB_OK ||
        (args->act && (lb_act_parse(args->act, &recipe.act, NULL) != LB_OK || lb_act_masks(&recipe.act))))
        return false;
    bool takes = args->target_bits == 0.0 && lb_polish_takes(&recipe.format);
    for (size_t i = 0; args->target_bits > 0.0 && i < recipe.allocation.candidate_count; i++)
        takes = takes || lb_polish_takes(&recipe.allocation.candidates[i]);
    return takes;
}

/* signround's are those of arXiv:2309.05516's code, "light", "default" and "best", but for shorter windows. */
static void apply_recipe(const quantize_args *args, lb_quantize_options *o)
{
    static const struct {
        const char *name;
        size_t samples, signround_samples, seqlen, iters, alternations, refine, polish;
        double lr;
    } recipes[] = {{"fast", 32, 128, 512, 50, 3, 3, 0, 5e-3},
                   {"default", 128, 128, 512, 200, 10, 10, 0, 0},
                   {"best", 512, 512, 512, 1000, 20, 10, 100, 0}};
    const bool learns = strcmp(args->method, "signround") == 0;
    for (size_t i = 0; i < sizeof recipes / sizeof *recipes; i++) {
        if (strcmp(args->recipe, recipes[i].name) == 0) {
            const size_t samples = learns ? recipes[i].signround_samples : recipes[i].samples;
            o->samples = args->samples ? args->samples : samples;
            o->seqlen = args->seqlen ? args->seqlen : recipes[i].seqlen;
            o->iters = lb_args_given(&spec, args, "--iters") ? args->iters : recipes[i].iters;
            o->alternations = lb_args_given(&spec, args, "--iters") ? args->iters : recipes[i].alternations;
            o->lr = lb_args_given(&spec, args, "--lr") ? args->lr : recipes[i].lr;
            o->refine = lb_args_given(&spec, args, "--refine") ? args->refine : recipes[i].refine;
            o->polish_steps = lb_args_given(&spec, args, "--polish") ? args->polish
                              : can_polish(args)                     ? recipes[i].polish
                                                                     : 0;
        }
    }
}

static void apply_bpdq(const quantize_args *args, lb_quantize_options *o)
{
    o->faithful = args->faithful;
    o->init = args->faithful && !lb_args_given(&spec, args, "--init") ? "bits" : args->init;
    if (args->faithful && !lb_args_given(&spec, args, "--damp"))
        o->damp = 0.05;
    if (args->faithful && !lb_args_given(&spec, args, "--compensate"))
        o->compensate = 0.0;
    if (args->faithful && !lb_args_given(&spec, args, "--refine"))
        o->refine = 0;
}

static void apply_polish(const quantize_args *args, lb_quantize_options *o)
{
    o->polish_batch = args->polish_batch;
    o->polish_lr = args->polish_lr;
}

static void apply_allocation(const quantize_args *args, lb_quantize_options *o)
{
    o->target_bits = args->target_bits;
    o->candidates = args->candidates;
    o->allocate = args->allocate;
    o->untied = args->untie;
    o->sensitivity_samples = args->sensitivity_samples;
    o->sensitivity_seqlen = args->sensitivity_seqlen;
}

/* AWQ as published, with clipping: better here than the search of scales. */
static void apply_awq(const quantize_args *args, lb_quantize_options *o)
{
    o->clip = !args->no_clip;
    if (strstr(args->transform, "awq") && strcmp(args->method, "rtn") == 0 &&
        !lb_args_given(&spec, args, "--fit"))
        o->fit = "range";
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

/* Everything that is told of a run. What was printed stays true where the rest fails. */
static lb_status tell(const quantize_args *args, lb_quantize_findings *f, const char *command, lb_error *err)
{
    lb_eval_options o;
    lb_eval_result e;
    bool plots_missing = false;
    if (!args->common.json) {
        lb_quantize_print(f, args->common.verbose);
        LB_TRY(lb_output_flush(err));
    }
    if (args->eval_text && !args->dry_run) {
        LB_TRY(evaluate(args, &o, &e, err));
        f->eval_options = &o;
        f->eval = &e;
        if (!args->common.json) {
            lb_quantize_print_score(f);
            LB_TRY(lb_output_flush(err));
        }
    }
    if (args->report)
        LB_TRY(lb_quantize_page(f, command, args->report, &plots_missing, err));
    if (plots_missing)
        fprintf(stderr,
                "lowbit quantize: %s has no plots, since gnuplot is missing (Debian: apt install "
                "gnuplot-nox)\n",
                args->report);
    if (!args->common.json)
        return LB_OK;
    json_t *json = lb_quantize_json(f), *score = f->eval ? lb_score_json(&o, &e) : json_null();
    if (f->eval)
        json_object_set_new(score, "collapsed", json_boolean(lb_collapsed(&e)));
    json_object_set_new(json, "eval", score);
    return lb_output_json(json, err);
}

/* What an allocation decides cannot be said twice, nor what it would be asked for without one. */
static bool allocation_is_sound(const quantize_args *args, lb_allocation *allocation, lb_error *err)
{
    static const char *const needing[] = {"--candidates", "--allocate", "--untie", "--sensitivity-samples",
                                          "--sensitivity-seqlen"};
    const bool wanted = lb_args_given(&spec, args, "--target-bits");
    for (size_t i = 0; !wanted && i < sizeof needing / sizeof *needing; i++) {
        if (lb_args_given(&spec, args, needing[i])) {
            (void)lb_fail(err, LB_EINVAL, "%s is about --target-bits B, which was not given", needing[i]);
            return false;
        }
    }
    if (wanted && lb_args_given(&spec, args, "--format")) {
        (void)lb_fail(err, LB_EINVAL,
                      "--format is one format for all, --target-bits chooses among --candidates: "
                      "give one of the two");
        return false;
    }
    if (wanted && !(args->target_bits > 0.0)) {
        (void)lb_fail(err, LB_EINVAL, "--target-bits wants more than 0 bits");
        return false;
    }
    return lb_candidates_parse(args->candidates, allocation, err) == LB_OK;
}

/* Names that the command line itself can judge are misuse, exit 2. */
static bool names_are_known(const quantize_args *args, lb_error *err)
{
    lb_recipe recipe;
    lb_recipe_default(&recipe);
    if (lb_format_parse(args->format, &recipe.format, err) != LB_OK ||
        (args->act && lb_act_parse(args->act, &recipe.act, err) != LB_OK) ||
        lb_transform_parse(args->transform, &recipe.transform, err) != LB_OK ||
        lb_method_find(args->method, &recipe.method, err) != LB_OK)
        return false;
    for (size_t i = 0; i < args->layers.count; i++) {
        if (lb_recipe_add_rule(&recipe, args->layers.items[i], err) != LB_OK)
            return false;
    }
    if (!allocation_is_sound(args, &recipe.allocation, err))
        return false;
    if (lb_args_given(&spec, args, "--lr") && !(args->lr > 0.0)) {
        (void)lb_fail(err, LB_EINVAL, "--lr wants a rate of more than 0");
        return false;
    }
    if (!(args->polish_lr > 0.0)) {
        (void)lb_fail(err, LB_EINVAL, "--polish-lr wants a rate of more than 0");
        return false;
    }
    if (!args->output && !args->dry_run) {
        (void)lb_fail(err, LB_EINVAL, "where to? give -o OUT");
        return false;
    }
    return true;
}

/* Whether a format with elements of two kinds is asked for; all names are known. */
static bool asks_for_kinds(const quantize_args *args)
{
    lb_recipe recipe;
    lb_recipe_default(&recipe);
    (void)lb_format_parse(args->format, &recipe.format, NULL);
    for (size_t i = 0; i < args->layers.count; i++)
        (void)lb_recipe_add_rule(&recipe, args->layers.items[i], NULL);
    if (lb_args_given(&spec, args, "--target-bits")) {
        recipe.allocation.how = LB_ALLOCATE_FISHER;
        (void)lb_candidates_parse(args->candidates, &recipe.allocation, NULL);
    }
    return lb_recipe_has_kinds(&recipe);
}

/* A flag that does nothing is likely a mistake, if a harmless one. */
static void warn_of_idle_flags(const quantize_args *args)
{
    static const struct {
        const char *flag, *methods;
    } flags[] = {{"--order", "gptq bpdq"},      {"--damp", "gptq bpdq"},
                 {"--compensate", "gptq bpdq"}, {"--refine", "gptq bpdq"},
                 {"--signround", "signround"},  {"--iters", "signround bpdq"},
                 {"--batch", "signround"},      {"--lr", "signround"},
                 {"--best", "signround"},       {"--no-multiplier", "signround"},
                 {"--no-filter", "signround"},  {"--init", "bpdq"},
                 {"--faithful", "bpdq"}};
    static const char *const calibrating[] = {"--samples", "--seqlen", "--recipe"};
    static const char *const polishing[] = {"--polish-batch", "--polish-lr"};
    static const char *const evaluating[] = {"--eval-tokens", "--eval-ctx"};
    const bool rescales = strstr(args->transform, "smooth") || strstr(args->transform, "awq");
    if (args->common.quiet)
        return;
    if (lb_args_given(&spec, args, "--smooth") && !strstr(args->transform, "smooth"))
        fprintf(stderr, "lowbit quantize: --smooth has no effect without --transform smooth\n");
    if (args->no_clip && !strstr(args->transform, "awq"))
        fprintf(stderr, "lowbit quantize: --no-clip has no effect without --transform awq\n");
    /* Without the inputs' Hessian all saliencies are the magnitude's. */
    const bool scored = asks_for_kinds(args) && (strcmp(args->method, "rtn") != 0 || args->calibration);
    if (lb_args_given(&spec, args, "--saliency") && !scored)
        fprintf(stderr, "lowbit quantize: --saliency has no effect without a format sqH/L and calibration\n");
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        if (lb_args_given(&spec, args, flags[i].flag) && !strstr(flags[i].methods, args->method) &&
            !(scored && strcmp(flags[i].flag, "--damp") == 0))
            fprintf(stderr, "lowbit quantize: %s has no effect with --method %s\n", flags[i].flag,
                    args->method);
    for (size_t i = 0; i < sizeof calibrating / sizeof *calibrating; i++)
        if (lb_args_given(&spec, args, calibrating[i]) && strcmp(args->method, "rtn") == 0 &&
            !args->calibration && !rescales && args->polish == 0)
            fprintf(stderr, "lowbit quantize: %s has no effect with --method rtn and no --calib\n",
                    calibrating[i]);
    for (size_t i = 0; i < sizeof polishing / sizeof *polishing; i++)
        if (lb_args_given(&spec, args, polishing[i]) && args->polish == 0)
            fprintf(stderr, "lowbit quantize: %s has no effect without --polish\n", polishing[i]);
    for (size_t i = 0; i < sizeof evaluating / sizeof *evaluating; i++)
        if (lb_args_given(&spec, args, evaluating[i]) && !args->eval_text)
            fprintf(stderr, "lowbit quantize: %s has no effect without --eval-text\n", evaluating[i]);
    if (args->calibration && args->eval_text && lb_path_same(args->calibration, args->eval_text))
        fprintf(stderr, "lowbit quantize: the text of evaluation is that of calibration, which flatters the "
                        "result\n");
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

/* Whether the report would take the output's name, or that of its unfinished state. */
static bool is_output(const char *report, const char *folder, const char *output)
{
    size_t length = output ? strlen(output) : 0;
    char *parent = output ? lb_path_parent(output) : NULL;
    bool same = parent && lb_path_same(folder, parent);
    while (length > 1 && output[length - 1] == '/')
        length--;
    size_t begin = length;
    while (begin > 0 && output[begin - 1] != '/')
        begin--;
    const char *name = lb_path_base(report), *rest = name + (length - begin);
    same = same && strncmp(name, output + begin, length - begin) == 0 &&
           (!*rest || strcmp(rest, ".partial") == 0);
    lb_free(parent);
    return same;
}

/* That the report will find its place, likewise. */
static lb_status check_report(const char *path, const char *output, lb_error *err)
{
    char *folder = lb_path_parent(path);
    lb_status st = LB_OK;
    if (!folder)
        return lb_fail(err, LB_ENOMEM, "no memory for a name");
    if (!*path || path[strlen(path) - 1] == '/')
        st = lb_fail(err, LB_EINVAL, "--report \"%s\" names no file", path);
    else if (!lb_path_is_directory(folder))
        st = lb_fail(err, LB_EIO, "cannot write %s: there is no folder %s", path, folder);
    else if (lb_path_exists(path)) /* it may be the calibration text, or a device */
        st = lb_fail(err, LB_EEXIST, "the report %s exists already; choose another name or delete it", path);
    else if (is_output(path, folder, output))
        st = lb_fail(err, LB_EINVAL, "the report %s would take the place of the output", path);
    lb_free(folder);
    return st;
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
    warn_of_idle_flags(&args);
    lb_quantize_options_init(&o);
    apply_recipe(&args, &o);
    o.model = args.model;
    o.output = args.output;
    o.format = args.format;
    o.act = args.act;
    o.transform = args.transform;
    o.smooth = args.smooth;
    o.act_mask = args.act_mask;
    o.method = args.method;
    o.fit = args.fit;
    apply_signround(&args, &o);
    apply_awq(&args, &o);
    apply_allocation(&args, &o);
    apply_polish(&args, &o);
    o.order = args.order;
    o.saliency = args.saliency;
    o.damp = args.damp;
    o.compensate = args.compensate;
    apply_bpdq(&args, &o);
    o.calibration = args.calibration;
    o.seed = args.common.seed;
    o.layer_rules = args.layers.items;
    o.layer_rule_count = args.layers.count;
    o.resume = args.resume;
    o.dry_run = args.dry_run;
    o.cpu = args.common.cpu;
    o.progress = lb_cli_progress_begin(&bar, args.common.quiet);
    lb_status st = check_eval_text(&args, &err);
    if (st == LB_OK && args.report)
        st = check_report(args.report, args.output, &err);
    if (st == LB_OK)
        st = lb_quantize(&o, &r, &err);
    lb_cli_progress_end(&bar);
    if (st != LB_OK)
        return lb_cli_failed("quantize", &err, args.output && left_something(args.output));
    lb_quantize_findings f = {.model = args.model,
                              .output = args.output,
                              .calibration = args.calibration,
                              .method = args.method,
                              .dry_run = args.dry_run,
                              .result = &r};
    lb_text command = {0};
    lb_command_text(argc, argv, &command);
    st = tell(&args, &f, command.data ? command.data : "", &err);
    lb_text_free(&command);
    lb_quantize_result_free(&r);
    return st == LB_OK ? LB_EXIT_DONE : lb_cli_failed("quantize", &err, false);
}
