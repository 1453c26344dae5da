/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "serve/scheduler.h"

#include <assert.h>
#include <stdio.h>
#include <time.h>

#include "base/alloc.h"
#include "base/clock.h"

struct lb_scheduler {
    lb_engine *engine;
    size_t sequences, queue;
    const char *model;
    lb_metrics *metrics;
    uint64_t answers; /* begun so far */
    bool stopping; /* what is under way shall end */

    pthread_mutex_t lock; /* guards the line */
    pthread_cond_t news;
    lb_job *first, *last;
    size_t waiting, taken; /* `taken` were let in by submit or are under way */
    bool closed;
};

lb_status lb_scheduler_create(lb_engine *engine, size_t sequences, size_t queue, const char *model,
                              lb_metrics *metrics, lb_scheduler **out, lb_error *err)
{
    pthread_condattr_t attributes;
    lb_scheduler *s = lb_alloc_zero(1, sizeof *s);
    if (!s)
        return lb_fail(err, LB_ENOMEM, "no memory for a scheduler");
    s->engine = engine;
    s->sequences = sequences;
    s->queue = queue;
    s->model = model;
    s->metrics = metrics;
    metrics->sequences = sequences;
    metrics->queue_limit = queue;
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&s->news, &attributes);
    pthread_condattr_destroy(&attributes);
    *out = s;
    return LB_OK;
}

void lb_scheduler_destroy(lb_scheduler *s)
{
    if (!s)
        return;
    assert(!s->first && lb_engine_busy(s->engine) == 0);
    pthread_cond_destroy(&s->news);
    pthread_mutex_destroy(&s->lock);
    lb_free(s);
}

lb_status lb_scheduler_submit(lb_scheduler *s, lb_job *job, lb_error *err)
{
    lb_status st = LB_OK;
    pthread_mutex_lock(&s->lock);
    if (s->closed) {
        st = lb_fail(err, LB_ECANCELED, "the server is shutting down");
    } else if (s->taken >= s->sequences + s->queue) {
        st = lb_fail(err, LB_EEXIST,
                     "the server is busy: %zu requests are being answered and %zu wait; try again later",
                     s->sequences, s->queue);
    } else {
        lb_job_hold(job);
        job->next = NULL;
        *(s->last ? &s->last->next : &s->first) = job;
        s->last = job;
        s->waiting++;
        s->taken++;
        pthread_cond_signal(&s->news);
    }
    pthread_mutex_unlock(&s->lock);
    return st;
}

/* ---- How a job ends ---------------------------------------------------------------------------------- */

typedef struct ending {
    unsigned status;
    const char *code;
    lb_answer_end kind;
} ending;

static ending ending_of(const lb_job *job, lb_status st)
{
    if (st == LB_EINVAL)
        return (ending){400, NULL, LB_ANSWER_FAILED};
    if (job->timed_out)
        return (ending){504, "timeout", LB_ANSWER_TIMEOUT};
    if (job->shut_down)
        return (ending){503, "shutting_down", LB_ANSWER_SHUTDOWN};
    return (ending){st == LB_ENOMEM ? 503 : 500, NULL, LB_ANSWER_FAILED};
}

/* Tells the client, and lets go of the job. */
static void end_job(lb_scheduler *s, lb_job *job, lb_status st, const lb_generate_result *result,
                    const lb_error *err)
{
    static const lb_generate_result nothing;
    const char *sentence = job->timed_out   ? "the request took too long"
                           : job->shut_down ? "the server is shutting down"
                                            : err->msg;
    lb_text out = {0};
    const bool gone = lb_job_is_left(job);
    ending e = ending_of(job, st);
    result = result ? result : &nothing;
    if (gone)
        e.kind = LB_ANSWER_GONE;
    else if (st == LB_OK)
        e.kind =
            result->stop == LB_STOP_END || result->stop == LB_STOP_STRING ? LB_ANSWER_STOP : LB_ANSWER_LENGTH;
    if (st == LB_OK && !gone) {
        e.status = 200;
        lb_api_reply_end(&job->reply, result, &out);
    } else {
        lb_api_reply_error(e.status, e.code, sentence, job->reply.begun, &out);
    }
    lb_metrics_answer(s->metrics, e.kind, result);
    pthread_mutex_lock(&s->lock);
    s->taken--;
    pthread_mutex_unlock(&s->lock);
    lb_job_put(job, e.status, &out, true);
    lb_job_release(job);
}

/* ---- Under way --------------------------------------------------------------------------------------- */

/* What the engine's callbacks get; the job has no pointer to its scheduler otherwise. */
typedef struct task_user {
    lb_scheduler *scheduler;
    lb_job *job;
} task_user;

static int on_text(void *user, const char *text, size_t length)
{
    const task_user *u = user;
    lb_text out = {0};
    lb_api_reply_text(&u->job->reply, text, length, &out);
    if (out.length > 0 || out.failed)
        lb_job_put(u->job, 200, &out, false);
    return u->job->broken != LB_OK;
}

static void on_token(void *user, lb_token_score token, const lb_token_score *top, size_t top_count)
{
    const task_user *u = user;
    lb_job *job = u->job;
    if (job->broken == LB_OK)
        job->broken = lb_api_reply_score(&job->reply, job->speller, token, top, top_count, &job->broken_err);
}

/* Asked before every piece of work: whether it is still wanted. */
static int is_unwanted(void *user, const char *stage, size_t done, size_t total)
{
    const task_user *u = user;
    (void)stage;
    (void)done;
    (void)total;
    u->job->timed_out = u->job->timed_out || lb_now() > u->job->deadline;
    u->job->shut_down = u->job->shut_down || u->scheduler->stopping;
    return u->job->timed_out || u->job->shut_down || lb_job_is_left(u->job);
}

static void on_end(void *user, lb_status st, const lb_generate_result *result, const lb_error *err)
{
    task_user *u = user;
    lb_job *job = u->job;
    if (job->broken != LB_OK) {
        st = job->broken;
        err = &job->broken_err;
    }
    end_job(u->scheduler, job, st, result, err);
    lb_free(u);
}

static lb_status prepare_reply(lb_scheduler *s, lb_job *job, lb_error *err)
{
    const lb_api_request *r = &job->request;
    job->reply = (lb_api_reply){.kind = r->kind,
                                .stream = r->stream,
                                .include_usage = r->include_usage,
                                .created = (long long)time(NULL),
                                .model = s->model};
    snprintf(job->reply.id, sizeof job->reply.id, "%s-%llx-%llu",
             r->kind == LB_API_CHAT ? "chatcmpl" : "cmpl", (unsigned long long)job->reply.created,
             (unsigned long long)++s->answers);
    return r->scores ? lb_detokenizer_create(lb_engine_tokenizer(s->engine), &job->speller, err) : LB_OK;
}

static lb_status begin_task(lb_scheduler *s, lb_job *job, lb_error *err)
{
    lb_generate_options o = lb_api_request_options(&job->request);
    LB_TRY(prepare_reply(s, job, err));
    /* The prompt fits, which was looked at when it came; of the answer there is as much as fits. */
    const size_t room = lb_engine_context(s->engine) - job->count + 1;
    if (o.max_tokens > room)
        o.max_tokens = room;
    task_user *u = lb_alloc(1, sizeof *u);
    if (!u)
        return lb_fail(err, LB_ENOMEM, "no memory for an answer");
    *u = (task_user){s, job};
    o.user = u;
    o.on_text = on_text;
    o.on_token = job->request.scores ? on_token : NULL;
    o.progress = (lb_progress){is_unwanted, u};
    const lb_status st = lb_engine_begin(s->engine, job->ids, job->count, &o, on_end, &job->task, err);
    if (st != LB_OK)
        lb_free(u);
    return st;
}

static lb_job *take_first(lb_scheduler *s)
{
    pthread_mutex_lock(&s->lock);
    lb_job *job = s->first;
    if (job) {
        s->first = job->next;
        if (!s->first)
            s->last = NULL;
        s->waiting--;
    }
    pthread_mutex_unlock(&s->lock);
    return job;
}

/* Those whose clients went away or who have waited too long leave the line. */
static void look_along_the_line(lb_scheduler *s)
{
    lb_job *leaving = NULL;
    const double now = lb_now();
    const lb_error none = {0};
    pthread_mutex_lock(&s->lock);
    lb_job **at = &s->first;
    s->last = NULL;
    while (*at) {
        lb_job *job = *at;
        job->timed_out = now > job->deadline;
        job->shut_down = s->closed;
        if (job->timed_out || job->shut_down || lb_job_is_left(job)) {
            *at = job->next;
            job->next = leaving;
            leaving = job;
            s->waiting--;
        } else {
            s->last = job;
            at = &job->next;
        }
    }
    pthread_mutex_unlock(&s->lock);
    while (leaving) {
        lb_job *job = leaving;
        leaving = job->next;
        end_job(s, job, LB_ECANCELED, NULL, &none);
    }
}

static void let_in(lb_scheduler *s)
{
    lb_job *job;
    lb_error err = {0};
    while (lb_engine_busy(s->engine) < s->sequences && (job = take_first(s))) {
        lb_metrics_wait(s->metrics, lb_now() - job->created);
        const lb_status st = begin_task(s, job, &err);
        if (st != LB_OK)
            end_job(s, job, st, NULL, &err);
    }
}

static void wait_for_news(lb_scheduler *s, double patience)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    const double at = (double)until.tv_nsec * 1e-9 + patience;
    until.tv_sec += (time_t)at;
    until.tv_nsec = (long)((at - (double)(time_t)at) * 1e9);
    pthread_mutex_lock(&s->lock);
    if (!s->first && !s->closed)
        pthread_cond_timedwait(&s->news, &s->lock, &until);
    pthread_mutex_unlock(&s->lock);
}

static void tell_load(lb_scheduler *s)
{
    pthread_mutex_lock(&s->lock);
    const size_t waiting = s->waiting;
    pthread_mutex_unlock(&s->lock);
    lb_metrics_load(s->metrics, lb_engine_busy(s->engine), waiting);
}

void lb_scheduler_turn(lb_scheduler *s, double patience)
{
    if (lb_engine_busy(s->engine) == 0)
        wait_for_news(s, patience);
    look_along_the_line(s);
    let_in(s);
    const size_t busy = lb_engine_busy(s->engine);
    tell_load(s);
    if (busy > 0) {
        lb_metrics_step(s->metrics, busy);
        lb_engine_step(s->engine);
        tell_load(s);
    }
}

void lb_scheduler_close(lb_scheduler *s)
{
    pthread_mutex_lock(&s->lock);
    s->closed = true;
    pthread_mutex_unlock(&s->lock);
    look_along_the_line(s);
}

size_t lb_scheduler_busy(const lb_scheduler *s)
{
    return lb_engine_busy(s->engine);
}

void lb_scheduler_stop(lb_scheduler *s)
{
    lb_scheduler_close(s);
    s->stopping = true;
    while (lb_engine_busy(s->engine) > 0)
        lb_engine_step(s->engine);
    tell_load(s);
}
