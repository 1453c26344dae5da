/* SPDX-License-Identifier: MIT */
#include "cli/task_generate.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "eval/answer.h"
#include "lowbit/generate.h"

/* The harness ends an answer at any of these. */
static const char *const ends[] = {"Question:", "</s>", "<|im_end|>"};

typedef struct answer {
    lb_text text;
} answer;

static int collect(void *user, const char *text, size_t length)
{
    answer *a = user;
    lb_text_add(&a->text, text, length);
    for (size_t i = 0; a->text.data && i < sizeof ends / sizeof *ends; i++) {
        char *end = strstr(a->text.data, ends[i]);
        if (end) {
            *end = '\0';
            a->text.length = (size_t)(end - a->text.data);
            return 1;
        }
    }
    return a->text.failed;
}

static lb_status ask(lb_generator *generator, const char *question, size_t most, const lb_progress *progress,
                     answer *out, lb_error *err)
{
    lb_generate_options o;
    lb_generate_options_init(&o);
    o.temperature = 0.0;
    o.max_tokens = most;
    o.on_text = collect;
    o.user = out;
    o.progress = *progress;
    return lb_generate_text(generator, question, strlen(question), &o, NULL, err);
}

static lb_status run_item(lb_generator *generator, const lb_task_set *set, const lb_task_item *item,
                          size_t most, const lb_progress *progress, bool *strict, bool *flexible,
                          lb_error *err)
{
    char right[LB_ANSWER_BYTES], got[LB_ANSWER_BYTES];
    lb_text question = {0};
    answer a = {0};
    lb_status st = LB_OK;
    LB_GO(lb_task_heading(set, item, &question, err));
    lb_text_add_string(&question, item->contexts[0]);
    if (question.failed) {
        st = lb_fail(err, LB_ENOMEM, "tasks: no memory");
        goto done;
    }
    LB_GO(ask(generator, question.data, most, progress, &a, err));
    if (!lb_answer_marked(item->choices[0], right) && !lb_answer_last(item->choices[0], right)) {
        st = lb_fail(err, LB_EFORMAT, "the answer has no number");
        goto done;
    }
    const char *said = a.text.data ? a.text.data : "";
    *strict = lb_answer_marked(said, got) && lb_answers_agree(got, right);
    *flexible = lb_answer_last(said, got) && lb_answers_agree(got, right);
done:
    lb_text_free(&question);
    lb_text_free(&a.text);
    return st;
}

/* Of a share of n. */
static double share_error(double share, size_t n)
{
    return n > 1 ? sqrt(share * (1.0 - share) / (double)(n - 1)) : 0.0;
}

lb_status lb_task_generate(const char *model, const char *cpu, const lb_task_spec *task, size_t limit,
                           size_t shots, size_t most, const lb_progress *progress, lb_generated_result *out,
                           lb_error *err)
{
    lb_task_set set;
    lb_generator *generator = NULL;
    lb_generator_options g;
    const double began = lb_now();
    size_t strict = 0, flexible = 0;
    lb_status st = LB_OK;
    LB_GO(lb_task_set_read(task, limit, shots, &set, err));
    const size_t n = set.items.count - set.first;
    lb_generator_options_init(&g);
    g.cpu = cpu;
    LB_GO(lb_generator_open(model, &g, &generator, err));
    for (size_t i = 0; i < n; i++) {
        bool right = false, loosely = false;
        LB_GO(lb_progress_tell(progress, task->name, i, n, err));
        st =
            run_item(generator, &set, &set.items.items[set.first + i], most, progress, &right, &loosely, err);
        if (st != LB_OK) {
            st = st == LB_ECANCELED ? st
                                    : lb_fail_at(err, st, "%s: question %zu", task->data, set.first + i + 1);
            goto done;
        }
        strict += right;
        flexible += loosely;
    }
    *out = (lb_generated_result){
        .items = n, .strict = (double)strict / (double)n, .flexible = (double)flexible / (double)n};
    out->strict_stderr = share_error(out->strict, n);
    out->flexible_stderr = share_error(out->flexible, n);
    out->seconds = lb_now() - began;
done:
    lb_generator_close(generator);
    lb_task_set_free(&set);
    return st;
}
