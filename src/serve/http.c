/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "serve/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "serve/access.h"
#include "serve/chat_page.h"

/* A body that is too long is still read, so that the client reads the answer, unless it is this much too long. */
enum { MOST_READ_OVER = 16, IDLE_SECONDS = 60, STREAM_BLOCK = 4096 };

static const char type_json[] = "application/json", type_html[] = "text/html; charset=utf-8",
                  type_events[] = "text/event-stream", type_metrics[] = "text/plain; version=0.0.4";

struct lb_http {
    lb_http_options options;
    struct MHD_Daemon *daemon;
    char url[300];
    bool loopback;
    long long began; /* seconds since 1970 */
    pthread_mutex_t lock; /* guards the next lines */
    size_t open; /* requests under way */
    uint64_t requests;
};

typedef enum MHD_Result answer;
typedef struct exchange exchange;

typedef struct route {
    const char *method, *path;
    answer (*answer)(exchange *x);
    bool is_open; /* without a key */
} route;

/* One request. */
struct exchange {
    lb_http *http;
    struct MHD_Connection *connection;
    const char *method;
    char path[64]; /* of the log */
    double since;
    const route *route; /* NULL: it is refused, for this reason */
    struct {
        unsigned status;
        const char *code, *sentence;
    } refusal;
    lb_text body;
    bool too_long;
    lb_job *job; /* NULL: not submitted */
};

/* ---- Responses --------------------------------------------------------------------------------------- */

static answer give(exchange *x, unsigned status, struct MHD_Response *response, const char *type)
{
    lb_http *h = x->http;
    char line[160];
    if (!response)
        return MHD_NO;
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (type == type_html)
        MHD_add_response_header(response, "Content-Security-Policy",
                                "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
                                "connect-src 'self'; base-uri 'none'; form-action 'none'; "
                                "frame-ancestors 'none'");
    if (status == MHD_HTTP_TOO_MANY_REQUESTS || status == MHD_HTTP_SERVICE_UNAVAILABLE)
        MHD_add_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER, "1");
    if (status == MHD_HTTP_UNAUTHORIZED)
        MHD_add_response_header(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
    const answer queued = MHD_queue_response(x->connection, status, response);
    MHD_destroy_response(response);
    lb_metrics_response(h->options.metrics, status);
    if (h->options.on_response) {
        snprintf(line, sizeof line, "%s %s %u %.3f s", x->method, x->path, status, lb_now() - x->since);
        h->options.on_response(h->options.user, line);
    }
    return queued;
}

/* Frees `text`. */
static answer send_text(exchange *x, unsigned status, lb_text *text, const char *type)
{
    struct MHD_Response *response =
        text->failed ? NULL
                     : MHD_create_response_from_buffer(text->length, text->data, MHD_RESPMEM_MUST_COPY);
    lb_text_free(text);
    return give(x, status, response, type);
}

static answer refuse(exchange *x, unsigned status, const char *code, const char *sentence)
{
    lb_text text = {0};
    lb_api_reply_error(status, code, sentence, false, &text);
    return send_text(x, status, &text, type_json);
}

/* What a job has for its client: 0 where there is nothing yet, after which it will be woken. */
static ssize_t read_stream(void *user, uint64_t position, char *buffer, size_t room)
{
    exchange *x = user;
    lb_job *job = x->job;
    ssize_t got = 0;
    (void)position;
    pthread_mutex_lock(&job->lock);
    const size_t left = job->out.length - job->sent;
    if (job->out.failed) {
        got = MHD_CONTENT_READER_END_WITH_ERROR;
    } else if (left > 0) {
        got = (ssize_t)(left < room ? left : room);
        memcpy(buffer, job->out.data + job->sent, (size_t)got);
        job->sent += (size_t)got;
        if (job->sent == job->out.length)
            job->sent = job->out.length = 0;
    } else if (job->over) {
        got = MHD_CONTENT_READER_END_OF_STREAM;
    } else {
        job->asleep = true;
        MHD_suspend_connection(x->connection);
    }
    pthread_mutex_unlock(&job->lock);
    return got;
}

static void wake(void *user)
{
    const exchange *x = user;
    MHD_resume_connection(x->connection);
}

/* A whole document when it is there, a stream as soon as it begins; until then the connection sleeps. */
static answer send_job(exchange *x)
{
    lb_job *job = x->job;
    struct MHD_Response *response = NULL;
    pthread_mutex_lock(&job->lock);
    const unsigned status = job->status;
    const bool is_stream = job->request.stream && status == MHD_HTTP_OK, ready = is_stream || job->over;
    if (!ready) {
        job->asleep = true;
        MHD_suspend_connection(x->connection);
    } else if (!is_stream && !job->out.failed) {
        response = MHD_create_response_from_buffer(job->out.length, job->out.data, MHD_RESPMEM_MUST_COPY);
    }
    pthread_mutex_unlock(&job->lock);
    if (!ready)
        return MHD_YES;
    if (is_stream)
        response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, read_stream, x, NULL);
    return give(x, status, response, is_stream ? type_events : type_json);
}

/* ---- What is asked for ------------------------------------------------------------------------------- */

static answer get_page(exchange *x)
{
    return give(x, MHD_HTTP_OK,
                MHD_create_response_from_buffer(lb_chat_page_size, (void *)(uintptr_t)lb_chat_page,
                                                MHD_RESPMEM_PERSISTENT),
                type_html);
}

static answer get_health(exchange *x)
{
    lb_text text = {0};
    lb_text_add_string(&text, "{\"status\":\"ok\"}\n");
    return send_text(x, MHD_HTTP_OK, &text, type_json);
}

static answer get_metrics(exchange *x)
{
    const lb_http_options *o = &x->http->options;
    const union MHD_DaemonInfo *info =
        MHD_get_daemon_info(x->http->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);
    lb_text text = {0};
    pthread_mutex_lock(&o->metrics->lock);
    o->metrics->connections = info ? info->num_connections : 0;
    pthread_mutex_unlock(&o->metrics->lock);
    lb_metrics_write(o->metrics, o->model, &text);
    return send_text(x, MHD_HTTP_OK, &text, type_metrics);
}

static answer send_models(exchange *x, bool list)
{
    const lb_http_options *o = &x->http->options;
    lb_text text = {0};
    lb_api_reply_models(o->model, x->http->began, lb_engine_context(o->engine), list, &text);
    return send_text(x, MHD_HTTP_OK, &text, type_json);
}

static answer get_models(exchange *x)
{
    return send_models(x, true);
}

static unsigned status_of(lb_status st)
{
    switch (st) {
    case LB_EEXIST:
        return MHD_HTTP_TOO_MANY_REQUESTS;
    case LB_ECANCELED:
    case LB_ENOMEM:
        return MHD_HTTP_SERVICE_UNAVAILABLE;
    default:
        return MHD_HTTP_BAD_REQUEST;
    }
}

/* The body as a job, its prompt as tokens that fit. *code is OpenAI's name for what is wrong, where it has one. */
static lb_status make_job(exchange *x, lb_api_kind kind, const char **code, lb_job **out, lb_error *err)
{
    lb_http *h = x->http;
    const lb_engine *engine = h->options.engine;
    lb_api_request request = {0};
    uint32_t *ids = NULL;
    size_t count = 0;
    lb_status st = LB_OK;
    pthread_mutex_lock(&h->lock);
    const uint64_t seed = h->options.seed + h->requests++;
    pthread_mutex_unlock(&h->lock);
    LB_GO(lb_api_request_parse(kind, x->body.data ? x->body.data : "", x->body.length, seed, &request, err));
    LB_GO(lb_api_request_tokens(&request, lb_engine_tokenizer(engine), &ids, &count, err));
    st = lb_engine_check(engine, count, 0, err);
    if (st != LB_OK) {
        *code = count > 0 ? "context_length_exceeded" : NULL;
        goto done;
    }
    st = lb_job_create(&request, ids, count, out, err);
    ids = NULL;
done:
    lb_api_request_free(&request);
    lb_ids_free(ids);
    return st;
}

static answer post(exchange *x, lb_api_kind kind)
{
    lb_http *h = x->http;
    const char *code = NULL;
    lb_error err = {0};
    lb_job *job = NULL;
    lb_status st = make_job(x, kind, &code, &job, &err);
    lb_text_free(&x->body);
    if (st == LB_OK) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(x->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        job->socket = info ? info->connect_fd : -1;
        job->deadline = job->created + h->options.timeout;
        job->wake = wake;
        job->user = x;
        st = lb_scheduler_submit(h->options.scheduler, job, &err);
    }
    if (st != LB_OK) {
        lb_job_release(job);
        return refuse(x, status_of(st), code, err.msg);
    }
    x->job = job;
    return send_job(x);
}

static answer post_completion(exchange *x)
{
    return post(x, LB_API_COMPLETION);
}

static answer post_chat(exchange *x)
{
    return post(x, LB_API_CHAT);
}

static const route routes[] = {
    {"GET", "/", get_page, true},
    {"GET", "/health", get_health, true},
    {"GET", "/metrics", get_metrics, false},
    {"GET", "/v1/models", get_models, false},
    {"POST", "/v1/completions", post_completion, false},
    {"POST", "/v1/chat/completions", post_chat, false},
};

static bool same_method(const char *method, const char *wanted)
{
    return strcmp(method, wanted) == 0 || (strcmp(method, "HEAD") == 0 && strcmp(wanted, "GET") == 0);
}

static const char *header(const exchange *x, const char *name)
{
    return MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, name);
}

static void set_refusal(exchange *x, unsigned status, const char *code, const char *sentence)
{
    x->refusal.status = status;
    x->refusal.code = code;
    x->refusal.sentence = sentence;
}

/* Finds the route, or why there is none, from the headers alone. */
static void judge(exchange *x, const char *url)
{
    const lb_http *h = x->http;
    const char *allowed = NULL, *host = header(x, MHD_HTTP_HEADER_HOST), *key = h->options.api_key;
    const route *found = NULL;
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        if (strcmp(url, routes[i].path) != 0)
            continue;
        allowed = routes[i].method;
        if (same_method(x->method, allowed))
            found = &routes[i];
    }
    if (!lb_access_origin(header(x, MHD_HTTP_HEADER_ORIGIN), host) ||
        (h->loopback && !key && !lb_access_host(host)))
        set_refusal(x, MHD_HTTP_FORBIDDEN, NULL, "the request comes from a page of another site");
    else if (key && !(found && found->is_open) &&
             !lb_access_key(header(x, MHD_HTTP_HEADER_AUTHORIZATION), key))
        set_refusal(x, MHD_HTTP_UNAUTHORIZED, "invalid_api_key", "the API key is missing or wrong");
    else if (!allowed)
        set_refusal(x, MHD_HTTP_NOT_FOUND, NULL, "there is nothing at this path");
    else if (!found)
        set_refusal(x, MHD_HTTP_METHOD_NOT_ALLOWED, NULL,
                    strcmp(allowed, "GET") == 0 ? "this path takes GET" : "this path takes POST");
    else
        x->route = found;
}

/* ---- libmicrohttpd's callbacks ----------------------------------------------------------------------- */

static exchange *begin_exchange(lb_http *h, struct MHD_Connection *connection, const char *method,
                                const char *url)
{
    static const char *const methods[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"};
    exchange *x = lb_alloc_zero(1, sizeof *x);
    if (!x)
        return NULL;
    x->http = h;
    x->connection = connection;
    x->since = lb_now();
    x->method = "OTHER"; /* the library's own text does not outlive this call */
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (strcmp(method, methods[i]) == 0)
            x->method = methods[i];
    for (size_t i = 0; url[i] && i + 1 < sizeof x->path; i++)
        x->path[i] = url[i] > ' ' && url[i] < 127 ? url[i] : '?';
    pthread_mutex_lock(&h->lock);
    h->open++;
    pthread_mutex_unlock(&h->lock);
    return x;
}

static bool is_far_too_long(const exchange *x)
{
    const char *said = header(x, MHD_HTTP_HEADER_CONTENT_LENGTH);
    unsigned long long bytes;
    return said && sscanf(said, "%llu", &bytes) == 1 && bytes / MOST_READ_OVER > x->http->options.body_bytes;
}

static answer refuse_length(exchange *x)
{
    char sentence[96];
    snprintf(sentence, sizeof sentence, "the request is longer than %zu bytes", x->http->options.body_bytes);
    return refuse(x, MHD_HTTP_CONTENT_TOO_LARGE, NULL, sentence);
}

static answer take_body(exchange *x, const char *data, size_t *size)
{
    x->too_long = x->too_long || *size > x->http->options.body_bytes - x->body.length;
    if (x->too_long)
        lb_text_free(&x->body);
    else if (x->route) /* of those that are refused nothing is kept */
        lb_text_add(&x->body, data, *size);
    *size = 0;
    return MHD_YES;
}

static answer on_request(void *user, struct MHD_Connection *connection, const char *url, const char *method,
                         const char *version, const char *data, size_t *size, void **state)
{
    lb_http *h = user;
    exchange *x = *state;
    (void)version;
    if (!x) {
        *state = x = begin_exchange(h, connection, method, url);
        if (!x)
            return MHD_NO;
        judge(x, url);
        return is_far_too_long(x) ? refuse_length(x) : MHD_YES;
    }
    if (x->job)
        return send_job(x);
    if (*size > 0)
        return take_body(x, data, size);
    if (!x->route)
        return refuse(x, x->refusal.status, x->refusal.code, x->refusal.sentence);
    if (x->too_long)
        return refuse_length(x);
    if (x->body.failed)
        return refuse(x, MHD_HTTP_SERVICE_UNAVAILABLE, NULL, "no memory for the request");
    return x->route->answer(x);
}

static void on_completed(void *user, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode why)
{
    lb_http *h = user;
    exchange *x = *state;
    (void)connection;
    (void)why;
    if (!x)
        return;
    *state = NULL;
    if (x->job) {
        lb_job_leave(x->job);
        lb_job_release(x->job);
    }
    lb_text_free(&x->body);
    lb_free(x);
    pthread_mutex_lock(&h->lock);
    h->open--;
    pthread_mutex_unlock(&h->lock);
}

/* ---- Starting and stopping --------------------------------------------------------------------------- */

static lb_status start_on(lb_http *h, const struct addrinfo *address, lb_error *err)
{
    const lb_http_options *o = &h->options;
    const unsigned six = address->ai_family == AF_INET6 ? MHD_USE_IPv6 : 0;
    errno = 0;
    h->daemon = MHD_start_daemon(MHD_USE_AUTO_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | six,
                                 (uint16_t)o->port, NULL, NULL, on_request, h, MHD_OPTION_SOCK_ADDR,
                                 address->ai_addr, MHD_OPTION_NOTIFY_COMPLETED, on_completed, h,
                                 MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_SECONDS,
                                 MHD_OPTION_CONNECTION_LIMIT, (unsigned)o->connections, MHD_OPTION_END);
    if (!h->daemon)
        return lb_fail(err, LB_EIO, "cannot listen on %s, port %u: %s", o->host, o->port,
                       errno ? strerror(errno) : "libmicrohttpd does not start");
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_BIND_PORT);
    snprintf(h->url, sizeof h->url, six ? "http://[%s]:%u" : "http://%s:%u", o->host,
             info ? info->port : o->port);
    return LB_OK;
}

lb_status lb_http_start(const lb_http_options *options, lb_http **out, lb_error *err)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    char port[16];
    snprintf(port, sizeof port, "%u", options->port);
    const int problem = getaddrinfo(options->host, port, &hints, &found);
    if (problem != 0)
        return lb_fail(err, LB_EINVAL, "cannot listen on %s: %s", options->host, gai_strerror(problem));
    lb_http *h = lb_alloc_zero(1, sizeof *h);
    lb_status st = h ? LB_OK : lb_fail(err, LB_ENOMEM, "no memory for a server");
    if (st == LB_OK) {
        h->options = *options;
        h->loopback = lb_access_is_loopback(options->host);
        h->began = (long long)time(NULL);
        pthread_mutex_init(&h->lock, NULL);
        st = start_on(h, found, err);
    }
    freeaddrinfo(found);
    if (st == LB_OK)
        *out = h;
    else
        lb_free(h);
    return st;
}

const char *lb_http_url(const lb_http *http)
{
    return http->url;
}

void lb_http_quiesce(lb_http *http)
{
    const MHD_socket listening = MHD_quiesce_daemon(http->daemon);
    if (listening != MHD_INVALID_SOCKET)
        close(listening);
}

void lb_http_stop(lb_http *h, double patience)
{
    const struct timespec nap = {.tv_nsec = 10 * 1000 * 1000};
    if (!h)
        return;
    for (const double until = lb_now() + patience; lb_now() < until; nanosleep(&nap, NULL)) {
        pthread_mutex_lock(&h->lock);
        const size_t open = h->open;
        pthread_mutex_unlock(&h->lock);
        if (open == 0)
            break;
    }
    MHD_stop_daemon(h->daemon);
    pthread_mutex_destroy(&h->lock);
    lb_free(h);
}
