/* SPDX-License-Identifier: MIT
 * A question and a choice as token ids. */
#ifndef LB_EVAL_TASK_PROMPT_H
#define LB_EVAL_TASK_PROMPT_H

#include "eval/likelihood.h"
#include "lowbit/tokenizer.h"

/* Both together, cut from the beginning to `most` + 1 ids; what is scored is the choice. Blanks at the end of the
 * question belong to the choice. An empty question stands for BOS, or EOS. bos: begin with BOS where the tokenizer
 * adds one. lb_free(out->ids). */
lb_status lb_task_prompt(const lb_tokenizer *tokenizer, const char *question, const char *choice, bool bos,
                         size_t most, lb_request *out, lb_error *err);

#endif
