/* SPDX-License-Identifier: MIT
 * lowbit eval: perplexity, and divergence from a reference. */
#include <stdio.h>
#include <string.h>

#include "cli/args.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/score_text.h"
#include "formats/format.h"
#include "model/inputs.h"

typedef struct eval_args {
    lb_common_args common;
    const char *model, *text, *against, *protocol, *weights, *act, *transform, *fit;
    size_t ctx, tokens;
} eval_args;

static const lb_arg options[] = {
    {"MODEL", LB_ARG_OPERAND, offsetof(eval_args, model), .help = "the model to score"},
    {"--text", LB_ARG_STRING, offsetof(eval_args, text), .value = "FILE", .required = true,
     .help = "the text to score it on"},
    {"--against", LB_ARG_STRING, offsetof(eval_args, against), .value = "MODEL",
     .help = "a reference model: also print the divergence from it"},
    {"--protocol", LB_ARG_CHOICE, offsetof(eval_args, protocol), .choices = "full|half", .preset = "full",
     .help = "score every position of each window but the first, or the second half as llama.cpp does"},
    {"--ctx", LB_ARG_SIZE, offsetof(eval_args, ctx), .low = 2, .high = 1 << 24,
     .shown = "2048 (half: 512) or the model's maximum", .help = "tokens in a window"},
    {"--tokens", LB_ARG_SIZE, offsetof(eval_args, tokens), .low = 2, .shown = "all",
     .help = "keep only the first N tokens of the text"},
    {"--weights", LB_ARG_STRING, offsetof(eval_args, weights), .value = "FORMAT",
     .help = "cast the linear layers to this format (round to nearest, no calibration) and compare with the "
             "model as it is"},
    {"--act", LB_ARG_STRING, offsetof(eval_args, act), .value = "FORMAT",
     .help = "cast the inputs of the linear layers to this format"},
    {"--transform", LB_ARG_STRING, offsetof(eval_args, transform), .value = "NAME", .shown = "none",
     .help =
         "before casting, rewrite layers and their inputs without changing what they compute: hadamard "
         "(random rotations of the format's group size, 128 where that is a row), hadamard-N, hadamard-full"},
    {"--fit", LB_ARG_CHOICE, offsetof(eval_args, fit), .choices = "range|search", .preset = "range",
     .help = "scales of --weights from each group's extremes, or by least squared error"},
};

static const lb_arg_spec spec = {"eval",
                                 "Scores a model on a text.",
                                 options,
                                 sizeof options / sizeof *options,
                                 sizeof(eval_args),
                                 "lowbit eval ./model-int4 --text wiki.txt --against ./model",
                                 NULL,
                                 NULL};

static bool format_is_known(const char *name, lb_error *err)
{
    lb_format format;
    return !name || lb_format_parse(name, &format, err) == LB_OK;
}

int cmd_eval(int argc, char **argv)
{
    eval_args args;
    int code;
    lb_error err;
    lb_cli_progress bar;
    lb_eval_options o;
    lb_eval_result r;
    lb_transform transform;
    lb_act act;
    if (!lb_args_parse(&spec, argc, argv, &args, &code))
        return code;
    if (!format_is_known(args.weights, &err) || (args.act && lb_act_parse(args.act, &act, &err) != LB_OK) ||
        (args.transform && lb_transform_parse(args.transform, &transform, &err) != LB_OK))
        return lb_cli_misused("eval", err.msg);
    if (lb_args_given(&spec, &args, "--fit") && !args.weights)
        return lb_cli_misused("eval", "--fit belongs to --weights");
    lb_eval_options_init(&o);
    o.model = args.model;
    o.against = args.against;
    o.text = args.text;
    o.protocol = strcmp(args.protocol, "half") == 0 ? LB_PROTOCOL_HALF : LB_PROTOCOL_FULL;
    o.ctx = args.ctx;
    o.tokens = args.tokens;
    o.cast = (lb_cast){.weights = args.weights, .act = args.act, .transform = args.transform, .fit = args.fit};
    o.seed = args.common.seed;
    o.cpu = args.common.cpu;
    o.progress = lb_cli_progress_begin(&bar, args.common.quiet);
    lb_status st = lb_evaluate(&o, &r, &err);
    lb_cli_progress_end(&bar);
    if (st != LB_OK)
        return lb_cli_failed("eval", &err, false);
    if (args.common.json)
        st = lb_output_json(lb_score_json(&o, &r), &err);
    else {
        lb_print_score(&o, &r);
        st = lb_output_flush(&err);
    }
    if (!args.common.quiet)
        fprintf(stderr, "%.1f s, peak memory %.0f MB\n", r.seconds, (double)r.peak_rss_bytes / 1e6);
    return st == LB_OK ? LB_EXIT_DONE : lb_cli_failed("eval", &err, false);
}
