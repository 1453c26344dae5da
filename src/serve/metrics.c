/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "serve/metrics.h"

#include "base/clock.h"

void lb_metrics_init(lb_metrics *m)
{
    *m = (lb_metrics){.began = lb_now()};
    pthread_mutex_init(&m->lock, NULL);
}

void lb_metrics_destroy(lb_metrics *m)
{
    pthread_mutex_destroy(&m->lock);
}

void lb_metrics_response(lb_metrics *m, unsigned status)
{
    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < LB_METRICS_STATUSES; i++) {
        if (m->responses[i].status != 0 && m->responses[i].status != status)
            continue;
        m->responses[i].status = status;
        m->responses[i].count++;
        break;
    }
    pthread_mutex_unlock(&m->lock);
}

void lb_metrics_answer(lb_metrics *m, lb_answer_end end, const lb_generate_result *r)
{
    pthread_mutex_lock(&m->lock);
    m->answers[end]++;
    m->prompt_tokens += r->prompt_tokens;
    m->reused_tokens += r->reused_tokens;
    m->generated_tokens += r->generated_tokens;
    m->prompt_seconds += r->prompt_seconds;
    m->decode_seconds += r->decode_seconds;
    pthread_mutex_unlock(&m->lock);
}

void lb_metrics_wait(lb_metrics *m, double seconds)
{
    pthread_mutex_lock(&m->lock);
    m->wait_seconds += seconds;
    pthread_mutex_unlock(&m->lock);
}

void lb_metrics_step(lb_metrics *m, size_t sequences)
{
    pthread_mutex_lock(&m->lock);
    m->steps++;
    m->step_sequences += sequences;
    pthread_mutex_unlock(&m->lock);
}

void lb_metrics_load(lb_metrics *m, size_t busy, size_t waiting)
{
    pthread_mutex_lock(&m->lock);
    m->busy = busy;
    m->waiting = waiting;
    pthread_mutex_unlock(&m->lock);
}

static void describe(lb_text *out, const char *name, const char *type, const char *help)
{
    lb_text_add_format(out, "# HELP lowbit_%s %s\n# TYPE lowbit_%s %s\n", name, help, name, type);
}

static void count(lb_text *out, const char *name, const char *help, uint64_t value)
{
    describe(out, name, "counter", help);
    lb_text_add_format(out, "lowbit_%s %llu\n", name, (unsigned long long)value);
}

static void seconds(lb_text *out, const char *name, const char *type, const char *help, double value)
{
    describe(out, name, type, help);
    lb_text_add_format(out, "lowbit_%s %.6f\n", name, value);
}

static void gauge(lb_text *out, const char *name, const char *help, size_t value)
{
    describe(out, name, "gauge", help);
    lb_text_add_format(out, "lowbit_%s %zu\n", name, value);
}

/* A label's value: backslashes, quotes and newlines are escaped. */
static void add_label(lb_text *out, const char *value)
{
    for (; *value; value++) {
        if (*value == '\\' || *value == '"')
            lb_text_add(out, "\\", 1);
        lb_text_add(out, *value == '\n' ? "\\n" : value, *value == '\n' ? 2 : 1);
    }
}

static void write_labelled(const lb_metrics *m, const char *model, lb_text *out)
{
    static const char *const ends[] = {
        [LB_ANSWER_STOP] = "stop",       [LB_ANSWER_LENGTH] = "length",     [LB_ANSWER_GONE] = "gone",
        [LB_ANSWER_TIMEOUT] = "timeout", [LB_ANSWER_SHUTDOWN] = "shutdown", [LB_ANSWER_FAILED] = "failed"};
    describe(out, "info", "gauge", "What is served.");
    lb_text_add_string(out, "lowbit_info{version=\"" LB_VERSION "\",model=\"");
    add_label(out, model);
    lb_text_add_string(out, "\"} 1\n");
    describe(out, "http_responses_total", "counter", "Responses by HTTP status.");
    for (size_t i = 0; i < LB_METRICS_STATUSES && m->responses[i].status; i++)
        lb_text_add_format(out, "lowbit_http_responses_total{status=\"%u\"} %llu\n", m->responses[i].status,
                           (unsigned long long)m->responses[i].count);
    describe(out, "answers_total", "counter", "Answers that were begun or waited for, by their end.");
    for (size_t i = 0; i < LB_ANSWER_ENDS; i++)
        lb_text_add_format(out, "lowbit_answers_total{end=\"%s\"} %llu\n", ends[i],
                           (unsigned long long)m->answers[i]);
}

void lb_metrics_write(lb_metrics *m, const char *model, lb_text *out)
{
    pthread_mutex_lock(&m->lock);
    write_labelled(m, model, out);
    count(out, "prompt_tokens_total", "Tokens of prompts.", m->prompt_tokens);
    count(out, "prompt_tokens_reused_total", "Of these, those that were in memory already.",
          m->reused_tokens);
    count(out, "generated_tokens_total", "Tokens generated.", m->generated_tokens);
    count(out, "steps_total", "Steps of the engine.", m->steps);
    count(out, "step_sequences_total", "Sequences under way, summed over steps.", m->step_sequences);
    seconds(out, "queue_seconds_total", "counter", "Waiting for a sequence, summed over answers.",
            m->wait_seconds);
    seconds(out, "prompt_seconds_total", "counter", "From beginning to first token, summed over answers.",
            m->prompt_seconds);
    seconds(out, "decode_seconds_total", "counter", "From first to last token, summed over answers.",
            m->decode_seconds);
    gauge(out, "sequences_busy", "Answers under way.", m->busy);
    gauge(out, "sequences", "Answers that can be under way at once.", m->sequences);
    gauge(out, "queue_length", "Requests that wait.", m->waiting);
    gauge(out, "queue_limit", "Requests that may wait; more are refused.", m->queue_limit);
    gauge(out, "connections", "Open connections.", m->connections);
    seconds(out, "uptime_seconds", "gauge", "Since the server began.", lb_now() - m->began);
    pthread_mutex_unlock(&m->lock);
}
