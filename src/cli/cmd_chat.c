/* SPDX-License-Identifier: MIT
 * lowbit chat: a conversation, in the model's own chat template. What the model has already read stays
 * in memory between turns (generate.h). */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/sampling.h"

enum { MAX_LINE_BYTES = 1 << 20 };

typedef struct chat_args {
    lb_common_args common;
    const char *model, *system;
    lb_sampling_args sampling;
} chat_args;

static const lb_arg options[] = {
    {"MODEL", LB_ARG_OPERAND, offsetof(chat_args, model),
     .help = "a Hugging Face folder, a folder that lowbit wrote, or a GGUF file"},
    {"--system", LB_ARG_STRING, offsetof(chat_args, system), .value = "TEXT", .shown = "the template's own",
     .help = "what the model is told first"},
    {"--tokens", LB_ARG_SIZE, offsetof(chat_args, sampling.tokens), .letter = 'n', .high = 1 << 24,
     .preset = "0", .help = "most tokens in an answer; 0: until the model ends or the context is full"},
    LB_SAMPLING_OPTIONS(chat_args),
};
static const lb_arg_spec spec = {
    "chat",
    "Talks with a model, in the model's own chat template.",
    options,
    sizeof options / sizeof *options,
    sizeof(chat_args),
    "lowbit chat ./model --system \"Answer in one sentence.\"",
    "/clear begins anew, /exit or Ctrl-D ends. Ctrl-C stops an answer, and at the prompt ends. Where the\n"
    "context has no room for another answer, the oldest questions and answers are forgotten.",
    NULL};

typedef struct chat {
    const chat_args *args;
    lb_generator *generator;
    lb_chat_turn *turns; /* roles are literals, contents are owned */
    size_t count, room;
    bool interactive;
} chat;

static lb_status add_turn(chat *c, const char *role, const char *content, size_t length, lb_error *err)
{
    if (c->count == c->room) {
        const size_t room = 2 * c->room + 8;
        lb_chat_turn *turns = lb_grow(c->turns, c->count, room, sizeof *turns);
        if (!turns)
            return lb_fail(err, LB_ENOMEM, "no memory for turn %zu", c->count + 1);
        c->turns = turns;
        c->room = room;
    }
    char *copy = lb_strndup(content, length);
    if (!copy)
        return lb_fail(err, LB_ENOMEM, "no memory for turn %zu", c->count + 1);
    c->turns[c->count++] = (lb_chat_turn){role, copy};
    return LB_OK;
}

static void drop_turns(chat *c, size_t keep)
{
    while (c->count > keep) {
        c->count--;
        lb_free((char *)(uintptr_t)c->turns[c->count].content);
    }
}

static lb_status begin(chat *c, lb_error *err)
{
    drop_turns(c, 0);
    return c->args->system ? add_turn(c, "system", c->args->system, strlen(c->args->system), err) : LB_OK;
}

/* The answer goes to stdout as it comes, and into the conversation. */
typedef struct answer {
    lb_stream stream;
    lb_text text;
} answer;

static int on_text(void *user, const char *text, size_t length)
{
    answer *a = user;
    lb_text_add(&a->text, text, length);
    return lb_stream_text(&a->stream, text, length) || a->text.failed;
}

/* An answer that Ctrl-C cut short stays part of the conversation, as far as it came. */
static lb_status settle(chat *c, const answer *a, const lb_generate_result *result, lb_status st,
                        lb_error *err)
{
    if (a->stream.failed) {
        *err = a->stream.err;
        return a->stream.err.status;
    }
    if (a->text.failed)
        return lb_fail(err, LB_ENOMEM, "no memory for the answer");
    if (st != LB_OK && st != LB_ECANCELED)
        return st;
    fputc('\n', stdout);
    LB_TRY(lb_output_flush(err));
    if (!c->args->common.quiet && result->generated_tokens > 0)
        lb_print_timing(result);
    if (result->stop == LB_STOP_CONTEXT)
        fprintf(stderr, "lowbit chat: the context of %zu tokens is full; /clear begins anew\n",
                lb_generator_context(c->generator));
    LB_TRY(add_turn(c, "assistant", a->text.data ? a->text.data : "", a->text.length, err));
    return st;
}

/* Takes the oldest question and its answer out of the conversation; not the system's turn, nor the last question. */
static bool forget_oldest(chat *c)
{
    const size_t first = c->args->system ? 1 : 0;
    if (c->count < first + 3)
        return false;
    lb_free((char *)(uintptr_t)c->turns[first].content);
    lb_free((char *)(uintptr_t)c->turns[first + 1].content);
    c->count -= 2;
    memmove(c->turns + first, c->turns + first + 2, (c->count - first) * sizeof *c->turns);
    return true;
}

/* The conversation's ids: where they leave too little room for an answer, without its oldest turns. */
static lb_status encode_turns(chat *c, uint32_t **ids, size_t *count, lb_error *err)
{
    const size_t context = lb_generator_context(c->generator), wanted = c->args->sampling.tokens;
    const size_t room = wanted ? wanted : context / 8;
    size_t forgotten = 0;
    for (;;) {
        LB_TRY(lb_tokenizer_chat(lb_generator_tokenizer(c->generator), c->turns, c->count, ids, count, err));
        if (*count <= context && room <= context - *count + 1)
            break;
        if (!forget_oldest(c))
            break; /* it is for the generator to say what does not fit */
        lb_ids_free(*ids);
        forgotten++;
    }
    if (forgotten > 0)
        fprintf(stderr,
                "lowbit chat: the context of %zu tokens is full; the oldest %zu question%s and answer%s "
                "forgotten\n",
                context, forgotten, forgotten == 1 ? "" : "s", forgotten == 1 ? " are" : "s are");
    return LB_OK;
}

static lb_status answer_turn(chat *c, lb_error *err)
{
    answer a = {0};
    lb_generate_result result = {0};
    lb_generate_options o = lb_sampling_generate(&c->args->common, &c->args->sampling);
    lb_cli_progress progress;
    uint32_t *ids;
    size_t count;
    o.on_text = on_text;
    o.user = &a;
    LB_TRY(encode_turns(c, &ids, &count, err));
    lb_cli_progress_begin(&progress, true); /* Ctrl-C now stops the answer only */
    lb_status st = lb_generate(c->generator, ids, count, &o, &result, err);
    lb_cli_progress_end(&progress);
    lb_ids_free(ids);
    st = settle(c, &a, &result, st, err);
    lb_text_free(&a.text);
    return st;
}

/* One line of stdin without its end; *more is false at the end of input. */
static lb_status read_line(const chat *c, lb_text *line, bool *more, lb_error *err)
{
    char piece[4096];
    line->length = 0;
    if (c->interactive) {
        fputs("> ", stderr);
        fflush(stderr);
    }
    *more = false;
    while (fgets(piece, sizeof piece, stdin)) {
        *more = true;
        lb_text_add_string(line, piece);
        if (line->failed || line->length > MAX_LINE_BYTES)
            return lb_fail(err, LB_EINVAL, "a line of more than %d bytes", MAX_LINE_BYTES);
        if (line->data[line->length - 1] == '\n') {
            line->data[--line->length] = '\0';
            break;
        }
    }
    if (c->interactive && !*more)
        fputc('\n', stderr);
    return ferror(stdin) ? lb_fail(err, LB_EIO, "cannot read standard input") : LB_OK;
}

/* A failed turn of somebody who sits there is not the end: it is taken back, and the next may do. */
static lb_status take_turn(chat *c, const lb_text *line, lb_error *err)
{
    const size_t before = c->count;
    LB_TRY(add_turn(c, "user", line->data, line->length, err));
    const lb_status st = answer_turn(c, err);
    if (!c->interactive || (st != LB_EINVAL && st != LB_ECANCELED))
        return st;
    if (st == LB_EINVAL) {
        fprintf(stderr, "lowbit chat: %s; /clear begins anew\n", err->msg);
        drop_turns(c, before);
    }
    return LB_OK;
}

static lb_status converse(chat *c, lb_error *err)
{
    lb_text line = {0};
    bool more = true;
    lb_status st = LB_OK;
    LB_GO(begin(c, err));
    for (;;) {
        LB_GO(read_line(c, &line, &more, err));
        if (!more || strcmp(line.data, "/exit") == 0)
            break;
        if (strcmp(line.data, "/clear") == 0)
            LB_GO(begin(c, err));
        else if (line.data[strspn(line.data, " \t\r")] != '\0')
            LB_GO(take_turn(c, &line, err));
    }
done:
    lb_text_free(&line);
    return st;
}

/* Finds out before the first question whether there is a template. */
static lb_status check_template(const lb_generator *generator, lb_error *err)
{
    const lb_chat_turn probe = {"user", "?"};
    uint32_t *ids;
    size_t count;
    LB_TRY(lb_tokenizer_chat(lb_generator_tokenizer(generator), &probe, 1, &ids, &count, err));
    lb_ids_free(ids);
    return LB_OK;
}

static lb_status open_model(const chat_args *args, lb_generator **out, lb_error *err)
{
    lb_cli_progress progress;
    const lb_generator_options o = lb_sampling_open(&args->common, &args->sampling);
    lb_cli_progress_begin(&progress, true);
    const lb_status st = lb_generator_open(args->model, &o, out, err);
    lb_cli_progress_end(&progress);
    return st;
}

int cmd_chat(int argc, char **argv)
{
    chat_args args;
    chat c = {.args = &args, .interactive = isatty(STDIN_FILENO) == 1};
    lb_error err;
    int code;
    if (!lb_args_parse(&spec, argc, argv, &args, &code))
        return code;
    if (args.common.json)
        return lb_cli_misused("chat", "a conversation has no --json; lowbit run has");
    lb_status st = open_model(&args, &c.generator, &err);
    if (st == LB_OK)
        st = check_template(c.generator, &err);
    if (st == LB_OK)
        st = converse(&c, &err);
    drop_turns(&c, 0);
    lb_free(c.turns);
    lb_generator_close(c.generator);
    return st == LB_OK ? LB_EXIT_DONE : lb_cli_failed("chat", &err, false);
}
