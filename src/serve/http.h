/* SPDX-License-Identifier: MIT
 * The server's outside: connections, routes, who may ask (libmicrohttpd, one thread of its own). */
#ifndef LB_SERVE_HTTP_H
#define LB_SERVE_HTTP_H

#include "serve/scheduler.h"

typedef struct lb_http lb_http;

typedef struct lb_http_options {
    const char *host;
    unsigned port;
    const char *api_key, *model; /* api_key: NULL where none is needed */
    const lb_engine *engine; /* only what does not change is looked at */
    lb_scheduler *scheduler;
    lb_metrics *metrics;
    size_t body_bytes, connections;
    double timeout;
    uint64_t seed;
    void (*on_response)(void *user, const char *line);
    void *user;
} lb_http_options;

/* Options' texts must outlive it. */
lb_status lb_http_start(const lb_http_options *options, lb_http **out, lb_error *err);

/* "http://127.0.0.1:8080" */
const char *lb_http_url(const lb_http *http);

/* Accepts no more connections. */
void lb_http_quiesce(lb_http *http);

/* Ends all connections; those that still have something to send get `patience` seconds. No job may be under way. */
void lb_http_stop(lb_http *http, double patience);

#endif
