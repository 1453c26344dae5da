/* SPDX-License-Identifier: MIT
 * lowbit average: means of checkpoints. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/args.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "lowbit/train.h"

typedef struct average_args {
    lb_common_args common;
    const char *output, *weights, *dtype;
    lb_arg_list models;
    double ema;
    size_t latest, spacing, until;
} average_args;

static const lb_arg options[] = {
    {"CHECKPOINT", LB_ARG_OPERANDS, offsetof(average_args, models),
     .help = "Hugging Face folders of one architecture, oldest first; a training run's folder stands for all "
             "of its checkpoints"},
    {"--output", LB_ARG_STRING, offsetof(average_args, output), .letter = 'o', .value = "OUT",
     .required = true, .help = "folder to make"},
    {"--latest", LB_ARG_SIZE, offsetof(average_args, latest), .low = 1, .shown = "all",
     .help = "only the last N of them (LAWA)"},
    {"--spacing", LB_ARG_SIZE, offsetof(average_args, spacing), .low = 1, .shown = "all checkpoints",
     .help = "of a run, only its last checkpoint and those a multiple of N steps before it"},
    {"--until", LB_ARG_SIZE, offsetof(average_args, until), .low = 1, .shown = "the last",
     .help = "of a run, only checkpoints up to step N"},
    {"--weights", LB_ARG_STRING, offsetof(average_args, weights), .value = "W,W,...", .shown = "all alike",
     .help = "how much each of them counts, in proportion (negative: away from it)"},
    {"--ema", LB_ARG_DOUBLE, offsetof(average_args, ema), .low = 0, .high = 0.999999, .value = "KEEP",
     .help = "an exponential moving average instead, that keeps so much of itself at each checkpoint"},
    {"--dtype", LB_ARG_CHOICE, offsetof(average_args, dtype), .choices = "bf16|f32",
     .shown = "as the last one's", .help = "of the result"},
};

static const lb_arg_spec spec = {"average",
                                 "Averages the weights of checkpoints.",
                                 options,
                                 sizeof options / sizeof *options,
                                 sizeof(average_args),
                                 "lowbit average ./run --latest 10 -o ./averaged",
                                 NULL,
                                 NULL};

/* "1,2,0.5" -> shares; how many, or 0 where that is not what it says. */
static size_t parse_weights(const char *text, double shares[LB_ARG_LIST_MAX])
{
    size_t count = 0;
    for (const char *at = text;; at++) {
        char *end;
        if (count == LB_ARG_LIST_MAX)
            return 0;
        shares[count++] = strtod(at, &end);
        if (end == at || (*end != ',' && *end != '\0'))
            return 0;
        at = end;
        if (*at == '\0')
            return count;
    }
}

int cmd_average(int argc, char **argv)
{
    average_args args;
    int code;
    lb_error err;
    lb_cli_progress bar;
    lb_average_options o;
    double shares[LB_ARG_LIST_MAX];
    size_t count = 0;
    if (!lb_args_parse(&spec, argc, argv, &args, &code))
        return code;
    lb_average_options_init(&o);
    o.models = args.models.items;
    o.model_count = args.models.count;
    o.output = args.output;
    o.latest = args.latest;
    o.spacing = args.spacing;
    o.until = args.until;
    o.dtype = args.dtype;
    if (lb_args_given(&spec, &args, "--ema")) {
        o.kind = LB_AVERAGE_EMA;
        o.decay = args.ema;
    }
    if (args.weights) {
        if (o.kind == LB_AVERAGE_EMA)
            return lb_cli_misused("average", "--weights and --ema are two ways to weigh: give one of them");
        o.share_count = parse_weights(args.weights, shares);
        o.shares = shares;
        if (o.share_count == 0)
            return lb_cli_misused("average", "--weights wants numbers with commas between them");
    }
    o.progress = lb_cli_progress_begin(&bar, args.common.quiet);
    lb_status st = lb_average(&o, &count, &err);
    lb_cli_progress_end(&bar);
    if (st != LB_OK)
        return lb_cli_failed("average", &err, false);
    if (args.common.json) {
        json_t *json = json_object();
        json_object_set_new(json, "output", lb_json_text(args.output));
        json_object_set_new(json, "checkpoints", json_integer((json_int_t)count));
        st = lb_output_json(json, &err);
    } else {
        printf("%s: the mean of %zu checkpoint%s\n", args.output, count, count == 1 ? "" : "s");
        st = lb_output_flush(&err);
    }
    return st == LB_OK ? LB_EXIT_DONE : lb_cli_failed("average", &err, false);
}
