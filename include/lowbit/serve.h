/* SPDX-License-Identifier: MIT
 * A model on HTTP, as OpenAI's clients expect it: docs/serving.md says what is spoken. */
#ifndef LOWBIT_SERVE_H
#define LOWBIT_SERVE_H

#include "lowbit/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lb_serve_options {
    size_t struct_size;
    const char *host; /* a name or a number; "127.0.0.1" */
    unsigned port; /* 0: any that is free */
    const char *api_key; /* what clients have to show; NULL: nothing */
    const char *model_name; /* what clients see; NULL: the last part of the path */
    size_t parallel; /* answers under way at once, 1 to LB_ENGINE_MOST_SEQUENCES */
    size_t queue; /* requests that may wait besides; more are refused with 429 */
    size_t context; /* of each answer, in tokens; 0: the model's limit, at most 8192 */
    size_t body_bytes; /* of a request at most */
    double timeout; /* seconds that a request may take, waiting included */
    double grace; /* seconds that answers under way get to end when the server does */
    uint64_t seed; /* of requests that name none: this and their number */
    const char *cpu; /* as in lb_engine_options */
    lb_progress progress; /* while loading, and again and again while serving: its non-zero return ends it */
    void (*on_ready)(void *user, const char *url, size_t context); /* clients may come; or NULL */
    void (*on_response)(void *user, const char *line); /* one line for each, from another thread; or NULL */
    void *user;
    const char *kv; /* as in lb_engine_options */
} lb_serve_options;

LB_API void lb_serve_options_init_sized(lb_serve_options *options, size_t size);
#define lb_serve_options_init(options) lb_serve_options_init_sized((options), sizeof *(options))

/* Serves until options->progress says that it is enough, which is LB_OK; before that, while loading, LB_ECANCELED. */
LB_API lb_status lb_serve(const char *model_path, const lb_serve_options *options, lb_error *err);

#ifdef __cplusplus
}
#endif
#endif
