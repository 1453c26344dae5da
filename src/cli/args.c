/* SPDX-License-Identifier: MIT */
#include "cli/args.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/thread.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/suggest.h"

static const lb_arg common_options[] = {
    {"--threads", LB_ARG_SIZE, offsetof(lb_common_args, threads), .low = 1, .high = 1024,
     .shown = "the cores this process may use", .help = "threads to use"},
    {"--seed", LB_ARG_SIZE, offsetof(lb_common_args, seed), .preset = "42",
     .help = "seed of everything random"},
    {"--cpu", LB_ARG_CHOICE, offsetof(lb_common_args, cpu), .choices = LB_CPU_NAMES,
     .shown = "$LB_CPU, or the best there is", .help = "instructions to use at most"},
    {"--json", LB_ARG_FLAG, offsetof(lb_common_args, json), .help = "one JSON object on standard output"},
    {"--quiet", LB_ARG_FLAG, offsetof(lb_common_args, quiet), .letter = 'q', .help = "no progress"},
    {"--verbose", LB_ARG_FLAG, offsetof(lb_common_args, verbose), .letter = 'v', .help = "say more"},
    {"--help", LB_ARG_FLAG, offsetof(lb_common_args, help), .letter = 'h', .help = "this text"},
};
enum { COMMON_COUNT = sizeof common_options / sizeof *common_options };

static bool is_operand(const lb_arg *option)
{
    return option->kind == LB_ARG_OPERAND || option->kind == LB_ARG_OPERANDS;
}

static bool is_number(const lb_arg *option)
{
    return option->kind == LB_ARG_SIZE || option->kind == LB_ARG_DOUBLE;
}

/* The command's own rows, and those that it shares with others. */
static size_t rows_of(const lb_arg_spec *spec)
{
    return spec->count + (spec->shared ? spec->shared->count : 0);
}

/* Row i of these, and after those the common flags. */
static const lb_arg *option_at(const lb_arg_spec *spec, size_t i)
{
    if (i < spec->count)
        return &spec->options[i];
    return i < rows_of(spec) ? &spec->shared->options[i - spec->count] : &common_options[i - rows_of(spec)];
}

/* The flag that `word` (of `length` bytes, "--ctx" or "-o") names; its row in *row. */
static const lb_arg *find_flag(const lb_arg_spec *spec, const char *word, size_t length, size_t *row)
{
    for (size_t i = 0; i < rows_of(spec) + COMMON_COUNT; i++) {
        const lb_arg *option = option_at(spec, i);
        bool by_letter = length == 2 && word[0] == '-' && option->letter && word[1] == option->letter;
        bool by_name = strlen(option->name) == length && memcmp(option->name, word, length) == 0;
        if (!is_operand(option) && (by_letter || by_name)) {
            *row = i;
            return option;
        }
    }
    return NULL;
}

static lb_status unknown_flag(const lb_arg_spec *spec, const char *word, size_t length, lb_error *err)
{
    char typed[64];
    const char *best = NULL;
    snprintf(typed, sizeof typed, "%.*s", (int)(length < 60 ? length : 60), word);
    for (size_t i = 0; i < rows_of(spec) + COMMON_COUNT; i++) {
        const lb_arg *option = option_at(spec, i);
        if (!is_operand(option))
            best = lb_suggest(typed, best, option->name);
    }
    if (best)
        return lb_fail(err, LB_EINVAL, "unknown flag %s; did you mean %s?", typed, best);
    return lb_fail(err, LB_EINVAL, "unknown flag %s", typed);
}

/* ---- One value ----------------------------------------------------------------------------------- */

static lb_status bad_number(const lb_arg *option, const char *text, lb_error *err)
{
    const char *kind = option->kind == LB_ARG_SIZE ? "a whole number" : "a number";
    if (option->high > 0)
        return lb_fail(err, LB_EINVAL, "%s wants %s from %.15g to %.15g, not \"%s\"", option->name, kind,
                       option->low, option->high, text);
    return lb_fail(err, LB_EINVAL, "%s wants %s of at least %.15g, not \"%s\"", option->name, kind,
                   option->low, text);
}

static bool in_range(const lb_arg *option, double value)
{
    return isfinite(value) && value >= option->low && (option->high <= 0 || value <= option->high);
}

static bool read_size(const char *text, size_t *out)
{
    if (*text == '\0' || text[strspn(text, "0123456789")] != '\0')
        return false;
    errno = 0;
    unsigned long long value = strtoull(text, NULL, 10);
    *out = (size_t)value;
    return errno == 0 && value <= SIZE_MAX;
}

static bool read_double(const char *text, double *out)
{
    char *end;
    if (*text == '\0' || text[strspn(text, "+-.0123456789eE")] != '\0') /* strtod takes "nan", "0x1p3" */
        return false;
    *out = strtod(text, &end);
    return *end == '\0';
}

static lb_status store_choice(const lb_arg *option, const char *text, const char **out, lb_error *err)
{
    size_t length = strlen(text);
    for (const char *word = option->choices; *word;) {
        size_t span = strcspn(word, "|");
        if (span == length && memcmp(word, text, length) == 0) {
            *out = text;
            return LB_OK;
        }
        word += span + (word[span] == '|');
    }
    return lb_fail(err, LB_EINVAL, "%s wants one of %s, not \"%s\"", option->name, option->choices, text);
}

static lb_status store_in_list(const lb_arg *option, const char *text, lb_arg_list *list, lb_error *err)
{
    if (list->count == LB_ARG_LIST_MAX)
        return lb_fail(err, LB_EINVAL, "%s is given more than %d times", option->name, LB_ARG_LIST_MAX);
    list->items[list->count++] = text;
    return LB_OK;
}

/* Free text may be: a prompt, say. Names may not: of files, formats, methods. */
static bool may_be_empty(const lb_arg *option)
{
    return !is_operand(option) && strcmp(lb_args_value_name(option), "TEXT") == 0;
}

static lb_status store(const lb_arg *option, const char *text, void *values, lb_error *err)
{
    void *into = (char *)values + option->at;
    size_t size;
    double real;
    if (text && !*text && !is_number(option) && option->kind != LB_ARG_CHOICE && !may_be_empty(option))
        return lb_fail(err, LB_EINVAL, "%s \"\" names nothing", option->name);
    switch (option->kind) {
    case LB_ARG_FLAG:
        *(bool *)into = true;
        return LB_OK;
    case LB_ARG_STRING:
    case LB_ARG_OPERAND:
        *(const char **)into = text;
        return LB_OK;
    case LB_ARG_SIZE:
        if (!read_size(text, &size) || !in_range(option, (double)size))
            return bad_number(option, text, err);
        *(size_t *)into = size;
        return LB_OK;
    case LB_ARG_DOUBLE:
        if (!read_double(text, &real) || !in_range(option, real))
            return bad_number(option, text, err);
        *(double *)into = real;
        return LB_OK;
    case LB_ARG_CHOICE:
        return store_choice(option, text, into, err);
    case LB_ARG_LIST:
    case LB_ARG_OPERANDS:
        return store_in_list(option, text, into, err);
    }
    return LB_EINVAL;
}

/* ---- All of argv --------------------------------------------------------------------------------- */

static lb_status store_presets(const lb_arg_spec *spec, void *values, lb_error *err)
{
    for (size_t i = 0; i < rows_of(spec) + COMMON_COUNT; i++) {
        const lb_arg *option = option_at(spec, i);
        if (option->preset)
            LB_TRY(store(option, option->preset, values, err));
    }
    return LB_OK;
}

/* One flag at argv[*i], with its value there ("--ctx=5") or in the next word. */
static lb_status read_flag(const lb_arg_spec *spec, int argc, char **argv, int *i, void *values,
                           lb_error *err)
{
    const char *word = argv[*i];
    size_t length = strcspn(word, "="), row, next_row;
    const lb_arg *option = find_flag(spec, word, length, &row);
    if (!option)
        return unknown_flag(spec, word, length, err);
    if (row < LB_ARGS_MAX)
        ((lb_common_args *)values)->given[row] = true;
    const char *text = word[length] == '=' ? word + length + 1 : NULL;
    if (option->kind == LB_ARG_FLAG)
        return text ? lb_fail(err, LB_EINVAL, "%s takes no value, but has \"%s\"", option->name, text)
                    : store(option, NULL, values, err);
    if (!text) {
        const char *next = *i + 1 < argc ? argv[*i + 1] : NULL;
        if (!next || strcmp(next, "--") == 0 || find_flag(spec, next, strcspn(next, "="), &next_row))
            return lb_fail(err, LB_EINVAL, "%s needs a value", option->name);
        text = next;
        ++*i;
    }
    return store(option, text, values, err);
}

static lb_status read_operand(const lb_arg_spec *spec, const char *word, void *values, lb_error *err)
{
    bool *given = ((lb_common_args *)values)->given;
    for (size_t i = 0; i < spec->count; i++) {
        const lb_arg *option = &spec->options[i];
        if (option->kind == LB_ARG_OPERANDS || (option->kind == LB_ARG_OPERAND && !given[i])) {
            given[i] = true;
            return store(option, word, values, err);
        }
    }
    return lb_fail(err, LB_EINVAL, "\"%s\" is one word too many", word);
}

static lb_status check_required(const lb_arg_spec *spec, const void *values, lb_error *err)
{
    const bool *given = ((const lb_common_args *)values)->given;
    for (size_t i = 0; i < spec->count; i++) {
        const lb_arg *option = &spec->options[i];
        if (given[i] || option->optional)
            continue;
        if (is_operand(option))
            return lb_fail(err, LB_EINVAL, "%s is missing: %s", option->name, option->help);
        if (option->required)
            return lb_fail(err, LB_EINVAL, "%s %s is missing: %s", option->name,
                           option->value ? option->value : "N", option->help);
    }
    return LB_OK;
}

static lb_status settle_cpu(lb_common_args *common, const char *environment_cpu, lb_error *err)
{
    common->level = LB_CPU_BEST;
    if (!common->cpu && environment_cpu && *environment_cpu) {
        if (!lb_cpu_level_parse(environment_cpu, &common->level))
            return lb_fail(err, LB_EINVAL, "LB_CPU is \"%s\", which is none of " LB_CPU_NAMES,
                           environment_cpu);
        common->cpu = environment_cpu;
    } else if (common->cpu && !lb_cpu_level_parse(common->cpu, &common->level)) {
        return lb_fail(err, LB_EINVAL, "--cpu %s is not known here", common->cpu);
    }
    return LB_OK;
}

lb_status lb_args_read(const lb_arg_spec *spec, int argc, char **argv, const char *environment_cpu,
                       void *values, lb_error *err)
{
    lb_common_args *common = values;
    bool only_operands = false;
    memset(values, 0, spec->bytes);
    LB_TRY(store_presets(spec, values, err));
    for (int i = 1; i < argc; i++) {
        if (!only_operands && strcmp(argv[i], "--") == 0)
            only_operands = true;
        else if (!only_operands && argv[i][0] == '-' && argv[i][1] != '\0')
            LB_TRY(read_flag(spec, argc, argv, &i, values, err));
        else
            LB_TRY(read_operand(spec, argv[i], values, err));
        if (common->help)
            return LB_OK;
    }
    LB_TRY(check_required(spec, values, err));
    return settle_cpu(common, environment_cpu, err);
}

bool lb_args_given(const lb_arg_spec *spec, const void *values, const char *name)
{
    size_t row;
    const lb_arg *option = find_flag(spec, name, strlen(name), &row);
    return option && row < LB_ARGS_MAX && ((const lb_common_args *)values)->given[row];
}

static struct {
    lb_args_watch_fn fn;
    void *user;
} watcher;

void lb_args_watch(lb_args_watch_fn watch, void *user)
{
    watcher.fn = watch;
    watcher.user = user;
}

bool lb_args_parse(const lb_arg_spec *spec, int argc, char **argv, void *values, int *code)
{
    lb_error err;
    if (watcher.fn) {
        watcher.fn(watcher.user, spec);
        *code = LB_EXIT_DONE;
        return false;
    }
    if (lb_args_read(spec, argc, argv, getenv("LB_CPU"), values, &err) != LB_OK) {
        *code = lb_cli_misused(spec->command, err.msg);
        return false;
    }
    const lb_common_args *common = values;
    if (common->help) {
        lb_text help = {0};
        lb_args_help(spec, &help);
        if (help.data)
            fputs(help.data, stdout);
        *code = help.failed ? LB_EXIT_FAILED : LB_EXIT_DONE;
        lb_text_free(&help);
        return false;
    }
    lb_thread_set_count((unsigned)common->threads);
    return true;
}

/* ---- -h ------------------------------------------------------------------------------------------ */

const char *lb_args_value_name(const lb_arg *option)
{
    if (option->kind == LB_ARG_CHOICE)
        return option->choices;
    if (option->value)
        return option->value;
    return is_number(option) ? "N" : "TEXT";
}

static void help_row(const lb_arg *option, lb_text *out)
{
    enum { COLUMN = 30 };
    lb_text left = {0};
    lb_text_add_string(&left, "  ");
    if (option->letter)
        lb_text_add_format(&left, "-%c, ", option->letter);
    lb_text_add_string(&left, option->name);
    if (option->kind != LB_ARG_FLAG && !is_operand(option))
        lb_text_add_format(&left, " %s", lb_args_value_name(option));
    if (left.data)
        lb_text_add_format(out, "%-*s", COLUMN, left.data);
    if (left.length >= COLUMN) /* the left side is too long to share its line */
        lb_text_add_format(out, "\n%*s", COLUMN, "");
    lb_text_add_string(out, option->help);
    if (option->shown || option->preset)
        lb_text_add_format(out, " (default: %s)", option->shown ? option->shown : option->preset);
    else if (option->required)
        lb_text_add_string(out, " (needed)");
    lb_text_add_string(out, "\n");
    out->failed |= left.failed;
    lb_text_free(&left);
}

/* A flag that is found by its own name: no row before it has the same. */
static bool counts(const lb_arg_spec *spec, const lb_arg *option)
{
    size_t row = 0;
    return is_operand(option) || find_flag(spec, option->name, strlen(option->name), &row) == option;
}

const lb_arg *lb_args_row(const lb_arg_spec *spec, size_t index, lb_arg_rows which)
{
    const size_t bounds[] = {0, spec->count, rows_of(spec), rows_of(spec) + COMMON_COUNT};
    const size_t begin = which == LB_ROWS_ALL ? 0 : bounds[which];
    const size_t end = which == LB_ROWS_ALL ? bounds[3] : bounds[which + 1];
    for (size_t i = begin, seen = 0; i < end; i++) {
        const lb_arg *option = option_at(spec, i);
        if (counts(spec, option) && seen++ == index)
            return option;
    }
    return NULL;
}

static void help_shared(const lb_arg_spec *spec, lb_text *out)
{
    const lb_arg *option;
    lb_text_add_format(out, "\n%s:\n", spec->shared->title);
    for (size_t i = 0; (option = lb_args_row(spec, i, LB_ROWS_SHARED)) != NULL; i++)
        help_row(option, out);
}

void lb_args_help(const lb_arg_spec *spec, lb_text *out)
{
    lb_text_add_format(out, "usage: lowbit %s", spec->command);
    for (size_t i = 0; i < spec->count; i++) {
        const lb_arg *option = &spec->options[i];
        if (is_operand(option))
            lb_text_add_format(out, option->optional ? " [%s%s]" : " %s%s", option->name,
                               option->kind == LB_ARG_OPERANDS ? "..." : "");
        else if (option->required && option->letter)
            lb_text_add_format(out, " -%c %s", option->letter, lb_args_value_name(option));
        else if (option->required)
            lb_text_add_format(out, " %s %s", option->name, lb_args_value_name(option));
    }
    lb_text_add_format(out, " [flags]\n\n%s\n\n", spec->summary);
    for (size_t i = 0; i < spec->count; i++)
        help_row(&spec->options[i], out);
    if (spec->shared)
        help_shared(spec, out);
    lb_text_add_string(out, "\nCommon flags:\n");
    for (size_t i = 0; i < COMMON_COUNT; i++)
        help_row(&common_options[i], out);
    if (spec->notes)
        lb_text_add_format(out, "\n%s\n", spec->notes);
    lb_text_add_format(out, "\nExample:\n  %s\n", spec->example);
}
