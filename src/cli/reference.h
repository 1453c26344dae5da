/* SPDX-License-Identifier: MIT
 * What the command line is, for those who do not run it: manual pages, and completion for shells. Made from the tables
 * that parse it and print -h, so that none of them can say something else. */
#ifndef LB_CLI_REFERENCE_H
#define LB_CLI_REFERENCE_H

#include "cli/args.h"
#include "cli/command.h"

/* A row of main.c's table, and what its command takes. */
typedef struct lb_command_page {
    const lb_command *command;
    const lb_arg_spec *spec;
} lb_command_page;

/* lowbit(1), with a section for each command. */
void lb_manual_overview(const lb_command_page *pages, size_t count, lb_text *out);
/* lowbit-COMMAND(1). */
void lb_manual_page(const lb_command_page *page, const lb_command_page *pages, size_t count, lb_text *out);

void lb_complete_bash(const lb_command_page *pages, size_t count, lb_text *out);
void lb_complete_zsh(const lb_command_page *pages, size_t count, lb_text *out);
void lb_complete_fish(const lb_command_page *pages, size_t count, lb_text *out);

/* What a shell offers for an option's value, or for an operand. */
typedef enum lb_hint {
    LB_HINT_NONE, /* a flag takes none; of text and numbers nothing is known */
    LB_HINT_PATH,
    LB_HINT_CHOICES,
    LB_HINT_FORMAT,
    LB_HINT_FORMATS, /* several, with commas */
    LB_HINT_RULE /* PATTERN=FORMAT */
} lb_hint;

lb_hint lb_hint_of(const lb_arg *option);

#endif
