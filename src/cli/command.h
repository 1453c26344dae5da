/* SPDX-License-Identifier: MIT
 * A command of the command line: one row of the table in main.c, one file cmd_NAME.c. */
#ifndef LB_CLI_COMMAND_H
#define LB_CLI_COMMAND_H

#include <stddef.h>

/* What a command returns; the process exits with it. */
enum { LB_EXIT_DONE = 0, LB_EXIT_FAILED = 1, LB_EXIT_USAGE = 2, LB_EXIT_INTERRUPTED = 130 };

typedef struct lb_command {
    const char *name;
    const char *summary;               /* one line of `lowbit help` */
    int (*run)(int argc, char **argv); /* argv[0] is the command's name */
} lb_command;

int cmd_average(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_eval(int argc, char **argv);
int cmd_export(int argc, char **argv);
int cmd_formats(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
/* Not a command for people: what the build makes manuals and completion with (reference.h). */
int cmd_reference(int argc, char **argv, const lb_command *commands, size_t count);
int cmd_quantize(int argc, char **argv);
int cmd_chat(int argc, char **argv);
int cmd_robustness(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_serve(int argc, char **argv);
int cmd_study(int argc, char **argv);
int cmd_tasks(int argc, char **argv);
int cmd_train(int argc, char **argv);

#endif
