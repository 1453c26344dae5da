/* SPDX-License-Identifier: MIT
 * One answer under way: what comes after logits, from the next token to text that may be shown. Where the
 * logits come from is the engine's business (engine.c). */
#ifndef LB_INFER_TASK_H
#define LB_INFER_TASK_H

#include "infer/sampler.h"
#include "infer/stop_text.h"
#include "lowbit/engine.h"

struct lb_task {
    const lb_tokenizer *tokenizer;
    lb_generate_options options; /* stops is NULL */
    lb_task_end_fn on_end;
    uint32_t *prompt; /* [count] */
    size_t count;
    lb_sampler *sampler;
    lb_detokenizer *stream;
    lb_stop_text stop;
    float *unpenalized; /* [vocab], where scores are wanted and the penalty changes logits; or NULL */
    lb_generate_result result;
    double since; /* when the stage that is being timed began */
    bool is_reading; /* the prompt; afterwards `next` is to be fed */
    bool stopped; /* by on_text */
    uint32_t next;
    uint64_t number; /* tasks are counted: the older one's prompt is read first */
};

/* Copies ids [count], and what options point at. */
lb_status lb_task_create(const lb_tokenizer *tokenizer, const uint32_t *ids, size_t count,
                         const lb_generate_options *options, lb_task_end_fn on_end, lb_task **out,
                         lb_error *err);
void lb_task_destroy(lb_task *task);

/* How tokens are chosen. */
lb_sampling lb_task_sampling(const lb_generate_options *options);

/* The prompt has been read: the penalty and the text's beginning see it. */
lb_status lb_task_begin_answer(lb_task *task, lb_error *err);

/* Takes the next token from logits (changed by the penalty), and hands over what text it makes certain.
 * *over: nothing is to be fed any more; result.stop says why, unless `has_room` was false, which is then the
 * reason. A draft's proposal (or NULL) may be what the token is: *taken says so. */
lb_status lb_task_take(lb_task *task, float *logits, const lb_proposal *proposal, bool has_room, bool *taken,
                       bool *over, lb_error *err);

/* The text that was kept back. */
lb_status lb_task_finish(lb_task *task, lb_error *err);

#endif
