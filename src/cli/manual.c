/* SPDX-License-Identifier: MIT
 * Manual pages in the man(7) macros, which man-db and mandoc both take. */
#include "cli/reference.h"

#include <string.h>

/* Of the version that the pages are about: a build's own day would make every build another one. */
#define PAGE_DATE "2026-11-22"

/* Text of ours as roff: backslashes, and what would begin a line with a request; hyphens that are typed. */
static void add_escaped(lb_text *out, const char *text)
{
    bool at_start = true;
    for (const char *c = text; *c; c++) {
        if (at_start && (*c == '.' || *c == '\''))
            lb_text_add_string(out, "\\&");
        if (*c == '\\')
            lb_text_add_string(out, "\\e");
        else if (*c == '-')
            lb_text_add_string(out, "\\-");
        else if (*c == '~')
            lb_text_add_string(out, "\\(ti");
        else if (*c == '^')
            lb_text_add_string(out, "\\(ha");
        else
            lb_text_add(out, c, 1);
        at_start = *c == '\n';
    }
}

static void add_heading(lb_text *out, const char *name, const char *about)
{
    lb_text_add_format(out, ".\\\" Made by lowbit reference from the tables that print -h.\n.TH ");
    for (const char *c = name; *c; c++) {
        const char upper = *c >= 'a' && *c <= 'z' ? (char)(*c - 'a' + 'A') : *c;
        lb_text_add(out, &upper, 1);
    }
    lb_text_add_string(out, " 1 " PAGE_DATE " \"lowbit " LB_VERSION "\" \"User Commands\"\n.SH NAME\n");
    add_escaped(out, name);
    lb_text_add_string(out, " \\- ");
    add_escaped(out, about);
    lb_text_add_string(out, "\n");
}

static bool is_operand(const lb_arg *option)
{
    return option->kind == LB_ARG_OPERAND || option->kind == LB_ARG_OPERANDS;
}

static void add_value(const lb_arg *option, lb_text *out)
{
    if (option->kind == LB_ARG_FLAG)
        return;
    lb_text_add_string(out, " \\fI");
    add_escaped(out, lb_args_value_name(option));
    lb_text_add_string(out, "\\fR");
}

static void add_option(const lb_arg *option, lb_text *out)
{
    lb_text_add_string(out, ".TP\n");
    if (is_operand(option)) {
        lb_text_add_string(out, "\\fI");
        add_escaped(out, option->name);
        lb_text_add_string(out, option->kind == LB_ARG_OPERANDS ? "\\fR..." : "\\fR");
    } else {
        if (option->letter)
            lb_text_add_format(out, "\\fB\\-%c\\fR, ", option->letter);
        lb_text_add_string(out, "\\fB");
        add_escaped(out, option->name);
        lb_text_add_string(out, "\\fR");
        add_value(option, out);
    }
    lb_text_add_string(out, "\n");
    add_escaped(out, option->help);
    if (option->shown || option->preset) {
        lb_text_add_string(out, " (default: ");
        add_escaped(out, option->shown ? option->shown : option->preset);
        lb_text_add_string(out, ")");
    } else if (option->required && !is_operand(option)) {
        lb_text_add_string(out, " (needed)");
    }
    lb_text_add_string(out, "\n");
}

static void add_synopsis(const lb_arg_spec *spec, lb_text *out)
{
    lb_text_add_format(out, "\\fBlowbit %s\\fR", spec->command);
    for (size_t i = 0; i < spec->count; i++) {
        const lb_arg *option = &spec->options[i];
        if (is_operand(option)) {
            lb_text_add_string(out, option->optional ? " [\\fI" : " \\fI");
            add_escaped(out, option->name);
            lb_text_add_string(out, option->kind == LB_ARG_OPERANDS ? "\\fR..." : "\\fR");
            lb_text_add_string(out, option->optional ? "]" : "");
        } else if (option->required) {
            lb_text_add_string(out, " \\fB");
            if (option->letter)
                lb_text_add_format(out, "\\-%c", option->letter);
            else
                add_escaped(out, option->name);
            lb_text_add_string(out, "\\fR");
            add_value(option, out);
        }
    }
    lb_text_add_string(out, " [\\fIflags\\fR]\n");
}

static void add_example(const char *example, lb_text *out)
{
    lb_text_add_string(out, ".nf\n.RS 4\n");
    add_escaped(out, example);
    lb_text_add_string(out, "\n.RE\n.fi\n");
}

static void add_files_and_status(lb_text *out)
{
    lb_text_add_string(
        out, ".SH ENVIRONMENT\n.TP\n\\fBLB_CPU\\fR\nwhat \\fB\\-\\-cpu\\fR is where it is not given\n"
             ".SH EXIT STATUS\n.TP\n0\ndone\n.TP\n1\nit could not be done; one sentence on standard "
             "error says why\n.TP\n2\nwrong usage\n.TP\n130\ninterrupted; what was finished is kept\n");
}

void lb_manual_page(const lb_command_page *page, const lb_command_page *pages, size_t count, lb_text *out)
{
    const lb_arg_spec *spec = page->spec;
    const lb_arg *option;
    lb_text name = {0};
    lb_text_add_format(&name, "lowbit-%s", spec->command);
    add_heading(out, name.data ? name.data : "lowbit", page->command->summary);
    lb_text_free(&name);
    lb_text_add_string(out, ".SH SYNOPSIS\n");
    add_synopsis(spec, out);
    lb_text_add_string(out, ".SH DESCRIPTION\n");
    add_escaped(out, spec->summary);
    lb_text_add_string(out, "\n");
    if (spec->notes) {
        lb_text_add_string(out, ".PP\n.nf\n");
        add_escaped(out, spec->notes);
        lb_text_add_string(out, "\n.fi\n");
    }
    lb_text_add_string(out, ".SH OPTIONS\n");
    for (size_t i = 0; (option = lb_args_row(spec, i, LB_ROWS_OWN)) != NULL; i++)
        add_option(option, out);
    if (spec->shared) {
        lb_text_add_string(out, ".SS ");
        add_escaped(out, spec->shared->title);
        lb_text_add_string(out, "\n");
        for (size_t i = 0; (option = lb_args_row(spec, i, LB_ROWS_SHARED)) != NULL; i++)
            add_option(option, out);
    }
    lb_text_add_string(out, ".SS Common flags\n");
    for (size_t i = 0; (option = lb_args_row(spec, i, LB_ROWS_COMMON)) != NULL; i++)
        add_option(option, out);
    add_files_and_status(out);
    lb_text_add_string(out, ".SH EXAMPLES\n");
    add_example(spec->example, out);
    lb_text_add_string(out, ".SH SEE ALSO\n.BR lowbit (1)");
    for (size_t i = 0; i < count; i++)
        if (&pages[i] != page)
            lb_text_add_format(out, ",\n.BR lowbit\\-%s (1)", pages[i].spec->command);
    lb_text_add_string(out, "\n");
}

void lb_manual_overview(const lb_command_page *pages, size_t count, lb_text *out)
{
    add_heading(out, "lowbit", "language models at 2 to 8 bits per weight, on a CPU");
    lb_text_add_string(
        out, ".SH SYNOPSIS\n\\fBlowbit\\fR \\fICOMMAND\\fR [\\fIMODEL\\fR] [\\fIflags\\fR]\n"
             ".SH DESCRIPTION\nMakes language models 2 to 8 bits per weight, measures what that costs, "
             "and runs them.\n.PP\n\\fIMODEL\\fR is a Hugging Face folder (GPTQ, AWQ, AutoRound and "
             "compressed\\-tensors included), a folder that lowbit wrote, or a GGUF file. Nobody has "
             "to say which.\n.PP\nData goes to standard output, everything else to standard error.\n"
             ".SH COMMANDS\n");
    for (size_t i = 0; i < count; i++) {
        lb_text_add_format(out, ".TP\n\\fBlowbit\\-%s\\fR(1)\n", pages[i].command->name);
        add_escaped(out, pages[i].command->summary);
        lb_text_add_string(out, "\n");
    }
    add_files_and_status(out);
    lb_text_add_string(out, ".SH EXAMPLES\n");
    for (size_t i = 0; i < count; i++)
        add_example(pages[i].spec->example, out);
    lb_text_add_string(out, ".SH SEE ALSO\n");
    for (size_t i = 0; i < count; i++)
        lb_text_add_format(out, ".BR lowbit\\-%s (1)%s\n", pages[i].spec->command, i + 1 < count ? "," : "");
}
