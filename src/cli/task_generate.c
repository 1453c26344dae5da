/* SPDX-License-Identifier: MIT */
#include "cli/task_generate.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "cli/output.h"
#include "eval/answer.h"
#include "lowbit/generate.h"
#include "model/weights.h"

/* The harness ends an answer at any of these. */
static const char *const ends[] = {"Question:", "</s>", "<|im_end|>"};

static lb_status no_memory(lb_error *err)
{
    return lb_fail(err, LB_ENOMEM, "tasks: no memory");
}

/* ---- Prompts ------------------------------------------------------------------------------------------------- */

/* At most `room` ids, the last ones. */
static lb_status encode(const lb_generated_options *o, const lb_tokenizer *tokenizer, const lb_task_set *set,
                        const lb_task_item *item, size_t room, lb_generated_prompt *out, lb_error *err)
{
    lb_text question = {0};
    lb_status st = LB_OK;
    LB_GO(lb_task_heading(set, item, &question, err));
    lb_text_add_string(&question, item->contexts[0]);
    if (question.failed)
        LB_GO(no_memory(err));
    LB_GO(lb_tokenizer_encode(tokenizer, question.data, question.length,
                              o->bos ? LB_ENCODE_DEFAULT_BOS : LB_ENCODE_PLAIN, &out->ids, &out->count, err));
    if (out->count > room) {
        memmove(out->ids, out->ids + (out->count - room), room * sizeof *out->ids);
        out->count = room;
    }
done:
    lb_text_free(&question);
    return st;
}

static lb_status encode_all(const lb_generated_options *o, lb_generated_task *t, const lb_weights *weights,
                            lb_error *err)
{
    const size_t n = t->set.items.count - t->set.first, limit = weights->config.max_context;
    lb_tokenizer *tokenizer = NULL;
    lb_status st = LB_OK;
    if (limit <= o->most)
        return lb_fail(
            err, LB_EINVAL,
            "task %s: an answer of %zu tokens leaves no room for a question in the model's context "
            "of %zu; ask for fewer (--most)",
            t->spec->name, o->most, limit);
    LB_TRY(lb_weights_tokenizer(weights, &tokenizer, err));
    LB_GO(lb_alloc_array(&t->prompts, n, sizeof *t->prompts, "questions", err));
    for (; t->prompt_count < n; t->prompt_count++) {
        lb_generated_prompt *prompt = &t->prompts[t->prompt_count];
        const size_t i = t->set.first + t->prompt_count;
        *prompt = (lb_generated_prompt){0};
        st = encode(o, tokenizer, &t->set, &t->set.items.items[i], limit - o->most, prompt, err);
        if (st != LB_OK) {
            st = lb_fail_at(err, st, "%s: question %zu", t->spec->data, i + 1);
            goto done;
        }
        t->context = prompt->count + o->most > t->context ? prompt->count + o->most : t->context;
        LB_GO(lb_progress_tell(&o->progress, "reading", 0, 0, err));
    }
done:
    lb_tokenizer_destroy(tokenizer);
    return st;
}

lb_status lb_generated_read(const lb_generated_options *o, const lb_task_spec *spec, lb_generated_task *out,
                            lb_error *err)
{
    lb_weights *weights;
    *out = (lb_generated_task){.spec = spec};
    LB_TRY(lb_task_set_read(spec, o->limit, o->shots, &out->set, err));
    LB_TRY(lb_weights_open(o->model, &weights, err));
    const lb_status st = encode_all(o, out, weights, err);
    lb_weights_close(weights);
    return st;
}

void lb_generated_free(lb_generated_task *t)
{
    for (size_t i = 0; i < t->prompt_count; i++)
        lb_ids_free(t->prompts[i].ids);
    lb_free(t->prompts);
    lb_task_set_free(&t->set);
    *t = (lb_generated_task){0};
}

/* ---- Answers ------------------------------------------------------------------------------------------------- */

static int collect(void *user, const char *text, size_t length)
{
    lb_text *answer = user;
    lb_text_add(answer, text, length);
    for (size_t i = 0; answer->data && i < sizeof ends / sizeof *ends; i++) {
        char *end = strstr(answer->data, ends[i]);
        if (end) {
            *end = '\0';
            answer->length = (size_t)(end - answer->data);
            return 1;
        }
    }
    return answer->failed;
}

static lb_status ask(const lb_generated_options *o, lb_generator *generator,
                     const lb_generated_prompt *prompt, lb_text *answer, lb_error *err)
{
    lb_generate_options g;
    lb_generate_options_init(&g);
    g.temperature = 0.0;
    g.max_tokens = o->most;
    g.on_text = collect;
    g.user = answer;
    g.progress = o->progress;
    LB_TRY(lb_generate(generator, prompt->ids, prompt->count, &g, NULL, err));
    return answer->failed ? no_memory(err) : LB_OK;
}

/* What was found in an answer, beside what should be. */
typedef struct verdict {
    char right[LB_ANSWER_BYTES], marked[LB_ANSWER_BYTES], last[LB_ANSWER_BYTES];
    bool has_marked, has_last, strict, flexible;
} verdict;

static verdict judge(const lb_task_item *item, const char *said)
{
    verdict v = {0};
    if (!lb_answer_marked(item->choices[0], v.right)) /* one of the two is there: the reader has seen to it */
        (void)lb_answer_last(item->choices[0], v.right);
    v.has_marked = lb_answer_marked(said, v.marked);
    v.has_last = lb_answer_last(said, v.last);
    v.strict = v.has_marked && lb_answers_agree(v.marked, v.right);
    v.flexible = v.has_last && lb_answers_agree(v.last, v.right);
    return v;
}

static int add_json(const char *bytes, size_t length, void *text)
{
    lb_text_add(text, bytes, length);
    return 0;
}

static lb_status add_line(const lb_generated_task *t, size_t index, const char *said, const verdict *v,
                          lb_text *items, lb_error *err)
{
    const lb_generated_prompt *prompt = &t->prompts[index];
    json_t *ids = json_array();
    for (size_t i = 0; i < prompt->count; i++)
        json_array_append_new(ids, json_integer((json_int_t)prompt->ids[i]));
    json_t *line =
        json_pack("{s:s, s:I, s:s, s:o, s:o, s:s?, s:s?, s:b, s:b}", "task", t->spec->name, "line",
                  (json_int_t)(t->set.first + index + 1), "gold", v->right, "prompt", ids, "answer",
                  lb_json_text(said), "strict", v->has_marked ? v->marked : NULL, "flexible",
                  v->has_last ? v->last : NULL, "right", v->strict, "right_flexible", v->flexible);
    const bool added = line && json_dump_callback(line, add_json, items, JSON_PRESERVE_ORDER) == 0;
    json_decref(line);
    lb_text_add_string(items, "\n");
    return added && !items->failed ? LB_OK : no_memory(err);
}

static lb_status run_item(const lb_generated_options *o, const lb_generated_task *t, lb_generator *generator,
                          size_t index, lb_text *items, verdict *v, lb_error *err)
{
    lb_text answer = {0};
    lb_status st = ask(o, generator, &t->prompts[index], &answer, err);
    const char *said = answer.data ? answer.data : "";
    if (st == LB_OK) {
        *v = judge(&t->set.items.items[t->set.first + index], said);
        st = items ? add_line(t, index, said, v, items, err) : LB_OK;
    }
    lb_text_free(&answer);
    return st == LB_OK || st == LB_ECANCELED
               ? st
               : lb_fail_at(err, st, "%s: question %zu", t->spec->data, t->set.first + index + 1);
}

/* Of a share of n. */
static double share_error(double share, size_t n)
{
    return n > 1 ? sqrt(share * (1.0 - share) / (double)(n - 1)) : 0.0;
}

lb_status lb_generated_run(const lb_generated_options *o, const lb_generated_task *t, lb_text *items,
                           lb_generated_result *out, lb_error *err)
{
    lb_generator *generator = NULL;
    lb_generator_options g;
    const size_t n = t->prompt_count;
    const double began = lb_now();
    size_t strict = 0, flexible = 0;
    lb_status st = LB_OK;
    lb_generator_options_init(&g);
    g.cpu = o->cpu;
    g.context = t->context;
    LB_GO(lb_generator_open(o->model, &g, &generator, err));
    for (size_t i = 0; i < n; i++) {
        verdict v;
        LB_GO(lb_progress_tell(&o->progress, t->spec->name, i, n, err));
        LB_GO(run_item(o, t, generator, i, items, &v, err));
        strict += v.strict;
        flexible += v.flexible;
    }
    *out = (lb_generated_result){
        .items = n, .strict = (double)strict / (double)n, .flexible = (double)flexible / (double)n};
    out->strict_stderr = share_error(out->strict, n);
    out->flexible_stderr = share_error(out->flexible, n);
    out->seconds = lb_now() - began;
done:
    lb_generator_close(generator);
    return st;
}
