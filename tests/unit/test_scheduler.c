/* SPDX-License-Identifier: MIT
 * The line of requests, without HTTP: who is let in and who is refused, what comes out of a stream and of a whole
 * answer, and every way in which a job ends. */
#define _GNU_SOURCE
#include "near.h"

#include <jansson.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "serve/scheduler.h"
#include "tiny_model.h"

enum { SEQUENCES = 2, QUEUE = 3 };

typedef struct fixture {
    lb_engine *engine;
    lb_scheduler *scheduler;
    lb_metrics metrics;
    int woken;
} fixture;

static int set_up(void **state)
{
    static fixture f;
    static const tiny_model_options usual = {.seed = 21, .tokenizer = TINY_BPE, .context = 128};
    char folder[64];
    lb_error err = {0};
    lb_engine_options o;
    f = (fixture){.woken = 0};
    lb_engine_options_init(&o);
    o.sequences = SEQUENCES;
    snprintf(folder, sizeof folder, "/tmp/lowbit_test_scheduler_%ld", (long)getpid());
    assert_int_equal(tiny_model_write(folder, &usual), 0);
    assert_int_equal(lb_engine_open(folder, &o, &f.engine, &err), LB_OK);
    tiny_model_remove(folder);
    lb_metrics_init(&f.metrics);
    assert_int_equal(lb_scheduler_create(f.engine, SEQUENCES, QUEUE, "tiny", &f.metrics, &f.scheduler, &err),
                     LB_OK);
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    fixture *f = *state;
    lb_scheduler_stop(f->scheduler);
    lb_scheduler_destroy(f->scheduler);
    lb_engine_close(f->engine);
    lb_metrics_destroy(&f->metrics);
    return 0;
}

static void count_waking(void *user)
{
    ++*(int *)user;
}

static lb_job *make(fixture *f, lb_api_kind kind, const char *body)
{
    lb_api_request request;
    lb_error err = {0};
    lb_job *job = NULL;
    uint32_t *ids;
    size_t count;
    if (lb_api_request_parse(kind, body, strlen(body), 1, &request, &err) != LB_OK ||
        lb_api_request_tokens(&request, lb_engine_tokenizer(f->engine), &ids, &count, &err) != LB_OK ||
        lb_job_create(&request, ids, count, &job, &err) != LB_OK)
        fail_msg("%s", err.msg);
    job->deadline = lb_now() + 100;
    job->wake = count_waking;
    job->user = &f->woken;
    return job;
}

static lb_job *submit(fixture *f, lb_api_kind kind, const char *body)
{
    lb_error err = {0};
    lb_job *job = make(f, kind, body);
    assert_int_equal(lb_scheduler_submit(f->scheduler, job, &err), LB_OK);
    return job;
}

static void run(fixture *f, const lb_job *job)
{
    for (int turn = 0; !job->over; turn++) {
        assert_true(turn < 2000);
        lb_scheduler_turn(f->scheduler, 0.001);
    }
}

#define LONG "{\"prompt\": \"the cat\", \"max_tokens\": 100, \"temperature\": 3, \"seed\": 4}"

static const char *text_of(const json_t *json)
{
    return json_string_value(json_object_get(json_array_get(json_object_get(json, "choices"), 0), "text"));
}

static json_t *parse(const char *text, size_t length)
{
    json_error_t problem;
    json_t *json = json_loadb(text, length, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &problem);
    if (!json)
        fail_msg("%s: %.*s", problem.text, (int)length, text);
    return json;
}

/* A stream's events say together what the whole answer says. */
static void a_stream_says_what_a_whole_answer_says(void **state)
{
    fixture *f = *state;
    lb_job *whole = submit(f, LB_API_COMPLETION,
                           "{\"prompt\": \"the cat\", \"max_tokens\": 20, \"seed\": 3,"
                           "\"temperature\": 1.5, \"logprobs\": 2}");
    lb_job *stream = submit(f, LB_API_COMPLETION,
                            "{\"prompt\": \"the cat\", \"max_tokens\": 20, \"seed\": 3,"
                            "\"temperature\": 1.5, \"stream\": true, \"logprobs\": 2,"
                            "\"stream_options\": {\"include_usage\": true}}");
    run(f, whole);
    run(f, stream);
    assert_int_equal(whole->status, 200);
    assert_int_equal(stream->status, 200);
    json_t *document = parse(whole->out.data, whole->out.length);
    const json_t *logprobs =
        json_object_get(json_array_get(json_object_get(document, "choices"), 0), "logprobs");
    char said[1024] = "";
    size_t events = 0, tokens = 0;
    bool done = false, usage = false;
    for (char *at = stream->out.data, *end; (end = strstr(at, "\n\n")); at = end + 2) {
        assert_memory_equal(at, "data: ", 6);
        *end = '\0';
        assert_false(done);
        if (strcmp(at + 6, "[DONE]") == 0) {
            done = true;
            continue;
        }
        json_t *event = parse(at + 6, (size_t)(end - at - 6));
        const json_t *choice = json_array_get(json_object_get(event, "choices"), 0);
        tokens += json_array_size(json_object_get(json_object_get(choice, "logprobs"), "tokens"));
        if (text_of(event))
            strcat(said, text_of(event));
        else
            usage = json_equal(json_object_get(event, "usage"), json_object_get(document, "usage")) ||
                    json_is_object(json_object_get(event, "usage"));
        json_decref(event);
        events++;
    }
    assert_true(done && usage && events > 3);
    assert_string_equal(said, text_of(document));
    assert_int_equal(tokens, json_array_size(json_object_get(logprobs, "tokens")));
    json_decref(document);
    lb_job_release(whole);
    lb_job_release(stream);
}

static void the_line_has_an_end(void **state)
{
    fixture *f = *state;
    lb_job *jobs[SEQUENCES + QUEUE], *extra = make(f, LB_API_COMPLETION, LONG);
    lb_error err = {0};
    for (size_t i = 0; i < SEQUENCES + QUEUE; i++)
        jobs[i] = submit(f, LB_API_COMPLETION, LONG);
    assert_int_equal(lb_scheduler_submit(f->scheduler, extra, &err), LB_EEXIST);
    lb_scheduler_turn(f->scheduler, 0);
    assert_int_equal(lb_scheduler_busy(f->scheduler), SEQUENCES);
    assert_int_equal(f->metrics.waiting, QUEUE);
    assert_int_equal(lb_scheduler_submit(f->scheduler, extra, &err), LB_EEXIST);
    run(f, jobs[0]);
    assert_int_equal(lb_scheduler_submit(f->scheduler, extra, &err), LB_OK);
    for (size_t i = 0; i < SEQUENCES + QUEUE; i++)
        run(f, jobs[i]);
    run(f, extra);
    /* The same request, the same answer, whoever was beside it. */
    for (size_t i = 1; i < SEQUENCES + QUEUE; i++) {
        json_t *a = parse(jobs[0]->out.data, jobs[0]->out.length),
               *b = parse(jobs[i]->out.data, jobs[i]->out.length);
        assert_string_equal(text_of(a), text_of(b));
        json_decref(a);
        json_decref(b);
        lb_job_release(jobs[i]);
    }
    lb_job_release(jobs[0]);
    lb_job_release(extra);
    assert_int_equal(f->metrics.answers[LB_ANSWER_LENGTH] + f->metrics.answers[LB_ANSWER_STOP],
                     SEQUENCES + QUEUE + 1);
}

static void clients_that_leave_are_not_answered(void **state)
{
    fixture *f = *state;
    int pair[2];
    lb_job *jobs[4];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    for (size_t i = 0; i < 4; i++)
        jobs[i] = submit(f, LB_API_COMPLETION, LONG);
    jobs[1]->socket = pair[0]; /* under way, and its socket will close */
    lb_scheduler_turn(f->scheduler, 0);
    lb_job_leave(jobs[0]); /* under way, HTTP says so */
    lb_job_leave(jobs[2]); /* waits */
    close(pair[1]);
    jobs[1]->looked = 0;
    lb_scheduler_turn(f->scheduler, 0);
    lb_scheduler_turn(f->scheduler, 0);
    assert_true(jobs[0]->over && jobs[1]->over && jobs[2]->over);
    run(f, jobs[3]);
    assert_int_equal(jobs[3]->status, 200);
    assert_int_equal(f->metrics.answers[LB_ANSWER_GONE], 3);
    assert_int_equal(lb_scheduler_busy(f->scheduler), 0);
    for (size_t i = 0; i < 4; i++)
        lb_job_release(jobs[i]);
    close(pair[0]);
}

static void time_runs_out(void **state)
{
    fixture *f = *state;
    lb_job *jobs[3];
    for (size_t i = 0; i < 3; i++)
        jobs[i] = submit(f, LB_API_COMPLETION, LONG);
    lb_scheduler_turn(f->scheduler, 0);
    jobs[0]->deadline = jobs[2]->deadline = 0;
    lb_scheduler_turn(f->scheduler, 0);
    lb_scheduler_turn(f->scheduler, 0);
    assert_true(jobs[0]->over && jobs[2]->over && !jobs[1]->over);
    assert_int_equal(jobs[0]->status, 504);
    assert_int_equal(jobs[2]->status, 504);
    assert_non_null(strstr(jobs[2]->out.data, "\"code\":\"timeout\""));
    run(f, jobs[1]);
    for (size_t i = 0; i < 3; i++)
        lb_job_release(jobs[i]);
}

static void closing_and_stopping(void **state)
{
    fixture *f = *state;
    lb_job *jobs[3], *late = make(f, LB_API_COMPLETION, LONG);
    lb_error err = {0};
    for (size_t i = 0; i < 3; i++)
        jobs[i] =
            submit(f, i == 1 ? LB_API_CHAT : LB_API_COMPLETION,
                   i == 1 ? "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"stream\": true,"
                            "\"seed\": 2, \"temperature\": 3}"
                          : LONG);
    for (int turn = 0; turn < 4; turn++)
        lb_scheduler_turn(f->scheduler, 0);
    lb_scheduler_close(f->scheduler);
    assert_int_equal(lb_scheduler_submit(f->scheduler, late, &err), LB_ECANCELED);
    assert_int_equal(jobs[2]->status, 503);
    assert_false(jobs[0]->over);
    jobs[0]->asleep = true;
    lb_scheduler_stop(f->scheduler);
    assert_int_equal(f->woken, 1);
    assert_false(jobs[0]->asleep);
    assert_int_equal(jobs[0]->status, 503);
    /* A stream that had begun says so in an event. */
    assert_int_equal(jobs[1]->status, 200);
    assert_non_null(strstr(jobs[1]->out.data, "data: {\"error\""));
    assert_null(strstr(jobs[1]->out.data, "[DONE]"));
    lb_job_release(late);
    for (size_t i = 0; i < 3; i++)
        lb_job_release(jobs[i]);
}

static void the_context_is_the_end(void **state)
{
    fixture *f = *state;
    lb_job *job = submit(f, LB_API_CHAT,
                         "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"logit_bias\": {},"
                         "\"max_tokens\": 100000, \"seed\": 2, \"temperature\": 3, \"logprobs\": true}");
    run(f, job);
    json_t *reply = parse(job->out.data, job->out.length);
    const json_t *choice = json_array_get(json_object_get(reply, "choices"), 0);
    const json_t *usage = json_object_get(reply, "usage");
    const long long total = json_integer_value(json_object_get(usage, "total_tokens"));
    const char *finish = json_string_value(json_object_get(choice, "finish_reason"));
    assert_true(strcmp(finish, "length") == 0 ? total == 129 : total < 129);
    assert_string_equal(json_string_value(json_object_get(json_object_get(choice, "message"), "role")),
                        "assistant");
    const json_t *content = json_object_get(json_object_get(choice, "logprobs"), "content");
    assert_true(json_array_size(content) > 0);
    assert_true(json_real_value(json_object_get(json_array_get(content, 0), "logprob")) <= 0);
    json_decref(reply);
    lb_job_release(job);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_stream_says_what_a_whole_answer_says, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_line_has_an_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(clients_that_leave_are_not_answered, set_up, tear_down),
        cmocka_unit_test_setup_teardown(time_runs_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(closing_and_stopping, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_context_is_the_end, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("scheduler", tests, NULL, NULL);
}
