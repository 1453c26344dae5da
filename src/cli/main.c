/* SPDX-License-Identifier: MIT
 * The command: one table, one file per row. */
#include <stdio.h>
#include <string.h>

#include "cli/command.h"
#include "cli/output.h"
#include "cli/suggest.h"

static const lb_command commands[] = {
    {"quantize", "makes a model small: the main job", cmd_quantize},
    {"eval", "perplexity on a text, and divergence from a reference", cmd_eval},
    {"tasks", "multiple choice, last words and sums, as the field scores them", cmd_tasks},
    {"export", "other tools' files: GGUF, GPTQ, AWQ, AutoRound, compressed-tensors", cmd_export},
    {"formats", "how well number formats keep numbers, and what they cost in hardware", cmd_formats},
    {"study", "integer against floating-point formats on a model", cmd_study},
    {"inspect", "what a model holds: tensors, sizes, bits per weight", cmd_inspect},
    {"run", "continues a text", cmd_run},
    {"chat", "a conversation, in the model's own chat template", cmd_chat},
    {"serve", "answers OpenAI's clients over HTTP, with a small chat page", cmd_serve},
    {"train", "trains a small model from text", cmd_train},
    {"average", "the mean of checkpoints, weight by weight", cmd_average},
    {"robustness", "what training does to quantization: every checkpoint of a run, quantized",
     cmd_robustness},
    {"bench", "how fast a model runs here, next to the speed of memory", cmd_bench},
};
enum { COMMAND_COUNT = sizeof commands / sizeof *commands };

static int print_overview(FILE *to)
{
    fputs("usage: lowbit COMMAND [MODEL] [flags]\n\n"
          "Makes language models 2 to 8 bits per weight, measures what that costs, and runs them.\n\n",
          to);
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].summary);
    fputs("\nMODEL is a Hugging Face folder (GPTQ, AWQ, AutoRound and compressed-tensors included),\n"
          "a folder that lowbit wrote, or a GGUF file.\n"
          "lowbit COMMAND -h shows the flags of a command and an example; lowbit --version, the version.\n",
          to);
    return to == stdout ? LB_EXIT_DONE : LB_EXIT_USAGE;
}

static const lb_command *find_command(const char *name)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    }
    return NULL;
}

static int unknown_command(const char *name)
{
    const char *best = NULL;
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        best = lb_suggest(name, best, commands[i].name);
    lb_error err;
    if (best)
        lb_fail(&err, LB_EINVAL, "unknown command %s; did you mean %s?", name, best);
    else
        lb_fail(&err, LB_EINVAL, "unknown command %s", name);
    fprintf(stderr, "lowbit: %s (see: lowbit help)\n", err.msg);
    return LB_EXIT_USAGE;
}

static int help(const char *name)
{
    if (!name)
        return print_overview(stdout);
    const lb_command *row = find_command(name);
    char row_name[32], flag[] = "-h";
    if (!row)
        return unknown_command(name);
    snprintf(row_name, sizeof row_name, "%s", row->name);
    return row->run(2, (char *[]){row_name, flag, NULL});
}

static int dispatch(int argc, char **argv)
{
    if (argc < 2)
        return print_overview(stderr);
    const char *name = argv[1];
    if (strcmp(name, "help") == 0)
        return help(argc > 2 ? argv[2] : NULL);
    if (strcmp(name, "-h") == 0 || strcmp(name, "--help") == 0)
        return print_overview(stdout);
    if (strcmp(name, "--version") == 0) {
        puts("lowbit " LB_VERSION);
        return LB_EXIT_DONE;
    }
    if (strcmp(name, "reference") == 0)
        return cmd_reference(argc - 1, argv + 1, commands, COMMAND_COUNT);
    const lb_command *row = find_command(name);
    return row ? row->run(argc - 1, argv + 1) : unknown_command(name);
}

int main(int argc, char **argv)
{
    lb_error err;
    lb_output_start();
    int code = dispatch(argc, argv);
    if (lb_output_flush(&err) != LB_OK && code == LB_EXIT_DONE) {
        fprintf(stderr, "lowbit: %s\n", err.msg);
        return LB_EXIT_FAILED;
    }
    return code;
}
