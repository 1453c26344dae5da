/* SPDX-License-Identifier: MIT
 * Sessions: the cached path, token by token and in odd chunks, the batched forward pass, and a slow
 * transformer in double must agree; and a real model must continue a text as an independent program
 * did. */
#define _GNU_SOURCE
#include "near.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/json.h"
#include "infer/session.h"
#include "lowbit/generate.h"
#include "reference_model.h"

enum { TOKENS = 41 };

typedef struct fixture {
    tiny_model *made;
    lb_resident model;
    uint32_t ids[TOKENS];
    double *want; /* [TOKENS, vocab] */
    double bound; /* 1e-4 of the largest logit */
} fixture;

static const char *folder(void)
{
    static char path[128];
    snprintf(path, sizeof path, "/tmp/lowbit_test_session_%ld", (long)getpid());
    return path;
}

static void load(fixture *f, const tiny_model_options *options)
{
    lb_error err = {0};
    lb_rng rng;
    *f = (fixture){.made = tiny_model_make(options)};
    assert_non_null(f->made);
    assert_int_equal(tiny_model_save(folder(), f->made), 0);
    if (lb_resident_load(folder(), NULL, &f->model, &err) != LB_OK)
        fail_msg("%s", err.msg);
    tiny_model_remove(folder());
    const size_t vocab = f->made->options.vocab;
    lb_rng_seed(&rng, 99);
    for (size_t i = 0; i < TOKENS; i++)
        f->ids[i] = (uint32_t)lb_rng_below(&rng, vocab);
    f->want = malloc(TOKENS * vocab * sizeof *f->want);
    reference_logits(f->made, f->ids, TOKENS, f->want);
    for (size_t i = 0; i < TOKENS * vocab; i++)
        f->bound = fabs(f->want[i]) > f->bound ? fabs(f->want[i]) : f->bound;
    f->bound *= 1e-4;
}

static void unload(fixture *f)
{
    lb_resident_free(&f->model);
    tiny_model_free(f->made);
    free(f->want);
}

/* Feeds all ids in steps of `step` to a session of that chunk size, and compares after every step. */
static void check_steps(const fixture *f, lb_cpu_level level, size_t step, size_t chunk)
{
    lb_session *session;
    lb_error err = {0};
    const size_t vocab = f->made->options.vocab;
    assert_int_equal(lb_session_create(lb_kernels_get(level), &f->model, TOKENS, chunk, &session, &err),
                     LB_OK);
    for (size_t at = 0; at < TOKENS;) {
        float *logits;
        const size_t n = TOKENS - at < step ? TOKENS - at : step;
        assert_int_equal(lb_session_feed(session, f->ids + at, n, NULL, &logits, &err), LB_OK);
        at += n;
        assert_int_equal(lb_session_past(session), at);
        near_array(logits, f->want + (at - 1) * vocab, vocab, f->bound);
    }
    lb_session_destroy(session);
}

/* The whole sequence at once, without a cache, as evaluation does it. */
static void check_batched(const fixture *f)
{
    const lb_config *c = &f->model.config;
    lb_rope rope;
    lb_workspace ws;
    lb_error err = {0};
    float *x = lb_alloc(TOKENS * c->hidden, sizeof *x), *scratch = lb_alloc(TOKENS * c->hidden, sizeof *x);
    float *logits = lb_alloc(TOKENS * c->vocab, sizeof *x);
    lb_stage_context stage = {.kernels = lb_kernels_get(LB_CPU_BEST), .config = c, .rope = &rope, .ws = &ws};
    assert_int_equal(lb_rope_create(c, TOKENS, &rope, &err), LB_OK);
    assert_int_equal(lb_workspace_create(c, TOKENS, &ws, &err), LB_OK);
    assert_int_equal(lb_embedding_look_up(stage.kernels, &f->model.ends, f->ids, TOKENS, x, &err), LB_OK);
    for (size_t layer = 0; layer < c->layers; layer++) {
        stage.block = &f->model.blocks[layer];
        assert_int_equal(lb_block_forward(&stage, x, 1, TOKENS, &err), LB_OK);
    }
    assert_int_equal(lb_embedding_logits(stage.kernels, &f->model.ends, x, TOKENS, scratch, logits, &err),
                     LB_OK);
    near_array(logits, f->want, TOKENS * c->vocab, f->bound);
    lb_rope_free(&rope);
    lb_workspace_free(&ws);
    lb_free(x);
    lb_free(scratch);
    lb_free(logits);
}

static void every_path_agrees_with_the_slow_transformer(void **state)
{
    (void)state;
    const tiny_model_options kinds[] = {
        {.seed = 1, .tied = true},
        {.seed = 2, .heads = 6, .kv_heads = 3, .head_dim = 10, .hidden = 50, .ffn = 77, .layers = 3},
        {.seed = 3, .architecture = "Qwen2ForCausalLM", .rope_theta = 1e6},
        {.seed = 4, .architecture = "Qwen3ForCausalLM", .head_dim = 24, .tied = true, .norm_eps = 1e-6},
        {.seed = 5, .architecture = "MistralForCausalLM", .window = 9, .heads = 8, .kv_heads = 1},
        {.seed = 6, .dtype = LB_DTYPE_F16},
        {.seed = 7, .dtype = LB_DTYPE_BF16, .tied = true, .architecture = "Qwen2ForCausalLM"},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        fixture f;
        load(&f, &kinds[i]);
        check_steps(&f, LB_CPU_BEST, 1, 0);
        check_steps(&f, LB_CPU_REF, 1, 0);
        check_steps(&f, LB_CPU_BEST, 7, 0);
        check_steps(&f, LB_CPU_BEST, TOKENS, 13);
        check_steps(&f, LB_CPU_REF, TOKENS, 0);
        check_batched(&f);
        unload(&f);
    }
}

static void long_contexts_agree(void **state)
{
    (void)state;
    /* So many old positions that the attention of a single token is cut up for several threads. */
    enum { LONG = 700 };
    tiny_model_options options = {
        .seed = 11, .layers = 1, .head_dim = 64, .heads = 2, .kv_heads = 1, .vocab = 40, .context = LONG};
    fixture f;
    load(&f, &options);
    lb_session *session;
    lb_error err = {0};
    lb_rng rng;
    float *logits;
    uint32_t *ids = malloc(LONG * sizeof *ids);
    double *want = malloc(LONG * 40 * sizeof *want);
    lb_rng_seed(&rng, 5);
    for (size_t i = 0; i < LONG; i++)
        ids[i] = (uint32_t)lb_rng_below(&rng, 40);
    reference_logits(f.made, ids, LONG, want);
    assert_int_equal(lb_session_create(lb_kernels_get(LB_CPU_BEST), &f.model, LONG, 0, &session, &err),
                     LB_OK);
    assert_int_equal(lb_session_feed(session, ids, LONG - 3, NULL, &logits, &err), LB_OK);
    for (size_t at = LONG - 3; at < LONG; at++) {
        assert_int_equal(lb_session_feed(session, ids + at, 1, NULL, &logits, &err), LB_OK);
        near_array(logits, want + at * 40, 40, f.bound);
    }
    lb_session_destroy(session);
    free(ids);
    free(want);
    unload(&f);
}

static void a_full_context_is_refused_and_rewinding_makes_room(void **state)
{
    (void)state;
    fixture f;
    lb_session *session;
    lb_error err = {0};
    float *logits;
    tiny_model_options options = {.seed = 8};
    load(&f, &options);
    const lb_kernels *kernels = lb_kernels_get(LB_CPU_BEST);
    const size_t vocab = f.made->options.vocab;
    assert_int_equal(lb_session_create(kernels, &f.model, 129, 0, &session, &err), LB_EINVAL);
    assert_non_null(strstr(err.msg, "128"));
    assert_int_equal(lb_session_create(kernels, &f.model, 0, 0, &session, &err), LB_EINVAL);
    assert_int_equal(lb_session_create(kernels, &f.model, 10, 4, &session, &err), LB_OK);
    assert_int_equal(lb_session_feed(session, f.ids, 11, NULL, &logits, &err), LB_EINVAL);
    assert_int_equal(lb_session_past(session), 0);
    assert_int_equal(lb_session_feed(session, f.ids, 10, NULL, &logits, &err), LB_OK);
    assert_int_equal(lb_session_feed(session, f.ids, 1, NULL, &logits, &err), LB_EINVAL);
    assert_non_null(strstr(err.msg, "10"));
    lb_session_rewind(session, 6);
    assert_int_equal(lb_session_feed(session, f.ids + 6, 2, NULL, &logits, &err), LB_OK);
    near_array(logits, f.want + 7 * vocab, vocab, f.bound);
    const uint32_t outside[] = {1, (uint32_t)vocab};
    assert_int_equal(lb_session_feed(session, outside, 2, NULL, &logits, &err), LB_EINVAL);
    assert_int_equal(lb_session_past(session), 8);
    lb_session_destroy(session);
    unload(&f);
}

static int stop_at_second_chunk(void *user, const char *stage, size_t done, size_t total)
{
    (void)stage;
    assert_true(done <= total);
    return ++*(int *)user == 2;
}

static void cancelling_keeps_whole_chunks(void **state)
{
    (void)state;
    fixture f;
    lb_session *session;
    lb_error err = {0};
    float *logits;
    int calls = 0;
    tiny_model_options options = {.seed = 9};
    load(&f, &options);
    const lb_progress progress = {stop_at_second_chunk, &calls};
    assert_int_equal(lb_session_create(lb_kernels_get(LB_CPU_BEST), &f.model, TOKENS, 5, &session, &err),
                     LB_OK);
    assert_int_equal(lb_session_feed(session, f.ids, 20, &progress, &logits, &err), LB_ECANCELED);
    assert_int_equal(lb_session_past(session), 10);
    const size_t vocab = f.made->options.vocab;
    assert_int_equal(lb_session_feed(session, f.ids + 10, 3, NULL, &logits, &err), LB_OK);
    near_array(logits, f.want + 12 * vocab, vocab, f.bound);
    lb_session_destroy(session);
    unload(&f);
}

/* Rounds every matrix of the blocks, and an untied head unless that is NULL, of a model in memory. */
static void round_in_memory(tiny_model *m, const lb_format *layers, const lb_format *head)
{
    for (size_t i = 0; i < m->count; i++) {
        tiny_tensor *t = &m->tensors[i];
        const lb_format *wanted = strcmp(t->name, "lm_head.weight") == 0 ? head : layers;
        if (t->rows == 0 || !wanted || strcmp(t->name, "model.embed_tokens.weight") == 0)
            continue;
        lb_format bound = *wanted, *format = &bound;
        lb_format_bind(format, t->values, t->rows * t->cols);
        uint8_t *codes = malloc(t->cols);
        float *params = malloc(t->cols * LB_FORMAT_MAX_PARAMS * sizeof *params);
        for (size_t row = 0; row < t->rows; row++) {
            float *w = t->values + row * t->cols;
            lb_format_encode_row(format, w, NULL, t->cols, LB_FIT_RANGE, codes, params);
            lb_format_decode_row(format, codes, params, t->cols, w);
        }
        free(codes);
        free(params);
    }
}

/* A prompt whose weights are expanded for BLAS, as without kernels of one's own, is as exact as with floats. Codes see
 * activations in 8 bits, an error near 0.6% of each product's input: 5% of the largest logit is the worst of all. */
static void check_rounded(fixture *f, const lb_format *layers, const lb_format *head)
{
    lb_resident rounded, again;
    lb_error err = {0};
    const double exact = f->bound;
    assert_int_equal(lb_resident_round(&f->model, layers, head, &rounded, &err), LB_OK);
    assert_true(lb_resident_is_quantized(&rounded) && !lb_resident_is_quantized(&f->model));
    assert_int_equal(lb_resident_round(&rounded, layers, NULL, &again, &err), LB_EINVAL);
    round_in_memory(f->made, layers, head);
    reference_logits(f->made, f->ids, TOKENS, f->want);
    const lb_resident whole = f->model;
    f->model = rounded;
    if (!head)
        check_steps(f, LB_CPU_REF, TOKENS, 0);
    f->bound = 500 * exact;
    check_steps(f, LB_CPU_BEST, TOKENS, 0);
    check_steps(f, LB_CPU_BEST, 1, 0);
    check_steps(f, LB_CPU_REF, 1, 0);
    check_steps(f, LB_CPU_BEST, 6, 0);
    lb_resident_free(&rounded);
    f->model = whole;
}

static void rounded_models_follow_their_rounded_weights(void **state)
{
    (void)state;
    static const char *const names[] = {
        "int4-g32", "int3-g64-asym", "int8-row", "mxint6",  "mxfp6-e2m3",       "mxfp8-e4m3",
        "nvfp4",    "nvint4",        "bp4-g64",  "bp3-row", "sq8/4-b32-s0.875", "sq8/3-b16-s0.5"};
    for (size_t i = 0; i < 2 * sizeof names / sizeof *names; i++) {
        fixture f;
        lb_format layers, head;
        lb_error err = {0};
        tiny_model_options options = {.seed = 10 + i / 2, .hidden = 96, .ffn = 160};
        load(&f, &options);
        assert_int_equal(lb_format_parse(names[i / 2], &layers, &err), LB_OK);
        assert_int_equal(lb_format_parse("int8-g32", &head, &err), LB_OK);
        check_rounded(&f, &layers, i % 2 ? &head : NULL);
        unload(&f);
    }
}

/* The last of many tokens' logits, fed `step` at a time. */
static void feed_many(const lb_resident *model, lb_cpu_level level, const uint32_t *ids, size_t count,
                      size_t step, float *out)
{
    lb_session *session;
    lb_error err = {0};
    float *logits;
    assert_int_equal(lb_session_create(lb_kernels_get(level), model, count, count, &session, &err), LB_OK);
    for (size_t at = 0; at < count; at += step)
        assert_int_equal(
            lb_session_feed(session, ids + at, count - at < step ? count - at : step, NULL, &logits, &err),
            LB_OK);
    memcpy(out, logits, model->config.vocab * sizeof *out);
    lb_session_destroy(session);
}

/* Where codes are faster than BLAS, a prompt's tokens see what they would see alone; but for attention, which adds up
 * in another order and moves a value in many thousands to its other neighbour. That must be little beside what rounding
 * the inputs changes. */
static void prompts_in_codes_are_their_tokens(void **state)
{
    (void)state;
    enum { MANY = 2 * LB_CODED_TOKENS + 7 };
    static const char *const names[] = {"int2-g32", "int4-g64-asym", "mxfp4", "bp2-g64", "nvfp4"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        fixture f;
        lb_format format;
        lb_resident rounded;
        lb_error err = {0};
        tiny_model_options options = {.seed = 50 + i, .hidden = 96, .ffn = 160, .context = MANY};
        uint32_t ids[MANY];
        load(&f, &options);
        const size_t vocab = f.made->options.vocab;
        for (size_t t = 0; t < MANY; t++)
            ids[t] = f.ids[(t * 7 + t / TOKENS) % TOKENS];
        assert_int_equal(lb_format_parse(names[i], &format, &err), LB_OK);
        assert_int_equal(lb_resident_round(&f.model, &format, NULL, &rounded, &err), LB_OK);
        const bool pays =
            lb_qmat_many_pays(lb_kernels_get(LB_CPU_BEST), rounded.blocks[0].linear[0].quantized);
#ifdef __x86_64__
        assert_int_equal(pays, lb_cpu_detect() != LB_CPU_REF && i < 4);
#endif
        assert_false(lb_qmat_many_pays(lb_kernels_get(LB_CPU_REF), rounded.blocks[0].linear[0].quantized));
        float *whole = malloc(3 * vocab * sizeof *whole), *single = whole + vocab, *floats = single + vocab;
        feed_many(&rounded, LB_CPU_BEST, ids, MANY, MANY, whole);
        feed_many(&rounded, LB_CPU_BEST, ids, MANY, 1, single);
        feed_many(&rounded, LB_CPU_REF, ids, MANY, MANY, floats);
        double apart = 0.0, distance = 0.0;
        for (size_t id = 0; id < vocab; id++) {
            apart = fmax(apart, fabs((double)whole[id] - (double)single[id]));
            distance = fmax(distance, fabs((double)floats[id] - (double)single[id]));
        }
        assert_true(distance > 0.0);
        if (pays)
            assert_true(apart < 0.2 * distance);
        else
            assert_true(apart > 0.2 * distance);
        free(whole);
        lb_resident_free(&rounded);
        unload(&f);
    }
}

/* Weights and inputs both rounded: the codes of a single token, or of a few, are multiplied as integers, a prompt's
 * values in floats. Where the two differ by a last bit, one value in many thousands rounds to its other neighbour; that
 * must be little beside what rounding all inputs changes. */
static void rounded_inputs_decode_as_they_are_simulated(void **state)
{
    (void)state;
    static const struct {
        const char *weights, *inputs;
        size_t step;
    } rows[] = {{"mxint8", "mxint8", 1},           {"mxint6", "mxint6", 1},
                {"nvint4", "nvint4", 1},           {"mxint8", "mxint8", 7},
                {"mxfp6-e2m3", "mxfp6-e2m3", 1},   {"nvint4", "nvint4", 8},
                {"bp4-g64", "mxint8", 1},          {"bp3-row", "mxint6", 3},
                {"sq8/4-b32-s0.875", "mxint8", 1}, {"sq6/3-b16-s0.75", "nvint4", 3}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fixture f;
        lb_format format;
        lb_act inputs;
        lb_resident rounded;
        lb_error err = {0};
        tiny_model_options options = {.seed = 30 + i, .hidden = 96, .ffn = 160};
        load(&f, &options);
        const size_t vocab = f.made->options.vocab;
        assert_int_equal(lb_format_parse(rows[i].weights, &format, &err), LB_OK);
        assert_int_equal(lb_act_parse(rows[i].inputs, &inputs, &err), LB_OK);
        assert_int_equal(lb_resident_round(&f.model, &format, NULL, &rounded, &err), LB_OK);
        const lb_transform none = {0};
        assert_int_equal(lb_inputs_create(&rounded.config, &none, &inputs, &rounded.inputs, &err), LB_OK);
        lb_session *whole, *single;
        float *simulated, *decoded;
        const lb_kernels *kernels = lb_kernels_get(LB_CPU_BEST);
        assert_int_equal(lb_session_create(kernels, &rounded, TOKENS, 0, &whole, &err), LB_OK);
        assert_int_equal(lb_session_create(kernels, &rounded, TOKENS, 0, &single, &err), LB_OK);
        assert_int_equal(lb_session_feed(whole, f.ids, TOKENS, NULL, &simulated, &err), LB_OK);
        for (size_t at = 0; at < TOKENS; at += rows[i].step) {
            const size_t n = TOKENS - at < rows[i].step ? TOKENS - at : rows[i].step;
            assert_int_equal(lb_session_feed(single, f.ids + at, n, NULL, &decoded, &err), LB_OK);
        }
        double want[512], distance = 0.0;
        assert_true(vocab <= 512);
        for (size_t id = 0; id < vocab; id++) {
            want[id] = (double)simulated[id];
            distance = fmax(distance, fabs(want[id] - f.want[(TOKENS - 1) * vocab + id]));
        }
        assert_true(distance > 20.0 * f.bound);
        near_array(decoded, want, vocab, 0.1 * distance);
        lb_session_destroy(whole);
        lb_session_destroy(single);
        lb_resident_free(&rounded);
        unload(&f);
    }
}

/* Logits of all ids with weights and inputs rounded, every product in floats. */
static void simulate(const fixture *f, const lb_format *format, const lb_inputs *inputs, float *logits)
{
    const lb_config *c = &f->model.config;
    lb_rope rope;
    lb_workspace ws;
    lb_error err = {0};
    float *x = lb_alloc(TOKENS * c->hidden, sizeof *x), *scratch = lb_alloc(TOKENS * c->hidden, sizeof *x);
    lb_stage_context stage = {
        .kernels = lb_kernels_get(LB_CPU_REF), .config = c, .rope = &rope, .inputs = inputs, .ws = &ws};
    assert_int_equal(lb_rope_create(c, TOKENS, &rope, &err), LB_OK);
    assert_int_equal(lb_workspace_create(c, TOKENS, &ws, &err), LB_OK);
    assert_int_equal(lb_embedding_look_up(stage.kernels, &f->model.ends, f->ids, TOKENS, x, &err), LB_OK);
    for (size_t layer = 0; layer < c->layers; layer++) {
        lb_block block = f->model.blocks[layer];
        for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
            lb_linear *l = &block.linear[which];
            float *copy = lb_alloc(l->rows * l->cols, sizeof *copy);
            memcpy(copy, l->dense, l->rows * l->cols * sizeof *copy);
            l->dense = copy;
            assert_int_equal(lb_linear_round(stage.kernels, l, format, LB_FIT_RANGE, &err), LB_OK);
        }
        stage.block = &block;
        assert_int_equal(lb_block_forward(&stage, x, 1, TOKENS, &err), LB_OK);
        for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++)
            lb_free(block.linear[which].dense);
    }
    assert_int_equal(lb_embedding_logits(stage.kernels, &f->model.ends, x, TOKENS, scratch, logits, &err),
                     LB_OK);
    lb_rope_free(&rope);
    lb_workspace_free(&ws);
    lb_free(x);
    lb_free(scratch);
}

/* A scale for each token: prompts too are multiplied as integers, in one go, in pieces, or token by token. */
static void rows_of_integers_are_as_they_are_simulated(void **state)
{
    (void)state;
    static const struct {
        const char *weights, *inputs;
    } rows[] = {{"int8-row", "int8-row"},
                {"int4-g128", "int8-row"},
                {"int4-row", "int4-row"},
                {"int3-g32-asym", "int6-row"},
                {"mxint8", "int8-row"}}; /* the last one's products are floats */
    static const size_t steps[] = {TOKENS, 13, 1};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fixture f;
        lb_format format;
        lb_act inputs;
        lb_resident rounded;
        lb_error err = {0};
        tiny_model_options options = {.seed = 50 + i, .hidden = 96, .ffn = 160};
        load(&f, &options);
        const size_t vocab = f.made->options.vocab;
        float *want = lb_alloc(TOKENS * vocab, sizeof *want);
        assert_int_equal(lb_format_parse(rows[i].weights, &format, &err), LB_OK);
        assert_int_equal(lb_act_parse(rows[i].inputs, &inputs, &err), LB_OK);
        assert_int_equal(lb_resident_round(&f.model, &format, NULL, &rounded, &err), LB_OK);
        const lb_transform none = {0};
        assert_int_equal(lb_inputs_create(&rounded.config, &none, &inputs, &rounded.inputs, &err), LB_OK);
        simulate(&f, &format, &rounded.inputs, want);
        double distance = 0.0;
        for (size_t k = 0; k < TOKENS * vocab; k++)
            distance = fmax(distance, fabs((double)want[k] - f.want[k]));
        for (size_t k = 0; k < sizeof steps / sizeof *steps; k++) {
            lb_session *session;
            float *logits = NULL;
            assert_int_equal(lb_session_create(lb_kernels_get(k == 1 ? LB_CPU_REF : LB_CPU_BEST), &rounded,
                                               TOKENS, 0, &session, &err),
                             LB_OK);
            for (size_t at = 0, n; at < TOKENS; at += n) {
                n = TOKENS - at < steps[k] ? TOKENS - at : steps[k];
                assert_int_equal(lb_session_feed(session, f.ids + at, n, NULL, &logits, &err), LB_OK);
                near_array(logits, want + (at + n - 1) * vocab, vocab, 0.1 * distance);
            }
            lb_session_destroy(session);
        }
        lb_free(want);
        lb_resident_free(&rounded);
        unload(&f);
    }
}

static void sizes_are_counted(void **state)
{
    (void)state;
    fixture f;
    lb_format format;
    lb_resident rounded;
    lb_error err = {0};
    tiny_model_options options = {.seed = 13, .tied = true, .layers = 1};
    load(&f, &options);
    /* q 64x64, k and v 32x64, o 64x64, gate and up 96x64, down 64x96; two norms; head 288x64; one row
     * of the embedding; the last norm. */
    const size_t weights = 64 * 64 * 2 + 32 * 64 * 2 + 96 * 64 * 3, rest = (64 * 2 + 288 * 64 + 64 + 64) * 4;
    assert_int_equal(lb_resident_token_bytes(&f.model), weights * 4 + rest);
    near_array(((double[]){lb_resident_layer_bits(&f.model)}), ((double[]){32}), 1, 1e-12);
    assert_int_equal(lb_format_parse("int4-g32", &format, &err), LB_OK);
    assert_int_equal(lb_resident_round(&f.model, &format, NULL, &rounded, &err), LB_OK);
    assert_int_equal(lb_resident_token_bytes(&rounded), weights / 2 + weights / 32 * 2 + rest);
    near_array(((double[]){lb_resident_layer_bits(&rounded)}), ((double[]){4.5}), 1, 1e-12);
    lb_resident_free(&rounded);
    assert_int_equal(lb_format_parse("f32", &format, &err), LB_OK);
    assert_int_equal(lb_resident_round(&f.model, &format, NULL, &rounded, &err), LB_EUNSUPPORTED);
    unload(&f);
}

/* ---- A real model ------------------------------------------------------------------------------------ */

typedef struct gathered {
    char text[1024];
    size_t length;
} gathered;

static int gather(void *user, const char *text, size_t length)
{
    gathered *g = user;
    assert_true(length > 0 && g->length + length < sizeof g->text);
    memcpy(g->text + g->length, text, length);
    g->length += length;
    return 0;
}

static void check_top_logits(const char *path, const json_t *reference, const uint32_t *prompt, size_t count)
{
    lb_resident model;
    lb_session *session;
    lb_error err = {0};
    float *logits;
    const json_t *top = json_object_get(reference, "top5_logits_after_prompt");
    assert_int_equal(lb_resident_load(path, NULL, &model, &err), LB_OK);
    assert_int_equal(lb_session_create(lb_kernels_get(LB_CPU_BEST), &model, 64, 0, &session, &err), LB_OK);
    assert_int_equal(lb_session_feed(session, prompt, count, NULL, &logits, &err), LB_OK);
    assert_int_equal(json_array_size(top), 5);
    for (size_t i = 0; i < 5; i++) {
        const json_t *pair = json_array_get(top, i);
        const json_int_t id = json_integer_value(json_array_get(pair, 0));
        const double want = json_number_value(json_array_get(pair, 1));
        near_array(&logits[id], &want, 1, 1e-3);
    }
    lb_session_destroy(session);
    lb_resident_free(&model);
}

static void stories260K_continues_as_its_reference_does(void **state)
{
    (void)state;
    const char *path = "../shared/models/stories260K";
    json_t *reference = json_load_file("../shared/models/stories260K/reference.json", 0, NULL);
    if (!reference) {
        print_message("no %s: skipped\n", path);
        skip();
    }
    uint32_t prompt[16];
    size_t count = json_array_size(json_object_get(reference, "prompt_ids"));
    assert_in_range(count, 1, 16);
    for (size_t i = 0; i < count; i++)
        prompt[i] = (uint32_t)json_integer_value(json_array_get(json_object_get(reference, "prompt_ids"), i));
    check_top_logits(path, reference, prompt, count);

    lb_generator_options open_options;
    lb_generator_options_init(&open_options);
    lb_generate_options options;
    lb_generate_options_init(&options);
    lb_generate_result result;
    lb_generator *generator;
    lb_error err = {0};
    gathered got = {.length = 0};
    const json_t *ids = json_object_get(reference, "greedy_ids");
    const char *text = json_string_value(json_object_get(reference, "prompt"));
    const char *whole = json_string_value(json_object_get(reference, "greedy_text"));
    options.temperature = 0;
    options.max_tokens = json_array_size(ids);
    options.on_text = gather;
    options.user = &got;
    assert_int_equal(lb_generator_open(path, &open_options, &generator, &err), LB_OK);
    assert_int_equal(lb_generate_text(generator, text, strlen(text), &options, &result, &err), LB_OK);
    assert_int_equal(result.prompt_tokens, count);
    assert_int_equal(result.generated_tokens, options.max_tokens);
    assert_int_equal(got.length, strlen(whole) - strlen(text));
    assert_memory_equal(got.text, whole + strlen(text), got.length);
    lb_generator_close(generator);

    /* The ids, too: the same text could be spelled by others. */
    lb_resident model;
    lb_session *session;
    float *logits;
    assert_int_equal(lb_resident_load(path, NULL, &model, &err), LB_OK);
    assert_int_equal(lb_session_create(lb_kernels_get(LB_CPU_BEST), &model, 64, 0, &session, &err), LB_OK);
    assert_int_equal(lb_session_feed(session, prompt, count, NULL, &logits, &err), LB_OK);
    for (size_t i = 0; i < json_array_size(ids); i++) {
        uint32_t best = 0;
        for (uint32_t id = 1; id < model.config.vocab; id++)
            best = logits[id] > logits[best] ? id : best;
        assert_int_equal(best, json_integer_value(json_array_get(ids, i)));
        assert_int_equal(lb_session_feed(session, &best, 1, NULL, &logits, &err), LB_OK);
    }
    lb_session_destroy(session);
    lb_resident_free(&model);
    json_decref(reference);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_path_agrees_with_the_slow_transformer),
        cmocka_unit_test(long_contexts_agree),
        cmocka_unit_test(a_full_context_is_refused_and_rewinding_makes_room),
        cmocka_unit_test(cancelling_keeps_whole_chunks),
        cmocka_unit_test(rounded_models_follow_their_rounded_weights),
        cmocka_unit_test(prompts_in_codes_are_their_tokens),
        cmocka_unit_test(rounded_inputs_decode_as_they_are_simulated),
        cmocka_unit_test(rows_of_integers_are_as_they_are_simulated),
        cmocka_unit_test(sizes_are_counted),
        cmocka_unit_test(stories260K_continues_as_its_reference_does),
    };
    return cmocka_run_group_tests_name("session", tests, NULL, NULL);
}
