/* SPDX-License-Identifier: MIT
 * Sums of log-probabilities against the slow transformer of tests/reference_model.h, one request at a time, whatever
 * the library batches, pads and shares; questions as ids; and a whole task. */
#define _GNU_SOURCE
#include "near_value.h"
#include "reference_model.h"
#include "scratch.h"

#include "base/alloc.h"
#include "base/rng.h"
#include "base/thread.h"
#include "eval/likelihood.h"
#include "eval/task_prompt.h"
#include "lowbit/tasks.h"

static const tiny_model_options options = {.seed = 11, .context = 48, .tokenizer = TINY_BPE};

typedef struct work {
    char *folder;
    tiny_model *model;
    lb_tokenizer *tokenizer;
} work;

static int set_up(void **state)
{
    static work w;
    lb_error err;
    w.folder = scratch_make("likelihood");
    w.model = tiny_model_make(&options);
    assert_int_equal(tiny_model_write(w.folder, &options), 0);
    assert_int_equal(lb_tokenizer_open(w.folder, &w.tokenizer, &err), LB_OK);
    *state = &w;
    return 0;
}

static int tear_down(void **state)
{
    work *w = *state;
    lb_tokenizer_destroy(w->tokenizer);
    tiny_model_free(w->model);
    scratch_remove(w->folder);
    free(w->folder);
    return 0;
}

/* The truth about a request. */
static double slow_sum(const tiny_model *m, const lb_request *r, bool *greedy)
{
    const size_t vocab = m->options.vocab;
    double *logits = malloc(r->count * vocab * sizeof *logits), sum = 0;
    reference_logits(m, r->ids, r->count - 1, logits);
    *greedy = true;
    for (size_t at = r->first; at < r->count; at++) {
        const double *l = logits + (at - 1) * vocab;
        double total = 0, largest = l[0];
        for (size_t i = 0; i < vocab; i++)
            largest = l[i] > largest ? l[i] : largest;
        for (size_t i = 0; i < vocab; i++)
            total += exp(l[i] - largest);
        sum += l[r->ids[at]] - largest - log(total);
        *greedy = *greedy && l[r->ids[at]] == largest;
    }
    free(logits);
    return sum;
}

enum { REQUESTS = 60 };

static void sums_are_those_of_each_request_alone(void **state)
{
    const work *w = *state;
    const lb_progress nobody = {0};
    lb_forward forward;
    lb_request requests[REQUESTS];
    lb_rng rng;
    lb_error err;
    double sums[2][REQUESTS];
    lb_rng_seed(&rng, 4);
    for (size_t i = 0; i < REQUESTS; i++) {
        lb_request *r = &requests[i];
        *r = (lb_request){.count = 2 + lb_rng_below(&rng, 47)};
        r->first = 1 + lb_rng_below(&rng, r->count - 1);
        r->ids = lb_alloc(r->count, sizeof *r->ids);
        for (size_t k = 0; k < r->count; k++)
            r->ids[k] = (uint32_t)lb_rng_below(&rng, 250);
        if (i % 3 == 2) { /* another end of the same question */
            lb_free(r->ids);
            *r = requests[i - 1];
            r->ids = lb_alloc(r->count, sizeof *r->ids);
            memcpy(r->ids, requests[i - 1].ids, r->count * sizeof *r->ids);
            r->ids[r->count - 1] ^= 1;
        }
    }
    for (unsigned threads = 1; threads <= 2; threads++) {
        lb_thread_set_count(threads);
        assert_int_equal(lb_forward_open(w->folder, 48, lb_kernels_get(LB_CPU_BEST), &forward, &err), LB_OK);
        if (lb_likelihood_run(&forward, requests, REQUESTS, &nobody, "test", &err) != LB_OK)
            fail_msg("%s", err.msg);
        lb_forward_close(&forward);
        for (size_t i = 0; i < REQUESTS; i++)
            sums[threads - 1][i] = requests[i].sum;
    }
    lb_thread_set_count(0);
    assert_memory_equal(sums[0], sums[1], sizeof sums[0]);
    for (size_t i = 0; i < REQUESTS; i++) {
        bool greedy;
        near_value(requests[i].sum, slow_sum(w->model, &requests[i], &greedy),
                   2e-4 * (double)requests[i].count);
        assert_int_equal(requests[i].greedy, greedy);
        lb_free(requests[i].ids);
    }
}

static void questions_become_ids(void **state)
{
    const work *w = *state;
    lb_request r;
    lb_error err;
    /* "the" is a token; the blank at the question's end belongs to the choice. */
    static const struct {
        const char *question, *choice;
        size_t most, count, first;
    } cases[] = {{"ab", " the", 40, 3, 2},      {"ab ", "the", 40, 3, 2},    {"", "xyz", 40, 4, 1},
                 {"abcdefgh", "ij", 40, 10, 8}, {"abcdefgh", "ij", 4, 5, 3}, {"abcdefgh", "ijklmn", 4, 5, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (lb_task_prompt(w->tokenizer, cases[i].question, cases[i].choice, false, cases[i].most, &r,
                           &err) != LB_OK)
            fail_msg("%s", err.msg);
        assert_int_equal(r.count, cases[i].count);
        assert_int_equal(r.first, cases[i].first);
        lb_free(r.ids);
    }
    assert_int_equal(lb_task_prompt(w->tokenizer, "ab", "", false, 40, &r, &err), LB_EFORMAT);
}

static void keep_scores(void *user, size_t task, const lb_task_scores *s)
{
    (void)task;
    ((lb_task_scores *)user)[s->index] = *s;
}

/* What a choice is worth, from its bytes: every character of these texts is a token of its own. */
static double slow_choice(const work *w, const char *question, const char *choice, bool *greedy)
{
    uint32_t ids[64];
    lb_request r = {.ids = ids, .first = strlen(question)};
    for (const char *at = question; *at; at++)
        ids[r.count++] = (uint32_t)(unsigned char)*at;
    for (const char *at = choice; *at; at++)
        ids[r.count++] = (uint32_t)(unsigned char)*at;
    return slow_sum(w->model, &r, greedy);
}

static void a_whole_task(void **state)
{
    const work *w = *state;
    static const char lines[] = "{\"question_stem\": \"first\", \"choices\": {\"text\": [\"x\", \"y\"], "
                                "\"label\": [\"A\", \"B\"]}, \"answerKey\": \"A\"}\n"
                                "{\"question_stem\": \"on moss\", \"choices\": {\"text\": [\"wet\", \"very "
                                "dry\"], \"label\": [\"A\", \"B\"]}, \"answerKey\": \"B\"}\n"
                                "{\"question_stem\": \"up\", \"choices\": {\"text\": [\"a\", \"bbbb\", "
                                "\"cc\"], \"label\": [\"A\", \"B\", \"C\"]}, \"answerKey\": \"C\"}\n";
    static const char *const questions[] = {"first", "on moss", "up"};
    static const char *const choices[3][3] = {{" x", " y"}, {" wet", " very dry"}, {" a", " bbbb", " cc"}};
    static const size_t gold[] = {0, 1, 2};
    char path[SCRATCH_PATH_BYTES];
    lb_task_scores scores[3];
    lb_tasks_options o;
    lb_task_result result;
    lb_error err;
    snprintf(path, sizeof path, "%s/lines", w->folder);
    scratch_write(path, lines, strlen(lines));
    const lb_task_spec task = {.name = "openbookqa", .data = path};
    lb_tasks_options_init(&o);
    o.model = w->folder;
    o.tasks = &task;
    o.task_count = 1;
    o.on_item = keep_scores;
    o.on_item_user = scores;
    if (lb_tasks_run(&o, &result, &err) != LB_OK)
        fail_msg("%s", err.msg);
    double right = 0, right_norm = 0;
    for (size_t i = 0; i < 3; i++) {
        size_t best = 0, best_norm = 0;
        for (size_t c = 0; c < 3 && choices[i][c]; c++) {
            bool greedy;
            const double want = slow_choice(w, questions[i], choices[i][c], &greedy);
            near_value(scores[i].sums[c], want, 2e-3);
            best = scores[i].sums[c] > scores[i].sums[best] ? c : best;
            best_norm = scores[i].sums[c] / (double)(strlen(choices[i][c]) - 1) >
                                scores[i].sums[best_norm] / (double)(strlen(choices[i][best_norm]) - 1)
                            ? c
                            : best_norm;
        }
        right += best == gold[i];
        right_norm += best_norm == gold[i];
        assert_int_equal(scores[i].right, best == gold[i]);
    }
    assert_int_equal(result.items, 3);
    near_value(result.acc, right / 3, 1e-12);
    near_value(result.acc_norm, right_norm / 3, 1e-12);
    const double p = right / 3;
    near_value(result.acc_stderr, sqrt(p * (1 - p) / 2), 1e-12);
    assert_true(isnan(result.perplexity));
    /* The first line as an example: two are left. */
    o.shots = 1;
    assert_int_equal(lb_tasks_run(&o, &result, &err), LB_OK);
    assert_int_equal(result.items, 2);
    o.shots = 3;
    assert_int_equal(lb_tasks_run(&o, &result, &err), LB_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sums_are_those_of_each_request_alone),
                                       cmocka_unit_test(questions_become_ids),
                                       cmocka_unit_test(a_whole_task)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
