/* SPDX-License-Identifier: MIT
 * The flags that run and chat share: how the next token is chosen, and how much room there is. */
#ifndef LB_CLI_SAMPLING_H
#define LB_CLI_SAMPLING_H

#include "cli/args.h"
#include "lowbit/generate.h"

typedef struct lb_sampling_args {
    size_t tokens, top_k, context, repeat_window;
    double temperature, top_p, min_p, repeat_penalty;
    const char *kv, *draft;
    size_t draft_tokens;
    double draft_confidence;
} lb_sampling_args;

/* How keys and values are kept: a row for a table of flags. */
/* clang-format off */
#define LB_KV_OPTION(values, member)                                                                  \
    {"--kv", LB_ARG_CHOICE, offsetof(values, member), .choices = "f32|f16|int8|mxint8",               \
     .preset = "f16", .help = "how the keys and values of past tokens are kept"}

/* A model that proposes tokens. */
#define LB_DRAFT_OPTIONS(values, member)                                                              \
    {"--draft", LB_ARG_STRING, offsetof(values, member), .value = "MODEL",                            \
     .help = "a faster model with the same tokenizer that proposes tokens; answers stay MODEL's own"},\
    {"--draft-n", LB_ARG_SIZE, offsetof(values, member##_tokens), .low = 1,                           \
     .high = LB_GENERATE_MOST_DRAFT, .preset = "4", .help = "how many at a time, at most"},           \
    {"--draft-min", LB_ARG_DOUBLE, offsetof(values, member##_confidence), .high = 1, .preset = "0.4", \
     .help = "and none after a place where its likeliest token is less probable"}
/* clang-format on */

/* Rows for a table of flags; `values` is the command's struct, with a member `sampling`. */
/* clang-format off */
#define LB_SAMPLING_OPTIONS(values)                                                                   \
    {"--temp", LB_ARG_DOUBLE, offsetof(values, sampling.temperature), .low = 0, .high = 100,          \
     .preset = "0.8", .help = "temperature; 0 always takes the likeliest token"},                     \
    {"--top-k", LB_ARG_SIZE, offsetof(values, sampling.top_k), .preset = "40",                        \
     .help = "draw from the k likeliest tokens; 0: all"},                                             \
    {"--top-p", LB_ARG_DOUBLE, offsetof(values, sampling.top_p), .low = 1e-9, .high = 1,              \
     .preset = "0.95", .help = "and of those from the fewest with this probability together"},        \
    {"--min-p", LB_ARG_DOUBLE, offsetof(values, sampling.min_p), .low = 0, .high = 1,                 \
     .preset = "0.05", .help = "and from those at least this probable, relative to the likeliest"},   \
    {"--repeat-penalty", LB_ARG_DOUBLE, offsetof(values, sampling.repeat_penalty), .low = 0.001,      \
     .high = 1000, .preset = "1.0", .help = "above 1, makes recent tokens less likely"},              \
    {"--repeat-window", LB_ARG_SIZE, offsetof(values, sampling.repeat_window), .high = 1 << 24,       \
     .preset = "64", .help = "how many recent tokens that concerns"},                                 \
    {"--ctx", LB_ARG_SIZE, offsetof(values, sampling.context), .low = 1, .high = 1 << 24,             \
     .shown = "the model's limit, at most 8192", .help = "room for prompt and answer, in tokens"},    \
    LB_KV_OPTION(values, sampling.kv),                                                                \
    LB_DRAFT_OPTIONS(values, sampling.draft)
/* clang-format on */

/* What the library is asked for. */
lb_generator_options lb_sampling_open(const lb_common_args *common, const lb_sampling_args *sampling);
lb_generate_options lb_sampling_generate(const lb_common_args *common, const lb_sampling_args *sampling);

/* Prints pieces of an answer to stdout as they come, and stops when nobody reads them. Its address is
 * the `user` of lb_stream_text. */
typedef struct lb_stream {
    bool failed;
    lb_error err;
} lb_stream;

int lb_stream_text(void *stream, const char *text, size_t length);

/* A progress callback that shows nothing and cancels after Ctrl-C (lb_interrupted, progress.h). */
int lb_stop_when_interrupted(void *user, const char *stage, size_t done, size_t total);

/* "12 prompt tokens at 310.5/s, 64 generated at 41.2/s" on stderr. */
void lb_print_timing(const lb_generate_result *result);

/* Tokens a second; 0 where there is nothing to divide. */
double lb_prompt_rate(const lb_generate_result *result);
double lb_decode_rate(const lb_generate_result *result);

#endif
