/* SPDX-License-Identifier: MIT */
#include "cli/sampling.h"

#include <stdio.h>

#include "cli/output.h"
#include "cli/progress.h"

lb_generator_options lb_sampling_open(const lb_common_args *common, const lb_sampling_args *sampling)
{
    lb_generator_options o;
    lb_generator_options_init(&o);
    o.context = sampling->context;
    o.cpu = common->cpu;
    o.progress.fn = lb_stop_when_interrupted;
    o.kv = sampling->kv;
    o.draft_path = sampling->draft;
    o.draft_tokens = sampling->draft_tokens;
    o.draft_confidence = sampling->draft_confidence;
    return o;
}

lb_generate_options lb_sampling_generate(const lb_common_args *common, const lb_sampling_args *sampling)
{
    lb_generate_options o;
    lb_generate_options_init(&o);
    o.max_tokens = sampling->tokens;
    o.temperature = sampling->temperature;
    o.top_k = sampling->top_k;
    o.top_p = sampling->top_p;
    o.min_p = sampling->min_p;
    o.repeat_penalty = sampling->repeat_penalty;
    o.repeat_window = sampling->repeat_window;
    o.seed = common->seed;
    o.progress.fn = lb_stop_when_interrupted;
    return o;
}

int lb_stream_text(void *user, const char *text, size_t length)
{
    lb_stream *stream = user;
    fwrite(text, 1, length, stdout);
    stream->failed = lb_output_flush(&stream->err) != LB_OK;
    return stream->failed;
}

int lb_stop_when_interrupted(void *user, const char *stage, size_t done, size_t total)
{
    (void)user;
    (void)stage;
    (void)done;
    (void)total;
    return lb_interrupted();
}

double lb_prompt_rate(const lb_generate_result *r)
{
    return r->prompt_seconds > 0 ? (double)(r->prompt_tokens - r->reused_tokens) / r->prompt_seconds : 0;
}

/* The first token comes out of the prompt's own logits: n tokens take n - 1 steps. */
double lb_decode_rate(const lb_generate_result *r)
{
    return r->generated_tokens > 1 && r->decode_seconds > 0
               ? (double)(r->generated_tokens - 1) / r->decode_seconds
               : 0;
}

void lb_print_timing(const lb_generate_result *r)
{
    fprintf(stderr, "prompt: %zu tokens, %.1f tokens/s; generated: %zu tokens, %.1f tokens/s\n",
            r->prompt_tokens - r->reused_tokens, lb_prompt_rate(r), r->generated_tokens, lb_decode_rate(r));
    if (r->drafted_tokens > 0)
        fprintf(stderr, "draft: %zu of %zu tokens taken, %.2f tokens a pass\n", r->accepted_tokens,
                r->drafted_tokens, (double)(r->generated_tokens - 1) / (double)r->passes);
}
