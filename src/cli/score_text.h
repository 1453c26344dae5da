/* SPDX-License-Identifier: MIT
 * Printing what an evaluation found: shared by `eval` and `quantize --eval-text`. */
#ifndef LB_CLI_SCORE_TEXT_H
#define LB_CLI_SCORE_TEXT_H

#include <jansson.h>

#include "lowbit/eval.h"

/* A table on stdout; the reference's rows only when there was one. */
void lb_print_score(const lb_eval_options *options, const lb_eval_result *result);

/* The JSON object of `eval --json`. */
json_t *lb_score_json(const lb_eval_options *options, const lb_eval_result *result);

#endif
