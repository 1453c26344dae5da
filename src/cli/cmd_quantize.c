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
#include "cli/recipe_args.h"
#include "cli/score_text.h"
#include "lowbit/quantize.h"

typedef struct quantize_args {
    lb_recipe_args recipe;
    const char *model, *output, *eval_text, *report;
    size_t eval_tokens, eval_ctx;
    bool resume, dry_run;
} quantize_args;

static const lb_arg options[] = {
    {"MODEL", LB_ARG_OPERAND, offsetof(quantize_args, model), .help = "Hugging Face folder or GGUF file"},
    {"--output", LB_ARG_STRING, offsetof(quantize_args, output), .letter = 'o', .value = "OUT",
     .help = "folder to make (not needed with --dry-run)"},
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
    NULL,
    &lb_recipe_flags};

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
    o->cpu = args->recipe.common.cpu;
    o->progress = lb_cli_progress_begin(&bar, args->recipe.common.quiet);
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
    if (!args->recipe.common.json) {
        lb_quantize_print(f, args->recipe.common.verbose);
        LB_TRY(lb_output_flush(err));
    }
    if (args->eval_text && !args->dry_run) {
        LB_TRY(evaluate(args, &o, &e, err));
        f->eval_options = &o;
        f->eval = &e;
        if (!args->recipe.common.json) {
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
    if (!args->recipe.common.json)
        return LB_OK;
    json_t *json = lb_quantize_json(f), *score = f->eval ? lb_score_json(&o, &e) : json_null();
    if (f->eval)
        json_object_set_new(score, "collapsed", json_boolean(lb_collapsed(&e)));
    json_object_set_new(json, "eval", score);
    return lb_output_json(json, err);
}

/* A flag that does nothing is likely a mistake, if a harmless one. */
static void warn_of_idle_flags(const quantize_args *args)
{
    static const char *const evaluating[] = {"--eval-tokens", "--eval-ctx"};
    const char *calibration = args->recipe.calibration;
    if (args->recipe.common.quiet)
        return;
    lb_recipe_args_warn(&spec, &args->recipe);
    for (size_t i = 0; i < sizeof evaluating / sizeof *evaluating; i++)
        if (lb_args_given(&spec, args, evaluating[i]) && !args->eval_text)
            fprintf(stderr, "lowbit quantize: %s has no effect without --eval-text\n", evaluating[i]);
    if (calibration && args->eval_text && lb_path_same(calibration, args->eval_text))
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
    if (lb_recipe_args_check(&spec, &args.recipe, &err) != LB_OK)
        return lb_cli_misused("quantize", err.msg);
    if (!args.output && !args.dry_run)
        return lb_cli_misused("quantize", "where to? give -o OUT");
    warn_of_idle_flags(&args);
    lb_quantize_options_init(&o);
    lb_recipe_args_apply(&spec, &args.recipe, &o);
    o.model = args.model;
    o.output = args.output;
    o.resume = args.resume;
    o.dry_run = args.dry_run;
    o.progress = lb_cli_progress_begin(&bar, args.recipe.common.quiet);
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
                              .calibration = args.recipe.calibration,
                              .method = args.recipe.method,
                              .dry_run = args.dry_run,
                              .result = &r};
    lb_text command = {0};
    lb_command_text(argc, argv, &command);
    st = tell(&args, &f, command.data ? command.data : "", &err);
    lb_text_free(&command);
    lb_quantize_result_free(&r);
    return st == LB_OK ? LB_EXIT_DONE : lb_cli_failed("quantize", &err, false);
}
