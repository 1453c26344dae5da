/* SPDX-License-Identifier: MIT */
#include "lowbit/generate.h"

#include <string.h>

#include "base/alloc.h"
#include "base/options.h"
#include "io/tokenizer.h"
#include "base/clock.h"
#include "infer/sampler.h"
#include "infer/session.h"

enum { DEFAULT_CONTEXT = 8192 };

struct lb_generator {
    lb_tokenizer *tokenizer;
    lb_resident model;
    lb_session *session;
    uint32_t *ids; /* [context]: what the session holds */
};

void lb_generator_options_init(lb_generator_options *options)
{
    *options = (lb_generator_options){.struct_size = sizeof *options};
}

void lb_generate_options_init(lb_generate_options *options)
{
    *options = (lb_generate_options){.struct_size = sizeof *options,
                                     .max_tokens = 128,
                                     .temperature = 0.8,
                                     .top_k = 40,
                                     .top_p = 0.95,
                                     .min_p = 0.05,
                                     .repeat_penalty = 1.0,
                                     .repeat_window = 64,
                                     .seed = 42};
}

lb_status lb_generator_open(const char *path, const lb_generator_options *options, lb_generator **out,
                            lb_error *err)
{
    lb_status st = LB_OK;
    const lb_kernels *kernels;
    lb_generator_options o;
    lb_generator_options_init(&o);
    LB_TRY(lb_options_adopt(&o, sizeof o, options, "lb_generator_options", err));
    LB_TRY(lb_kernels_choose(o.cpu, &kernels, err));
    lb_generator *g = lb_alloc_zero(1, sizeof *g);
    if (!g)
        return lb_fail(err, LB_ENOMEM, "%s: no memory to open it", path);
    LB_GO(lb_tokenizer_open(path, &g->tokenizer, err));
    LB_GO(lb_resident_load(path, &o.progress, &g->model, err));
    LB_GO(lb_tokenizer_check_rows(g->tokenizer, g->model.config.vocab, path, err));
    size_t context = o.context;
    if (context == 0)
        context =
            g->model.config.max_context < DEFAULT_CONTEXT ? g->model.config.max_context : DEFAULT_CONTEXT;
    LB_GO(lb_session_create(kernels, &g->model, context, 0, &g->session, err));
    LB_GO(lb_alloc_array(&g->ids, context, sizeof *g->ids, "token ids", err));
    *out = g;
    g = NULL;
done:
    lb_generator_close(g);
    return st;
}

void lb_generator_close(lb_generator *g)
{
    if (!g)
        return;
    lb_session_destroy(g->session);
    lb_resident_free(&g->model);
    lb_tokenizer_destroy(g->tokenizer);
    lb_free(g->ids);
    lb_free(g);
}

const lb_tokenizer *lb_generator_tokenizer(const lb_generator *generator)
{
    return generator->tokenizer;
}

size_t lb_generator_context(const lb_generator *generator)
{
    return lb_session_context(generator->session);
}

/* One call of lb_generate. */
typedef struct run {
    lb_generator *g;
    const lb_generate_options *options;
    lb_sampler *sampler;
    lb_detokenizer *stream;
    lb_generate_result *result;
    bool stopped; /* by on_text */
} run;

static void hand_over(run *r, const char *text, size_t length)
{
    if (length > 0 && r->options->on_text && !r->stopped)
        r->stopped = r->options->on_text(r->options->user, text, length) != 0;
}

/* Appends ids to the session and to the record of what it holds. */
static lb_status feed(run *r, const uint32_t *ids, size_t n, float **logits, lb_error *err)
{
    lb_generator *g = r->g;
    const size_t past = lb_session_past(g->session);
    const lb_status st = lb_session_feed(g->session, ids, n, &r->options->progress, logits, err);
    memcpy(g->ids + past, ids, (lb_session_past(g->session) - past) * sizeof *ids);
    return st;
}

static lb_status check_prompt(const lb_generator *g, size_t count, size_t max_tokens, lb_error *err)
{
    const size_t context = lb_session_context(g->session), limit = g->model.config.max_context;
    if (count == 0)
        return lb_fail(err, LB_EINVAL, "the prompt has no tokens, and there is nothing to continue");
    if (count > context)
        return lb_fail(err, LB_EINVAL,
                       "the prompt has %zu tokens, but the context holds %zu (this model's limit "
                       "is %zu)",
                       count, context, limit);
    /* The last token generated is never fed back: it needs no room. */
    if (max_tokens > 0 && max_tokens - 1 > context - count)
        return lb_fail(err, LB_EINVAL,
                       "the prompt of %zu tokens and %zu to generate do not fit into the context "
                       "of %zu (this model's limit is %zu)",
                       count, max_tokens, context, limit);
    return LB_OK;
}

static lb_status read_prompt(run *r, const uint32_t *ids, size_t count, float **logits, lb_error *err)
{
    lb_generator *g = r->g;
    const double begin = lb_now();
    size_t same = 0;
    while (same < lb_session_past(g->session) && same + 1 < count && g->ids[same] == ids[same])
        same++;
    lb_session_rewind(g->session, same);
    r->result->prompt_tokens = count;
    r->result->reused_tokens = same;
    const lb_status st = feed(r, ids + same, count - same, logits, err);
    r->result->prompt_seconds = lb_now() - begin;
    for (size_t i = 0; i < count; i++)
        lb_sampler_accept(r->sampler, ids[i]);
    return st;
}

static lb_status decode(run *r, float *logits, lb_error *err)
{
    const lb_generate_options *o = r->options;
    lb_session *session = r->g->session;
    for (;;) {
        const char *text;
        size_t length;
        uint32_t id;
        LB_TRY(lb_sampler_pick(r->sampler, logits, &id, err));
        lb_sampler_accept(r->sampler, id);
        r->result->generated_tokens++;
        if (!o->ignore_end && lb_tokenizer_is_end(r->g->tokenizer, id)) {
            r->result->stop = LB_STOP_END;
            return LB_OK;
        }
        LB_TRY(lb_detokenizer_put(r->stream, id, &text, &length, err));
        hand_over(r, text, length);
        if (r->stopped)
            return LB_OK;
        if (r->result->generated_tokens == o->max_tokens)
            return LB_OK;
        if (lb_session_past(session) == lb_session_context(session)) {
            r->result->stop = LB_STOP_CONTEXT;
            return LB_OK;
        }
        LB_TRY(feed(r, &id, 1, &logits, err));
    }
}

lb_status lb_generate(lb_generator *g, const uint32_t *ids, size_t count, const lb_generate_options *options,
                      lb_generate_result *result, lb_error *err)
{
    lb_status st = LB_OK;
    lb_generate_result unwanted;
    lb_generate_options o;
    lb_generate_options_init(&o);
    LB_TRY(lb_options_adopt(&o, sizeof o, options, "lb_generate_options", err));
    run r = {.g = g, .options = &o, .result = result ? result : &unwanted};
    const lb_sampling how = {o.temperature,    o.top_k,         o.top_p, o.min_p,
                             o.repeat_penalty, o.repeat_window, o.seed};
    float *logits;
    const char *text;
    size_t length;
    *r.result = (lb_generate_result){.stop = LB_STOP_LENGTH};
    LB_GO(check_prompt(g, count, o.max_tokens, err));
    /* Rows of the embedding that are only padding have no text and must not be drawn. */
    LB_GO(lb_sampler_create(&how, lb_tokenizer_vocab_size(g->tokenizer), &r.sampler, err));
    LB_GO(lb_detokenizer_create(g->tokenizer, &r.stream, err));
    LB_GO(read_prompt(&r, ids, count, &logits, err));
    const double begin = lb_now();
    st = decode(&r, logits, err);
    r.result->decode_seconds = lb_now() - begin;
    if (st == LB_OK)
        LB_GO(lb_detokenizer_finish(r.stream, &text, &length, err));
    if (st == LB_OK)
        hand_over(&r, text, length);
    if (r.stopped)
        r.result->stop = LB_STOP_CALLER;
done:
    lb_detokenizer_destroy(r.stream);
    lb_sampler_destroy(r.sampler);
    return st;
}

lb_status lb_generate_text(lb_generator *g, const char *text, size_t length,
                           const lb_generate_options *options, lb_generate_result *result, lb_error *err)
{
    uint32_t *ids;
    size_t count;
    LB_TRY(lb_tokenizer_encode(g->tokenizer, text, length, LB_ENCODE_DEFAULT_BOS, &ids, &count, err));
    const lb_status st = lb_generate(g, ids, count, options, result, err);
    lb_ids_free(ids);
    return st;
}
