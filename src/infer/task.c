/* SPDX-License-Identifier: MIT */
#include "infer/task.h"

#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "infer/token_scores.h"

/* So many of the prompt's last tokens settle how the text goes on. */
enum { CONTINUED_TOKENS = 8 };

lb_sampling lb_task_sampling(const lb_generate_options *o)
{
    return (lb_sampling){o->temperature,    o->top_k,         o->top_p, o->min_p,
                         o->repeat_penalty, o->repeat_window, o->seed};
}

lb_status lb_task_create(const lb_tokenizer *tokenizer, const uint32_t *ids, size_t count,
                         const lb_generate_options *o, lb_task_end_fn on_end, lb_task **out, lb_error *err)
{
    const lb_sampling how = lb_task_sampling(o);
    lb_status st = LB_OK;
    if (o->top_scores > LB_GENERATE_MOST_TOP)
        return lb_fail(err, LB_EINVAL, "scores of %zu tokens were asked for, wanted at most %d",
                       o->top_scores, LB_GENERATE_MOST_TOP);
    lb_task *t = lb_alloc_zero(1, sizeof *t);
    if (!t)
        return lb_fail(err, LB_ENOMEM, "no memory for an answer");
    t->tokenizer = tokenizer;
    t->options = *o;
    t->options.stops = NULL;
    t->on_end = on_end;
    t->count = count;
    t->is_reading = true;
    t->since = lb_now();
    t->result = (lb_generate_result){.prompt_tokens = count, .stop = LB_STOP_LENGTH};
    LB_GO(lb_alloc_array(&t->prompt, count, sizeof *ids, "prompt", err));
    memcpy(t->prompt, ids, count * sizeof *ids);
    /* Rows of the embedding that are only padding have no text and must not be drawn. */
    LB_GO(lb_sampler_create(&how, lb_tokenizer_vocab_size(tokenizer), &t->sampler, err));
    LB_GO(lb_detokenizer_create(tokenizer, &t->stream, err));
    LB_GO(lb_stop_text_create(o->stops, o->stop_count, &t->stop, err));
    if (o->on_token && o->repeat_penalty != 1)
        LB_GO(lb_alloc_array(&t->unpenalized, lb_tokenizer_vocab_size(tokenizer), sizeof *t->unpenalized,
                             "scores", err));
    *out = t;
    t = NULL;
done:
    lb_task_destroy(t);
    return st;
}

void lb_task_destroy(lb_task *t)
{
    if (!t)
        return;
    lb_free(t->prompt);
    lb_sampler_destroy(t->sampler);
    lb_detokenizer_destroy(t->stream);
    lb_stop_text_free(&t->stop);
    lb_free(t->unpenalized);
    lb_free(t);
}

lb_status lb_task_begin_answer(lb_task *t, lb_error *err)
{
    const char *text;
    size_t length;
    for (size_t i = 0; i < t->count; i++)
        lb_sampler_accept(t->sampler, t->prompt[i]);
    const size_t first = t->count > CONTINUED_TOKENS ? t->count - CONTINUED_TOKENS : 0;
    for (size_t i = first; t->options.continues_text && i < t->count; i++)
        LB_TRY(lb_detokenizer_put(t->stream, t->prompt[i], &text, &length, err));
    t->is_reading = false;
    t->result.prompt_seconds = lb_now() - t->since;
    t->since = lb_now();
    return LB_OK;
}

static void hand_over(lb_task *t, const char *text, size_t length)
{
    if (length > 0 && t->options.on_text && !t->stopped)
        t->stopped = t->options.on_text(t->options.user, text, length) != 0;
}

static lb_status put_text(lb_task *t, const char *text, size_t length, bool *found, lb_error *err)
{
    const char *certain;
    size_t certain_length;
    *found = lb_stop_text_put(&t->stop, text, length, &certain, &certain_length);
    if (t->stop.held.failed)
        return lb_fail(err, LB_ENOMEM, "no memory for the answer's text");
    hand_over(t, certain, certain_length);
    return LB_OK;
}

static lb_status pick(lb_task *t, float *logits, const lb_proposal *proposal, bool *taken, bool *is_end,
                      lb_error *err)
{
    const lb_generate_options *o = &t->options;
    const size_t vocab = lb_tokenizer_vocab_size(t->tokenizer);
    lb_token_score top[LB_GENERATE_MOST_TOP];
    double log_sum = 0;
    size_t count = 0;
    if (o->on_token) {
        log_sum = lb_log_sum(logits, vocab);
        count = lb_top_scores(logits, vocab, log_sum, o->top_scores, top);
    }
    if (t->unpenalized)
        memcpy(t->unpenalized, logits, vocab * sizeof *logits);
    *taken = false;
    if (proposal)
        LB_TRY(lb_sampler_verify(t->sampler, logits, proposal, &t->next, taken, err));
    else
        LB_TRY(lb_sampler_pick(t->sampler, logits, &t->next, err));
    lb_sampler_accept(t->sampler, t->next);
    t->result.generated_tokens++;
    *is_end = !o->ignore_end && lb_tokenizer_is_end(t->tokenizer, t->next);
    if (o->on_token && !*is_end) {
        const float logit = (t->unpenalized ? t->unpenalized : logits)[t->next];
        o->on_token(o->user, (lb_token_score){t->next, (double)logit - log_sum}, top, count);
    }
    return LB_OK;
}

lb_status lb_task_take(lb_task *t, float *logits, const lb_proposal *proposal, bool has_room, bool *taken,
                       bool *over, lb_error *err)
{
    const char *text;
    size_t length;
    bool found;
    *over = true;
    LB_TRY(pick(t, logits, proposal, taken, &found, err));
    if (found) {
        t->result.stop = LB_STOP_END;
        return LB_OK;
    }
    LB_TRY(lb_detokenizer_put(t->stream, t->next, &text, &length, err));
    LB_TRY(put_text(t, text, length, &found, err));
    if (found)
        t->result.stop = LB_STOP_STRING;
    if (found || t->stopped || t->result.generated_tokens == t->options.max_tokens)
        return LB_OK;
    if (!has_room)
        t->result.stop = LB_STOP_CONTEXT;
    *over = !has_room;
    return LB_OK;
}

lb_status lb_task_finish(lb_task *t, lb_error *err)
{
    const char *text;
    size_t length;
    bool found = t->result.stop == LB_STOP_STRING;
    t->result.decode_seconds = lb_now() - t->since;
    if (!found) {
        LB_TRY(lb_detokenizer_finish(t->stream, &text, &length, err));
        LB_TRY(put_text(t, text, length, &found, err));
        if (found) {
            t->result.stop = LB_STOP_STRING;
        } else if (t->stop.count > 0) {
            lb_stop_text_rest(&t->stop, &text, &length);
            hand_over(t, text, length);
        }
    }
    if (t->stopped)
        t->result.stop = LB_STOP_CALLER;
    return LB_OK;
}
