/* SPDX-License-Identifier: MIT
 * AWQ's factors are powers of the inputs' mean magnitudes, and the powers that a slow search in double takes, for
 * formats of any family. */
#define _GNU_SOURCE
#include "rescale_case.h"

/* The factors of an exponent: the formula, once more. */
static void slow_scales(const whole *w, const lb_block_trace *trace, lb_stage stage, double exponent,
                        double *s)
{
    const size_t width = lb_stage_width(w->config, stage), n = lb_rescale_width(w->config, stage);
    const size_t dim = w->config->head_dim, sharing = width / n;
    double most = 0.0, least = HUGE_VAL;
    for (size_t j = 0; j < n; j++) {
        double sum = 0.0;
        for (size_t k = 0; k < sharing; k++) {
            const size_t i = stage == LB_STAGE_O ? (j / dim * sharing + k) * dim + j % dim : j;
            for (size_t t = 0; t < TOKENS; t++)
                sum += fabs((double)trace->inputs[stage][t * width + i]);
        }
        s[j] = fmax(pow(sum / (double)(sharing * TOKENS), exponent), 1e-4);
        most = fmax(most, s[j]);
        least = fmin(least, s[j]);
    }
    for (size_t j = 0; j < n; j++)
        s[j] /= sqrt(most * least);
}

/* What rounding a layer that was rescaled by s does to its output. */
static double slow_loss(const whole *w, const lb_block *block, const lb_block_trace *trace, unsigned which,
                        const lb_format *format, const double *s)
{
    const lb_linear *l = &block->linear[which];
    const lb_stage stage = lb_block_linears[which].stage;
    const float *x = trace->inputs[stage];
    float *rounded = lb_alloc(l->rows * l->cols, sizeof *rounded);
    lb_linear copy = *l;
    lb_error err;
    double total = 0.0;
    for (size_t k = 0; k < l->rows * l->cols; k++)
        rounded[k] = ((float *)l->dense)[k] * (float)s[lb_rescale_source(w->config, stage, k % l->cols)];
    copy.dense = rounded;
    ok(lb_linear_round(lb_kernels_get(LB_CPU_REF), &copy, format, LB_FIT_RANGE, &err), &err);
    for (size_t t = 0; t < TOKENS; t++) {
        for (size_t r = 0; r < l->rows; r++) {
            double d = 0.0;
            for (size_t i = 0; i < l->cols; i++)
                d += (double)x[t * l->cols + i] *
                     ((double)rounded[r * l->cols + i] / s[lb_rescale_source(w->config, stage, i)] -
                      (double)((float *)l->dense)[r * l->cols + i]);
            total += d * d;
        }
    }
    lb_free(rounded);
    return total;
}

/* Which exponent's factors these are. */
static int find_step(const whole *w, const lb_block_trace *trace, lb_stage stage, const float *got)
{
    const size_t n = lb_rescale_width(w->config, stage);
    for (int step = 0; step < 20; step++) {
        double s[64];
        bool same = true;
        slow_scales(w, trace, stage, step / 20.0, s);
        for (size_t j = 0; j < n; j++)
            same = same && fabs((double)got[j] - s[j]) <= 1e-5 * s[j];
        if (same)
            return step;
    }
    return -1;
}

static void the_best_power_is_taken(void **state)
{
    (void)state;
    static const char *const formats[] = {"int3-g32", "mxint4", "nvfp4", "bp2-g32"};
    int powers = 0;
    for (size_t k = 0; k < TINY_KINDS; k++) {
        whole w;
        lb_error err;
        lb_block block;
        lb_block_trace trace;
        lb_recipe recipe;
        lb_rescaling got;
        lb_layer layers[LB_BLOCK_LINEARS] = {0};
        open_whole(&w, &tiny_kinds[k]);
        lb_recipe_default(&recipe);
        ok(lb_transform_parse("awq", &recipe.transform, &err), &err);
        recipe.fit = LB_FIT_RANGE;
        for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++)
            ok(lb_format_parse(formats[k], &layers[which].format, &err), &err);
        float *x = lb_alloc(TOKENS * w.config->hidden, sizeof *x);
        feed(&w, x);
        ok(lb_block_load(w.weights, 0, LB_LOAD_FLOAT, &block, &err), &err);
        for (size_t i = 0; i < w.config->hidden; i++) { /* channels of very different sizes */
            block.attn_norm[i] *= i % 5 ? 1.0f : 6.0f;
            block.ffn_norm[i] *= i % 7 ? 1.0f : 9.0f;
        }
        const lb_channel_scaler job = scaler_for(&w, &recipe, &block, layers, x);
        ok(lb_channel_scales_choose(&job, &got, &err), &err);
        ok(lb_block_trace_create(w.config, TOKENS, LENGTH, &trace, &err), &err);
        const lb_stage_context c = {
            .kernels = job.kernels, .config = w.config, .rope = &w.rope, .block = &block};
        ok(lb_block_forward_traced(&c, x, SEQUENCES, LENGTH, &trace, x, &err), &err);
        for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++) {
            const int step = find_step(&w, &trace, (lb_stage)stage, got.s[stage]);
            assert_true(step >= 0);
            powers += step > 0;
            if (stage != LB_STAGE_O && stage != LB_STAGE_DOWN)
                continue;
            const unsigned which = stage == LB_STAGE_O ? LB_LINEAR_O : LB_LINEAR_DOWN;
            double s[64], least = HUGE_VAL, taken = 0.0;
            for (int i = 0; i < 20; i++) {
                slow_scales(&w, &trace, (lb_stage)stage, i / 20.0, s);
                const double loss = slow_loss(&w, &block, &trace, which, &layers[which].format, s);
                least = fmin(least, loss);
                taken = i == step ? loss : taken;
            }
            assert_true(taken <= least * 1.001);
        }
        lb_rescaling_free(&got);
        lb_block_trace_free(&trace);
        lb_block_free(&block);
        lb_free(x);
        close_whole(&w);
    }
    assert_true(powers > 4); /* the search found something to do */
}

/* Stages whose layers all keep a float type are left alone. */
static void float_stages_keep_their_factors(void **state)
{
    (void)state;
    whole w;
    lb_error err;
    lb_block block;
    lb_recipe recipe;
    lb_rescaling got;
    lb_layer layers[LB_BLOCK_LINEARS] = {0};
    open_whole(&w, &tiny_kinds[0]);
    lb_recipe_default(&recipe);
    ok(lb_transform_parse("awq", &recipe.transform, &err), &err);
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++)
        ok(lb_format_parse(which == LB_LINEAR_DOWN ? "int2-g32" : "bf16", &layers[which].format, &err), &err);
    float *x = lb_alloc(TOKENS * w.config->hidden, sizeof *x);
    feed(&w, x);
    ok(lb_block_load(w.weights, 0, LB_LOAD_FLOAT, &block, &err), &err);
    const lb_channel_scaler job = scaler_for(&w, &recipe, &block, layers, x);
    ok(lb_channel_scales_choose(&job, &got, &err), &err);
    for (unsigned stage = 0; stage < LB_STAGE_DOWN; stage++)
        for (size_t i = 0; i < lb_rescale_width(w.config, (lb_stage)stage); i++)
            assert_true(got.s[stage][i] == 1.0f);
    ok(lb_awq_clip(&job, &block, &err), &err);
    lb_rescaling_free(&got);
    lb_block_free(&block);
    lb_free(x);
    close_whole(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_best_power_is_taken),
        cmocka_unit_test(float_stages_keep_their_factors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
