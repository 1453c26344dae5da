/* SPDX-License-Identifier: MIT
 * Scripts by which bash, zsh and fish complete commands, flags, values, formats and files. */
#include "cli/reference.h"

#include <string.h>

#include "lowbit/formats.h"

static bool is_operand(const lb_arg *option)
{
    return option->kind == LB_ARG_OPERAND || option->kind == LB_ARG_OPERANDS;
}

/* By what help calls the value. */
lb_hint lb_hint_of(const lb_arg *option)
{
    static const struct {
        const char *name;
        lb_hint hint;
    } hints[] = {{"FORMAT", LB_HINT_FORMAT},   {"FORMAT,...", LB_HINT_FORMATS},
                 {"LIST", LB_HINT_FORMATS},    {"PATTERN=FORMAT", LB_HINT_RULE},
                 {"FILE", LB_HINT_PATH},       {"FILE.svg", LB_HINT_PATH},
                 {"FILE.html", LB_HINT_PATH},  {"FOLDER", LB_HINT_PATH},
                 {"OUT", LB_HINT_PATH},        {"RUN", LB_HINT_PATH},
                 {"MODEL", LB_HINT_PATH},      {"CHECKPOINT", LB_HINT_PATH},
                 {"MODEL:NAME", LB_HINT_PATH}, {"MODEL:LAYER", LB_HINT_PATH}};
    if (is_operand(option))
        return LB_HINT_PATH;
    if (option->kind == LB_ARG_CHOICE)
        return LB_HINT_CHOICES;
    for (size_t i = 0; option->value && i < sizeof hints / sizeof *hints; i++)
        if (strcmp(option->value, hints[i].name) == 0)
            return hints[i].hint;
    return LB_HINT_NONE;
}

/* "a|b" as "a b". */
static void add_choices(const char *choices, lb_text *out)
{
    for (const char *c = choices; *c; c++)
        lb_text_add(out, *c == '|' ? " " : c, 1);
}

static void add_formats(lb_text *out)
{
    for (size_t i = 0; lb_format_listed(i); i++)
        lb_text_add_format(out, "%s%s", i ? " " : "", lb_format_listed(i));
}

static void add_flag(const lb_arg *option, const char *between, lb_text *out)
{
    if (option->letter)
        lb_text_add_format(out, "-%c%s", option->letter, between);
    lb_text_add_string(out, option->name);
}

/* ---- bash -------------------------------------------------------------------------------------------- */

static void bash_case(const lb_command_page *page, lb_text *out)
{
    const lb_arg *option;
    lb_text_add_format(out, "    %s)\n        flags=\"", page->command->name);
    for (size_t i = 0; (option = lb_args_row(page->spec, i, LB_ROWS_ALL)) != NULL; i++) {
        if (is_operand(option))
            continue;
        add_flag(option, " ", out);
        lb_text_add_string(out, " ");
    }
    lb_text_add_string(out, "\"\n        case $flag in\n");
    for (size_t i = 0; (option = lb_args_row(page->spec, i, LB_ROWS_ALL)) != NULL; i++) {
        static const char *const actions[] = {[LB_HINT_NONE] = "none",
                                              [LB_HINT_PATH] = "path",
                                              [LB_HINT_FORMAT] = "format",
                                              [LB_HINT_FORMATS] = "formats",
                                              [LB_HINT_RULE] = "rule"};
        if (is_operand(option) || option->kind == LB_ARG_FLAG)
            continue;
        lb_text_add_string(out, "        ");
        add_flag(option, " | ", out);
        if (option->kind == LB_ARG_CHOICE) {
            lb_text_add_string(out, ") value=words words=\"");
            add_choices(option->choices, out);
            lb_text_add_string(out, "\" ;;\n");
        } else {
            lb_text_add_format(out, ") value=%s ;;\n", actions[lb_hint_of(option)]);
        }
    }
    lb_text_add_string(out, "        esac\n        ;;\n");
}

/* Words are split at "=" and ":" by bash: "--format=int4" is three words here, and is joined again. */
static const char bash_head[] =
    "# bash completion for lowbit: made by lowbit reference bash\n"
    "_lowbit() {\n"
    "    local current=${COMP_WORDS[COMP_CWORD]} flag=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]}\n"
    "    local flags= value= words= prefix=\n"
    "    COMPREPLY=()\n"
    "    [ \"$current\" != = ] || current=\n"
    "    if [ \"$flag\" = = ] && [ \"$COMP_CWORD\" -ge 3 ]; then flag=${COMP_WORDS[COMP_CWORD-2]}; fi\n";

static const char bash_tail[] =
    "    case $value in\n"
    "    words) COMPREPLY=($(compgen -W \"$words\" -- \"$current\")) ;;\n"
    "    format) COMPREPLY=($(compgen -W \"$formats\" -- \"$current\")) ;;\n"
    "    formats)\n"
    "        case $current in *,*) prefix=${current%,*}, ;; esac\n"
    "        COMPREPLY=($(compgen -P \"$prefix\" -W \"$formats\" -- \"${current##*,}\"))\n"
    "        compopt -o nospace 2>/dev/null\n"
    "        ;;\n"
    "    rule)\n"
    "        if [ \"${COMP_WORDS[COMP_CWORD-1]}\" = = ]; then\n"
    "            COMPREPLY=($(compgen -W \"$formats\" -- \"$current\"))\n"
    "        fi\n"
    "        ;;\n"
    "    path) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- \"$current\") ;;\n"
    "    none) ;;\n"
    "    *)\n"
    "        if [[ $current == -* ]]; then\n"
    "            COMPREPLY=($(compgen -W \"$flags\" -- \"$current\"))\n"
    "        else\n"
    "            compopt -o filenames 2>/dev/null\n"
    "            mapfile -t COMPREPLY < <(compgen -f -- \"$current\")\n"
    "        fi\n"
    "        ;;\n"
    "    esac\n"
    "}\n"
    "complete -F _lowbit lowbit\n";

void lb_complete_bash(const lb_command_page *pages, size_t count, lb_text *out)
{
    lb_text_add_string(out, bash_head);
    lb_text_add_string(out, "    local formats=\"");
    add_formats(out);
    lb_text_add_string(out, "\" commands=\"help");
    for (size_t i = 0; i < count; i++)
        lb_text_add_format(out, " %s", pages[i].command->name);
    lb_text_add_string(
        out, "\"\n    # A rule's flag is one word further back: --layer PATTERN = FORMAT\n"
             "    if [ \"$flag\" != --layer ] && [ \"$COMP_CWORD\" -ge 4 ] &&\n"
             "        [ \"${COMP_WORDS[COMP_CWORD-1]}\" = = ] && [ \"${COMP_WORDS[COMP_CWORD-3]}\" = "
             "--layer ]; then flag=--layer; fi\n"
             "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
             "        COMPREPLY=($(compgen -W \"$commands --help --version\" -- \"$current\"))\n"
             "        return\n"
             "    fi\n"
             "    case $command in\n"
             "    help) COMPREPLY=($(compgen -W \"$commands\" -- \"$current\")); return ;;\n");
    for (size_t i = 0; i < count; i++)
        bash_case(&pages[i], out);
    lb_text_add_string(out, "    esac\n");
    lb_text_add_string(out, bash_tail);
}

/* ---- zsh --------------------------------------------------------------------------------------------- */

/* Inside a single-quoted specification of _arguments: its own brackets and colons, and the shell's quote. */
static void add_zsh(const char *text, lb_text *out)
{
    for (const char *c = text; *c; c++) {
        if (*c == '\'')
            lb_text_add_string(out, "'\\''");
        else if (*c == '[' || *c == ']' || *c == ':' || *c == '\\')
            lb_text_add_format(out, "\\%c", *c);
        else
            lb_text_add(out, c, 1);
    }
}

static void zsh_value(const lb_arg *option, lb_text *out)
{
    lb_text_add_string(out, ":");
    add_zsh(option->kind == LB_ARG_CHOICE ? "value" : lb_args_value_name(option), out);
    switch (lb_hint_of(option)) {
    case LB_HINT_CHOICES:
        lb_text_add_string(out, ":(");
        add_choices(option->choices, out);
        lb_text_add_string(out, ")");
        break;
    case LB_HINT_PATH:
        lb_text_add_string(out, ":_files");
        break;
    case LB_HINT_FORMAT:
        lb_text_add_string(out, ":_lowbit_format");
        break;
    case LB_HINT_FORMATS:
        lb_text_add_string(out, ":_lowbit_formats");
        break;
    case LB_HINT_RULE:
        lb_text_add_string(out, ":_lowbit_rule");
        break;
    case LB_HINT_NONE:
        lb_text_add_string(out, ": ");
        break;
    }
}

static void zsh_option(const lb_arg *option, lb_text *out)
{
    if (is_operand(option)) {
        lb_text_add_format(out, " \\\n            '%s",
                           option->kind == LB_ARG_OPERANDS ? "*"
                           : option->optional              ? ":"
                                                           : "");
        lb_text_add_format(out, ":%s:_files'", option->name);
        return;
    }
    /* A value may follow "=" or be the next word. */
    const char *many = option->kind == LB_ARG_LIST ? "*" : "",
               *equals = option->kind == LB_ARG_FLAG ? "" : "=";
    if (option->letter && !*many)
        lb_text_add_format(out, " \\\n            '(-%c %s)'{-%c,%s%s}'", option->letter, option->name,
                           option->letter, option->name, equals);
    else if (option->letter)
        lb_text_add_format(out, " \\\n            '*'{-%c,%s%s}'", option->letter, option->name, equals);
    else
        lb_text_add_format(out, " \\\n            '%s%s%s", many, option->name, equals);
    lb_text_add_string(out, "[");
    add_zsh(option->help, out);
    lb_text_add_string(out, "]");
    if (option->kind != LB_ARG_FLAG)
        zsh_value(option, out);
    lb_text_add_string(out, "'");
}

void lb_complete_zsh(const lb_command_page *pages, size_t count, lb_text *out)
{
    const lb_arg *option;
    lb_text_add_string(out, "#compdef lowbit\n# made by lowbit reference zsh\n_lowbit_names=(");
    add_formats(out);
    lb_text_add_string(out, ")\n"
                            "_lowbit_format() { compadd -a _lowbit_names }\n"
                            "_lowbit_formats() { compset -P '*,'; compadd -S '' -a _lowbit_names }\n"
                            "_lowbit_rule() { compset -P '*=' && compadd -a _lowbit_names }\n"
                            "_lowbit() {\n"
                            "    local -a commands\n"
                            "    commands=(\n        'help:shows the commands, or the flags of one'\n");
    for (size_t i = 0; i < count; i++) {
        lb_text_add_format(out, "        '%s:", pages[i].command->name);
        add_zsh(pages[i].command->summary, out);
        lb_text_add_string(out, "'\n");
    }
    lb_text_add_string(out, "    )\n"
                            "    if (( CURRENT == 2 )); then\n"
                            "        _describe command commands\n"
                            "        return\n"
                            "    fi\n"
                            "    local command=$words[2]\n"
                            "    shift words\n"
                            "    (( CURRENT-- ))\n"
                            "    case $command in\n"
                            "    help) _describe command commands ;;\n");
    for (size_t i = 0; i < count; i++) {
        lb_text_add_format(out, "    %s)\n        _arguments -s", pages[i].command->name);
        for (size_t k = 0; (option = lb_args_row(pages[i].spec, k, LB_ROWS_ALL)) != NULL; k++)
            zsh_option(option, out);
        lb_text_add_string(out, "\n        ;;\n");
    }
    lb_text_add_string(out, "    esac\n}\n_lowbit \"$@\"\n");
}

/* ---- fish -------------------------------------------------------------------------------------------- */

static void add_fish(const char *text, lb_text *out)
{
    lb_text_add_string(out, "'");
    for (const char *c = text; *c; c++) {
        if (*c == '\'' || *c == '\\')
            lb_text_add_string(out, "\\");
        lb_text_add(out, c, 1);
    }
    lb_text_add_string(out, "'");
}

static void fish_option(const char *command, const lb_arg *option, lb_text *out)
{
    lb_text_add_format(out, "complete -c lowbit -n '__fish_seen_subcommand_from %s' -l %s", command,
                       option->name + 2);
    if (option->letter)
        lb_text_add_format(out, " -s %c", option->letter);
    switch (option->kind == LB_ARG_FLAG ? LB_HINT_NONE : lb_hint_of(option)) {
    case LB_HINT_CHOICES:
        lb_text_add_string(out, " -x -a '");
        add_choices(option->choices, out);
        lb_text_add_string(out, "'");
        break;
    case LB_HINT_PATH:
        lb_text_add_string(out, " -r -F");
        break;
    case LB_HINT_FORMAT:
        lb_text_add_string(out, " -x -a '$__lowbit_formats'");
        break;
    case LB_HINT_FORMATS:
        lb_text_add_string(out, " -x -a '(__fish_append , $__lowbit_formats)'");
        break;
    case LB_HINT_RULE:
    case LB_HINT_NONE:
        lb_text_add_string(out, option->kind == LB_ARG_FLAG ? "" : " -x");
        break;
    }
    lb_text_add_string(out, " -d ");
    add_fish(option->help, out);
    lb_text_add_string(out, "\n");
}

void lb_complete_fish(const lb_command_page *pages, size_t count, lb_text *out)
{
    const lb_arg *option;
    lb_text_add_string(
        out, "# fish completion for lowbit: made by lowbit reference fish\nset -g __lowbit_formats ");
    add_formats(out);
    lb_text_add_string(out, "\nset -l commands help");
    for (size_t i = 0; i < count; i++)
        lb_text_add_format(out, " %s", pages[i].command->name);
    lb_text_add_string(
        out,
        "\ncomplete -c lowbit -n \"not __fish_seen_subcommand_from $commands\" -f\n"
        "complete -c lowbit -n \"not __fish_seen_subcommand_from $commands\" -a help -d 'the commands'\n");
    for (size_t i = 0; i < count; i++) {
        lb_text_add_format(out,
                           "complete -c lowbit -n \"not __fish_seen_subcommand_from $commands\" -a %s -d ",
                           pages[i].command->name);
        add_fish(pages[i].command->summary, out);
        lb_text_add_string(out, "\n");
        for (size_t k = 0; (option = lb_args_row(pages[i].spec, k, LB_ROWS_ALL)) != NULL; k++)
            if (!is_operand(option))
                fish_option(pages[i].command->name, option, out);
    }
}
