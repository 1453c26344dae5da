/* SPDX-License-Identifier: MIT
 * The calling thread is the engine's; clients are on libmicrohttpd's (http.c), and the line between them is the
 * scheduler's (scheduler.c). */
#include "lowbit/serve.h"

#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/options.h"
#include "serve/http.h"

/* How long the engine sleeps where nobody asks, and how long what is written may take to be read at the end. */
static const double PATIENCE = 0.1, FLUSH_SECONDS = 2;

/* Connections that are open beside those that are answered or wait. */
enum { SPARE_CONNECTIONS = 256, DEFAULT_BODY = 4 << 20 };

void lb_serve_options_init_sized(lb_serve_options *options, size_t size)
{
    const lb_serve_options defaults = {.struct_size = sizeof defaults,
                                       .host = "127.0.0.1",
                                       .port = 8080,
                                       .parallel = 4,
                                       .queue = 64,
                                       .body_bytes = DEFAULT_BODY,
                                       .timeout = 600,
                                       .grace = 5,
                                       .seed = 42};
    lb_options_fill(options, size, &defaults, sizeof defaults);
}

typedef struct server {
    const lb_serve_options *options;
    char *name;
    lb_engine *engine;
    lb_metrics metrics;
    lb_scheduler *scheduler;
    lb_http *http;
} server;

static bool is_enough(const server *s)
{
    const lb_progress *p = &s->options->progress;
    return p->fn && p->fn(p->user, "serving", 0, 0) != 0;
}

static lb_status check(const lb_serve_options *o, lb_error *err)
{
    if (o->port > 65535)
        return lb_fail(err, LB_EINVAL, "port %u, wanted 0 to 65535", o->port);
    if (o->queue > 65536)
        return lb_fail(err, LB_EINVAL, "a queue of %zu requests, wanted at most 65536", o->queue);
    if (o->body_bytes == 0 || o->body_bytes > (size_t)1 << 30)
        return lb_fail(err, LB_EINVAL, "requests of %zu bytes, wanted 1 to 2^30", o->body_bytes);
    if (!(o->timeout > 0) || !(o->grace >= 0))
        return lb_fail(err, LB_EINVAL, "a timeout of %g seconds and a grace of %g, wanted more than 0 and 0",
                       o->timeout, o->grace);
    if (o->api_key && !*o->api_key)
        return lb_fail(err, LB_EINVAL, "the API key is empty");
    return LB_OK;
}

/* "models/my-model/" is served as "my-model". */
static lb_status name_model(server *s, const char *path, lb_error *err)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    char *trimmed = lb_strndup(path, length);
    if (trimmed)
        s->name = lb_strdup(s->options->model_name ? s->options->model_name : lb_path_base(trimmed));
    lb_free(trimmed);
    return s->name ? LB_OK : lb_fail(err, LB_ENOMEM, "no memory for the model's name");
}

static lb_status open_engine(server *s, const char *path, lb_error *err)
{
    lb_engine_options o;
    lb_engine_options_init(&o);
    o.context = s->options->context;
    o.sequences = s->options->parallel;
    o.cpu = s->options->cpu;
    o.kv = s->options->kv;
    o.progress = s->options->progress;
    return lb_engine_open(path, &o, &s->engine, err);
}

static lb_status start(server *s, lb_error *err)
{
    const lb_serve_options *o = s->options;
    const lb_http_options http = {.host = o->host,
                                  .port = o->port,
                                  .api_key = o->api_key,
                                  .model = s->name,
                                  .engine = s->engine,
                                  .scheduler = s->scheduler,
                                  .metrics = &s->metrics,
                                  .body_bytes = o->body_bytes,
                                  .connections = o->parallel + o->queue + SPARE_CONNECTIONS,
                                  .timeout = o->timeout,
                                  .seed = o->seed,
                                  .on_response = o->on_response,
                                  .user = o->user};
    LB_TRY(lb_http_start(&http, &s->http, err));
    if (o->on_ready)
        o->on_ready(o->user, lb_http_url(s->http), lb_engine_context(s->engine));
    return LB_OK;
}

/* Answers under way get some time, those that wait get none. */
static void wind_down(server *s)
{
    const double until = lb_now() + s->options->grace;
    lb_http_quiesce(s->http);
    lb_scheduler_close(s->scheduler);
    while (lb_scheduler_busy(s->scheduler) > 0 && lb_now() < until)
        lb_scheduler_turn(s->scheduler, 0);
    lb_scheduler_stop(s->scheduler);
}

lb_status lb_serve(const char *path, const lb_serve_options *options, lb_error *err)
{
    lb_serve_options o;
    lb_status st = LB_OK;
    lb_serve_options_init(&o);
    LB_TRY(lb_options_adopt(&o, sizeof o, options, "lb_serve_options", err));
    LB_TRY(check(&o, err));
    server s = {.options = &o};
    lb_metrics_init(&s.metrics);
    LB_GO(name_model(&s, path, err));
    LB_GO(open_engine(&s, path, err));
    LB_GO(lb_scheduler_create(s.engine, o.parallel, o.queue, s.name, &s.metrics, &s.scheduler, err));
    LB_GO(start(&s, err));
    while (!is_enough(&s))
        lb_scheduler_turn(s.scheduler, PATIENCE);
    wind_down(&s);
done:
    lb_http_stop(s.http, FLUSH_SECONDS);
    lb_scheduler_destroy(s.scheduler);
    lb_engine_close(s.engine);
    lb_metrics_destroy(&s.metrics);
    lb_free(s.name);
    return st;
}
