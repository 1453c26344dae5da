/* SPDX-License-Identifier: MIT */
#include "cli/score_text.h"

#include <stdio.h>

static const char *protocol_name(const lb_eval_options *options)
{
    return options->protocol == LB_PROTOCOL_HALF ? "half" : "full";
}

void lb_print_score(const lb_eval_options *options, const lb_eval_result *r)
{
    printf("text          %s\n", options->text);
    printf("protocol      %s, %zu windows of %zu tokens, %zu scored\n", protocol_name(options), r->windows,
           r->ctx, r->tokens);
    printf("perplexity    %.4f +- %.4f\n", r->model.perplexity, r->model.perplexity_stderr);
    if (!options->against)
        return;
    printf("reference     %.4f +- %.4f  (%s)\n", r->reference.perplexity, r->reference.perplexity_stderr,
           options->against);
    printf("KL divergence mean %.5f +- %.5f, median %.5f, 99%% %.5f nats\n", r->kl_mean, r->kl_stderr,
           r->kl_median, r->kl_p99);
    printf("top-1         %.2f +- %.2f %% of predictions agree\n", r->top1_agreement, r->top1_stderr);
}

json_t *lb_score_json(const lb_eval_options *options, const lb_eval_result *r)
{
    json_t *json =
        json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:f}", "model", options->model, "text",
                  options->text, "protocol", protocol_name(options), "ctx", (json_int_t)r->ctx, "windows",
                  (json_int_t)r->windows, "tokens", (json_int_t)r->tokens, "nll_mean", r->model.nll_mean,
                  "nll_stderr", r->model.nll_stderr, "perplexity", r->model.perplexity, "perplexity_stderr",
                  r->model.perplexity_stderr, "seconds", r->seconds);
    if (!json || !options->against)
        return json;
    json_object_set_new(json, "reference",
                        json_pack("{s:s, s:f, s:f, s:f, s:f}", "model", options->against, "nll_mean",
                                  r->reference.nll_mean, "nll_stderr", r->reference.nll_stderr, "perplexity",
                                  r->reference.perplexity, "perplexity_stderr",
                                  r->reference.perplexity_stderr));
    json_object_set_new(json, "kl_mean", json_real(r->kl_mean));
    json_object_set_new(json, "kl_stderr", json_real(r->kl_stderr));
    json_object_set_new(json, "kl_median", json_real(r->kl_median));
    json_object_set_new(json, "kl_p99", json_real(r->kl_p99));
    json_object_set_new(json, "top1_agreement", json_real(r->top1_agreement));
    json_object_set_new(json, "top1_stderr", json_real(r->top1_stderr));
    return json;
}
