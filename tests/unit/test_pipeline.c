/* SPDX-License-Identifier: MIT
 * The two streams of the loop over blocks, as a method that reconstructs sees them: it is fed what the rounded blocks
 * before it put out, and asked for what the original block makes of what the original blocks put out. */
#define _GNU_SOURCE
#include "scratch.h"

#include "model/block_trace.h"
#include "model/embedding.h"
#include "quantize/pipeline.h"
#include "tiny_model.h"

enum { SEQUENCES = 5, LENGTH = 9, TOKENS = SEQUENCES * LENGTH, BLOCKS = 3, HIDDEN = 32 };

/* What the method keeps between its calls. */
static struct {
    float original[TOKENS * HIDDEN],
        quantized[TOKENS * HIDDEN]; /* the inputs that the next block is to have */
    float fed[BLOCKS][TOKENS * HIDDEN], wanted[BLOCKS][TOKENS * HIDDEN];
    size_t calls;
    /* Of finished blocks, for a run that goes on. */
    uint8_t *codes[BLOCKS * LB_BLOCK_LINEARS];
    float *params[BLOCKS * LB_BLOCK_LINEARS];
    size_t finished;
} spy;

static void forward(const lb_reconstruction *job, const lb_block *block, const float *x, float *y)
{
    lb_block_trace trace;
    lb_error err;
    const lb_stage_context c = {.kernels = job->kernels,
                                .config = job->config,
                                .rope = job->rope,
                                .block = block,
                                .inputs = job->inputs};
    assert_int_equal(lb_block_trace_create(job->config, TOKENS, LENGTH, &trace, &err), LB_OK);
    if (lb_block_forward_traced(&c, x, SEQUENCES, LENGTH, &trace, y, &err) != LB_OK)
        fail_msg("%s", err.msg);
    lb_block_trace_free(&trace);
}

static double largest(const float *x, size_t n)
{
    double most = 0.0;
    for (size_t i = 0; i < n; i++)
        most = fmax(most, fabs((double)x[i]));
    return most;
}

static float *round_layer(lb_layer *l)
{
    float *values = malloc(l->rows * l->cols * sizeof *values);
    const size_t params = lb_format_groups(&l->format, l->cols) * l->format.params;
    assert_non_null(values);
    for (size_t r = 0; r < l->rows; r++) {
        lb_format_encode_row(&l->format, l->w + r * l->cols, NULL, l->cols, LB_FIT_RANGE,
                             l->codes + r * l->cols, l->params + r * params);
        lb_format_decode_row(&l->format, l->codes + r * l->cols, l->params + r * params, l->cols,
                             values + r * l->cols);
    }
    return values;
}

static lb_status reconstruct(const lb_recipe *recipe, const lb_reconstruction *job, lb_layer *layers,
                             lb_error *err)
{
    lb_block rounded = *job->block;
    float *values[LB_BLOCK_LINEARS];
    (void)recipe;
    (void)err;
    assert_int_equal(job->index, spy.finished + spy.calls);
    assert_int_equal(job->sequences * job->length, TOKENS);
    spy.calls++;
    memcpy(spy.fed[job->index], job->x, sizeof spy.fed[0]);
    memcpy(spy.wanted[job->index], job->target, sizeof spy.wanted[0]);
    if (job->index == spy.finished && spy.finished > 0) /* a run that goes on: compared by the test */
        memcpy(spy.quantized, job->x, sizeof spy.quantized);
    near_array(job->x, spy.quantized, TOKENS * HIDDEN, 1e-5 * largest(spy.quantized, TOKENS * HIDDEN));
    forward(job, job->block, spy.original, spy.original);
    if (spy.finished == 0)
        near_array(job->target, spy.original, TOKENS * HIDDEN, 1e-5 * largest(spy.original, TOKENS * HIDDEN));
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        values[which] = round_layer(&layers[which]);
        rounded.linear[which].dense = values[which];
    }
    forward(job, &rounded, job->x, spy.quantized);
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++)
        free(values[which]);
    return LB_OK;
}

static const lb_method method = {
    .name = "spy", .summary = "looks on", .needs_calibration = true, .reconstruct = reconstruct};

/* ---- Where finished blocks go ----------------------------------------------------------------------------- */

static bool has(void *self, size_t layer)
{
    (void)self;
    return layer < spy.finished;
}

static size_t param_count(const lb_layer *l)
{
    return l->rows * lb_format_groups(&l->format, l->cols) * l->format.params;
}

static lb_status commit(void *self, size_t layer, const lb_layer *layers, size_t count, const lb_block *block,
                        lb_error *err)
{
    (void)self;
    (void)block;
    (void)err;
    for (size_t i = 0; i < count; i++) {
        const lb_layer *l = &layers[i];
        const size_t at = layer * LB_BLOCK_LINEARS + i;
        free(spy.codes[at]);
        free(spy.params[at]);
        spy.codes[at] = malloc(l->rows * l->cols);
        spy.params[at] = malloc(param_count(l) * sizeof(float));
        assert_true(spy.codes[at] && spy.params[at]);
        memcpy(spy.codes[at], l->codes, l->rows * l->cols);
        memcpy(spy.params[at], l->params, param_count(l) * sizeof(float));
    }
    return LB_OK;
}

static lb_status restore(void *self, size_t layer, lb_layer *layers, size_t count, lb_block *block,
                         lb_error *err)
{
    (void)block; /* nobody asks for it here */
    (void)self;
    (void)err;
    for (size_t i = 0; i < count; i++) {
        lb_layer *l = &layers[i];
        const size_t at = layer * LB_BLOCK_LINEARS + i;
        memcpy(l->codes, spy.codes[at], l->rows * l->cols);
        memcpy(l->params, spy.params[at], param_count(l) * sizeof(float));
        l->relative_error = 0.0;
    }
    return LB_OK;
}

static void run(const lb_weights *weights, const lb_samples *samples, size_t finished)
{
    static lb_layer layers[BLOCKS * LB_BLOCK_LINEARS];
    lb_block_report reports[BLOCKS];
    lb_polish_report polished;
    lb_stage_times times = {0};
    lb_embedding ends;
    lb_recipe recipe;
    lb_error err;
    const lb_kernels *kernels = lb_kernels_get(LB_CPU_BEST);
    lb_recipe_default(&recipe);
    recipe.method = &method;
    assert_int_equal(lb_format_parse("int2-g32", &recipe.format, NULL), LB_OK);
    assert_int_equal(lb_embedding_load(weights, &ends, &err), LB_OK);
    assert_int_equal(lb_embedding_look_up(kernels, &ends, samples->ids, TOKENS, spy.original, &err), LB_OK);
    memcpy(spy.quantized, spy.original, sizeof spy.original);
    lb_embedding_free(&ends);
    spy.finished = finished;
    spy.calls = 0;
    const lb_pipeline p = {.weights = weights,
                           .recipe = &recipe,
                           .samples = samples,
                           .kernels = kernels,
                           .sink = {.has = has, .restore = restore, .commit = commit}};
    memset(layers, 0, sizeof layers);
    if (lb_pipeline_run(&p, layers, reports, &polished, &times, &err) != LB_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(spy.calls, BLOCKS - finished);
    for (size_t i = finished; i < BLOCKS; i++)
        assert_true(reports[i].output_error > 0.01); /* two bits are felt */
}

static void streams_are_what_the_method_is_told(void **state)
{
    (void)state;
    static float fed[BLOCKS][TOKENS * HIDDEN], wanted[BLOCKS][TOKENS * HIDDEN];
    const tiny_model_options options = {
        .seed = 51, .hidden = HIDDEN, .ffn = 64, .vocab = 40, .layers = BLOCKS};
    uint32_t ids[TOKENS];
    lb_weights *weights = NULL;
    lb_error err;
    lb_rng rng;
    char *folder = scratch_make("lb_pipeline");
    assert_int_equal(tiny_model_write(folder, &options), 0);
    assert_int_equal(lb_weights_open(folder, &weights, &err), LB_OK);
    scratch_remove(folder);
    free(folder);
    lb_rng_seed(&rng, 52);
    for (size_t t = 0; t < TOKENS; t++)
        ids[t] = (uint32_t)lb_rng_below(&rng, weights->config.vocab);
    const lb_samples samples = {.ids = ids, .count = SEQUENCES, .length = LENGTH};
    run(weights, &samples, 0);
    memcpy(fed, spy.fed, sizeof fed);
    memcpy(wanted, spy.wanted, sizeof wanted);
    /* The streams part: otherwise the checks above would not tell one from the other. */
    for (size_t i = 1; i < BLOCKS; i++) {
        double apart = 0.0;
        for (size_t k = 0; k < TOKENS * HIDDEN; k++)
            apart = fmax(apart, fabs((double)fed[i][k] - (double)wanted[i - 1][k]));
        assert_true(apart > 0.01 * largest(fed[i], TOKENS * HIDDEN));
    }
    /* A run that goes on shows the method what an unbroken one does. */
    for (size_t finished = 1; finished < BLOCKS; finished++) {
        run(weights, &samples, finished);
        for (size_t i = finished; i < BLOCKS; i++) {
            assert_memory_equal(spy.fed[i], fed[i], sizeof fed[i]);
            assert_memory_equal(spy.wanted[i], wanted[i], sizeof wanted[i]);
        }
    }
    for (size_t i = 0; i < BLOCKS * LB_BLOCK_LINEARS; i++) {
        free(spy.codes[i]);
        free(spy.params[i]);
    }
    lb_weights_close(weights);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(streams_are_what_the_method_is_told)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
