/* SPDX-License-Identifier: MIT
 * Answers with a draft: at temperature 0 those without one, token for token, whatever the draft is and
 * wherever the answer ends; drawn ones have the model's own distribution; beside each other they stay what
 * they are. */
#define _GNU_SOURCE
#include "near.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "infer/session.h"
#include "lowbit/engine.h"
#include "tiny_model.h"

enum { CONTEXT = 64 };

typedef struct answer {
    uint32_t ids[256];
    size_t count;
    lb_generate_result result;
    bool ended;
} answer;

static void on_token(void *user, lb_token_score token, const lb_token_score *top, size_t top_count)
{
    answer *a = user;
    (void)top;
    (void)top_count;
    assert_true(a->count < 256);
    a->ids[a->count++] = token.id;
}

static void on_end(void *user, lb_status status, const lb_generate_result *result, const lb_error *err)
{
    answer *a = user;
    (void)err;
    assert_int_equal(status, LB_OK);
    a->result = *result;
    a->ended = true;
}

static const char *folder(unsigned which)
{
    static char paths[3][64];
    snprintf(paths[which], sizeof paths[which], "/tmp/lowbit_test_draft_%ld_%u", (long)getpid(), which);
    return paths[which];
}

/* 0: the model; 1: another of another shape; 2: another tokenizer. */
static int make_models(void **state)
{
    (void)state;
    const tiny_model_options kinds[] = {
        {.seed = 3, .tokenizer = TINY_BYTES, .context = CONTEXT, .dtype = LB_DTYPE_F16},
        {.seed = 4,
         .tokenizer = TINY_BYTES,
         .context = CONTEXT,
         .layers = 1,
         .hidden = 32,
         .heads = 2,
         .kv_heads = 1},
        {.seed = 4, .tokenizer = TINY_BPE, .context = CONTEXT}};
    for (unsigned i = 0; i < 3; i++)
        if (tiny_model_write(folder(i), &kinds[i]) != 0)
            return 1;
    return 0;
}

static int remove_models(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++)
        tiny_model_remove(folder(i));
    return 0;
}

/* Random models are never sure of anything. */
static lb_generator *open_with(unsigned draft, size_t tokens, double confidence)
{
    lb_generator *generator;
    lb_generator_options o;
    lb_error err = {0};
    lb_generator_options_init(&o);
    o.draft_path = folder(draft);
    o.draft_tokens = tokens;
    o.draft_confidence = confidence;
    if (lb_generator_open(folder(0), &o, &generator, &err) != LB_OK)
        fail_msg("%s", err.msg);
    return generator;
}

static answer ask(lb_generator *generator, const uint32_t *ids, size_t count, lb_generate_options *o)
{
    answer a = {0};
    lb_error err = {0};
    o->on_token = on_token;
    o->user = &a;
    if (lb_generate(generator, ids, count, o, &a.result, &err) != LB_OK)
        fail_msg("%s", err.msg);
    return a;
}

static void same_answers(const answer *a, const answer *b)
{
    assert_int_equal(a->count, b->count);
    assert_memory_equal(a->ids, b->ids, a->count * sizeof *a->ids);
    assert_int_equal(a->result.generated_tokens, b->result.generated_tokens);
    assert_int_equal(a->result.stop, b->result.stop);
}

static void greedy_answers_are_the_same(void **state)
{
    (void)state;
    static const size_t lengths[] = {1, 2, 3, 7, 20, 0}; /* 0: to the end of the context */
    const uint32_t prompt[] = {72, 101, 108, 108, 111, 32, 119};
    for (unsigned draft = 0; draft < 2; draft++) {
        for (size_t tokens = 1; tokens <= LB_GENERATE_MOST_DRAFT; tokens += 5) {
            lb_generator *generator = open_with(draft, tokens, tokens == 6 ? 0.02 : 0);
            size_t drafted = 0, accepted = 0;
            for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
                for (int penalty = 0; penalty < 2; penalty++) {
                    lb_generate_options o;
                    lb_generate_options_init(&o);
                    o.temperature = 0;
                    o.ignore_end = true;
                    o.max_tokens = lengths[i];
                    o.repeat_penalty = penalty ? 1.3 : 1;
                    o.repeat_window = 9;
                    answer with = ask(generator, prompt, 7 - i % 3, &o);
                    o.no_draft = true;
                    answer without = ask(generator, prompt, 7 - i % 3, &o);
                    same_answers(&with, &without);
                    assert_int_equal(without.result.drafted_tokens, 0);
                    assert_int_equal(without.result.passes + 1, without.count);
                    /* Every pass gives what was taken, and one more: but for the last, that may be cut. */
                    assert_true(with.result.passes + with.result.accepted_tokens + 1 >= with.count);
                    assert_true(with.result.accepted_tokens <= with.result.drafted_tokens);
                    drafted += with.result.drafted_tokens;
                    accepted += with.result.accepted_tokens;
                }
            }
            assert_true(drafted > 0);
            /* A draft that is the model itself is always right. */
            assert_true(draft != 0 || accepted == drafted);
            lb_generator_close(generator);
        }
    }
}

static void stops_and_conversations_are_the_same(void **state)
{
    (void)state;
    lb_generator *generator = open_with(0, 4, 0);
    uint32_t prompt[CONTEXT] = {84, 104, 101};
    size_t count = 3;
    for (int turn = 0; turn < 4; turn++) { /* each goes on from the answer before */
        lb_generate_options o;
        lb_generate_options_init(&o);
        o.temperature = 0;
        o.max_tokens = 9;
        o.ignore_end = turn % 2 == 0;
        const answer with = ask(generator, prompt, count, &o);
        o.no_draft = true;
        o.forget = true;
        const answer without = ask(generator, prompt, count, &o);
        same_answers(&with, &without);
        for (size_t i = 0; i < with.count; i++)
            prompt[count++] = with.ids[i];
        prompt[count++] = 65;
    }
    lb_generator_close(generator);
}

/* ---- Distribution ----------------------------------------------------------------------------------------
 * */

enum { KEPT = 3, LENGTH = 3, OUTCOMES = KEPT * KEPT * KEPT };

/* What can follow ids [count], by the sampler's rules (top-k, then softmax), from the model as it is. */
static void next_tokens(lb_session *session, const uint32_t *ids, size_t count, double temperature,
                        uint32_t *next, double *p)
{
    float *logits;
    lb_error err;
    double sum = 0;
    size_t found = 0;
    lb_session_rewind(session, 0);
    assert_int_equal(lb_session_feed(session, ids, count, NULL, &logits, &err), LB_OK);
    for (; found < KEPT; found++) {
        size_t best = 0;
        for (size_t i = 1; i < 259; i++)
            best = logits[i] > logits[best] ? i : best;
        next[found] = (uint32_t)best;
        p[found] = exp((double)logits[best] / temperature);
        sum += p[found];
        logits[best] = -INFINITY;
    }
    for (size_t i = 0; i < KEPT; i++)
        p[i] /= sum;
}

/* All answers of LENGTH tokens with their probabilities. */
static void all_answers(const uint32_t *prompt, size_t count, double temperature, uint32_t answers[][LENGTH],
                        double *p)
{
    lb_resident model;
    lb_session *session;
    lb_error err = {0};
    uint32_t ids[CONTEXT];
    assert_int_equal(lb_resident_load(folder(0), NULL, &model, &err), LB_OK);
    assert_int_equal(lb_session_create(lb_kernels_get(LB_CPU_BEST), &model, CONTEXT, 0, &session, &err),
                     LB_OK);
    memcpy(ids, prompt, count * sizeof *ids);
    for (size_t o = 0; o < OUTCOMES; o++) {
        size_t rest = o;
        p[o] = 1;
        for (size_t t = 0; t < LENGTH; t++, rest /= KEPT) {
            uint32_t next[KEPT];
            double probabilities[KEPT];
            next_tokens(session, ids, count + t, temperature, next, probabilities);
            ids[count + t] = answers[o][t] = next[rest % KEPT];
            p[o] *= probabilities[rest % KEPT];
        }
    }
    lb_session_destroy(session);
    lb_resident_free(&model);
}

static void drawn_answers_have_the_models_distribution(void **state)
{
    (void)state;
    enum { DRAWS = 6000 };
    const uint32_t prompt[] = {72, 105, 33, 10};
    const double temperature = 4;
    uint32_t answers[OUTCOMES][LENGTH];
    double p[OUTCOMES], sum = 0;
    size_t counts[OUTCOMES] = {0}, drafted = 0, accepted = 0;
    all_answers(prompt, 4, temperature, answers, p);
    lb_generator *generator = open_with(1, 3, 0);
    for (size_t draw = 0; draw < DRAWS; draw++) {
        lb_generate_options o;
        size_t which = 0;
        lb_generate_options_init(&o);
        o.temperature = temperature;
        o.top_k = KEPT;
        o.top_p = 1;
        o.min_p = 0;
        o.seed = draw;
        o.ignore_end = true;
        o.max_tokens = LENGTH;
        const answer a = ask(generator, prompt, 4, &o);
        assert_int_equal(a.count, LENGTH);
        while (which < OUTCOMES && memcmp(answers[which], a.ids, sizeof answers[which]) != 0)
            which++;
        assert_true(which < OUTCOMES);
        counts[which]++;
        drafted += a.result.drafted_tokens;
        accepted += a.result.accepted_tokens;
    }
    lb_generator_close(generator);
    assert_true(drafted > DRAWS / 10 && accepted > 0 && accepted < drafted);
    for (size_t o = 0; o < OUTCOMES; o++) {
        const double expected = p[o] * DRAWS;
        assert_true(expected > 5);
        sum += ((double)counts[o] - expected) * ((double)counts[o] - expected) / expected;
    }
    if (!(sum < 54.05)) /* a thousandth of chi square with 26 degrees of freedom lies beyond */
        fail_msg("chi square is %g", sum);
}

/* ---- Several, and what does not belong together
 * -------------------------------------------------------------- */

static void answers_beside_each_other(void **state)
{
    (void)state;
    enum { TASKS = 5 };
    lb_engine *engine;
    lb_engine_options eo;
    lb_error err = {0};
    answer alone[TASKS], together[TASKS] = {0};
    lb_engine_options_init(&eo);
    eo.sequences = 3;
    eo.draft_path = folder(1);
    eo.draft_tokens = 3;
    eo.draft_confidence = 0;
    assert_int_equal(lb_engine_open(folder(0), &eo, &engine, &err), LB_OK);
    for (int pass = 0; pass < 2; pass++) {
        size_t begun = 0;
        while (begun < TASKS || lb_engine_busy(engine) > 0) {
            while (begun < TASKS && lb_engine_busy(engine) < (pass ? 3u : 1u)) {
                const uint32_t prompt[] = {65, 66, (uint32_t)(97 + begun)};
                lb_generate_options o;
                lb_task *task;
                lb_generate_options_init(&o);
                o.seed = begun;
                o.max_tokens = 5 + begun;
                o.forget = true;
                o.on_token = on_token;
                o.user = pass ? &together[begun] : &alone[begun];
                memset(o.user, 0, sizeof alone[0]);
                assert_int_equal(lb_engine_begin(engine, prompt, 3, &o, on_end, &task, &err), LB_OK);
                begun++;
            }
            lb_engine_step(engine);
        }
    }
    for (size_t i = 0; i < TASKS; i++) {
        assert_true(together[i].ended);
        same_answers(&alone[i], &together[i]);
        assert_int_equal(alone[i].result.accepted_tokens, together[i].result.accepted_tokens);
    }
    lb_engine_close(engine);
}

static void a_foreign_tokenizer_is_refused(void **state)
{
    (void)state;
    lb_generator *generator = NULL;
    lb_generator_options o;
    lb_error err = {0};
    lb_generator_options_init(&o);
    o.draft_path = folder(2);
    assert_int_equal(lb_generator_open(folder(0), &o, &generator, &err), LB_EINVAL);
    assert_non_null(strstr(err.msg, "cannot draft: its tokenizer"));
    o.draft_path = "/nowhere/at/all";
    assert_int_not_equal(lb_generator_open(folder(0), &o, &generator, &err), LB_OK);
    o.draft_path = folder(1);
    o.draft_tokens = LB_GENERATE_MOST_DRAFT + 1;
    assert_int_equal(lb_generator_open(folder(0), &o, &generator, &err), LB_EINVAL);
    o.draft_tokens = 2;
    o.draft_confidence = -0.5;
    assert_int_equal(lb_generator_open(folder(0), &o, &generator, &err), LB_EINVAL);
    o.draft_confidence = 0.5;
    for (size_t k = 1;; k++) { /* no memory at any place */
        lb_alloc_fail_at(k);
        const lb_status st = lb_generator_open(folder(0), &o, &generator, &err);
        lb_alloc_fail_at(0);
        if (st == LB_OK)
            break;
        assert_int_equal(st, LB_ENOMEM);
        assert_true(k < 100000);
    }
    lb_generator_close(generator);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_answers_are_the_same),
        cmocka_unit_test(stops_and_conversations_are_the_same),
        cmocka_unit_test(drawn_answers_have_the_models_distribution),
        cmocka_unit_test(answers_beside_each_other),
        cmocka_unit_test(a_foreign_tokenizer_is_refused),
    };
    return cmocka_run_group_tests_name("draft", tests, make_models, remove_models);
}
