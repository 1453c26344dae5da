/* SPDX-License-Identifier: MIT
 * lb_tasks_run: files to items, items to requests, and what the model says of them to scores. */
#include "lowbit/tasks.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/options.h"
#include "eval/likelihood.h"
#include "eval/mean.h"
#include "eval/task_item.h"
#include "eval/task_prompt.h"

/* One task, and its questions as ids. */
typedef struct job {
    lb_task_set set;
    lb_request *requests; /* [request_count]: choice by choice, item by item */
    size_t request_count;
} job;

typedef struct tasks {
    const lb_tasks_options *o;
    job *jobs; /* [task_count] */
    lb_forward forward;
} tasks;

void lb_tasks_options_init_sized(lb_tasks_options *options, size_t size)
{
    const lb_tasks_options defaults = {.struct_size = sizeof defaults};
    lb_options_fill(options, size, &defaults, sizeof defaults);
}

/* ---- Files --------------------------------------------------------------------------------------------------- */

static lb_status read_task(const lb_tasks_options *o, const lb_task_spec *task, job *j, lb_error *err)
{
    LB_TRY(lb_task_set_read(task, o->limit, o->shots, &j->set, err));
    if (j->set.kind->scoring == LB_TASK_GENERATE)
        return lb_fail(err, LB_EINVAL, "task %s is scored by what is generated, not by likelihood",
                       task->name);
    return LB_OK;
}

/* ---- Requests ------------------------------------------------------------------------------------------------ */

static size_t choices_of(const job *j)
{
    size_t count = 0;
    for (size_t i = j->set.first; i < j->set.items.count; i++)
        count += j->set.items.items[i].choice_count;
    return count;
}

static lb_status add_requests(const tasks *t, job *j, const lb_task_item *item, const lb_tokenizer *tokenizer,
                              size_t most, lb_error *err)
{
    lb_status st = LB_OK;
    for (size_t c = 0; st == LB_OK && c < item->choice_count; c++) {
        lb_text question = {0};
        st = lb_task_heading(&j->set, item, &question, err);
        if (st == LB_OK)
            lb_text_add_string(&question, item->contexts[item->context_count > 1 ? c : 0]);
        if (st == LB_OK && question.failed)
            st = lb_fail(err, LB_ENOMEM, "tasks: no memory");
        if (st == LB_OK)
            st = lb_task_prompt(tokenizer, question.data ? question.data : "", item->choices[c], t->o->bos,
                                most, &j->requests[j->request_count], err);
        j->request_count += st == LB_OK;
        lb_text_free(&question);
    }
    return st;
}

/* All questions of a task as ids, at most what the model was made for; *longest grows to the longest of them. */
static lb_status tokenize(const tasks *t, size_t index, const lb_tokenizer *tokenizer, size_t most,
                          size_t *longest, lb_error *err)
{
    job *j = &t->jobs[index];
    LB_TRY(lb_alloc_array(&j->requests, choices_of(j), sizeof *j->requests, "questions", err));
    for (size_t i = j->set.first; i < j->set.items.count; i++) {
        const lb_status st = add_requests(t, j, &j->set.items.items[i], tokenizer, most, err);
        if (st != LB_OK)
            return lb_fail_at(err, st, "%s: question %zu", t->o->tasks[index].data, i + 1);
        LB_TRY(lb_progress_tell(&t->o->progress, "reading", 0, 0, err));
    }
    for (size_t i = 0; i < j->request_count; i++)
        *longest = j->requests[i].count - 1 > *longest ? j->requests[i].count - 1 : *longest;
    return LB_OK;
}

/* ---- Scores -------------------------------------------------------------------------------------------------- */

/* The first of the best. */
static size_t best_of(const double *scores, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        best = scores[i] > scores[best] ? i : best;
    return best;
}

static void score_item(const job *j, const lb_task_item *item, const lb_request *requests, lb_task_scores *s)
{
    double per_character[LB_TASK_MAX_CHOICES];
    for (size_t c = 0; c < item->choice_count; c++) {
        s->sums[c] = requests[c].sum;
        s->greedy[c] = requests[c].greedy;
        per_character[c] = requests[c].sum / (double)(item->characters[c] ? item->characters[c] : 1);
    }
    s->choices = item->choice_count;
    s->gold = item->gold;
    if (j->set.kind->scoring == LB_TASK_LAST_WORD) {
        s->right = s->right_norm = requests[0].greedy;
        return;
    }
    s->right = best_of(s->sums, s->choices) == item->gold;
    s->right_norm = best_of(per_character, s->choices) == item->gold;
}

static lb_status summarize(const tasks *t, size_t index, lb_task_result *r, lb_error *err)
{
    const job *j = &t->jobs[index];
    const size_t n = j->set.items.count - j->set.first;
    double *right, ignored;
    LB_TRY(lb_alloc_array(&right, 3 * n, sizeof *right, "scores", err));
    double *right_norm = right + n, *sums = right_norm + n;
    const lb_request *at = j->requests;
    for (size_t i = 0; i < n; i++) {
        const lb_task_item *item = &j->set.items.items[j->set.first + i];
        lb_task_scores s = {.index = j->set.first + i};
        score_item(j, item, at, &s);
        at += item->choice_count;
        right[i] = s.right;
        right_norm[i] = s.right_norm;
        sums[i] = s.sums[0];
        if (t->o->on_item)
            t->o->on_item(t->o->on_item_user, index, &s);
    }
    *r = (lb_task_result){
        .items = n, .acc_norm = NAN, .acc_norm_stderr = NAN, .perplexity = NAN, .perplexity_stderr = NAN};
    lb_mean(right, n, &r->acc, &r->acc_stderr);
    if (j->set.kind->scoring == LB_TASK_CHOICE_NORM)
        lb_mean(right_norm, n, &r->acc_norm, &r->acc_norm_stderr);
    if (j->set.kind->scoring == LB_TASK_LAST_WORD) {
        lb_mean(sums, n, &ignored, &r->perplexity_stderr);
        r->perplexity = exp(-ignored);
        r->perplexity_stderr *= r->perplexity;
    }
    lb_free(right);
    return LB_OK;
}

/* ---- All of it ------------------------------------------------------------------------------------------------ */

static lb_status run_task(tasks *t, size_t index, lb_task_result *result, lb_error *err)
{
    job *j = &t->jobs[index];
    const double began = lb_now();
    LB_TRY(lb_likelihood_run(&t->forward, j->requests, j->request_count, &t->o->progress,
                             t->o->tasks[index].name, err));
    LB_TRY(summarize(t, index, result, err));
    result->seconds = lb_now() - began;
    return LB_OK;
}

/* The model is opened for the longest question, which memory follows. */
static lb_status open_model(tasks *t, lb_error *err)
{
    const lb_kernels *kernels;
    lb_weights *weights = NULL;
    lb_tokenizer *tokenizer = NULL;
    size_t longest = 1;
    lb_status st = LB_OK;
    LB_TRY(lb_kernels_choose(t->o->cpu, &kernels, err));
    LB_TRY(lb_weights_open(t->o->model, &weights, err));
    LB_GO(lb_weights_tokenizer(weights, &tokenizer, err));
    for (size_t i = 0; i < t->o->task_count; i++)
        LB_GO(tokenize(t, i, tokenizer, weights->config.max_context, &longest, err));
    st = lb_forward_open(t->o->model, longest, kernels, &t->forward, err);
done:
    lb_tokenizer_destroy(tokenizer);
    lb_weights_close(weights);
    return st;
}

static void free_job(job *j)
{
    for (size_t i = 0; i < j->request_count; i++)
        lb_free(j->requests[i].ids);
    lb_free(j->requests);
    lb_task_set_free(&j->set);
}

lb_status lb_tasks_run(const lb_tasks_options *options, lb_task_result *results, lb_error *err)
{
    lb_tasks_options o;
    tasks t = {.o = &o};
    lb_status st = LB_OK;
    lb_tasks_options_init(&o);
    LB_TRY(lb_options_adopt(&o, sizeof o, options, "lb_tasks_options", err));
    memset(results, 0, o.task_count * sizeof *results);
    t.jobs = lb_alloc_zero(o.task_count, sizeof *t.jobs);
    if (!t.jobs)
        return lb_fail(err, LB_ENOMEM, "tasks: no memory");
    for (size_t i = 0; i < o.task_count; i++)
        LB_GO(read_task(&o, &o.tasks[i], &t.jobs[i], err));
    LB_GO(open_model(&t, err));
    for (size_t i = 0; i < o.task_count; i++)
        LB_GO(run_task(&t, i, &results[i], err));
done:
    for (size_t i = 0; i < o.task_count; i++)
        free_job(&t.jobs[i]);
    lb_free(t.jobs);
    lb_forward_close(&t.forward);
    return st;
}
