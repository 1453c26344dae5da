/* SPDX-License-Identifier: MIT
 * lb_evaluate: windows through one model or two, and the statistics of what they predict. */
#include "lowbit/eval.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/options.h"
#include "base/thread.h"
#include "eval/forward.h"
#include "eval/windows.h"
#include "io/tokenizer.h"

enum {
    MAX_TEXT_BYTES = 1 << 30,
    BATCH_BYTES = 96 << 20, /* of activations of one model */
    LOGIT_TOKENS = 128 /* positions whose logits exist at a time */
};

void lb_eval_options_init(lb_eval_options *options)
{
    *options = (lb_eval_options){.struct_size = sizeof *options};
}

typedef struct evaluation {
    const lb_eval_options *options;
    lb_windows windows;
    lb_forward model, reference;
    bool compares;
    size_t batch_windows;
    float *x[2]; /* [batch tokens, hidden] of each model */
    float *logits[2]; /* [LOGIT_TOKENS, vocab] */
    float *scratch[2]; /* [LOGIT_TOKENS, hidden] */
    /* per scored position: */
    double *nll[2], *kl;
    unsigned char *agrees;
    size_t scored;
} evaluation;

/* One position: its target's negative log-likelihood in both models, and their divergence. */
typedef struct position_job {
    evaluation *e;
    size_t first; /* scored index of the first position */
    const uint32_t *targets;
    size_t vocab;
} position_job;

static double log_sum_exp(const float *logits, size_t n, size_t *largest)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        best = logits[i] > logits[best] ? i : best;
    double total = 0.0;
    for (size_t i = 0; i < n; i++)
        total += exp((double)logits[i] - (double)logits[best]);
    *largest = best;
    return (double)logits[best] + log(total);
}

/* KL(p || q) from logits and their normalizers. */
static double divergence(const float *p, double p_norm, const float *q, double q_norm, size_t n)
{
    double total = 0.0;
    for (size_t i = 0; i < n; i++) {
        const double log_p = (double)p[i] - p_norm;
        total += exp(log_p) * (log_p - ((double)q[i] - q_norm));
    }
    return total > 0.0 ? total : 0.0; /* rounding can make equal distributions differ by -1e-17 */
}

static void score_positions(void *arg, size_t begin, size_t end)
{
    const position_job *job = arg;
    evaluation *e = job->e;
    for (size_t i = begin; i < end; i++) {
        const float *logits = e->logits[0] + i * job->vocab;
        size_t top, reference_top;
        const double norm = log_sum_exp(logits, job->vocab, &top);
        e->nll[0][job->first + i] = norm - (double)logits[job->targets[i]];
        if (!e->compares)
            continue;
        const float *reference = e->logits[1] + i * job->vocab;
        const double reference_norm = log_sum_exp(reference, job->vocab, &reference_top);
        e->nll[1][job->first + i] = reference_norm - (double)reference[job->targets[i]];
        e->kl[job->first + i] = divergence(reference, reference_norm, logits, norm, job->vocab);
        e->agrees[job->first + i] = top == reference_top;
    }
}

static lb_forward *forward_of(evaluation *e, int which)
{
    return which == 0 ? &e->model : &e->reference;
}

static lb_status score_window(evaluation *e, const uint32_t *ids, size_t first_token, lb_error *err)
{
    const size_t ctx = e->windows.ctx;
    for (size_t at = e->windows.first_scored; at < ctx; at += LOGIT_TOKENS) {
        const size_t count = ctx - at < LOGIT_TOKENS ? ctx - at : LOGIT_TOKENS;
        for (int which = 0; which <= (e->compares ? 1 : 0); which++) {
            lb_forward *f = forward_of(e, which);
            const float *x = e->x[which] + (first_token + at - 1) * f->weights->config.hidden;
            LB_TRY(lb_embedding_logits(f->kernels, &f->embedding, x, count, e->scratch[which],
                                       e->logits[which], err));
        }
        position_job job = {e, e->scored, ids + at, e->model.weights->config.vocab};
        lb_parallel_for(count, 1, score_positions, &job);
        e->scored += count;
    }
    return LB_OK;
}

static lb_status score_batch(evaluation *e, size_t first, size_t count, lb_error *err)
{
    const lb_progress *progress = &e->options->progress;
    const size_t ctx = e->windows.ctx;
    const uint32_t *ids = e->windows.ids + first * ctx;
    LB_TRY(lb_progress_tell(progress, "evaluation", first, e->windows.count, err));
    for (int which = 0; which <= (e->compares ? 1 : 0); which++)
        LB_TRY(lb_forward_run(forward_of(e, which), ids, count, e->x[which], progress, "evaluation", err));
    for (size_t w = 0; w < count; w++) {
        LB_TRY(score_window(e, ids + w * ctx, w * ctx, err));
        LB_TRY(lb_progress_tell(progress, "evaluation", first + w + 1, e->windows.count, err));
    }
    return LB_OK;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Mean and its standard error. */
static void mean_of(const double *values, size_t n, double *mean, double *error)
{
    double total = 0.0, squares = 0.0;
    for (size_t i = 0; i < n; i++)
        total += values[i];
    *mean = total / (double)n;
    for (size_t i = 0; i < n; i++)
        squares += (values[i] - *mean) * (values[i] - *mean);
    *error = n > 1 ? sqrt(squares / (double)(n - 1) / (double)n) : 0.0;
}

static lb_score score_of(const double *nll, size_t n)
{
    lb_score s;
    mean_of(nll, n, &s.nll_mean, &s.nll_stderr);
    s.perplexity = exp(s.nll_mean);
    s.perplexity_stderr = s.perplexity * s.nll_stderr;
    return s;
}

static lb_status summarize(evaluation *e, lb_eval_result *r, lb_error *err)
{
    const size_t n = e->scored;
    r->ctx = e->windows.ctx;
    r->windows = e->windows.count;
    r->tokens = n;
    r->model = score_of(e->nll[0], n);
    for (int which = 0; which <= (e->compares ? 1 : 0); which++) {
        if (!isfinite(score_of(e->nll[which], n).nll_mean))
            return lb_fail(err, LB_EFORMAT, "%s computes logits that are not finite numbers",
                           which == 0 ? e->options->model : e->options->against);
    }
    if (e->compares) {
        size_t same = 0;
        r->reference = score_of(e->nll[1], n);
        mean_of(e->kl, n, &r->kl_mean, &r->kl_stderr);
        qsort(e->kl, n, sizeof *e->kl, ascending);
        r->kl_median = n % 2 ? e->kl[n / 2] : 0.5 * (e->kl[n / 2 - 1] + e->kl[n / 2]);
        r->kl_p99 = e->kl[(size_t)(0.99 * (double)(n - 1))];
        for (size_t i = 0; i < n; i++)
            same += e->agrees[i];
        const double share = (double)same / (double)n;
        r->top1_agreement = 100.0 * share;
        r->top1_stderr = 100.0 * sqrt(share * (1.0 - share) / (double)n);
    }
    r->peak_rss_bytes = lb_peak_rss_bytes();
    return LB_OK;
}

/* Where nobody chose a context, it is one that the reference can follow too. */
static lb_status fit_reference(const char *path, size_t *ctx, lb_error *err)
{
    lb_weights *weights;
    if (!path)
        return LB_OK;
    LB_TRY(lb_weights_open(path, &weights, err));
    if (weights->config.max_context < *ctx)
        *ctx = weights->config.max_context;
    lb_weights_close(weights);
    return LB_OK;
}

static lb_status read_text(evaluation *e, size_t ctx, lb_error *err)
{
    const lb_eval_options *o = e->options;
    lb_weights *weights = NULL;
    lb_tokenizer *tokenizer = NULL;
    char *text = NULL;
    size_t bytes;
    lb_status st = LB_OK;
    LB_GO(lb_weights_open(o->model, &weights, err));
    const lb_checkpoint *c = &weights->checkpoint;
    if (!c->tokenizer) {
        st = lb_fail(err, LB_EFORMAT, "%s has no tokenizer to read the text with", c->path);
        goto done;
    }
    LB_GO(lb_tokenizer_create(c->tokenizer, c->tokenizer_config, c->path, &tokenizer, err));
    LB_GO(lb_tokenizer_check_rows(tokenizer, weights->config.vocab, c->path, err));
    LB_GO(lb_file_read(o->text, MAX_TEXT_BYTES, &text, &bytes, err));
    if (ctx == 0) {
        const size_t usual = o->protocol == LB_PROTOCOL_HALF ? 512 : 2048;
        ctx = usual < weights->config.max_context ? usual : weights->config.max_context;
        LB_GO(fit_reference(o->against, &ctx, err));
    } else if (ctx > weights->config.max_context) {
        st = lb_fail(err, LB_EINVAL, "a context of %zu tokens is more than the %zu that %s was made for", ctx,
                     weights->config.max_context, o->model);
        goto done;
    }
    st = lb_windows_create(tokenizer, text, bytes, o->protocol, ctx, o->tokens, &e->windows, err);
    if (st != LB_OK)
        st = lb_fail_at(err, st, "%s", o->text);
done:
    lb_free(text);
    lb_tokenizer_destroy(tokenizer);
    lb_weights_close(weights);
    return st;
}

static lb_status parse_optional(const char *name, lb_format *format, const lb_format **out, lb_error *err)
{
    *out = NULL;
    if (!name)
        return LB_OK;
    LB_TRY(lb_format_parse(name, format, err));
    if (!lb_format_is_float(format))
        *out = format;
    return LB_OK;
}

static lb_status open_models(evaluation *e, lb_format formats[2], lb_error *err)
{
    const lb_eval_options *o = e->options;
    const lb_format *weights, *act;
    const lb_kernels *kernels;
    LB_TRY(lb_kernels_choose(o->cpu, &kernels, err));
    LB_TRY(parse_optional(o->weights, &formats[0], &weights, err));
    LB_TRY(parse_optional(o->act, &formats[1], &act, err));
    LB_TRY(lb_forward_open(o->model, e->windows.ctx, kernels, weights, act, &e->model, err));
    if (!e->compares)
        return LB_OK;
    LB_TRY(lb_forward_open(o->against, e->windows.ctx, kernels, NULL, NULL, &e->reference, err));
    if (e->windows.ctx > e->reference.weights->config.max_context)
        return lb_fail(err, LB_EINVAL, "a context of %zu tokens is more than the %zu that %s was made for",
                       e->windows.ctx, e->reference.weights->config.max_context, o->against);
    if (e->model.weights->config.vocab != e->reference.weights->config.vocab)
        return lb_fail(err, LB_EINVAL, "%s has a vocabulary of %zu, but its reference %s one of %zu",
                       o->model, e->model.weights->config.vocab, o->against,
                       e->reference.weights->config.vocab);
    return LB_OK;
}

static lb_status allocate(evaluation *e, lb_error *err)
{
    const size_t ctx = e->windows.ctx;
    const size_t positions = e->windows.count * (ctx - e->windows.first_scored);
    size_t widest = e->model.weights->config.hidden;
    if (e->compares && e->reference.weights->config.hidden > widest)
        widest = e->reference.weights->config.hidden;
    e->batch_windows = (size_t)BATCH_BYTES / (ctx * widest * sizeof(float));
    if (e->batch_windows == 0)
        e->batch_windows = 1;
    if (e->batch_windows > e->windows.count)
        e->batch_windows = e->windows.count;
    for (int which = 0; which <= (e->compares ? 1 : 0); which++) {
        const lb_config *c = &forward_of(e, which)->weights->config;
        LB_TRY(lb_alloc_array(&e->x[which], e->batch_windows * ctx, c->hidden * sizeof(float), "activations",
                              err));
        LB_TRY(lb_alloc_array(&e->logits[which], LOGIT_TOKENS, c->vocab * sizeof(float), "logits", err));
        LB_TRY(lb_alloc_array(&e->scratch[which], LOGIT_TOKENS, c->hidden * sizeof(float), "logits", err));
        LB_TRY(lb_alloc_array(&e->nll[which], positions, sizeof(double), "scores", err));
    }
    if (e->compares) {
        LB_TRY(lb_alloc_array(&e->kl, positions, sizeof(double), "scores", err));
        LB_TRY(lb_alloc_array(&e->agrees, positions, 1, "scores", err));
    }
    return LB_OK;
}

static void release(evaluation *e)
{
    lb_windows_free(&e->windows);
    lb_forward_close(&e->model);
    lb_forward_close(&e->reference);
    for (int which = 0; which < 2; which++) {
        lb_free(e->x[which]);
        lb_free(e->logits[which]);
        lb_free(e->scratch[which]);
        lb_free(e->nll[which]);
    }
    lb_free(e->kl);
    lb_free(e->agrees);
}

lb_status lb_evaluate(const lb_eval_options *options, lb_eval_result *result, lb_error *err)
{
    lb_eval_options o;
    evaluation e = {.options = &o};
    lb_format formats[2];
    lb_status st = LB_OK;
    const double start = lb_now();
    lb_eval_options_init(&o);
    LB_TRY(lb_options_adopt(&o, sizeof o, options, "lb_eval_options", err));
    e.compares = o.against != NULL;
    if (!o.model || !o.text)
        return lb_fail(err, LB_EINVAL, "an evaluation wants a model and a text");
    LB_GO(read_text(&e, o.ctx, err));
    LB_GO(open_models(&e, formats, err));
    LB_GO(allocate(&e, err));
    if (o.dry_run) {
        *result = (lb_eval_result){.ctx = e.windows.ctx, .windows = e.windows.count};
        goto done;
    }
    for (size_t w = 0; w < e.windows.count; w += e.batch_windows) {
        const size_t left = e.windows.count - w;
        LB_GO(score_batch(&e, w, left < e.batch_windows ? left : e.batch_windows, err));
    }
    LB_GO(summarize(&e, result, err));
    result->seconds = lb_now() - start;
done:
    release(&e);
    return st;
}
