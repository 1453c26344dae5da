/* SPDX-License-Identifier: MIT */
#include "infer/bench.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/rng.h"
#include "infer/sampler.h"
#include "infer/session.h"

enum { PRODUCT_ROUNDS = 8, WARM_TOKENS = 2 };

/* One variant of the model and what its repeats measured. */
typedef struct variant {
    const lb_resident *model;
    lb_resident rounded;
    double *prompt, *decode, *products; /* [repeats] */
    lb_step_times times; /* of all decoded tokens */
    double seconds;
} variant;

typedef struct bench {
    const lb_bench_options *options;
    variant *variants;
    size_t count;
    uint32_t *ids; /* [prompt] */
    lb_session *session;
    lb_sampler *greedy;
} bench;

static lb_status decode(bench *b, float *logits, size_t tokens, lb_error *err)
{
    for (size_t i = 0; i < tokens; i++) {
        uint32_t id;
        LB_TRY(lb_sampler_pick(b->greedy, logits, &id, err));
        LB_TRY(lb_session_feed(b->session, &id, 1, NULL, &logits, err));
    }
    return LB_OK;
}

static lb_status measure(bench *b, variant *v, size_t repeat, lb_error *err)
{
    const lb_bench_options *o = b->options;
    float *logits;
    lb_session_rewind(b->session, 0);
    lb_session_set_model(b->session, v->model);
    const double begin = lb_now();
    LB_TRY(lb_session_feed(b->session, b->ids, o->prompt, NULL, &logits, err));
    const double prompt_done = lb_now();
    lb_session_time(b->session, &v->times);
    LB_TRY(decode(b, logits, o->generate, err));
    lb_session_time(b->session, NULL);
    const double decode_done = lb_now();
    v->seconds += decode_done - prompt_done;
    for (int round = 0; round < PRODUCT_ROUNDS; round++)
        lb_session_products(b->session);
    const double products_done = lb_now();
    v->prompt[repeat] = (double)o->prompt / (prompt_done - begin);
    v->decode[repeat] = (double)o->generate / (decode_done - prompt_done);
    v->products[repeat] = (products_done - decode_done) / PRODUCT_ROUNDS;
    return LB_OK;
}

/* Brings a variant's pages in, and the clock of the processor up. */
static lb_status warm_up(bench *b, const variant *v, lb_error *err)
{
    float *logits;
    lb_session_rewind(b->session, 0);
    lb_session_set_model(b->session, v->model);
    LB_TRY(lb_session_feed(b->session, b->ids, 1, NULL, &logits, err));
    const size_t tokens = b->options->generate < WARM_TOKENS ? b->options->generate : WARM_TOKENS;
    return decode(b, logits, tokens, err);
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

lb_bench_spread lb_bench_spread_of(double *values, size_t n)
{
    qsort(values, n, sizeof *values, ascending);
    return (lb_bench_spread){
        .median = n % 2 ? values[n / 2] : 0.5 * (values[n / 2 - 1] + values[n / 2]),
        .low = values[0],
        .high = values[n - 1],
    };
}

/* What the model's layers are stored as, for the first row. */
static const char *stored_as(const lb_resident *model)
{
    static const char *const names[] = {
        [LB_DENSE_F32] = "f32", [LB_DENSE_F16] = "f16", [LB_DENSE_BF16] = "bf16"};
    return lb_resident_is_quantized(model) ? "as stored" : names[model->blocks[0].linear[LB_LINEAR_Q].type];
}

static lb_status prepare(bench *b, const lb_resident *model, lb_error *err)
{
    const lb_bench_options *o = b->options;
    const lb_sampling greedy = {.top_p = 1, .repeat_penalty = 1};
    lb_rng rng;
    size_t context;
    if (o->prompt == 0 || o->generate == 0 || o->repeats == 0)
        return lb_fail(err, LB_EINVAL,
                       "a bench of %zu prompt tokens, %zu generated and %zu repeats measures nothing",
                       o->prompt, o->generate, o->repeats);
    if (__builtin_add_overflow(o->prompt, o->generate, &context) || context > model->config.max_context)
        return lb_fail(err, LB_EINVAL,
                       "%zu prompt tokens and %zu generated exceed this model's context of %zu", o->prompt,
                       o->generate, model->config.max_context);
    LB_TRY(lb_session_create_kv(lb_kernels_get(o->level), model, o->kv, context, 0, &b->session, err));
    LB_TRY(lb_sampler_create(&greedy, model->config.vocab, &b->greedy, err));
    LB_TRY(lb_alloc_array(&b->ids, o->prompt, sizeof *b->ids, "bench", err));
    lb_rng_seed(&rng, o->seed);
    for (size_t i = 0; i < o->prompt; i++)
        b->ids[i] = (uint32_t)lb_rng_below(&rng, model->config.vocab);
    b->variants = lb_alloc_zero(b->count, sizeof *b->variants);
    if (!b->variants)
        return lb_fail(err, LB_ENOMEM, "bench: no memory for %zu formats", b->count);
    for (size_t i = 0; i < b->count; i++) {
        variant *v = &b->variants[i];
        v->model = i ? &v->rounded : model;
        if (i)
            LB_TRY(lb_resident_round(model, &o->formats[i - 1], o->head, &v->rounded, err));
        LB_TRY(lb_alloc_array(&v->prompt, 3 * o->repeats, sizeof *v->prompt, "bench", err));
        v->decode = v->prompt + o->repeats;
        v->products = v->decode + o->repeats;
        LB_TRY(lb_progress_tell(&o->progress, "preparing", i + 1, b->count, err));
    }
    return LB_OK;
}

static lb_status measure_all(bench *b, lb_error *err)
{
    const lb_bench_options *o = b->options;
    for (size_t i = 0; i < b->count; i++)
        LB_TRY(warm_up(b, &b->variants[i], err));
    for (size_t repeat = 0; repeat < o->repeats; repeat++) {
        for (size_t i = 0; i < b->count; i++) {
            LB_TRY(measure(b, &b->variants[i], repeat, err));
            LB_TRY(lb_progress_tell(&o->progress, "measuring", repeat * b->count + i + 1,
                                    o->repeats * b->count, err));
        }
    }
    return LB_OK;
}

/* What one token takes. */
static void divide_times(const variant *v, double tokens, lb_bench_row *row)
{
    const lb_step_times *t = &v->times;
    row->times = (lb_step_times){t->qkv / tokens,     t->attention / tokens, t->o / tokens,
                                 t->gate_up / tokens, t->down / tokens,      t->head / tokens};
    row->rest = (v->seconds - t->qkv - t->attention - t->o - t->gate_up - t->down - t->head) / tokens;
    row->bytes = lb_resident_bytes(v->model);
}

lb_status lb_bench_model(const lb_resident *model, const lb_bench_options *options, lb_bench_row *rows,
                         lb_error *err)
{
    bench b = {.options = options, .count = 1 + options->format_count};
    lb_status st = LB_OK;
    LB_GO(prepare(&b, model, err));
    LB_GO(measure_all(&b, err));
    for (size_t i = 0; i < b.count; i++) {
        variant *v = &b.variants[i];
        rows[i] = (lb_bench_row){
            .layer_bits = lb_resident_layer_bits(v->model),
            .token_bytes = lb_resident_token_bytes(v->model),
            .prompt = lb_bench_spread_of(v->prompt, options->repeats),
            .decode = lb_bench_spread_of(v->decode, options->repeats),
            .products = lb_bench_spread_of(v->products, options->repeats),
        };
        divide_times(v, (double)(options->repeats * options->generate), &rows[i]);
        snprintf(rows[i].format, sizeof rows[i].format, "%s",
                 i ? options->formats[i - 1].name : stored_as(model));
    }
done:
    for (size_t i = 0; b.variants && i < b.count; i++) {
        if (b.variants[i].rounded.blocks)
            lb_resident_free(&b.variants[i].rounded);
        lb_free(b.variants[i].prompt);
    }
    lb_free(b.variants);
    lb_free(b.ids);
    lb_sampler_destroy(b.greedy);
    lb_session_destroy(b.session);
    return st;
}
