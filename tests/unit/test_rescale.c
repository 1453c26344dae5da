/* SPDX-License-Identifier: MIT
 * Channels rescaled change what no model computes, whatever its architecture; SmoothQuant's factors are what a slow
 * reading of its formula gives. */
#define _GNU_SOURCE
#include "rescale_case.h"

#include "transform/reorder.h"

/* Factors between an eighth and eight. */
static void draw(const lb_config *config, uint64_t seed, lb_rescaling *out)
{
    lb_rng rng;
    lb_error err;
    ok(lb_rescaling_create(config, out, &err), &err);
    lb_rng_seed(&rng, seed);
    for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++)
        for (size_t i = 0; i < lb_rescale_width(config, (lb_stage)stage); i++)
            out->s[stage][i] = (float)exp2(6.0 * lb_rng_uniform(&rng) - 3.0);
}

/* Channels of every stage in an order of no meaning. */
static void shuffle(const lb_config *config, uint64_t seed, lb_channel_orders *out)
{
    lb_rng rng;
    lb_error err;
    lb_rng_seed(&rng, seed);
    for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++) {
        const size_t width = lb_stage_width(config, (lb_stage)stage);
        ok(lb_alloc_array(&out->order[stage], width, sizeof(uint32_t), "order", &err), &err);
        for (size_t i = 0; i < width; i++) {
            const size_t k = lb_rng_below(&rng, i + 1);
            out->order[stage][i] = out->order[stage][k];
            out->order[stage][k] = (uint32_t)i;
        }
    }
}

/* logits [TOKENS, vocab] of the model, each of whose blocks is rescaled, and its channels are put in another
 * order, unless `seed` is 0. */
static void run(const whole *w, uint64_t seed, float *logits)
{
    const lb_config *c = w->config;
    const lb_kernels *kernels = lb_kernels_get(LB_CPU_BEST);
    lb_error err;
    float *x = lb_alloc(TOKENS * c->hidden, sizeof *x), *scratch = lb_alloc(TOKENS * c->hidden, sizeof *x);
    assert_true(x && scratch);
    feed(w, x);
    for (size_t layer = 0; layer < c->layers; layer++) {
        lb_block block;
        lb_rescaling by;
        lb_workspace ws = w->ws;
        ok(lb_block_load(w->weights, layer, LB_LOAD_FLOAT, &block, &err), &err);
        draw(c, seed + layer, &by);
        lb_channel_orders orders = {0};
        shuffle(c, seed + 100 + layer, &orders);
        if (seed) {
            ok(lb_block_rescale(c, &by, &block, &err), &err);
            ok(lb_block_reorder(&orders, &block, &err), &err);
        }
        lb_channel_orders_free(&orders);
        const lb_stage_context stage = {
            .kernels = kernels, .config = c, .rope = &w->rope, .block = &block, .ws = &ws};
        ok(lb_block_forward(&stage, x, SEQUENCES, LENGTH, &err), &err);
        lb_rescaling_free(&by);
        lb_block_free(&block);
    }
    ok(lb_embedding_logits(kernels, &w->ends, x, TOKENS, scratch, logits, &err), &err);
    lb_free(x);
    lb_free(scratch);
}

static void logits_stay(void **state)
{
    (void)state;
    for (size_t k = 0; k < TINY_KINDS; k++) {
        whole w;
        open_whole(&w, &tiny_kinds[k]);
        const size_t n = TOKENS * w.config->vocab;
        float *before = lb_alloc(n, sizeof *before), *after = lb_alloc(n, sizeof *after);
        assert_true(before && after);
        run(&w, 0, before);
        run(&w, 11, after);
        near_array(after, before, n, 1e-4);
        assert_true(memcmp(before, after, n * sizeof *before) != 0); /* something was done */
        lb_free(before);
        lb_free(after);
        close_whole(&w);
    }
}

/* ---- SmoothQuant ------------------------------------------------------------------------------------------ */

/* The formula, one channel at a time. */
static void slow_scales(const whole *w, const lb_block *block, const lb_block_trace *trace, double strength,
                        lb_stage stage, double *s)
{
    const size_t width = lb_stage_width(w->config, stage), dim = w->config->head_dim;
    for (size_t j = 0; j < lb_rescale_width(w->config, stage); j++) {
        double input = 0.0, weight = 0.0;
        for (size_t i = 0; i < width; i++) {
            const bool shares = stage != LB_STAGE_O ||
                                i / dim / (w->config->heads / w->config->kv_heads) * dim + i % dim == j;
            if (!shares || (stage != LB_STAGE_O && i != j))
                continue;
            for (size_t t = 0; t < TOKENS; t++)
                input = fmax(input, fabs((double)trace->inputs[stage][t * width + i]));
            for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++)
                for (size_t r = 0; lb_block_linears[which].stage == stage && r < block->linear[which].rows;
                     r++)
                    weight = fmax(weight, fabs((double)((float *)block->linear[which].dense)[r * width + i]));
        }
        s[j] = fmax(pow(input, strength) / pow(weight, 1.0 - strength), 1e-5);
    }
}

static void smooth_is_its_formula(void **state)
{
    (void)state;
    for (size_t k = 0; k < TINY_KINDS; k++) {
        whole w;
        lb_error err;
        lb_block block;
        lb_block_trace trace;
        lb_recipe recipe;
        lb_rescaling got;
        open_whole(&w, &tiny_kinds[k]);
        lb_recipe_default(&recipe);
        ok(lb_transform_parse("smooth", &recipe.transform, &err), &err);
        recipe.transform.strength = 0.3 + 0.2 * (double)k;
        float *x = lb_alloc(TOKENS * w.config->hidden, sizeof *x);
        feed(&w, x);
        ok(lb_block_load(w.weights, 0, LB_LOAD_FLOAT, &block, &err), &err);
        lb_channel_scaler job = scaler_for(&w, &recipe, &block, NULL, x);
        job.chunk_sequences = 2; /* a last chunk of one */
        ok(lb_channel_scales_choose(&job, &got, &err), &err);
        ok(lb_block_trace_create(w.config, TOKENS, LENGTH, &trace, &err), &err);
        const lb_stage_context c = {
            .kernels = job.kernels, .config = w.config, .rope = &w.rope, .block = &block};
        ok(lb_block_forward_traced(&c, x, SEQUENCES, LENGTH, &trace, x, &err), &err);
        for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++) {
            const size_t n = lb_rescale_width(w.config, (lb_stage)stage);
            double want[64];
            assert_true(n <= 64);
            slow_scales(&w, &block, &trace, recipe.transform.strength, (lb_stage)stage, want);
            for (size_t i = 0; i < n; i++)
                assert_true(fabs((double)got.s[stage][i] - want[i]) <= 1e-5 * want[i]);
        }
        lb_rescaling_free(&got);
        lb_block_trace_free(&trace);
        lb_block_free(&block);
        lb_free(x);
        close_whole(&w);
    }
}

/* Names of transforms, there and back, and what is none. */
static void names_are_told(void **state)
{
    (void)state;
    static const char *const good[] = {"none", "smooth",         "smooth+hadamard-32", "smooth+hadamard-full",
                                       "awq",  "awq+hadamard-16"};
    static const char *const bad[] = {"smooth+",         "smooth-",       "smoothhadamard",
                                      "hadamard+smooth", "smooth+smooth", "+hadamard"};
    lb_transform t;
    lb_error err;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        char name[LB_TRANSFORM_NAME_BYTES];
        ok(lb_transform_parse(good[i], &t, &err), &err);
        lb_transform_name(&t, name);
        assert_string_equal(name, good[i]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(lb_transform_parse(bad[i], &t, &err), LB_EINVAL);
        assert_non_null(strstr(err.msg, bad[i]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_stay),
        cmocka_unit_test(smooth_is_its_formula),
        cmocka_unit_test(names_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
