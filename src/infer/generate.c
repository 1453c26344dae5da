/* SPDX-License-Identifier: MIT
 * A generator is an engine (engine.c) with one sequence. */
#include "lowbit/generate.h"

#include "base/alloc.h"
#include "base/options.h"
#include "lowbit/engine.h"

struct lb_generator {
    lb_engine *engine;
};

void lb_generator_options_init_sized(lb_generator_options *options, size_t size)
{
    const lb_generator_options defaults = {.struct_size = sizeof defaults, .draft_confidence = 0.4};
    lb_options_fill(options, size, &defaults, sizeof defaults);
}

void lb_generate_options_init_sized(lb_generate_options *options, size_t size)
{
    const lb_generate_options defaults = {.struct_size = sizeof defaults,
                                          .max_tokens = 128,
                                          .temperature = 0.8,
                                          .top_k = 40,
                                          .top_p = 0.95,
                                          .min_p = 0.05,
                                          .repeat_penalty = 1.0,
                                          .repeat_window = 64,
                                          .seed = 42};
    lb_options_fill(options, size, &defaults, sizeof defaults);
}

lb_status lb_generator_open(const char *path, const lb_generator_options *options, lb_generator **out,
                            lb_error *err)
{
    lb_generator_options o;
    lb_engine_options engine;
    lb_generator_options_init(&o);
    LB_TRY(lb_options_adopt(&o, sizeof o, options, "lb_generator_options", err));
    lb_engine_options_init(&engine);
    engine.context = o.context;
    engine.cpu = o.cpu;
    engine.progress = o.progress;
    engine.kv = o.kv;
    engine.draft_path = o.draft_path;
    engine.draft_tokens = o.draft_tokens;
    engine.draft_confidence = o.draft_confidence;
    lb_generator *g = lb_alloc_zero(1, sizeof *g);
    if (!g)
        return lb_fail(err, LB_ENOMEM, "%s: no memory to open it", path);
    const lb_status st = lb_engine_open(path, &engine, &g->engine, err);
    if (st == LB_OK)
        *out = g;
    else
        lb_generator_close(g);
    return st;
}

void lb_generator_close(lb_generator *g)
{
    if (!g)
        return;
    lb_engine_close(g->engine);
    lb_free(g);
}

const lb_tokenizer *lb_generator_tokenizer(const lb_generator *generator)
{
    return lb_engine_tokenizer(generator->engine);
}

size_t lb_generator_context(const lb_generator *generator)
{
    return lb_engine_context(generator->engine);
}

size_t lb_generator_vocab(const lb_generator *generator)
{
    return lb_engine_vocab(generator->engine);
}

lb_status lb_generator_logits(lb_generator *g, const uint32_t *ids, size_t count, size_t first,
                              const lb_progress *progress, float *logits, lb_error *err)
{
    return lb_engine_logits(g->engine, ids, count, first, progress, logits, err);
}

/* One call of lb_generate. The caller's callbacks get the caller's own `user`. */
typedef struct run {
    const lb_generate_options *options;
    lb_generate_result result;
    lb_status status;
    lb_error err;
} run;

static int on_text(void *user, const char *text, size_t length)
{
    const run *r = user;
    return r->options->on_text(r->options->user, text, length);
}

static void on_token(void *user, lb_token_score token, const lb_token_score *top, size_t top_count)
{
    const run *r = user;
    r->options->on_token(r->options->user, token, top, top_count);
}

static void on_end(void *user, lb_status status, const lb_generate_result *result, const lb_error *err)
{
    run *r = user;
    r->result = *result;
    r->status = status;
    r->err = *err;
}

lb_status lb_generate(lb_generator *g, const uint32_t *ids, size_t count, const lb_generate_options *options,
                      lb_generate_result *result, lb_error *err)
{
    lb_generate_options o, inner;
    lb_task *task;
    lb_generate_options_init(&o);
    LB_TRY(lb_options_adopt(&o, sizeof o, options, "lb_generate_options", err));
    run r = {.options = &o};
    inner = o;
    inner.user = &r;
    inner.on_text = o.on_text ? on_text : NULL;
    inner.on_token = o.on_token ? on_token : NULL;
    if (result)
        *result = r.result;
    LB_TRY(lb_engine_begin(g->engine, ids, count, &inner, on_end, &task, err));
    while (lb_engine_busy(g->engine) > 0)
        lb_engine_step(g->engine);
    if (result)
        *result = r.result;
    if (r.status != LB_OK && err)
        *err = r.err;
    return r.status;
}

lb_status lb_generate_text(lb_generator *g, const char *text, size_t length,
                           const lb_generate_options *options, lb_generate_result *result, lb_error *err)
{
    uint32_t *ids;
    size_t count;
    LB_TRY(lb_tokenizer_encode(lb_generator_tokenizer(g), text, length, LB_ENCODE_DEFAULT_BOS, &ids, &count,
                               err));
    const lb_status st = lb_generate(g, ids, count, options, result, err);
    lb_ids_free(ids);
    return st;
}
