/* SPDX-License-Identifier: MIT */
#include "cli/score_text.h"

#include <stdio.h>

#include "cli/output.h"

static const char *protocol_name(const lb_eval_options *options)
{
    return options->protocol == LB_PROTOCOL_HALF ? "half" : "full";
}

/* A cast is compared with the model that it is of. */
static const char *reference_name(const lb_eval_options *options)
{
    return options->against ? options->against : options->model;
}

static void print_cast(const lb_cast *cast)
{
    if (!cast->weights && !cast->act && !cast->transform)
        return;
    printf("cast          weights %s, inputs %s, transform %s\n",
           cast->weights ? cast->weights : "as they are", cast->act ? cast->act : "as they are",
           cast->transform ? cast->transform : "none");
}

void lb_print_score(const lb_eval_options *options, const lb_eval_result *r)
{
    printf("text          %s\n", options->text);
    print_cast(&options->cast);
    printf("protocol      %s, %zu windows of %zu tokens, %zu scored\n", protocol_name(options), r->windows,
           r->ctx, r->tokens);
    printf("perplexity    %.4f +- %.4f\n", r->model.perplexity, r->model.perplexity_stderr);
    if (!r->compares)
        return;
    printf("reference     %.4f +- %.4f  (%s)\n", r->reference.perplexity, r->reference.perplexity_stderr,
           reference_name(options));
    printf("KL divergence mean %.5f +- %.5f, median %.5f, 99%% %.5f nats\n", r->kl_mean, r->kl_stderr,
           r->kl_median, r->kl_p99);
    printf("  of top 25   mean %.5f +- %.5f nats\n", r->kl_top25_mean, r->kl_top25_stderr);
    printf("top-1         %.2f +- %.2f %% of predictions agree\n", r->top1_agreement, r->top1_stderr);
}

json_t *lb_score_json(const lb_eval_options *options, const lb_eval_result *r)
{
    json_t *json = json_pack(
        "{s:o, s:o, s:s, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:f}", "model", lb_json_text(options->model),
        "text", lb_json_text(options->text), "protocol", protocol_name(options), "ctx", (json_int_t)r->ctx,
        "windows", (json_int_t)r->windows, "tokens", (json_int_t)r->tokens, "nll_mean",
        lb_json_number(r->model.nll_mean), "nll_stderr", lb_json_number(r->model.nll_stderr), "perplexity",
        lb_json_number(r->model.perplexity), "perplexity_stderr", lb_json_number(r->model.perplexity_stderr),
        "seconds", r->seconds);
    if (!json || !r->compares)
        return json;
    json_object_set_new(json, "reference",
                        json_pack("{s:o, s:o, s:o, s:o, s:o}", "model", lb_json_text(reference_name(options)),
                                  "nll_mean", lb_json_number(r->reference.nll_mean), "nll_stderr",
                                  lb_json_number(r->reference.nll_stderr), "perplexity",
                                  lb_json_number(r->reference.perplexity), "perplexity_stderr",
                                  lb_json_number(r->reference.perplexity_stderr)));
    json_object_set_new(json, "kl_mean", lb_json_number(r->kl_mean));
    json_object_set_new(json, "kl_stderr", lb_json_number(r->kl_stderr));
    json_object_set_new(json, "kl_median", lb_json_number(r->kl_median));
    json_object_set_new(json, "kl_p99", lb_json_number(r->kl_p99));
    json_object_set_new(json, "kl_top25_mean", lb_json_number(r->kl_top25_mean));
    json_object_set_new(json, "kl_top25_stderr", lb_json_number(r->kl_top25_stderr));
    json_object_set_new(json, "top1_agreement", lb_json_number(r->top1_agreement));
    json_object_set_new(json, "top1_stderr", lb_json_number(r->top1_stderr));
    return json;
}
