/* SPDX-License-Identifier: MIT
 * The number in an answer to a sum, as the field's usual harness finds it in GSM8K's. */
#ifndef LB_EVAL_ANSWER_H
#define LB_EVAL_ANSWER_H

#include <stdbool.h>
#include <stddef.h>

enum { LB_ANSWER_BYTES = 64 };

/* What follows the first "#### " of the text, if it is a number: strict. */
bool lb_answer_marked(const char *text, char out[LB_ANSWER_BYTES]);

/* The last number of the text, whatever it stands in: flexible. */
bool lb_answer_last(const char *text, char out[LB_ANSWER_BYTES]);

/* Whether two such numbers are the same but for commas, a dollar sign and a full stop at the end. */
bool lb_answers_agree(const char *a, const char *b);

#endif
