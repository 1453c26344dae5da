/* SPDX-License-Identifier: MIT
 * What the tests of evaluation share: lb_evaluate on short windows of the file "text" in the scratch folder,
 * which must succeed, or must fail with a sentence. */
#ifndef LB_TESTS_EVAL_CASE_H
#define LB_TESTS_EVAL_CASE_H

#include "quantize_case.h"

#include "lowbit/eval.h"

enum { CTX = 24 };

static inline lb_eval_options options_for(const char *model)
{
    lb_eval_options o;
    lb_eval_options_init(&o);
    o.model = model;
    o.text = in_work("text");
    o.ctx = CTX;
    return o;
}

static inline lb_eval_result must_evaluate(const lb_eval_options *options)
{
    lb_eval_result r;
    lb_error err;
    if (lb_evaluate(options, &r, &err) != LB_OK)
        fail_msg("%s", err.msg);
    return r;
}

static inline void must_refuse_eval(const lb_eval_options *options, lb_status wanted, const char *words)
{
    lb_eval_result r;
    lb_error err = {LB_OK, ""};
    const lb_status st = lb_evaluate(options, &r, &err);
    if (st != wanted || err.status != wanted || !strstr(err.msg, words))
        fail_msg("status %d, \"%s\"; wanted %d, \"%s\"", (int)st, err.msg, (int)wanted, words);
}

#endif
