/* SPDX-License-Identifier: MIT */
#include "cli/recipe_args.h"

#include <stdio.h>
#include <string.h>

#include "quantize/method.h"
#include "quantize/polish.h"

static const lb_arg options[] = {
    {"--format", LB_ARG_STRING, offsetof(lb_recipe_args, format), .value = "FORMAT", .preset = "int4-g128",
     .help =
         "number format of the linear layers: intB-gG or intB-row, B = 2..8, G = 32, 64, 128, 256, -asym "
         "for an integer zero point; mxfp8-e4m3, mxfp8-e5m2, mxfp6-e2m3, mxfp6-e3m2, mxfp4, mxint8, mxint6, "
         "mxint4; nvfp4, nvint4; bpK-gG or bpK-row, K = 1..4 bit planes; sqH/L-bB-sS, H and L bits for the "
         "share 1-S and S of each bank of B weights, like sq8/4-b64-s0.875"},
    {"--act", LB_ARG_STRING, offsetof(lb_recipe_args, act), .value = "FORMAT", .shown = "not rounded",
     .help = "round the inputs of the linear layers to this format too, here and whenever the result runs; "
             "int8-row and int4-row have a scale for each token, sqH/L-bB-sS H bits for (1-S)*B channels of "
             "each B "
             "that calibration chooses, L for the others, sqH/L-bB-sS-dynamic each token's own choice"},
    {"--act-mask", LB_ARG_CHOICE, offsetof(lb_recipe_args, act_mask), .choices = "norm|absolute|signed",
     .preset = "norm",
     .help =
         "--act sqH/L-bB-sS: choose high channels by their mean magnitude times the norm of the weights that "
         "they meet, by the magnitude alone, or times the weights' sum (as published)"},
    {"--transform", LB_ARG_STRING, offsetof(lb_recipe_args, transform), .value = "NAME", .preset = "none",
     .help = "rewrite layers first without changing what they compute: hadamard (random rotations of the "
             "format's group size, 128 where that is a row), hadamard-N, hadamard-full; smooth (SmoothQuant) "
             "or awq: channels rescaled by calibration, also before a rotation (smooth+hadamard)"},
    {"--smooth", LB_ARG_DOUBLE, offsetof(lb_recipe_args, smooth), .value = "A", .low = 0, .high = 1,
     .preset = "0.5",
     .help = "--transform smooth: how much of the difficulty moves from activations to weights; 0.5 to 0.9 "
             "are usual"},
    {"--no-clip", LB_ARG_FLAG, offsetof(lb_recipe_args, no_clip),
     .help = "--transform awq --fit range: rescale channels only, clip no weights"},
    {"--method", LB_ARG_STRING, offsetof(lb_recipe_args, method), .value = "METHOD", .preset = "gptq",
     .help = "rtn (round to nearest), gptq, bpdq (gptq that fits scales or bit planes' coefficients to the "
             "layer's output), or "
             "signround (learned rounding: slow, and the best at 2 and 3 bits)"},
    {"--recipe", LB_ARG_CHOICE, offsetof(lb_recipe_args, recipe), .choices = "fast|default|best",
     .preset = "default",
     .help = "how much calibration: 32, 128 or 512 windows of 512 tokens, or all that the text has; for "
             "signround 128, 128 or 512, and 50, 200 or 1000 steps; for bpdq 3, 10 or 20 alternations; for "
             "gptq and bpdq 3, "
             "10 or 10 sweeps of --refine; and best has 100 steps of --polish where the format takes it"},
    {"--calib", LB_ARG_STRING, offsetof(lb_recipe_args, calibration), .value = "FILE",
     .shown = "a built-in text, none for rtn alone", .help = "calibration text"},
    {"--samples", LB_ARG_SIZE, offsetof(lb_recipe_args, samples), .low = 1, .high = 1000000,
     .shown = "the recipe's", .help = "calibration windows"},
    {"--seqlen", LB_ARG_SIZE, offsetof(lb_recipe_args, seqlen), .low = 2, .high = 1000000,
     .shown = "the recipe's", .help = "tokens in a calibration window"},
    {"--layer", LB_ARG_LIST, offsetof(lb_recipe_args, layers), .value = "PATTERN=FORMAT",
     .help = "another format for layers that match, like '*.down_proj=int8-g128' or lm_head=int8-g64 (may be "
             "repeated; the last that matches wins)"},
    {"--target-bits", LB_ARG_DOUBLE, offsetof(lb_recipe_args, target_bits), .value = "B", .low = 0,
     .high = 32, .shown = "one format for all",
     .help =
         "choose each layer's format among the candidates, such that those layers average B bits per weight, "
         "scales included, and the model loses the least"},
    {"--candidates", LB_ARG_STRING, offsetof(lb_recipe_args, candidates), .value = "FORMAT,...",
     .preset = "int2-g128,int3-g128,int4-g128,int8-g128", .help = "--target-bits: formats to choose among"},
    {"--allocate", LB_ARG_CHOICE, offsetof(lb_recipe_args, allocate), .choices = "fisher|deltaloss|head|tail",
     .preset = "fisher",
     .help = "--target-bits: go by what rounding a layer costs to second order (fisher) or as SignRoundV2 "
             "measures "
             "it (deltaloss), or give the bits to the first or the last blocks (for comparison)"},
    {"--untie", LB_ARG_FLAG, offsetof(lb_recipe_args, untie),
     .help = "--target-bits: q k v, and gate up, may get different formats, which some runtimes cannot run"},
    {"--sensitivity-samples", LB_ARG_SIZE, offsetof(lb_recipe_args, sensitivity_samples), .low = 1,
     .high = 1000000, .preset = "32",
     .help = "--target-bits: windows of the calibration text that sensitivities are measured on"},
    {"--sensitivity-seqlen", LB_ARG_SIZE, offsetof(lb_recipe_args, sensitivity_seqlen), .low = 2,
     .high = 1000000, .preset = "256", .help = "--target-bits: tokens in such a window"},
    {"--fit", LB_ARG_CHOICE, offsetof(lb_recipe_args, fit), .choices = "search|range", .preset = "search",
     .help = "choose scales by least weighted error, or from each group's extremes (which rtn with awq, and "
             "signround v1, do unless told otherwise)"},
    {"--order", LB_ARG_CHOICE, offsetof(lb_recipe_args, order), .choices = "group|act|none",
     .preset = "group", .help = "gptq: order of columns"},
    {"--saliency", LB_ARG_CHOICE, offsetof(lb_recipe_args, saliency), .choices = "obs|paper|chol|magnitude",
     .preset = "obs",
     .help = "sqH/L: which weights are high, by w^2/[H^-1]_ii, w^2/[H^-1]_ii^2 (arXiv:2512.05409), "
             "w^2/U_ii^2 with "
             "H^-1 = U^T U, or w^2"},
    {"--damp", LB_ARG_DOUBLE, offsetof(lb_recipe_args, damp), .low = 0, .high = 10, .preset = "0.01",
     .help = "gptq: damping, as a share of the Hessian's mean diagonal"},
    {"--compensate", LB_ARG_DOUBLE, offsetof(lb_recipe_args, compensate), .low = 0, .high = 1,
     .preset = "0.5",
     .help = "gptq: share of the error of earlier layers that a layer is asked to undo; 0 is plain GPTQ"},
    {"--refine", LB_ARG_SIZE, offsetof(lb_recipe_args, refine), .value = "SWEEPS", .high = 10000,
     .preset = "10",
     .help = "gptq, bpdq: go over a layer's codes and scales again so often, each the best for all the "
             "others; 0 is "
             "plain GPTQ and BPDQ"},
    {"--signround", LB_ARG_CHOICE, offsetof(lb_recipe_args, signround), .choices = "v1|v2", .preset = "v2",
     .help =
         "signround: v2 has the scale search, a learned multiplier of scales and the filter of errors; v1 "
         "learns to clip ranges instead (--fit range --no-multiplier --no-filter)"},
    {"--iters", LB_ARG_SIZE, offsetof(lb_recipe_args, iters), .high = 1000000, .shown = "the recipe's",
     .help = "signround: steps of learning for each block; bpdq: alternations of codes and coefficients, 0 "
             "for one "
             "sweep with what --init gives"},
    {"--init", LB_ARG_CHOICE, offsetof(lb_recipe_args, init), .choices = "search|range|bits",
     .preset = "search",
     .help = "bpdq: begin with the format's own search, a uniform grid, or the highest bits of 8-bit codes"},
    {"--faithful", LB_ARG_FLAG, offsetof(lb_recipe_args, faithful),
     .help = "bpdq: choose as the released code does (--init bits --damp 0.05 --compensate 0 --refine 0 "
             "unless given, "
             "an absolute "
             "ridge, one best iterate for all rows)"},
    {"--batch", LB_ARG_SIZE, offsetof(lb_recipe_args, batch), .low = 1, .high = 1000000, .preset = "8",
     .help = "signround: windows a step"},
    {"--lr", LB_ARG_DOUBLE, offsetof(lb_recipe_args, lr), .low = 0, .high = 1, .shown = "by the steps",
     .help = "signround: learning rate of the first step"},
    {"--best", LB_ARG_CHOICE, offsetof(lb_recipe_args, best), .choices = "held-aside|batch|last",
     .preset = "held-aside",
     .help = "signround: choose the best iterate on windows held aside, on each batch, or take the last"},
    {"--no-multiplier", LB_ARG_FLAG, offsetof(lb_recipe_args, no_multiplier),
     .help = "signround: learn no multiplier of scales; with --fit range, learn to clip instead"},
    {"--no-filter", LB_ARG_FLAG, offsetof(lb_recipe_args, no_filter),
     .help = "signround: keep the largest thousandth of errors, which below 4 bits is left out"},
    {"--polish", LB_ARG_SIZE, offsetof(lb_recipe_args, polish), .value = "STEPS", .high = 1000000,
     .shown = "the recipe's",
     .help = "afterwards train all scales, or bit planes' coefficients, of the whole model so many steps to "
             "predict "
             "what the original predicts (formats int and bp, after any method; 64 is a good start)"},
    {"--polish-batch", LB_ARG_SIZE, offsetof(lb_recipe_args, polish_batch), .low = 1, .high = 1000000,
     .preset = "2", .help = "--polish: calibration windows a step"},
    {"--polish-lr", LB_ARG_DOUBLE, offsetof(lb_recipe_args, polish_lr), .low = 0, .high = 1,
     .preset = "0.005", .help = "--polish: learning rate of the first step"},
};
const lb_arg_group lb_recipe_flags = {"Recipe", options, sizeof options / sizeof *options};

/* Whether a recipe's polishing is wanted: the format of layers that no rule decides on, or one of the candidates, has
 * what it trains, and there is calibration in any case. */
static bool can_polish(const lb_recipe_args *args)
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
static void apply_recipe(const lb_arg_spec *spec, const lb_recipe_args *args, lb_quantize_options *o)
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
            o->iters = lb_args_given(spec, args, "--iters") ? args->iters : recipes[i].iters;
            o->alternations = lb_args_given(spec, args, "--iters") ? args->iters : recipes[i].alternations;
            o->lr = lb_args_given(spec, args, "--lr") ? args->lr : recipes[i].lr;
            o->refine = lb_args_given(spec, args, "--refine") ? args->refine : recipes[i].refine;
            o->polish_steps = lb_args_given(spec, args, "--polish") ? args->polish
                              : can_polish(args)              ? recipes[i].polish
                                                                    : 0;
        }
    }
}

static void apply_bpdq(const lb_arg_spec *spec, const lb_recipe_args *args, lb_quantize_options *o)
{
    o->faithful = args->faithful;
    o->init = args->faithful && !lb_args_given(spec, args, "--init") ? "bits" : args->init;
    if (args->faithful && !lb_args_given(spec, args, "--damp"))
        o->damp = 0.05;
    if (args->faithful && !lb_args_given(spec, args, "--compensate"))
        o->compensate = 0.0;
    if (args->faithful && !lb_args_given(spec, args, "--refine"))
        o->refine = 0;
}

static void apply_polish(const lb_recipe_args *args, lb_quantize_options *o)
{
    o->polish_batch = args->polish_batch;
    o->polish_lr = args->polish_lr;
}

static void apply_allocation(const lb_recipe_args *args, lb_quantize_options *o)
{
    o->target_bits = args->target_bits;
    o->candidates = args->candidates;
    o->allocate = args->allocate;
    o->untied = args->untie;
    o->sensitivity_samples = args->sensitivity_samples;
    o->sensitivity_seqlen = args->sensitivity_seqlen;
}

/* AWQ as published, with clipping: better here than the search of scales. */
static void apply_awq(const lb_arg_spec *spec, const lb_recipe_args *args, lb_quantize_options *o)
{
    o->clip = !args->no_clip;
    if (strstr(args->transform, "awq") && strcmp(args->method, "rtn") == 0 &&
        !lb_args_given(spec, args, "--fit"))
        o->fit = "range";
}

static void apply_signround(const lb_arg_spec *spec, const lb_recipe_args *args, lb_quantize_options *o)
{
    const bool second = strcmp(args->signround, "v2") == 0;
    if (!second && strcmp(args->method, "signround") == 0 && !lb_args_given(spec, args, "--fit"))
        o->fit = "range";
    o->multiplier = second && !args->no_multiplier;
    o->filter = second && !args->no_filter;
    o->batch = args->batch;
    o->best = args->best;
}

void lb_recipe_args_apply(const lb_arg_spec *spec, const lb_recipe_args *args, lb_quantize_options *o)
{
    apply_recipe(spec, args, o);
    o->format = args->format;
    o->act = args->act;
    o->transform = args->transform;
    o->smooth = args->smooth;
    o->act_mask = args->act_mask;
    o->method = args->method;
    o->fit = args->fit;
    apply_signround(spec, args, o);
    apply_awq(spec, args, o);
    apply_allocation(args, o);
    apply_polish(args, o);
    o->order = args->order;
    o->saliency = args->saliency;
    o->damp = args->damp;
    o->compensate = args->compensate;
    apply_bpdq(spec, args, o);
    o->calibration = args->calibration;
    o->seed = args->common.seed;
    o->layer_rules = args->layers.items;
    o->layer_rule_count = args->layers.count;
    o->cpu = args->common.cpu;
}

/* ---- What makes no sense --------------------------------------------------------------------------------- */

/* What an allocation decides cannot be said twice, nor what it would be asked for without one. */
static lb_status check_allocation(const lb_arg_spec *spec, const lb_recipe_args *args,
                                  lb_allocation *allocation, lb_error *err)
{
    static const char *const needing[] = {"--candidates", "--allocate", "--untie", "--sensitivity-samples",
                                          "--sensitivity-seqlen"};
    const bool wanted = lb_args_given(spec, args, "--target-bits");
    for (size_t i = 0; !wanted && i < sizeof needing / sizeof *needing; i++)
        if (lb_args_given(spec, args, needing[i]))
            return lb_fail(err, LB_EINVAL, "%s is about --target-bits B, which was not given", needing[i]);
    if (wanted && lb_args_given(spec, args, "--format"))
        return lb_fail(err, LB_EINVAL,
                       "--format is one format for all, --target-bits chooses among --candidates: "
                       "give one of the two");
    if (wanted && !(args->target_bits > 0.0))
        return lb_fail(err, LB_EINVAL, "--target-bits wants more than 0 bits");
    return lb_candidates_parse(args->candidates, allocation, err);
}

lb_status lb_recipe_args_check(const lb_arg_spec *spec, const lb_recipe_args *args, lb_error *err)
{
    lb_recipe recipe;
    lb_recipe_default(&recipe);
    LB_TRY(lb_format_parse(args->format, &recipe.format, err));
    if (args->act)
        LB_TRY(lb_act_parse(args->act, &recipe.act, err));
    LB_TRY(lb_transform_parse(args->transform, &recipe.transform, err));
    LB_TRY(lb_method_find(args->method, &recipe.method, err));
    for (size_t i = 0; i < args->layers.count; i++)
        LB_TRY(lb_recipe_add_rule(&recipe, args->layers.items[i], err));
    LB_TRY(check_allocation(spec, args, &recipe.allocation, err));
    if (lb_args_given(spec, args, "--lr") && !(args->lr > 0.0))
        return lb_fail(err, LB_EINVAL, "--lr wants a rate of more than 0");
    if (!(args->polish_lr > 0.0))
        return lb_fail(err, LB_EINVAL, "--polish-lr wants a rate of more than 0");
    return LB_OK;
}

/* Whether a format with elements of two kinds is asked for; all names are known. */
static bool asks_for_kinds(const lb_arg_spec *spec, const lb_recipe_args *args)
{
    lb_recipe recipe;
    lb_recipe_default(&recipe);
    (void)lb_format_parse(args->format, &recipe.format, NULL);
    for (size_t i = 0; i < args->layers.count; i++)
        (void)lb_recipe_add_rule(&recipe, args->layers.items[i], NULL);
    if (lb_args_given(spec, args, "--target-bits")) {
        recipe.allocation.how = LB_ALLOCATE_FISHER;
        (void)lb_candidates_parse(args->candidates, &recipe.allocation, NULL);
    }
    return lb_recipe_has_kinds(&recipe);
}

/* Without the inputs' Hessian all saliencies are the magnitude's. */
static bool uses_saliency(const lb_arg_spec *spec, const lb_recipe_args *args)
{
    return asks_for_kinds(spec, args) && (strcmp(args->method, "rtn") != 0 || args->calibration);
}

static void warn_unless(bool used, const lb_arg_spec *spec, const lb_recipe_args *args, const char *flag,
                        const char *where, const char *which)
{
    if (!used && lb_args_given(spec, args, flag))
        fprintf(stderr, "lowbit %s: %s has no effect %s%s\n", spec->command, flag, where, which);
}

static void warn_of_method(const lb_arg_spec *spec, const lb_recipe_args *args)
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
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        const bool damps_saliency = strcmp(flags[i].flag, "--damp") == 0 && uses_saliency(spec, args);
        warn_unless(strstr(flags[i].methods, args->method) || damps_saliency, spec, args, flags[i].flag,
                    "with --method ", args->method);
    }
}

void lb_recipe_args_warn(const lb_arg_spec *spec, const lb_recipe_args *args)
{
    static const char *const calibrating[] = {"--samples", "--seqlen", "--recipe"};
    static const char *const polishing[] = {"--polish-batch", "--polish-lr"};
    const bool smooth = strstr(args->transform, "smooth"), awq = strstr(args->transform, "awq");
    const bool calibrates =
        strcmp(args->method, "rtn") != 0 || args->calibration || smooth || awq || args->polish > 0;
    if (args->common.quiet)
        return;
    warn_unless(smooth, spec, args, "--smooth", "without --transform smooth", "");
    warn_unless(awq, spec, args, "--no-clip", "without --transform awq", "");
    warn_unless(uses_saliency(spec, args), spec, args, "--saliency", "without a format sqH/L and calibration",
                "");
    warn_of_method(spec, args);
    for (size_t i = 0; i < sizeof calibrating / sizeof *calibrating; i++)
        warn_unless(calibrates, spec, args, calibrating[i], "with --method rtn and no --calib", "");
    for (size_t i = 0; i < sizeof polishing / sizeof *polishing; i++)
        warn_unless(args->polish > 0, spec, args, polishing[i], "without --polish", "");
}
