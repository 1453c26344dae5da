/* SPDX-License-Identifier: MIT
 *
 * How good a model is on a text, and how far it is from another one: perplexity and divergence.
 *
 * Divergence runs both models side by side, a batch of windows at a time, so that nothing of the size
 * of the logits is ever stored. Scores are sums in double of log-sum-exp in double.
 */
#ifndef LOWBIT_EVAL_H
#define LOWBIT_EVAL_H

#include <stdbool.h>
#include <stdint.h>

#include "lowbit/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum lb_protocol {
    /* The text is tokenized once, BOS at its very start where the tokenizer adds one, and cut into
     * windows of ctx tokens; an incomplete last one is dropped; each window starts from an empty
     * context, and every position but the first is scored. */
    LB_PROTOCOL_FULL,
    /* As llama.cpp's perplexity tool: windows of ctx, whose first token BOS replaces where the
     * tokenizer adds one; only the second half of each window is scored. */
    LB_PROTOCOL_HALF
} lb_protocol;

/* A direct cast: the model run with rewritten and rounded linear layers, without calibration. The head and
 * the embedding stay as they are. NULL leaves a part alone. */
typedef struct lb_cast {
    const char *weights; /* format to round weights to */
    const char *act; /* format to round the layers' inputs to */
    const char *transform; /* "none", "hadamard" (rotations of the format's group), "hadamard-N",
                            * "hadamard-full": applied to weights and inputs before they are rounded */
    const char *fit; /* "range" (the default: each group's extremes) or "search" (least squared error) */
    const void *reserved[4]; /* NULL */
} lb_cast;

typedef struct lb_eval_options {
    size_t struct_size; /* sizeof(lb_eval_options) */
    const char *model;
    const char *against; /* reference model; NULL: none, or with a cast the model itself without it */
    const char *text; /* file */
    lb_protocol protocol;
    size_t ctx; /* 0: 2048 (half: 512), or the model's maximum where that is less */
    size_t tokens; /* keep the first so many ids; 0: all */
    lb_cast cast; /* of `model`; a model that is quantized already takes `act` only */
    uint64_t seed; /* of a cast's random rotations */
    bool dry_run; /* check everything, fill in ctx and windows of the result, and stop */
    const char *cpu; /* cap of the instruction sets; NULL: the best */
    lb_progress progress;
} lb_eval_options;

LB_API void lb_eval_options_init_sized(lb_eval_options *options, size_t size);
#define lb_eval_options_init(options) lb_eval_options_init_sized((options), sizeof *(options))

typedef struct lb_score {
    double nll_mean; /* nats */
    double nll_stderr;
    double perplexity, perplexity_stderr;
} lb_score;

typedef struct lb_eval_result {
    size_t ctx, windows, tokens; /* tokens: scored positions */
    lb_score model, reference; /* reference: only when there is one */
    bool compares; /* there is a reference, and what follows is known */
    /* Over the same positions, KL(reference || model) in nats. */
    double kl_mean, kl_stderr, kl_median, kl_p99;
    /* The same of both distributions cut to the reference's 25 likeliest tokens and renormalized. What
     * arXiv:2510.25602 calls KL is this divided by 25. */
    double kl_top25_mean, kl_top25_stderr;
    double top1_agreement, top1_stderr; /* per cent */
    double seconds;
    size_t peak_rss_bytes;
    size_t reserved[8]; /* 0 */
} lb_eval_result;

LB_API lb_status lb_evaluate(const lb_eval_options *options, lb_eval_result *result, lb_error *err);

/* Several casts of one model side by side against one reference, which is computed once: results [count] in
 * the order of casts [count]; options->cast must be empty. `seconds` is that of all of them. */
LB_API lb_status lb_evaluate_casts(const lb_eval_options *options, const lb_cast *casts, size_t count,
                                   lb_eval_result *results, lb_error *err);

#ifdef __cplusplus
}
#endif
#endif
