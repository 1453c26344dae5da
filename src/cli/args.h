/* SPDX-License-Identifier: MIT
 *
 * Flags by declaration. A command lists what it takes; this parses argv into a struct, applies the
 * common flags, prints -h, and turns every misuse into one sentence and exit status 2.
 *
 * A new command is one file, one prototype in command.h and one row in main.c's table:
 *
 *     typedef struct score_args {
 *         lb_common_args common; // first, always
 *         const char *model, *text;
 *         size_t ctx;
 *         bool exact;
 *         lb_arg_list layers;
 *     } score_args;
 *
 *     static const lb_arg options[] = {
 *         {"MODEL", LB_ARG_OPERAND, offsetof(score_args, model), .help = "the model to score"},
 *         {"--text", LB_ARG_STRING, offsetof(score_args, text), .letter = 't', .value = "FILE",
 *          .required = true, .help = "the text to score it on"},
 *         {"--ctx", LB_ARG_SIZE, offsetof(score_args, ctx), .low = 2, .high = 1 << 20,
 *          .preset = "512", .help = "tokens in a window"},
 *         {"--exact", LB_ARG_FLAG, offsetof(score_args, exact), .help = "do not round"},
 *         {"--layer", LB_ARG_LIST, offsetof(score_args, layers), .value = "PATTERN=FORMAT",
 *          .help = "a format for some layers (may be repeated)"},
 *     };
 *     static const lb_arg_spec spec = {"score", "Scores a model on a text.", options,
 *         sizeof options / sizeof *options, sizeof(score_args),
 *         "lowbit score ./model --text notes.txt --ctx 1024"};
 *
 *     int cmd_score(int argc, char **argv)
 *     {
 *         score_args args;
 *         int code;
 *         if (!lb_args_parse(&spec, argc, argv, &args, &code))
 *             return code;
 *         ...
 *     }
 */
#ifndef LB_CLI_ARGS_H
#define LB_CLI_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cpu.h"
#include "base/error.h"
#include "base/text.h"

/* What an option stores at its offset. */
typedef enum lb_arg_kind {
    LB_ARG_FLAG,    /* bool */
    LB_ARG_STRING,  /* const char *, NULL when not given and without preset */
    LB_ARG_SIZE,    /* size_t in [low, high] */
    LB_ARG_DOUBLE,  /* double in [low, high] */
    LB_ARG_CHOICE,  /* const char *, one of `choices` */
    LB_ARG_LIST,    /* lb_arg_list: every occurrence is kept */
    LB_ARG_OPERAND, /* const char *: a word without a flag, in the order of the table */
    LB_ARG_OPERANDS /* lb_arg_list: the words that are left */
} lb_arg_kind;

typedef struct lb_arg {
    const char *name; /* "--ctx", or "MODEL" for operands */
    lb_arg_kind kind;
    size_t at;           /* offsetof the values' struct */
    char letter;         /* 'o' for -o; 0: none */
    const char *value;   /* what help calls the value: "FILE"; N for numbers when NULL */
    const char *choices; /* "fast|default|best" */
    double low, high;    /* numbers: accepted range; high 0 means no upper bound */
    const char *preset;  /* the default, as a user would type it */
    const char *shown;   /* what help says of the default instead: "the model's own" */
    bool required;       /* flags: must be given (operands must, unless `optional`) */
    bool optional;       /* operands: may be left out; NULL or no items then */
    const char *help; /* lower-case, no full stop */
} lb_arg;

enum { LB_ARG_LIST_MAX = 64, LB_ARGS_MAX = 96 };

typedef struct lb_arg_list {
    const char *items[LB_ARG_LIST_MAX]; /* point into argv */
    size_t count;
} lb_arg_list;

/* The flags that every command has; the first member of every command's values. */
typedef struct lb_common_args {
    size_t threads; /* 0: the cores that this process may use */
    size_t seed;
    const char *cpu;    /* as typed; NULL when neither --cpu nor LB_CPU said anything */
    lb_cpu_level level; /* cap for lb_kernels_get */
    bool quiet, verbose, json, help;
    bool given[LB_ARGS_MAX]; /* which rows of the spec's table were typed, shared ones after the command's own */
} lb_common_args;

/* Rows that several commands have. They store into the beginning of the values' struct. */
typedef struct lb_arg_group {
    const char *title; /* in help */
    const lb_arg *options;
    size_t count;
} lb_arg_group;

typedef struct lb_arg_spec {
    const char *command;
    const char *summary; /* a sentence */
    const lb_arg *options;
    size_t count;
    size_t bytes; /* of the values' struct */
    const char *example;
    const char *notes; /* more lines of help, may be NULL */
    const lb_arg_group *shared; /* rows after the command's own, which win over those of the same name; NULL: none */
} lb_arg_spec;

/* What a command calls first: parses, and sets the number of threads. False means that the command
 * must return *code at once: 0 after -h, 2 after a misuse, whose sentence is on stderr. */
bool lb_args_parse(const lb_arg_spec *spec, int argc, char **argv, void *values, int *code);

/* Whether this flag was typed, whatever its value. */
bool lb_args_given(const lb_arg_spec *spec, const void *values, const char *name);

/* The parser alone, without printing and without effects: LB_EINVAL with the sentence. With -h,
 * common.help is set and nothing else is required. environment_cpu is LB_CPU's value or NULL. */
lb_status lb_args_read(const lb_arg_spec *spec, int argc, char **argv, const char *environment_cpu,
                       void *values, lb_error *err);

/* The text of -h. */
void lb_args_help(const lb_arg_spec *spec, lb_text *out);

/* What a command takes, row by row, for other texts than that of -h: NULL past the end. Shared rows of which the
 * command has its own are left out. */
typedef enum lb_arg_rows { LB_ROWS_OWN, LB_ROWS_SHARED, LB_ROWS_COMMON, LB_ROWS_ALL } lb_arg_rows;
const lb_arg *lb_args_row(const lb_arg_spec *spec, size_t index, lb_arg_rows which);

/* What help calls a value: "FILE", "N", "a|b". */
const char *lb_args_value_name(const lb_arg *option);

/* From now on lb_args_parse only shows what it was given, and has the command return at once. NULL: no more. */
typedef void (*lb_args_watch_fn)(void *user, const lb_arg_spec *spec);
void lb_args_watch(lb_args_watch_fn watch, void *user);

#endif
