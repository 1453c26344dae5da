/* SPDX-License-Identifier: MIT
 * lowbit tasks: the tasks that people judge models by. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "cli/args.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/task_generate.h"
#include "report/table.h"

typedef struct tasks_args {
    lb_common_args common;
    const char *model, *items;
    lb_arg_list tasks, data, examples;
    size_t limit, shots, most;
    bool bos;
} tasks_args;

static const lb_arg options[] = {
    {"MODEL", LB_ARG_OPERAND, offsetof(tasks_args, model), .help = "a model of any kind"},
    {"--task", LB_ARG_LIST, offsetof(tasks_args, tasks), .value = "NAME",
     .help = "piqa, arc-easy, arc-challenge, hellaswag, winogrande, openbookqa, boolq, mmlu, lambada, gsm8k, "
             "or choice "
             "(may be repeated)"},
    {"--data", LB_ARG_LIST, offsetof(tasks_args, data), .value = "FILE",
     .help = "its questions, a JSON object per line (one file for each --task, in order)"},
    {"--limit", LB_ARG_SIZE, offsetof(tasks_args, limit), .low = 1, .shown = "all",
     .help = "only the first N questions of each task"},
    {"--shots", LB_ARG_SIZE, offsetof(tasks_args, shots), .high = 100, .preset = "0",
     .help = "examples before each question"},
    {"--examples", LB_ARG_LIST, offsetof(tasks_args, examples), .value = "FILE",
     .shown = "the first lines of --data, which are not scored then",
     .help = "where examples are from (one file for each --task, in order)"},
    {"--items", LB_ARG_STRING, offsetof(tasks_args, items), .value = "FILE",
     .help = "write every question's log-likelihoods, or its answer, a JSON object per line"},
    {"--bos", LB_ARG_FLAG, offsetof(tasks_args, bos),
     .help = "begin with BOS where the model's tokenizer adds one, which the usual harness does not"},
    {"--most", LB_ARG_SIZE, offsetof(tasks_args, most), .low = 1, .preset = "256",
     .help = "gsm8k: tokens of an answer at most"},
};

static const lb_arg_spec spec = {
    "tasks",
    "Scores a model on multiple choice, last words and sums, as the field's usual harness does.",
    options,
    sizeof options / sizeof *options,
    sizeof(tasks_args),
    "lowbit tasks ./model --task piqa --data piqa.jsonl --task lambada --data lambada.jsonl",
    "Data is read as each task is published, or as {\"centerpiece\", \"options\", \"correct_options_idx\"}. "
    "acc: the best\n"
    "log-likelihood is the right choice's; acc_norm: per character of the choice. mmlu's usual --shots is 5, "
    "gsm8k's too.\n",
    NULL};

/* Everything that was scored. */
typedef struct findings {
    lb_task_spec tasks[LB_ARG_LIST_MAX];
    bool generates[LB_ARG_LIST_MAX];
    lb_task_result scored[LB_ARG_LIST_MAX];
    lb_generated_result generated[LB_ARG_LIST_MAX];
    size_t count;
    lb_generated_task to_generate[LB_ARG_LIST_MAX];
    lb_text items; /* --items */
    const lb_task_spec *scoring[LB_ARG_LIST_MAX]; /* what lb_tasks_run was given */
} findings;

static lb_status list_tasks(const tasks_args *args, findings *f, lb_error *err)
{
    if (args->tasks.count == 0)
        return lb_fail(err, LB_EINVAL, "which task? give --task NAME --data FILE");
    if (args->data.count != args->tasks.count)
        return lb_fail(err, LB_EINVAL, "%zu tasks and %zu files of --data: each task wants one",
                       args->tasks.count, args->data.count);
    if (args->examples.count > 0 && args->examples.count != args->tasks.count)
        return lb_fail(err, LB_EINVAL,
                       "%zu tasks and %zu files of --examples: give one for each task, or none",
                       args->tasks.count, args->examples.count);
    if (args->examples.count > 0 && args->shots == 0)
        return lb_fail(err, LB_EINVAL, "--examples is about --shots N, which was not given");
    f->count = args->tasks.count;
    for (size_t i = 0; i < f->count; i++) {
        const lb_task_kind *kind;
        f->tasks[i] = (lb_task_spec){.name = args->tasks.items[i],
                                     .data = args->data.items[i],
                                     .examples = args->examples.count ? args->examples.items[i] : NULL};
        LB_TRY(lb_task_find(f->tasks[i].name, &kind, err));
        f->generates[i] = kind->scoring == LB_TASK_GENERATE;
    }
    return LB_OK;
}

static void add_item(void *user, size_t task, const lb_task_scores *s)
{
    findings *f = user;
    lb_text_add_format(&f->items, "{\"task\": \"%s\", \"line\": %zu, \"gold\": %zu, \"log_likelihoods\": [",
                       f->scoring[task]->name, s->index + 1, s->gold);
    for (size_t i = 0; i < s->choices; i++)
        lb_text_add_format(&f->items, "%s%.9g", i ? ", " : "", s->sums[i]);
    lb_text_add_string(&f->items, "], \"greedy\": [");
    for (size_t i = 0; i < s->choices; i++)
        lb_text_add_format(&f->items, "%s%s", i ? ", " : "", s->greedy[i] ? "true" : "false");
    lb_text_add_format(&f->items, "], \"right\": %s, \"right_norm\": %s}\n", s->right ? "true" : "false",
                       s->right_norm ? "true" : "false");
}

/* Those that are scored by likelihood, all with one opening of the model. */
static lb_status run_scored(const tasks_args *args, findings *f, const lb_progress *progress, lb_error *err)
{
    lb_task_spec tasks[LB_ARG_LIST_MAX];
    lb_task_result results[LB_ARG_LIST_MAX] = {0};
    size_t count = 0;
    lb_tasks_options o;
    for (size_t i = 0; i < f->count; i++)
        if (!f->generates[i]) {
            f->scoring[count] = &f->tasks[i];
            tasks[count++] = f->tasks[i];
        }
    if (count == 0)
        return LB_OK;
    lb_tasks_options_init(&o);
    o.model = args->model;
    o.tasks = tasks;
    o.task_count = count;
    o.limit = args->limit;
    o.shots = args->shots;
    o.bos = args->bos;
    o.cpu = args->common.cpu;
    o.progress = *progress;
    if (args->items) {
        o.on_item = add_item;
        o.on_item_user = f;
    }
    const lb_status st = lb_tasks_run(&o, results, err);
    for (size_t i = 0; i < count; i++)
        f->scored[f->scoring[i] - f->tasks] = results[i];
    return st;
}

/* Every file is read, and found to be in order, before the model does any work: those of the tasks that generate here,
 * and the others' as the first thing that lb_tasks_run does. */
static lb_status run_all(const tasks_args *args, findings *f, const lb_progress *progress, lb_error *err)
{
    const lb_generated_options o = {.model = args->model,
                                    .cpu = args->common.cpu,
                                    .limit = args->limit,
                                    .shots = args->shots,
                                    .most = args->most,
                                    .bos = args->bos,
                                    .progress = *progress};
    lb_text *items = args->items ? &f->items : NULL;
    lb_status st = LB_OK;
    for (size_t i = 0; i < f->count; i++)
        if (f->generates[i])
            LB_GO(lb_generated_read(&o, &f->tasks[i], &f->to_generate[i], err));
    LB_GO(run_scored(args, f, progress, err));
    for (size_t i = 0; i < f->count; i++)
        if (f->generates[i])
            LB_GO(lb_generated_run(&o, &f->to_generate[i], items, &f->generated[i], err));
done:
    for (size_t i = 0; i < f->count; i++)
        lb_generated_free(&f->to_generate[i]);
    return st;
}

/* Whether a task has its result: not all have where something went wrong, or where the run was stopped. */
static bool is_done(const findings *f, size_t i)
{
    return (f->generates[i] ? f->generated[i].items : f->scored[i].items) > 0;
}

static bool any_done(const findings *f)
{
    size_t i = 0;
    while (i < f->count && !is_done(f, i))
        i++;
    return i < f->count;
}

/* The file of --items is opened before the work too. What was finished is kept, whatever became of the rest. */
static lb_status run(const tasks_args *args, findings *f, const lb_progress *progress, lb_error *err)
{
    lb_writer writer;
    if (!args->items)
        return run_all(args, f, progress, err);
    if (lb_path_exists(args->items))
        return lb_fail(err, LB_EEXIST, "%s exists already; choose another name or delete it", args->items);
    LB_TRY(lb_writer_open(args->items, &writer, err));
    lb_error unkept;
    const lb_status st = run_all(args, f, progress, err);
    lb_error *why = st == LB_OK ? err : &unkept;
    lb_status kept = LB_OK;
    if (any_done(f)) {
        kept = f->items.failed
                   ? lb_fail(why, LB_ENOMEM, "no memory for %s", args->items)
                   : lb_writer_put(&writer, f->items.data ? f->items.data : "", f->items.length, why);
        if (kept == LB_OK)
            kept = lb_writer_commit(&writer, why);
    }
    lb_writer_abandon(&writer);
    return st == LB_OK ? kept : st;
}

static json_t *task_json(const findings *f, size_t i)
{
    const lb_task_result *r = &f->scored[i];
    const lb_generated_result *g = &f->generated[i];
    json_t *json = json_pack("{s:s, s:o}", "task", f->tasks[i].name, "data", lb_json_text(f->tasks[i].data));
    const bool generates = f->generates[i];
    json_object_set_new(json, "items", json_integer((json_int_t)(generates ? g->items : r->items)));
    const struct {
        const char *key;
        double value;
        bool of_generated;
    } numbers[] = {{"acc", r->acc, false},
                   {"acc_stderr", r->acc_stderr, false},
                   {"acc_norm", r->acc_norm, false},
                   {"acc_norm_stderr", r->acc_norm_stderr, false},
                   {"perplexity", r->perplexity, false},
                   {"perplexity_stderr", r->perplexity_stderr, false},
                   {"exact_match_strict", g->strict, true},
                   {"exact_match_strict_stderr", g->strict_stderr, true},
                   {"exact_match_flexible", g->flexible, true},
                   {"exact_match_flexible_stderr", g->flexible_stderr, true}};
    for (size_t k = 0; k < sizeof numbers / sizeof *numbers; k++)
        if (numbers[k].of_generated == generates && !isnan(numbers[k].value))
            json_object_set_new(json, numbers[k].key, lb_json_number(numbers[k].value));
    json_object_set_new(json, "seconds", lb_json_number(generates ? g->seconds : r->seconds));
    return json;
}

static lb_status print_json(const tasks_args *args, const findings *f, lb_error *err)
{
    json_t *list = json_array();
    for (size_t i = 0; i < f->count; i++)
        if (is_done(f, i))
            json_array_append_new(list, task_json(f, i));
    return lb_output_json(json_pack("{s:o, s:I, s:o}", "model", lb_json_text(args->model), "shots",
                                    (json_int_t)args->shots, "tasks", list),
                          err);
}

static void add_share(lb_table *table, double share, double error)
{
    if (isnan(share))
        lb_table_add(table, "");
    else
        lb_table_add_format(table, "%.2f \xc2\xb1 %.2f", 100.0 * share, 100.0 * error);
}

static lb_status print_table(const findings *f, lb_error *err)
{
    static const lb_column columns[] = {{"task", false},      {"questions", true},  {"acc %", true},
                                        {"acc_norm %", true}, {"perplexity", true}, {"s", true}};
    lb_table table = {.columns = columns, .column_count = sizeof columns / sizeof *columns};
    lb_text text = {0};
    for (size_t i = 0; i < f->count; i++) {
        const lb_task_result *r = &f->scored[i];
        const lb_generated_result *g = &f->generated[i];
        if (!is_done(f, i))
            continue;
        lb_table_add(&table, f->tasks[i].name);
        if (f->generates[i]) { /* exact match: strict, and of the last number */
            lb_table_add_format(&table, "%zu", g->items);
            add_share(&table, g->strict, g->strict_stderr);
            add_share(&table, g->flexible, g->flexible_stderr);
            lb_table_add(&table, "");
            lb_table_add_format(&table, "%.0f", g->seconds);
            continue;
        }
        lb_table_add_format(&table, "%zu", r->items);
        add_share(&table, r->acc, r->acc_stderr);
        add_share(&table, r->acc_norm, r->acc_norm_stderr);
        if (isnan(r->perplexity))
            lb_table_add(&table, "");
        else
            lb_table_add_format(&table, "%.3f \xc2\xb1 %.3f", r->perplexity, r->perplexity_stderr);
        lb_table_add_format(&table, "%.0f", r->seconds);
    }
    lb_table_text(&table, &text);
    lb_table_free(&table);
    lb_status st = text.failed ? lb_fail(err, LB_ENOMEM, "no memory to print a table") : LB_OK;
    if (st == LB_OK) {
        fputs(text.data, stdout);
        st = lb_output_flush(err);
    }
    lb_text_free(&text);
    return st;
}

int cmd_tasks(int argc, char **argv)
{
    tasks_args args;
    int code;
    lb_error err;
    lb_cli_progress bar;
    findings f = {0};
    if (!lb_args_parse(&spec, argc, argv, &args, &code))
        return code;
    if (list_tasks(&args, &f, &err) != LB_OK)
        return lb_cli_misused("tasks", err.msg);
    const lb_progress progress = lb_cli_progress_begin(&bar, args.common.quiet);
    lb_status st = run(&args, &f, &progress, &err);
    lb_cli_progress_end(&bar);
    if (st == LB_OK || any_done(&f)) { /* hours of scoring are told, whatever came after them */
        lb_error unsaid;
        lb_error *why = st == LB_OK ? &err : &unsaid;
        const lb_status said = args.common.json ? print_json(&args, &f, why) : print_table(&f, why);
        st = st == LB_OK ? said : st;
    }
    lb_text_free(&f.items);
    return st == LB_OK ? LB_EXIT_DONE : lb_cli_failed("tasks", &err, false);
}
