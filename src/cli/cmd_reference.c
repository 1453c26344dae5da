/* SPDX-License-Identifier: MIT
 * lowbit reference: prints manual pages and shell completion, for the build that installs them. Not in `lowbit help`,
 * since people have no use for it. */
#include <stdio.h>
#include <string.h>

#include "cli/output.h"
#include "cli/reference.h"

enum { MOST_COMMANDS = 64 };

static void keep_spec(void *user, const lb_arg_spec *spec)
{
    *(const lb_arg_spec **)user = spec;
}

/* Every command hands its table to the parser before it does anything: that is where it is seen. */
static void find_specs(const lb_command *commands, size_t count, lb_command_page *pages)
{
    for (size_t i = 0; i < count; i++) {
        char name[32];
        snprintf(name, sizeof name, "%s", commands[i].name);
        pages[i].command = &commands[i];
        lb_args_watch(keep_spec, &pages[i].spec);
        commands[i].run(1, (char *[]){name, NULL});
    }
    lb_args_watch(NULL, NULL);
}

static bool print_man(const char *name, const lb_command_page *pages, size_t count, lb_text *out)
{
    if (strcmp(name, "lowbit") == 0) {
        lb_manual_overview(pages, count, out);
        return true;
    }
    for (size_t i = 0; i < count; i++) {
        if (strcmp(name, pages[i].command->name) == 0) {
            lb_manual_page(&pages[i], pages, count, out);
            return true;
        }
    }
    return false;
}

int cmd_reference(int argc, char **argv, const lb_command *commands, size_t count)
{
    lb_command_page pages[MOST_COMMANDS] = {0};
    lb_text out = {0};
    const char *what = argc > 1 ? argv[1] : "";
    bool known = count <= MOST_COMMANDS;
    if (known)
        find_specs(commands, count, pages);
    if (known && strcmp(what, "man") == 0 && argc == 3)
        known = print_man(argv[2], pages, count, &out);
    else if (known && strcmp(what, "commands") == 0 && argc == 2)
        for (size_t i = 0; i < count; i++)
            lb_text_add_format(&out, "%s\n", commands[i].name);
    else if (known && strcmp(what, "bash") == 0 && argc == 2)
        lb_complete_bash(pages, count, &out);
    else if (known && strcmp(what, "zsh") == 0 && argc == 2)
        lb_complete_zsh(pages, count, &out);
    else if (known && strcmp(what, "fish") == 0 && argc == 2)
        lb_complete_fish(pages, count, &out);
    else
        known = false;
    if (!known) {
        fputs("lowbit reference: wants man lowbit, man COMMAND, commands, bash, zsh or fish\n", stderr);
        lb_text_free(&out);
        return LB_EXIT_USAGE;
    }
    if (out.data && !out.failed)
        fputs(out.data, stdout);
    const int code = out.failed ? LB_EXIT_FAILED : LB_EXIT_DONE;
    lb_text_free(&out);
    return code;
}
