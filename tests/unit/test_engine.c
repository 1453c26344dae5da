/* SPDX-License-Identifier: MIT
 * Several answers at once: each says what it says alone, prefixes are shared between sequences, stops, scores, and
 * who may begin. */
#define _GNU_SOURCE
#include "near.h"

#include <stdlib.h>
#include <unistd.h>

#include "lowbit/engine.h"
#include "reference_model.h"
#include "tiny_model.h"

enum { TASKS = 9, TOKENS = 12, TOP = 5 };

typedef struct answer {
    char text[2048];
    size_t length, scored;
    lb_token_score scores[64], top[64][TOP];
    bool ended;
    lb_status status;
    lb_generate_result result;
    int polls, cancel_at; /* 0: never */
} answer;

static int on_text(void *user, const char *text, size_t length)
{
    answer *a = user;
    assert_true(length > 0 && a->length + length < sizeof a->text);
    memcpy(a->text + a->length, text, length);
    a->length += length;
    return 0;
}

static void on_token(void *user, lb_token_score token, const lb_token_score *top, size_t top_count)
{
    answer *a = user;
    assert_true(a->scored < 64 && top_count == TOP);
    memcpy(a->top[a->scored], top, sizeof a->top[0]);
    a->scores[a->scored++] = token;
}

static void on_end(void *user, lb_status status, const lb_generate_result *result, const lb_error *err)
{
    answer *a = user;
    (void)err;
    assert_false(a->ended);
    a->ended = true;
    a->status = status;
    a->result = *result;
}

static int poll(void *user, const char *stage, size_t done, size_t total)
{
    answer *a = user;
    (void)stage;
    assert_true(done <= total);
    return ++a->polls == a->cancel_at;
}

static lb_engine *open_kept_as(const char *kv, size_t sequences, size_t context)
{
    static const tiny_model_options usual = {.seed = 21, .tokenizer = TINY_BPE};
    char folder[64];
    lb_engine *engine;
    lb_engine_options o;
    lb_error err = {0};
    lb_engine_options_init(&o);
    o.sequences = sequences;
    o.context = context;
    o.chunk = 16;
    o.kv = kv;
    snprintf(folder, sizeof folder, "/tmp/lowbit_test_engine_%ld", (long)getpid());
    assert_int_equal(tiny_model_write(folder, &usual), 0);
    if (lb_engine_open(folder, &o, &engine, &err) != LB_OK)
        fail_msg("%s", err.msg);
    tiny_model_remove(folder);
    return engine;
}

static lb_engine *open_tiny(size_t sequences, size_t context)
{
    return open_kept_as(NULL, sequences, context);
}

static lb_generate_options into(answer *a, size_t max_tokens)
{
    lb_generate_options o;
    lb_generate_options_init(&o);
    *a = (answer){.length = 0};
    o.max_tokens = max_tokens;
    o.ignore_end = true;
    o.on_text = on_text;
    o.user = a;
    return o;
}

static void begin(lb_engine *engine, const uint32_t *ids, size_t count, const lb_generate_options *o)
{
    lb_task *task;
    lb_error err = {0};
    if (lb_engine_begin(engine, ids, count, o, on_end, &task, &err) != LB_OK)
        fail_msg("%s", err.msg);
}

static void finish(lb_engine *engine)
{
    for (int steps = 0; lb_engine_busy(engine) > 0; steps++) {
        assert_true(steps < 1000);
        lb_engine_step(engine);
    }
}

static void fill(uint32_t *ids, size_t count, uint64_t seed)
{
    lb_rng rng;
    lb_rng_seed(&rng, seed);
    for (size_t i = 0; i < count; i++)
        ids[i] = 65 + (uint32_t)lb_rng_below(&rng, 26);
}

static void answers_do_not_depend_on_their_neighbours(void **state)
{
    (void)state;
    lb_engine *alone = open_tiny(1, 0), *together = open_tiny(4, 0);
    static answer want[TASKS], got[TASKS];
    uint32_t ids[TASKS][50];
    for (size_t i = 0; i < TASKS; i++) {
        fill(ids[i], 50, i);
        lb_generate_options o = into(&want[i], TOKENS + i);
        o.seed = i;
        begin(alone, ids[i], 10 + 5 * i, &o);
        finish(alone);
        assert_int_equal(want[i].status, LB_OK);
        assert_int_equal(want[i].result.generated_tokens, TOKENS + i);
    }
    size_t begun = 0;
    for (int steps = 0; begun < TASKS || lb_engine_busy(together) > 0; steps++) {
        assert_true(steps < 1000);
        if (begun < TASKS && lb_engine_busy(together) < 4 && steps % 3 == 0) {
            lb_generate_options o = into(&got[begun], TOKENS + begun);
            o.seed = begun;
            begin(together, ids[begun], 10 + 5 * begun, &o);
            begun++;
        }
        lb_engine_step(together);
    }
    for (size_t i = 0; i < TASKS; i++) {
        assert_int_equal(got[i].length, want[i].length);
        assert_memory_equal(got[i].text, want[i].text, want[i].length);
    }
    lb_engine_close(alone);
    lb_engine_close(together);
}

static void prefixes_are_shared_between_sequences(void **state)
{
    (void)state;
    lb_engine *engine = open_tiny(3, 0);
    static answer a, b, c, again;
    uint32_t ids[60], other[60];
    fill(ids, 60, 1);
    fill(other, 60, 2);
    lb_generate_options o = into(&a, 20);
    begin(engine, ids, 40, &o);
    while (a.length == 0)
        lb_engine_step(engine);
    /* Its prompt is read: a second one takes it over while the first goes on. */
    o = into(&b, 4);
    memcpy(other, ids, 33 * sizeof *ids);
    begin(engine, other, 50, &o);
    finish(engine);
    assert_int_equal(a.result.reused_tokens, 0);
    assert_int_equal(b.result.reused_tokens, 33);
    assert_int_equal(b.result.prompt_tokens, 50);
    /* And the first's sequence still is what it was. */
    o = into(&again, 20);
    begin(engine, ids, 40, &o);
    finish(engine);
    assert_int_equal(again.result.reused_tokens, 39);
    assert_int_equal(again.length, a.length);
    o = into(&c, 4);
    o.forget = true;
    begin(engine, other, 50, &o);
    finish(engine);
    assert_int_equal(c.result.reused_tokens, 0);
    lb_engine_close(engine);
}

static void a_stop_text_ends_an_answer(void **state)
{
    (void)state;
    lb_engine *engine = open_tiny(2, 0);
    static answer whole, cut;
    uint32_t ids[8];
    fill(ids, 8, 4);
    lb_generate_options o = into(&whole, 30);
    begin(engine, ids, 8, &o);
    finish(engine);
    assert_true(whole.length > 12);
    char stop[8] = {0};
    memcpy(stop, whole.text + 6, 4);
    if (strlen(stop) < 4)
        fail_msg("the tiny model says NUL");
    const char *at = strstr(whole.text, stop), *const stops[] = {"no such text", stop};
    o = into(&cut, 30);
    o.stops = stops;
    o.stop_count = 2;
    begin(engine, ids, 8, &o);
    finish(engine);
    assert_int_equal(cut.result.stop, LB_STOP_STRING);
    assert_int_equal(cut.length, at - whole.text);
    assert_memory_equal(cut.text, whole.text, cut.length);
    lb_engine_close(engine);
}

static void scores_are_the_models_own(void **state)
{
    (void)state;
    lb_engine *engine = open_tiny(2, 0);
    static answer greedy, drawn;
    uint32_t ids[8];
    fill(ids, 8, 5);
    lb_generate_options o = into(&greedy, 10);
    o.temperature = 0;
    o.on_token = on_token;
    o.top_scores = TOP;
    begin(engine, ids, 8, &o);
    o = into(&drawn, 30);
    o.on_token = on_token;
    o.top_scores = TOP;
    o.temperature = 2;
    o.repeat_penalty = 1.7;
    o.top_k = 2;
    begin(engine, ids, 8, &o);
    finish(engine);
    assert_int_equal(greedy.scored, 10);
    for (size_t i = 0; i < 10; i++) {
        double sum = 0;
        assert_int_equal(greedy.scores[i].id, greedy.top[i][0].id);
        assert_true(greedy.scores[i].logprob == greedy.top[i][0].logprob);
        for (size_t k = 0; k < TOP; k++) {
            sum += exp(greedy.top[i][k].logprob);
            assert_true(k == 0 || greedy.top[i][k].logprob <= greedy.top[i][k - 1].logprob);
        }
        assert_true(sum > 0 && sum < 1);
    }
    /* The same place in the text: the same distribution, whatever the penalty did to the draw. */
    assert_int_equal(drawn.scored, 30);
    assert_memory_equal(drawn.top[0], greedy.top[0], sizeof drawn.top[0]);
    for (size_t i = 0; i < 30; i++)
        for (size_t k = 0; k < TOP; k++)
            if (drawn.top[i][k].id == drawn.scores[i].id)
                assert_true(drawn.top[i][k].logprob == drawn.scores[i].logprob);
    lb_engine_close(engine);
}

static void beginning_ending_and_giving_up(void **state)
{
    (void)state;
    lb_engine *engine = open_tiny(2, 24);
    static answer a, b, c;
    lb_task *task;
    lb_error err = {0};
    uint32_t ids[30];
    fill(ids, 30, 6);
    lb_generate_options o = into(&a, 5);
    assert_int_equal(lb_engine_check(engine, 24, 1, &err), LB_OK);
    assert_int_equal(lb_engine_check(engine, 24, 2, &err), LB_EINVAL);
    assert_int_equal(lb_engine_begin(engine, ids, 25, &o, on_end, &task, &err), LB_EINVAL);
    assert_int_equal(lb_engine_begin(engine, ids, 0, &o, on_end, &task, &err), LB_EINVAL);
    begin(engine, ids, 10, &o);
    o = into(&b, 0);
    o.progress = (lb_progress){poll, &b};
    b.cancel_at = 4;
    assert_int_equal(lb_engine_begin(engine, ids, 10, &o, on_end, &task, &err), LB_OK);
    o = into(&c, 5);
    assert_int_equal(lb_engine_begin(engine, ids, 10, &o, on_end, &task, &err), LB_EEXIST);
    finish(engine);
    assert_int_equal(a.status, LB_OK);
    assert_int_equal(b.status, LB_ECANCELED);
    assert_int_equal(b.result.generated_tokens, 3);
    assert_int_equal(lb_engine_begin(engine, ids, 10, &o, on_end, &task, &err), LB_OK);
    lb_engine_step(engine);
    lb_engine_abandon(engine, task);
    assert_int_equal(lb_engine_busy(engine), 0);
    assert_false(c.ended);
    lb_engine_step(engine); /* nothing to do */
    o = into(&c, 0);
    begin(engine, ids, 10, &o);
    finish(engine);
    assert_int_equal(c.result.stop, LB_STOP_CONTEXT);
    assert_int_equal(c.result.generated_tokens, 15);
    const uint32_t outside[] = {1, 4000};
    o = into(&c, 5);
    begin(engine, outside, 2, &o);
    finish(engine);
    assert_int_equal(c.status, LB_EINVAL);
    o = into(&c, 5); /* a task that is left */
    begin(engine, ids, 10, &o);
    lb_engine_step(engine);
    lb_engine_close(engine);
    lb_engine_options options;
    lb_engine_options_init(&options);
    options.sequences = 65;
    assert_int_equal(lb_engine_open("nowhere", &options, &engine, &err), LB_EINVAL);
}

/* Float weights: the slow transformer's, within float error. And the same, whatever was asked before, beside or in
 * pieces of the context. */
static void logits_are_the_slow_transformers(void **state)
{
    (void)state;
    enum { COUNT = 40, FIRST = 19 };
    static const tiny_model_options usual = {.seed = 21, .tokenizer = TINY_BPE};
    tiny_model *made = tiny_model_make(&usual);
    const size_t vocab = made->options.vocab;
    double *want = malloc(COUNT * vocab * sizeof *want);
    float *all = malloc(COUNT * vocab * sizeof *all), *some = malloc(COUNT * vocab * sizeof *some);
    uint32_t ids[COUNT + 1];
    lb_engine *engine = open_kept_as("f32", 2, COUNT);
    lb_error err = {0};
    lb_task *task;
    static answer beside;
    lb_generate_options o = into(&beside, 8);
    fill(ids, COUNT + 1, 3);
    reference_logits(made, ids, COUNT, want);
    assert_int_equal(lb_engine_vocab(engine), vocab);
    begin(engine, ids, 12, &o);
    lb_engine_step(engine);
    assert_int_equal(lb_engine_logits(engine, ids, COUNT, 0, NULL, all, &err), LB_OK);
    near_array(all, want, COUNT * vocab, 2e-4);
    assert_int_equal(lb_engine_logits(engine, ids, COUNT, FIRST, NULL, some, &err), LB_OK);
    near_array(some, want + FIRST * vocab, (COUNT - FIRST) * vocab, 2e-4);
    finish(engine);
    assert_int_equal(beside.status, LB_OK);
    assert_int_equal(lb_engine_logits(engine, ids, COUNT, 0, NULL, some, &err), LB_OK);
    assert_memory_equal(all, some, COUNT * vocab * sizeof *all);

    assert_int_equal(lb_engine_logits(engine, ids, 0, 0, NULL, some, &err), LB_EINVAL);
    assert_int_equal(lb_engine_logits(engine, ids, COUNT, COUNT, NULL, some, &err), LB_EINVAL);
    assert_int_equal(lb_engine_logits(engine, ids, COUNT + 1, 0, NULL, some, &err), LB_EINVAL);
    beside.polls = 0;
    beside.cancel_at = 2;
    assert_int_equal(lb_engine_logits(engine, ids, COUNT, 0, &(lb_progress){poll, &beside}, some, &err),
                     LB_ECANCELED);
    ids[4] = (uint32_t)vocab;
    assert_int_equal(lb_engine_logits(engine, ids, COUNT, 0, NULL, some, &err), LB_EINVAL);
    ids[4] = 65;
    assert_int_equal(lb_engine_begin(engine, ids, 12, &o, on_end, &task, &err), LB_OK);
    assert_int_equal(lb_engine_begin(engine, ids, 12, &o, on_end, &task, &err), LB_OK);
    assert_int_equal(lb_engine_logits(engine, ids, COUNT, 0, NULL, some, &err), LB_EEXIST);
    lb_engine_close(engine);
    tiny_model_free(made);
    free(want);
    free(all);
    free(some);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_do_not_depend_on_their_neighbours),
        cmocka_unit_test(prefixes_are_shared_between_sequences),
        cmocka_unit_test(a_stop_text_ends_an_answer),
        cmocka_unit_test(scores_are_the_models_own),
        cmocka_unit_test(beginning_ending_and_giving_up),
        cmocka_unit_test(logits_are_the_slow_transformers),
    };
    return cmocka_run_group_tests_name("engine", tests, NULL, NULL);
}
