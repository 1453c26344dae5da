/* SPDX-License-Identifier: MIT
 * lb_evaluate: windows through a model in one or several ways, and perhaps through a reference, and the
 * statistics of what they predict. */
#include "lowbit/eval.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/options.h"
#include "base/thread.h"
#include "eval/divergence.h"
#include "eval/forward.h"
#include "eval/mean.h"
#include "eval/windows.h"

enum {
    MAX_TEXT_BYTES = 1 << 30,
    BATCH_BYTES = 128 << 20, /* of activations, all streams together */
    LOGIT_BYTES = 64 << 20, /* of logits that exist at a time, all streams together */
    MOST_LOGIT_TOKENS = 128,
    TOP = 25 /* tokens of the paper's divergence */
};

void lb_eval_options_init_sized(lb_eval_options *options, size_t size)
{
    const lb_eval_options defaults = {.struct_size = sizeof defaults, .seed = 42};
    lb_options_fill(options, size, &defaults, sizeof defaults);
}

/* One way of running a model, and what it predicts. */
typedef struct stream {
    lb_forward *forward;
    lb_way way;
    float *x; /* [batch tokens, hidden] */
    float *logits; /* [logit_tokens, vocab] */
    /* per scored position: */
    double *nll;
    double *kl, *kl_top; /* from the reference, where there is one */
    unsigned char *agrees;
} stream;

typedef struct evaluation {
    const lb_eval_options *options;
    lb_windows windows;
    lb_forward model, other; /* other: a reference that is not the model itself */
    stream *streams; /* [stream_count]: the casts in order, then the reference */
    size_t cast_count, stream_count;
    size_t batch_windows, logit_tokens, scored;
    float *scratch; /* [logit_tokens, widest hidden] */
} evaluation;

static const stream *reference_of(const evaluation *e)
{
    return e->stream_count > e->cast_count ? &e->streams[e->cast_count] : NULL;
}

typedef struct position_job {
    const evaluation *e;
    const uint32_t *targets;
    size_t vocab;
} position_job;

/* Position i of a batch of logits: its target's negative log-likelihood in every stream, and the distance of
 * each from the reference. */
static void score_position(const position_job *job, size_t i)
{
    const evaluation *e = job->e;
    const stream *reference = reference_of(e);
    const size_t at = e->scored + i, vocab = job->vocab, top_count = vocab < TOP ? vocab : TOP;
    const float *p = reference ? reference->logits + i * vocab : NULL;
    size_t p_best = 0, top[TOP];
    double p_norm = 0.0;
    if (reference) {
        p_norm = lb_log_sum_exp(p, vocab, &p_best);
        reference->nll[at] = p_norm - (double)p[job->targets[i]];
        lb_largest_logits(p, vocab, top_count, top);
    }
    for (size_t k = 0; k < e->cast_count; k++) {
        const stream *s = &e->streams[k];
        const float *q = s->logits + i * vocab;
        size_t q_best;
        const double q_norm = lb_log_sum_exp(q, vocab, &q_best);
        s->nll[at] = q_norm - (double)q[job->targets[i]];
        if (!reference)
            continue;
        s->kl[at] = lb_divergence(p, p_norm, q, q_norm, vocab);
        s->kl_top[at] = lb_divergence_among(p, q, top, top_count);
        s->agrees[at] = q_best == p_best;
    }
}

static void score_positions(void *arg, size_t begin, size_t end)
{
    for (size_t i = begin; i < end; i++)
        score_position(arg, i);
}

static lb_status score_window(evaluation *e, const uint32_t *ids, size_t first_token, lb_error *err)
{
    const size_t ctx = e->windows.ctx;
    for (size_t at = e->windows.first_scored; at < ctx; at += e->logit_tokens) {
        const size_t count = ctx - at < e->logit_tokens ? ctx - at : e->logit_tokens;
        for (size_t k = 0; k < e->stream_count; k++) {
            const stream *s = &e->streams[k];
            const lb_forward *f = s->forward;
            const float *x = s->x + (first_token + at - 1) * f->weights->config.hidden;
            LB_TRY(lb_embedding_logits(f->kernels, &f->embedding, x, count, e->scratch, s->logits, err));
        }
        position_job job = {e, ids + at, e->model.weights->config.vocab};
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
    const size_t total = e->windows.count * e->stream_count;
    LB_TRY(lb_progress_tell(progress, "evaluation", first * e->stream_count, total, err));
    for (size_t k = 0; k < e->stream_count; k++) {
        LB_TRY(lb_forward_run(e->streams[k].forward, &e->streams[k].way, ids, count, e->streams[k].x,
                              progress, "evaluation", err));
        LB_TRY(
            lb_progress_tell(progress, "evaluation", first * e->stream_count + (k + 1) * count, total, err));
    }
    for (size_t w = 0; w < count; w++) {
        LB_TRY(score_window(e, ids + w * ctx, w * ctx, err));
        LB_TRY(lb_progress_tell(progress, "evaluation", 0, 0, err));
    }
    return LB_OK;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static lb_score score_of(const double *nll, size_t n)
{
    lb_score s;
    lb_mean(nll, n, &s.nll_mean, &s.nll_stderr);
    s.perplexity = exp(s.nll_mean);
    s.perplexity_stderr = s.perplexity * s.nll_stderr;
    return s;
}

static lb_status check_finite(const evaluation *e, const stream *s, lb_error *err)
{
    if (isfinite(score_of(s->nll, e->scored).nll_mean))
        return LB_OK;
    return lb_fail(err, LB_EFORMAT, "%s computes logits that are not finite numbers%s%s",
                   s->forward->weights->checkpoint.path,
                   lb_inputs_round(&s->way.inputs) ? " with inputs rounded to " : "",
                   lb_inputs_round(&s->way.inputs) ? s->way.inputs.act.name : "");
}

static void compare(const evaluation *e, const stream *s, const stream *reference, lb_eval_result *r)
{
    const size_t n = e->scored;
    size_t same = 0;
    r->compares = true;
    r->reference = score_of(reference->nll, n);
    lb_mean(s->kl_top, n, &r->kl_top25_mean, &r->kl_top25_stderr);
    lb_mean(s->kl, n, &r->kl_mean, &r->kl_stderr);
    qsort(s->kl, n, sizeof *s->kl, ascending);
    r->kl_median = n % 2 ? s->kl[n / 2] : 0.5 * (s->kl[n / 2 - 1] + s->kl[n / 2]);
    r->kl_p99 = s->kl[(size_t)(0.99 * (double)(n - 1))];
    for (size_t i = 0; i < n; i++)
        same += s->agrees[i];
    const double share = (double)same / (double)n;
    r->top1_agreement = 100.0 * share;
    r->top1_stderr = 100.0 * sqrt(share * (1.0 - share) / (double)n);
}

static lb_status summarize(const evaluation *e, lb_eval_result *results, lb_error *err)
{
    const stream *reference = reference_of(e);
    for (size_t k = 0; k < e->stream_count; k++)
        LB_TRY(check_finite(e, &e->streams[k], err));
    for (size_t k = 0; k < e->cast_count; k++) {
        const stream *s = &e->streams[k];
        lb_eval_result *r = &results[k];
        *r = (lb_eval_result){.ctx = e->windows.ctx, .windows = e->windows.count, .tokens = e->scored};
        r->model = score_of(s->nll, e->scored);
        if (reference)
            compare(e, s, reference, r);
        r->peak_rss_bytes = lb_peak_rss_bytes();
    }
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
    LB_GO(lb_weights_tokenizer(weights, &tokenizer, err));
    LB_GO(lb_file_read_text(o->text, MAX_TEXT_BYTES, &text, &bytes, err));
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

static bool is_empty(const lb_cast *cast)
{
    return !cast->weights && !cast->act && !cast->transform;
}

static lb_status open_reference(evaluation *e, lb_error *err)
{
    static const lb_cast as_it_is = {0};
    const lb_eval_options *o = e->options;
    stream *s = &e->streams[e->cast_count];
    s->forward = &e->model;
    if (o->against && strcmp(o->against, o->model) != 0) {
        LB_TRY(lb_forward_open(o->against, e->windows.ctx, e->model.kernels, &e->other, err));
        s->forward = &e->other;
    }
    const lb_config *model = &e->model.weights->config, *reference = &s->forward->weights->config;
    if (e->windows.ctx > reference->max_context)
        return lb_fail(err, LB_EINVAL, "a context of %zu tokens is more than the %zu that %s was made for",
                       e->windows.ctx, reference->max_context, o->against);
    if (model->vocab != reference->vocab)
        return lb_fail(err, LB_EINVAL, "%s has a vocabulary of %zu, but its reference %s one of %zu",
                       o->model, model->vocab, o->against, reference->vocab);
    return lb_way_create(s->forward, &as_it_is, o->seed, &s->way, err);
}

static lb_status open_streams(evaluation *e, const lb_cast *casts, bool compares, lb_error *err)
{
    const lb_eval_options *o = e->options;
    const lb_kernels *kernels;
    LB_TRY(lb_kernels_choose(o->cpu, &kernels, err));
    LB_TRY(lb_forward_open(o->model, e->windows.ctx, kernels, &e->model, err));
    e->streams = lb_alloc_zero(e->cast_count + 1, sizeof *e->streams);
    if (!e->streams)
        return lb_fail(err, LB_ENOMEM, "no memory for %zu evaluations", e->cast_count);
    e->stream_count = e->cast_count + (compares ? 1 : 0);
    for (size_t k = 0; k < e->cast_count; k++) {
        e->streams[k].forward = &e->model;
        LB_TRY(lb_way_create(&e->model, &casts[k], o->seed, &e->streams[k].way, err));
    }
    return compares ? open_reference(e, err) : LB_OK;
}

static size_t clamp(size_t n, size_t low, size_t high)
{
    return n < low ? low : n > high ? high : n;
}

static lb_status allocate(evaluation *e, lb_error *err)
{
    const size_t ctx = e->windows.ctx, vocab = e->model.weights->config.vocab;
    const size_t positions = e->windows.count * (ctx - e->windows.first_scored);
    size_t widest = 0;
    for (size_t k = 0; k < e->stream_count; k++) {
        const size_t hidden = e->streams[k].forward->weights->config.hidden;
        widest = hidden > widest ? hidden : widest;
    }
    e->batch_windows =
        clamp((size_t)BATCH_BYTES / (ctx * widest * sizeof(float) * e->stream_count), 1, e->windows.count);
    e->logit_tokens =
        clamp((size_t)LOGIT_BYTES / (vocab * sizeof(float) * e->stream_count), 8, MOST_LOGIT_TOKENS);
    LB_TRY(lb_alloc_array(&e->scratch, e->logit_tokens, widest * sizeof(float), "logits", err));
    for (size_t k = 0; k < e->stream_count; k++) {
        stream *s = &e->streams[k];
        const size_t hidden = s->forward->weights->config.hidden;
        LB_TRY(lb_alloc_array(&s->x, e->batch_windows * ctx, hidden * sizeof(float), "activations", err));
        LB_TRY(lb_alloc_array(&s->logits, e->logit_tokens, vocab * sizeof(float), "logits", err));
        LB_TRY(lb_alloc_array(&s->nll, positions, sizeof(double), "scores", err));
        if (!reference_of(e) || k == e->cast_count)
            continue;
        LB_TRY(lb_alloc_array(&s->kl, positions, sizeof(double), "scores", err));
        LB_TRY(lb_alloc_array(&s->kl_top, positions, sizeof(double), "scores", err));
        LB_TRY(lb_alloc_array(&s->agrees, positions, 1, "scores", err));
    }
    return LB_OK;
}

static void release(evaluation *e)
{
    for (size_t k = 0; e->streams && k <= e->cast_count; k++) {
        stream *s = &e->streams[k];
        lb_way_free(&s->way);
        lb_free(s->x);
        lb_free(s->logits);
        lb_free(s->nll);
        lb_free(s->kl);
        lb_free(s->kl_top);
        lb_free(s->agrees);
    }
    lb_free(e->streams);
    lb_free(e->scratch);
    lb_windows_free(&e->windows);
    lb_forward_close(&e->model);
    lb_forward_close(&e->other);
}

static lb_status evaluate(const lb_eval_options *o, const lb_cast *casts, size_t count, bool compares,
                          lb_eval_result *results, lb_error *err)
{
    evaluation e = {.options = o, .cast_count = count};
    lb_status st = LB_OK;
    const double start = lb_now();
    if (!o->model || !o->text)
        return lb_fail(err, LB_EINVAL, "an evaluation wants a model and a text");
    LB_GO(read_text(&e, o->ctx, err));
    LB_GO(open_streams(&e, casts, compares, err));
    LB_GO(allocate(&e, err));
    if (o->dry_run) {
        for (size_t k = 0; k < count; k++)
            results[k] = (lb_eval_result){.ctx = e.windows.ctx, .windows = e.windows.count};
        goto done;
    }
    for (size_t w = 0; w < e.windows.count; w += e.batch_windows) {
        const size_t left = e.windows.count - w;
        LB_GO(score_batch(&e, w, left < e.batch_windows ? left : e.batch_windows, err));
    }
    LB_GO(summarize(&e, results, err));
    for (size_t k = 0; k < count; k++)
        results[k].seconds = lb_now() - start;
done:
    release(&e);
    return st;
}

lb_status lb_evaluate(const lb_eval_options *options, lb_eval_result *result, lb_error *err)
{
    lb_eval_options o;
    lb_eval_options_init(&o);
    LB_TRY(lb_options_adopt(&o, sizeof o, options, "lb_eval_options", err));
    return evaluate(&o, &o.cast, 1, o.against || !is_empty(&o.cast), result, err);
}

lb_status lb_evaluate_casts(const lb_eval_options *options, const lb_cast *casts, size_t count,
                            lb_eval_result *results, lb_error *err)
{
    lb_eval_options o;
    lb_eval_options_init(&o);
    LB_TRY(lb_options_adopt(&o, sizeof o, options, "lb_eval_options", err));
    if (!is_empty(&o.cast) || count == 0)
        return lb_fail(err, LB_EINVAL, "casts are to be given as a list of at least one, and there alone");
    return evaluate(&o, casts, count, true, results, err);
}
