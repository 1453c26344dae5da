/* SPDX-License-Identifier: MIT
 * lowbit serve: a model on HTTP (lowbit/serve.h). */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/file.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/sampling.h"
#include "lowbit/serve.h"

enum { MOST_KEY_BYTES = 4096 };

typedef struct serve_args {
    lb_common_args common;
    const char *model, *host, *key_file, *name, *kv;
    size_t port, parallel, queue, context, body_kib;
    double timeout, grace;
} serve_args;

static const lb_arg options[] = {
    {"MODEL", LB_ARG_OPERAND, offsetof(serve_args, model),
     .help = "a Hugging Face folder, a folder that lowbit wrote, or a GGUF file"},
    {"--port", LB_ARG_SIZE, offsetof(serve_args, port), .letter = 'p', .high = 65535, .preset = "8080",
     .help = "where to listen; 0: any port that is free"},
    {"--host", LB_ARG_STRING, offsetof(serve_args, host), .value = "NAME", .preset = "127.0.0.1",
     .help = "on which address; 0.0.0.0 lets in the whole network"},
    {"--parallel", LB_ARG_SIZE, offsetof(serve_args, parallel), .low = 1, .high = LB_ENGINE_MOST_SEQUENCES,
     .preset = "4", .help = "answers under way at once, which share every pass over the weights"},
    {"--queue", LB_ARG_SIZE, offsetof(serve_args, queue), .high = 65536, .preset = "64",
     .help = "requests that may wait besides; more are refused (429)"},
    {"--ctx", LB_ARG_SIZE, offsetof(serve_args, context), .low = 1, .high = 1 << 24,
     .shown = "the model's limit, at most 8192", .help = "room for each prompt and answer, in tokens"},
    LB_KV_OPTION(serve_args, kv),
    {"--timeout", LB_ARG_DOUBLE, offsetof(serve_args, timeout), .low = 0.001, .high = 1e6, .preset = "600",
     .help = "seconds that a request may take, waiting included"},
    {"--max-body", LB_ARG_SIZE, offsetof(serve_args, body_kib), .low = 1, .high = 1 << 20, .preset = "4096",
     .help = "KiB that a request may have"},
    {"--api-key-file", LB_ARG_STRING, offsetof(serve_args, key_file), .value = "FILE",
     .help = "clients must show the key on its first line"},
    {"--name", LB_ARG_STRING, offsetof(serve_args, name), .value = "TEXT", .shown = "the last part of MODEL",
     .help = "what clients see the model called"},
    {"--grace", LB_ARG_DOUBLE, offsetof(serve_args, grace), .low = 0, .high = 1e6, .preset = "5",
     .help = "seconds that answers under way get to end after Ctrl-C"},
};
static const lb_arg_spec spec = {
    "serve",
    "Answers OpenAI's clients over HTTP, several at once, and has a small chat page.",
    options,
    sizeof options / sizeof *options,
    sizeof(serve_args),
    "lowbit serve ./model --port 8080",
    "GET / is the page; /v1/models, /v1/completions and /v1/chat/completions are the API; /health and\n"
    "/metrics are for machines. -v prints a line for every response. --seed and a count seed requests\n"
    "that name no seed. Ctrl-C ends it.",
    NULL};

/* The first line of the file, lb_free. */
static lb_status read_key(const char *path, char **key, lb_error *err)
{
    char *text;
    size_t size;
    LB_TRY(lb_file_read_text(path, MOST_KEY_BYTES, &text, &size, err));
    text[strcspn(text, "\r\n")] = '\0';
    if (*text) {
        *key = text;
        return LB_OK;
    }
    lb_free(text);
    return lb_fail(err, LB_EINVAL, "%s: its first line is empty, wanted a key", path);
}

static void say_ready(void *user, const char *url, size_t context)
{
    const serve_args *args = user;
    if (!args->common.quiet)
        fprintf(stderr, "lowbit serve: %s (%zu at once, %zu tokens each)\n", url, args->parallel, context);
    if (!args->key_file && strncmp(args->host, "127.", 4) != 0 && strcmp(args->host, "::1") != 0 &&
        strcmp(args->host, "localhost") != 0)
        fprintf(stderr, "lowbit serve: anybody who can reach %s may use it; --api-key-file asks for a key\n",
                args->host);
}

static void say_response(void *user, const char *line)
{
    (void)user;
    fprintf(stderr, "%s\n", line);
}

int cmd_serve(int argc, char **argv)
{
    serve_args args;
    lb_cli_progress progress;
    lb_serve_options o;
    lb_error err;
    char *key = NULL;
    int code;
    if (!lb_args_parse(&spec, argc, argv, &args, &code))
        return code;
    if (args.common.json)
        return lb_cli_misused("serve", "a server has no --json; its answers are");
    lb_serve_options_init(&o);
    o.host = args.host;
    o.port = (unsigned)args.port;
    o.model_name = args.name;
    o.parallel = args.parallel;
    o.queue = args.queue;
    o.context = args.context;
    o.body_bytes = args.body_kib << 10;
    o.timeout = args.timeout;
    o.grace = args.grace;
    o.seed = args.common.seed;
    o.cpu = args.common.cpu;
    o.kv = args.kv;
    o.progress.fn = lb_stop_when_interrupted;
    o.on_ready = say_ready;
    o.on_response = args.common.verbose ? say_response : NULL;
    o.user = &args;
    lb_status st = args.key_file ? read_key(args.key_file, &key, &err) : LB_OK;
    o.api_key = key;
    lb_cli_progress_begin(&progress, true); /* only for its watch on Ctrl-C */
    if (st == LB_OK)
        st = lb_serve(args.model, &o, &err);
    lb_cli_progress_end(&progress);
    lb_free(key);
    return st == LB_OK ? LB_EXIT_DONE : lb_cli_failed("serve", &err, false);
}
