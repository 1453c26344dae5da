/* SPDX-License-Identifier: MIT
 * lowbit study: integer against floating point on a model (arXiv:2510.25602), in one command. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/partial.h"
#include "cli/args.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/study_report.h"

typedef struct study_args {
    lb_common_args common;
    const char *model, *text, *output;
    size_t ctx, tokens, tensor_tokens;
} study_args;

static const lb_arg options[] = {
    {"MODEL", LB_ARG_OPERAND, offsetof(study_args, model), .help = "an unquantized model"},
    {"--text", LB_ARG_STRING, offsetof(study_args, text), .value = "FILE", .required = true,
     .help = "the text to score every cast on"},
    {"--output", LB_ARG_STRING, offsetof(study_args, output), .letter = 'o', .value = "OUT",
     .shown = "only a table is printed",
     .help = "folder to make: results.md, results.csv, tensors.csv, plots (with gnuplot), report.html"},
    {"--ctx", LB_ARG_SIZE, offsetof(study_args, ctx), .low = 2, .high = 1 << 24,
     .shown = "2048 or the model's maximum", .help = "tokens in a window"},
    {"--tokens", LB_ARG_SIZE, offsetof(study_args, tokens), .low = 2, .preset = "8192",
     .help = "score the first N tokens of the text"},
    {"--tensor-tokens", LB_ARG_SIZE, offsetof(study_args, tensor_tokens), .low = 1, .preset = "2048",
     .help = "measure the inputs of layers on the first N tokens"},
};

static const lb_arg_spec spec = {"study",
                                 "Casts a model to integer and floating-point formats of the same size, "
                                 "plain and rotated, and says which win.",
                                 options,
                                 sizeof options / sizeof *options,
                                 sizeof(study_args),
                                 "lowbit study ./model --text wiki.txt -o int-vs-fp",
                                 "Four pairs (mxint8 and mxfp8-e4m3, mxint6 and mxfp6-e2m3, mxint4 and "
                                 "mxfp4, nvint4 and nvfp4), each as it is\n"
                                 "and with random Hadamard rotations of the block's size: QSNR of all "
                                 "weights and layer inputs, perplexity,\n"
                                 "and divergence from the unquantized model.\n",
                                 NULL};

static void list_casts(lb_cast casts[LB_STUDY_CASTS])
{
    for (unsigned pair = 0; pair < LB_STUDY_PAIRS; pair++) {
        for (unsigned way = 0; way < LB_STUDY_WAYS; way++) {
            for (unsigned which = 0; which < 2; which++) {
                const char *format = lb_study_pairs[pair].formats[which];
                casts[lb_study_cast_index(pair, way, which)] =
                    (lb_cast){.weights = format, .act = format, .transform = lb_study_ways[way]};
            }
        }
    }
}

static lb_status measure_tensors(const study_args *args, const lb_progress *progress, lb_study_findings *f,
                                 lb_error *err)
{
    lb_weights *weights = NULL;
    lb_walk_text text = {0};
    const lb_kernels *kernels;
    lb_status st = LB_OK;
    LB_GO(lb_kernels_choose(args->common.cpu, &kernels, err));
    LB_GO(lb_weights_open(args->model, &weights, err));
    LB_GO(lb_walk_text_read(weights, args->text, args->tensor_tokens, 0, &text, err));
    f->tensor_tokens = text.windows * text.ctx;
    LB_GO(lb_study_run(weights, kernels, &text, args->common.seed, progress, &f->tensors, err));
done:
    lb_walk_text_free(&text);
    lb_weights_close(weights);
    return st;
}

static lb_status run(const study_args *args, const lb_progress *progress, lb_study_findings *f, lb_error *err)
{
    lb_cast casts[LB_STUDY_CASTS];
    lb_eval_options o;
    list_casts(casts);
    lb_eval_options_init(&o);
    o.model = args->model;
    o.text = args->text;
    o.ctx = args->ctx;
    o.tokens = args->tokens;
    o.seed = args->common.seed;
    o.cpu = args->common.cpu;
    o.progress = *progress;
    o.dry_run = true; /* whatever is wrong is said at once */
    LB_TRY(lb_evaluate_casts(&o, casts, LB_STUDY_CASTS, f->results, err));
    LB_TRY(measure_tensors(args, progress, f, err));
    o.dry_run = false;
    return lb_evaluate_casts(&o, casts, LB_STUDY_CASTS, f->results, err);
}

/* The files, and then the folder's name. */
static lb_status finish_folder(const lb_study_findings *f, lb_partial *partial, lb_error *err)
{
    bool plots_missing = false;
    LB_TRY(lb_study_write(f, partial->path, &plots_missing, err));
    LB_TRY(lb_partial_commit(partial, err));
    if (plots_missing)
        fprintf(stderr,
                "lowbit study: no plots, since gnuplot is missing (Debian: apt install gnuplot-nox)\n");
    return LB_OK;
}

static lb_status print_overview(const lb_study_findings *f, lb_error *err)
{
    lb_text text = {0};
    lb_table table = lb_study_overview(f);
    lb_table_text(&table, &text);
    lb_table_free(&table);
    lb_status st = text.failed ? lb_fail(err, LB_ENOMEM, "no memory to print a table") : LB_OK;
    if (st == LB_OK) {
        const lb_eval_result *r = &f->results[0];
        printf("%sunquantized: perplexity %.4f on %zu tokens of %s\n", text.data, r->reference.perplexity,
               r->tokens, f->text);
        st = lb_output_flush(err);
    }
    lb_text_free(&text);
    return st;
}

int cmd_study(int argc, char **argv)
{
    study_args args;
    int code;
    lb_error err;
    lb_cli_progress bar;
    lb_study_findings f = {0};
    lb_text command = {0};
    lb_partial partial = {0};
    if (!lb_args_parse(&spec, argc, argv, &args, &code))
        return code;
    lb_command_text(argc, argv, &command);
    f.model = args.model;
    f.text = args.text;
    f.command = command.data ? command.data : "";
    /* Begun before the work, so that whatever is wrong with OUT is said at once. */
    lb_status st = args.output ? lb_partial_begin(args.output, &partial, &err) : LB_OK;
    if (st == LB_OK) {
        const lb_progress progress = lb_cli_progress_begin(&bar, args.common.quiet);
        st = run(&args, &progress, &f, &err);
        lb_cli_progress_end(&bar);
    }
    const bool measured = st == LB_OK;
    if (measured && partial.path)
        st = finish_folder(&f, &partial, &err);
    lb_partial_abandon(&partial);
    if (measured) { /* whatever became of the folder, what was measured is told */
        lb_error unsaid;
        const lb_status said = args.common.json
                                   ? lb_output_json(lb_study_json(&f), st == LB_OK ? &err : &unsaid)
                                   : print_overview(&f, st == LB_OK ? &err : &unsaid);
        st = st == LB_OK ? said : st;
    }
    lb_study_free(&f.tensors);
    lb_text_free(&command);
    return st == LB_OK ? LB_EXIT_DONE : lb_cli_failed("study", &err, false);
}
