/* SPDX-License-Identifier: MIT
 * lowbit run: continues a text. */
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/sampling.h"

typedef struct run_args {
    lb_common_args common;
    const char *model, *prompt;
    bool echo, ignore_end;
    lb_sampling_args sampling;
} run_args;

static const lb_arg options[] = {
    {"MODEL", LB_ARG_OPERAND, offsetof(run_args, model),
     .help = "a Hugging Face folder, a folder that lowbit wrote, or a GGUF file"},
    {"--prompt", LB_ARG_STRING, offsetof(run_args, prompt), .letter = 'p', .value = "TEXT", .required = true,
     .help = "what to continue; - reads it from standard input"},
    {"--tokens", LB_ARG_SIZE, offsetof(run_args, sampling.tokens), .letter = 'n', .high = 1 << 24,
     .preset = "128", .help = "how many to generate; 0: until the model ends or the context is full"},
    LB_SAMPLING_OPTIONS(run_args),
    {"--echo", LB_ARG_FLAG, offsetof(run_args, echo), .help = "print the prompt, too"},
    {"--ignore-end", LB_ARG_FLAG, offsetof(run_args, ignore_end),
     .help = "go on when the model says it is done"},
};
static const lb_arg_spec spec = {
    "run",
    "Continues a text, and prints the continuation as it comes.",
    options,
    sizeof options / sizeof *options,
    sizeof(run_args),
    "lowbit run ./model -p \"Once upon a time\" -n 64",
    "Filters apply in the order of their flags. The speed goes to standard error; -q leaves it out.",
    NULL};

static lb_status read_prompt(const char *prompt, lb_text *out, lb_error *err)
{
    enum { MOST_BYTES = 64 << 20 };
    char buffer[4096];
    size_t got;
    if (strcmp(prompt, "-") != 0) {
        lb_text_add_string(out, prompt);
    } else {
        while (out->length <= MOST_BYTES && (got = fread(buffer, 1, sizeof buffer, stdin)) > 0)
            lb_text_add(out, buffer, got);
        if (ferror(stdin))
            return lb_fail(err, LB_EIO, "cannot read the prompt from standard input");
        if (out->length > MOST_BYTES)
            return lb_fail(err, LB_EINVAL, "the prompt on standard input is longer than %d MiB",
                           MOST_BYTES >> 20);
    }
    return out->failed ? lb_fail(err, LB_ENOMEM, "no memory for the prompt") : LB_OK;
}

static int keep_text(void *text, const char *piece, size_t length)
{
    lb_text_add(text, piece, length);
    return ((lb_text *)text)->failed;
}

static lb_status print_json(const run_args *args, const lb_text *text, const lb_generate_result *r,
                            lb_error *err)
{
    static const char *const stops[] = {"length", "end", "context", "caller"};
    json_t *object =
        text->failed
            ? NULL
            : json_pack("{s:s, s:s%, s:I, s:I, s:f, s:f, s:s, s:I, s:I}", "model", args->model, "text",
                        text->data ? text->data : "", text->length, "prompt_tokens",
                        (json_int_t)r->prompt_tokens, "generated_tokens", (json_int_t)r->generated_tokens,
                        "prompt_tokens_per_s", lb_prompt_rate(r), "decode_tokens_per_s", lb_decode_rate(r),
                        "stop", stops[r->stop], "drafted_tokens", (json_int_t)r->drafted_tokens,
                        "accepted_tokens", (json_int_t)r->accepted_tokens);
    return object ? lb_output_json(object, err) : lb_fail(err, LB_ENOMEM, "no memory for the JSON");
}

/* Where the user named no number of tokens, as many of the default as there is room for. */
static size_t tokens_to_generate(const run_args *args, size_t prompt_tokens, size_t context)
{
    const size_t wanted = args->sampling.tokens;
    if (lb_args_given(&spec, args, "--tokens") || prompt_tokens > context)
        return wanted;
    const size_t room = context - prompt_tokens + 1; /* the last one is not fed back */
    return wanted < room ? wanted : room;
}

/* Streams the answer, or gathers it into `text` for JSON. */
static lb_status generate(const run_args *args, lb_generator *generator, const lb_text *prompt, lb_text *text,
                          lb_generate_result *result, lb_error *err)
{
    lb_stream stream = {0};
    uint32_t *ids;
    size_t count;
    const size_t context = lb_generator_context(generator);
    const char *start = prompt->data ? prompt->data : "";
    lb_generate_options o = lb_sampling_generate(&args->common, &args->sampling);
    o.ignore_end = args->ignore_end;
    o.on_text = args->common.json ? keep_text : lb_stream_text;
    o.user = args->common.json ? (void *)text : (void *)&stream;
    LB_TRY(lb_tokenizer_encode(lb_generator_tokenizer(generator), start, prompt->length,
                               LB_ENCODE_DEFAULT_BOS, &ids, &count, err));
    o.max_tokens = tokens_to_generate(args, count, context);
    if (args->echo)
        o.on_text(o.user, start, prompt->length);
    lb_status st = lb_generate(generator, ids, count, &o, result, err);
    lb_ids_free(ids);
    if (st == LB_OK && stream.failed) {
        *err = stream.err;
        return stream.err.status;
    }
    if (st == LB_OK && result->stop == LB_STOP_LENGTH && o.max_tokens != args->sampling.tokens)
        result->stop = LB_STOP_CONTEXT;
    return st;
}

static lb_status run_model(const run_args *args, lb_error *err)
{
    lb_text prompt = {0}, text = {0};
    lb_generator *generator = NULL;
    lb_generate_result result = {0};
    const lb_generator_options open_options = lb_sampling_open(&args->common, &args->sampling);
    lb_status st = LB_OK;
    LB_GO(read_prompt(args->prompt, &prompt, err));
    LB_GO(lb_generator_open(args->model, &open_options, &generator, err));
    st = generate(args, generator, &prompt, &text, &result, err);
    if (result.generated_tokens > 0 && !args->common.json)
        fputc('\n', stdout);
    fflush(stdout); /* before the timing, where both go to one place */
    if (result.generated_tokens > 0 && !args->common.quiet)
        lb_print_timing(&result);
    if (st == LB_OK && result.stop == LB_STOP_CONTEXT)
        fprintf(stderr, "lowbit run: stopped, the context of %zu tokens is full\n",
                lb_generator_context(generator));
    if (st == LB_OK && args->common.json)
        st = print_json(args, &text, &result, err);
done:
    lb_generator_close(generator);
    lb_text_free(&prompt);
    lb_text_free(&text);
    return st;
}

int cmd_run(int argc, char **argv)
{
    run_args args;
    lb_cli_progress progress;
    lb_error err;
    int code;
    if (!lb_args_parse(&spec, argc, argv, &args, &code))
        return code;
    lb_cli_progress_begin(&progress, true); /* only for its watch on Ctrl-C */
    const lb_status st = run_model(&args, &err);
    lb_cli_progress_end(&progress);
    return st == LB_OK ? LB_EXIT_DONE : lb_cli_failed("run", &err, false);
}
