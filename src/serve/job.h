/* SPDX-License-Identifier: MIT
 * One request on its way: the HTTP thread makes it and reads what comes out, the engine's thread fills it. Each holds a
 * reference while it needs it. */
#ifndef LB_SERVE_JOB_H
#define LB_SERVE_JOB_H

#include <pthread.h>

#include "lowbit/engine.h"
#include "serve/api_reply.h"

typedef struct lb_job lb_job;

struct lb_job {
    /* Settled before it is submitted. */
    lb_api_request request;
    uint32_t *ids; /* [count]: the prompt */
    size_t count;
    double created, deadline; /* as lb_now */
    int socket; /* where the client sits, to see whether it still does; -1: unknown */
    void (*wake)(
        void *user); /* called, with the lock held, when there is news for one who sleeps; may be NULL */
    void *user;

    pthread_mutex_t lock; /* guards the next lines */
    unsigned references;
    lb_text out; /* what the client is to get, from `sent` on */
    size_t sent;
    unsigned status; /* HTTP's; 0: there is nothing yet */
    bool over; /* nothing will be added */
    bool asleep; /* somebody waits for news */
    bool gone; /* the client went away */

    /* The engine's thread only. */
    lb_api_reply reply;
    lb_detokenizer *speller; /* of scored tokens, or NULL */
    lb_task *task;
    double looked; /* at the socket, as lb_now */
    bool timed_out, shut_down;
    lb_status broken; /* while the answer was written down */
    lb_error broken_err;
    lb_job *next; /* of those that wait */
};

/* With one reference. Takes what `request` owns, and ids (lb_ids_free), also when it fails. */
lb_status lb_job_create(lb_api_request *request, uint32_t *ids, size_t count, lb_job **out, lb_error *err);
void lb_job_hold(lb_job *job);
void lb_job_release(lb_job *job);

/* The client went away: what is under way for it will be given up. */
void lb_job_leave(lb_job *job);

/* Whether the client went away, at the latest a quarter of a second ago. */
bool lb_job_is_left(lb_job *job);

/* Adds to what the client is to get. With `over`, that was all; status counts the first time only. Frees `text`. */
void lb_job_put(lb_job *job, unsigned status, lb_text *text, bool over);

#endif
