/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "serve/job.h"

#include <errno.h>
#include <sys/socket.h>

#include "base/alloc.h"
#include "base/clock.h"

static const double LOOK_SECONDS = 0.25;

lb_status lb_job_create(lb_api_request *request, uint32_t *ids, size_t count, lb_job **out, lb_error *err)
{
    lb_job *job = lb_alloc_zero(1, sizeof *job);
    if (!job) {
        lb_api_request_free(request);
        lb_ids_free(ids);
        return lb_fail(err, LB_ENOMEM, "no memory for a request");
    }
    job->request = *request;
    *request = (lb_api_request){0};
    job->ids = ids;
    job->count = count;
    job->created = lb_now();
    job->socket = -1;
    job->references = 1;
    pthread_mutex_init(&job->lock, NULL);
    *out = job;
    return LB_OK;
}

void lb_job_hold(lb_job *job)
{
    pthread_mutex_lock(&job->lock);
    job->references++;
    pthread_mutex_unlock(&job->lock);
}

void lb_job_release(lb_job *job)
{
    if (!job)
        return;
    pthread_mutex_lock(&job->lock);
    const unsigned left = --job->references;
    pthread_mutex_unlock(&job->lock);
    if (left > 0)
        return;
    pthread_mutex_destroy(&job->lock);
    lb_api_request_free(&job->request);
    lb_api_reply_free(&job->reply);
    lb_detokenizer_destroy(job->speller);
    lb_ids_free(job->ids);
    lb_text_free(&job->out);
    lb_free(job);
}

void lb_job_leave(lb_job *job)
{
    pthread_mutex_lock(&job->lock);
    job->gone = true;
    job->asleep = false;
    job->socket = -1; /* the number may soon be another's */
    pthread_mutex_unlock(&job->lock);
}

bool lb_job_is_left(lb_job *job)
{
    char byte;
    const double now = lb_now();
    pthread_mutex_lock(&job->lock);
    if (!job->gone && job->socket >= 0 && now - job->looked >= LOOK_SECONDS) {
        const ssize_t got = recv(job->socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
        job->looked = now;
        job->gone = got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
    }
    const bool gone = job->gone;
    pthread_mutex_unlock(&job->lock);
    return gone;
}

void lb_job_put(lb_job *job, unsigned status, lb_text *text, bool over)
{
    pthread_mutex_lock(&job->lock);
    if (text)
        lb_text_add(&job->out, text->data ? text->data : "", text->length);
    if (job->status == 0)
        job->status = job->out.failed || (text && text->failed) ? 500 : status;
    job->over = job->over || over;
    if (job->asleep && job->wake) {
        job->asleep = false;
        job->wake(job->user);
    }
    pthread_mutex_unlock(&job->lock);
    if (text)
        lb_text_free(text);
}
