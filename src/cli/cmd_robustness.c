/* SPDX-License-Identifier: MIT
 * lowbit robustness: what training does to quantization (arXiv:2510.06213). */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/file.h"
#include "cli/args.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/recipe_args.h"
#include "cli/robustness_report.h"
#include "formats/format.h"

typedef struct robustness_args {
    lb_recipe_args recipe;
    const char *output, *text, *formats;
    lb_arg_list models, averages;
    size_t ctx, tokens, every;
    bool resume;
} robustness_args;

static const lb_arg options[] = {
    {"RUN", LB_ARG_OPERANDS, offsetof(robustness_args, models),
     .help = "folders that `lowbit train` made, of which all checkpoints are measured; or models, which "
             "stand alone"},
    {"--output", LB_ARG_STRING, offsetof(robustness_args, output), .letter = 'o', .value = "OUT",
     .required = true,
     .help = "folder to make: results.csv, results.md, results.json, plots (with gnuplot), report.html"},
    {"--text", LB_ARG_STRING, offsetof(robustness_args, text), .value = "FILE", .required = true,
     .help = "held-out text to score on"},
    {"--format", LB_ARG_STRING, offsetof(robustness_args, formats), .value = "FORMAT,...",
     .preset = "int3-g128,int4-g128", .help = "number formats to quantize to, one after the other"},
    {"--every", LB_ARG_SIZE, offsetof(robustness_args, every), .low = 1, .shown = "all checkpoints",
     .value = "STEPS", .help = "only checkpoints at multiples of so many steps, and each run's last"},
    {"--average", LB_ARG_LIST, offsetof(robustness_args, averages), .value = "KIND",
     .help = "also measure averages of each run's checkpoints so far: latest:K, latest:K:STEPS between them, "
             "or ema:KEEP "
             "(may be repeated)"},
    {"--ctx", LB_ARG_SIZE, offsetof(robustness_args, ctx), .low = 2, .high = 1 << 24,
     .shown = "2048 or the model's maximum", .help = "tokens in a window of the text"},
    {"--tokens", LB_ARG_SIZE, offsetof(robustness_args, tokens), .low = 2, .preset = "65536",
     .help = "score the first N tokens of the text"},
    {"--resume", LB_ARG_FLAG, offsetof(robustness_args, resume),
     .help = "go on with OUT: what it has is not measured again; runs may have been added"},
};

static const lb_arg_spec spec = {
    "robustness",
    "Quantizes every checkpoint of training runs, and relates what that costs to how they were trained.",
    options,
    sizeof options / sizeof *options,
    sizeof(robustness_args),
    "lowbit robustness ./run --text held-out.txt --calib books.txt -o report --average latest:10",
    "The paper's GPTQ is --order act --damp 0.05 --fit range --compensate 0 --refine 0. Several checkpoints "
    "are\n"
    "quantized at once, one thread each. Quantization error: quantized loss / loss - 1.\n",
    &lb_recipe_flags};

/* "int3-g128,int4-g128" -> study->formats; with --target-bits, the one name that stands for its choice. */
static lb_status list_formats(const robustness_args *args, lb_robust_study *study, lb_error *err)
{
    lb_format ignored;
    if (lb_args_given(&spec, args, "--target-bits")) {
        study->allocates = true;
        study->format_count = 1;
        snprintf(study->formats[0], sizeof study->formats[0], "%g-bits", args->recipe.target_bits);
        return LB_OK;
    }
    for (const char *at = args->formats;; at++) {
        const size_t length = strcspn(at, ",");
        char *name = study->formats[study->format_count];
        if (study->format_count == LB_ROBUST_MAX_FORMATS)
            return lb_fail(err, LB_EINVAL, "--format lists more than %d formats", LB_ROBUST_MAX_FORMATS);
        if (length >= LB_ROBUST_FORMAT_BYTES)
            return lb_fail(err, LB_EINVAL, "--format: \"%.40s...\" is no format", at);
        memcpy(name, at, length);
        name[length] = '\0';
        LB_TRY(lb_format_parse(name, &ignored, err));
        for (size_t i = 0; i < study->format_count; i++)
            if (strcmp(study->formats[i], name) == 0)
                return lb_fail(err, LB_EINVAL, "--format lists %s twice", name);
        study->format_count++;
        at += length;
        if (*at == '\0')
            return LB_OK;
    }
}

/* What the command line alone can judge. */
static lb_status read_args(const robustness_args *args, lb_robust_study *study,
                           lb_average_named averages[LB_ARG_LIST_MAX], lb_error *err)
{
    LB_TRY(lb_recipe_args_check(&spec, &args->recipe, err));
    LB_TRY(list_formats(args, study, err));
    for (size_t i = 0; i < args->averages.count; i++)
        LB_TRY(lb_average_parse(args->averages.items[i], &averages[i], err));
    lb_quantize_options_init(&study->recipe);
    lb_recipe_args_apply(&spec, &args->recipe, &study->recipe);
    study->output = args->output;
    study->text = args->text;
    study->ctx = args->ctx;
    study->tokens = args->tokens;
    study->cpu = args->recipe.common.cpu;
    return LB_OK;
}

/* The folder, held for this process: made, or of an interrupted study. */
static lb_status open_output(const robustness_args *args, int *lock, lb_error *err)
{
    char *results = lb_path_join(args->output, "results.json");
    lb_status st = LB_OK;
    if (!results)
        st = lb_fail(err, LB_ENOMEM, "no memory for a name");
    else if (args->resume && !lb_path_exists(results))
        st = lb_fail(err, LB_EINVAL, "cannot resume %s: there is no results.json in it", args->output);
    else if (!args->resume && lb_path_exists(args->output))
        st = lb_fail(err, LB_EEXIST,
                     "the output %s exists already; add --resume to go on with it, or choose another name",
                     args->output);
    else if (!args->resume)
        st = lb_make_directory(args->output, err);
    if (st == LB_OK)
        st = lb_lock_directory(args->output, lock, err);
    lb_free(results);
    return st;
}

/* Everything that can be checked is, before a folder is made. */
static lb_status run(const robustness_args *args, const lb_average_named *averages, lb_robust_study *study,
                     int *lock, lb_error *err)
{
    lb_cli_progress bar;
    LB_TRY(lb_robust_points_list(args->models.items, args->models.count, args->every, averages,
                                 args->averages.count, &study->points, err));
    study->rows = lb_alloc_zero(study->points.count, sizeof *study->rows);
    if (!study->rows)
        return lb_fail(err, LB_ENOMEM, "no memory for results");
    LB_TRY(lb_robust_check(study, err));
    LB_TRY(open_output(args, lock, err));
    if (args->resume)
        LB_TRY(lb_robust_take_over(study, err));
    const lb_progress progress = lb_cli_progress_begin(&bar, args->recipe.common.quiet);
    const lb_status st = lb_robust_measure(study, &progress, err);
    lb_cli_progress_end(&bar);
    return st;
}

static lb_status tell(const robustness_args *args, const lb_robust_study *study, const char *command,
                      lb_error *err)
{
    bool plots_missing = false;
    lb_text text = {0};
    LB_TRY(lb_robust_write(study, command, &plots_missing, err));
    if (plots_missing)
        fprintf(stderr,
                "lowbit robustness: no plots, since gnuplot is missing (Debian: apt install gnuplot-nox)\n");
    if (args->recipe.common.json)
        return lb_output_json(lb_robust_json(study), err);
    lb_status st = lb_robust_overview(study, &text, err);
    if (st == LB_OK) {
        printf("%s%zu checkpoints and averages; all numbers and plots: %s/report.html\n", text.data,
               study->points.count, args->output);
        st = lb_output_flush(err);
    }
    lb_text_free(&text);
    return st;
}

int cmd_robustness(int argc, char **argv)
{
    robustness_args args;
    int code, lock = -1;
    lb_error err;
    lb_robust_study study = {0};
    lb_average_named averages[LB_ARG_LIST_MAX];
    lb_text command = {0};
    if (!lb_args_parse(&spec, argc, argv, &args, &code))
        return code;
    if (read_args(&args, &study, averages, &err) != LB_OK)
        return lb_cli_misused("robustness", err.msg);
    lb_recipe_args_warn(&spec, &args.recipe);
    lb_command_text(argc, argv, &command);
    lb_status st = run(&args, averages, &study, &lock, &err);
    if (st == LB_OK)
        st = tell(&args, &study, command.data ? command.data : "", &err);
    if (lock >= 0)
        lb_unlock_directory(lock);
    json_decref(study.settings);
    lb_free(study.rows);
    lb_robust_points_free(&study.points);
    lb_text_free(&command);
    return st == LB_OK ? LB_EXIT_DONE : lb_cli_failed("robustness", &err, lock >= 0);
}
