/* SPDX-License-Identifier: MIT
 * Gradients of whole models, several sequences at a time, against differences of a transformer in double; and what
 * else lb_model_backward promises its caller. */
#define _GNU_SOURCE
#include "scratch.h"

#include "base/alloc.h"
#include "base/thread.h"
#include "model/model_grad.h"
#include "reference_model.h"
#include "tiny_kinds.h"
#include "transform/rotate.h"

enum { SEQUENCES = 5, LENGTH = 8, TOKENS = SEQUENCES * LENGTH };

/* A model, what is asked of it, and what comes of that. */
typedef struct whole {
    tiny_model *made;
    lb_weights *weights;
    lb_embedding ends;
    lb_inputs inputs;
    bool rotates;
    lb_model_grad job;
    uint32_t ids[TOKENS];
    float *sums[TINY_KINDS_LAYERS][LB_BLOCK_LINEARS]; /* of gradients, over all batches */
    double *fed[TINY_KINDS_LAYERS][LB_STAGE_COUNT]; /* [width] sum over tokens of gradient times input */
    size_t passes, sequences; /* batches seen, and sequences in them */
    size_t loads, stop_load, stop_take; /* the load, or pass, that fails; 0: none */
    /* retarget */
    bool changes_targets;
    size_t changed; /* the one token that keeps a target */
    uint32_t wanted;
    float *teacher; /* [TOKENS, hidden]; NULL: the text counts */
    /* progress */
    size_t asked, stop_at, told;
} whole;

static void *must(void *ptr)
{
    assert_non_null(ptr);
    return ptr;
}

static void ok(lb_status st, const lb_error *err)
{
    if (st != LB_OK)
        fail_msg("%s", err->msg);
}

static lb_status load(void *self, size_t layer, lb_block *out, lb_error *err)
{
    whole *w = self;
    if (++w->loads == w->stop_load)
        return lb_fail(err, LB_EFORMAT, "no block %zu", layer);
    LB_TRY(lb_block_load(w->weights, layer, LB_LOAD_FLOAT, out, err));
    return w->rotates ? lb_block_rotate(w->job.kernels, &w->inputs, out, err) : LB_OK;
}

static lb_status take(void *self, const lb_block_pass *pass, lb_error *err)
{
    whole *w = self;
    const lb_config *c = w->job.config;
    const size_t batches = (SEQUENCES + w->job.batch - 1) / w->job.batch;
    if (w->passes + 1 == w->stop_take)
        return lb_fail(err, LB_EFORMAT, "no pass");
    /* Blocks from the last to the first, batches in order. */
    assert_int_equal(pass->layer, c->layers - 1 - w->passes / batches);
    assert_int_equal(pass->batch, w->passes % batches);
    w->passes++;
    w->sequences += pass->trace->sequences;
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        const lb_linear *l = &pass->context->block->linear[which];
        for (size_t i = 0; i < l->rows * l->cols; i++)
            w->sums[pass->layer][which][i] += pass->grads->weights[which][i];
    }
    for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++) {
        const size_t width = lb_stage_width(c, (lb_stage)stage);
        const float *d = pass->grads->inputs[stage], *x = pass->trace->inputs[stage];
        assert_true((d != NULL) == w->job.wants_inputs);
        for (size_t i = 0; d && i < pass->trace->tokens * width; i++)
            w->fed[pass->layer][stage][i % width] += (double)d[i] * (double)x[i];
    }
    return LB_OK;
}

static lb_status retarget(void *self, const float *x, size_t tokens, uint32_t *targets, lb_error *err)
{
    whole *w = self;
    (void)err;
    assert_int_equal(tokens, TOKENS);
    for (size_t i = 0; i < TOKENS * w->job.config->hidden; i++)
        assert_true(isfinite(x[i]));
    for (size_t t = 0; t < TOKENS; t++) {
        assert_int_equal(targets[t], (t + 1) % LENGTH == 0 ? LB_NO_TARGET : w->ids[t + 1]);
        targets[t] = t == w->changed ? w->wanted : LB_NO_TARGET;
    }
    return LB_OK;
}

static int ask(void *user, const char *stage, size_t done, size_t total)
{
    whole *w = user;
    assert_string_equal(stage, "gradients");
    if (total > 0) {
        assert_int_equal(total, 2 * w->job.config->layers);
        assert_int_equal(done, w->told++);
    }
    return ++w->asked == w->stop_at;
}

static void open_whole(whole *w, const tiny_model_options *options)
{
    lb_error err;
    lb_rng rng;
    char *folder = scratch_make("lb_model_grad");
    *w = (whole){.made = must(tiny_model_make(options))};
    assert_int_equal(tiny_model_save(folder, w->made), 0);
    ok(lb_weights_open(folder, &w->weights, &err), &err);
    scratch_remove(folder);
    free(folder);
    ok(lb_embedding_load(w->weights, &w->ends, &err), &err);
    const lb_config *c = &w->weights->config;
    lb_rng_seed(&rng, 31);
    for (size_t t = 0; t < TOKENS; t++)
        w->ids[t] = (uint32_t)lb_rng_below(&rng, c->vocab);
    for (size_t layer = 0; layer < c->layers; layer++) {
        for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
            size_t rows, cols;
            lb_linear_shape(c, which, &rows, &cols);
            w->sums[layer][which] = must(calloc(rows * cols, sizeof(float)));
        }
        for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++)
            w->fed[layer][stage] = must(calloc(lb_stage_width(c, (lb_stage)stage), sizeof(double)));
    }
    w->job = (lb_model_grad){.kernels = lb_kernels_get(LB_CPU_BEST),
                             .config = c,
                             .ends = &w->ends,
                             .ids = w->ids,
                             .sequences = SEQUENCES,
                             .length = LENGTH,
                             .batch = 2,
                             .label = "gradients",
                             .self = w,
                             .load = load,
                             .take = take};
}

static void close_whole(whole *w)
{
    free(w->teacher);
    for (size_t layer = 0; layer < w->weights->config.layers; layer++) {
        for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++)
            free(w->sums[layer][which]);
        for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++)
            free(w->fed[layer][stage]);
    }
    lb_inputs_free(&w->inputs);
    lb_embedding_free(&w->ends);
    lb_weights_close(w->weights);
    tiny_model_free(w->made);
}

/* Once more from the beginning. */
static lb_status run(whole *w, double *loss, lb_error *err)
{
    const lb_config *c = w->job.config;
    for (size_t layer = 0; layer < c->layers; layer++) {
        for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
            size_t rows, cols;
            lb_linear_shape(c, which, &rows, &cols);
            memset(w->sums[layer][which], 0, rows * cols * sizeof(float));
        }
        for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++)
            memset(w->fed[layer][stage], 0, lb_stage_width(c, (lb_stage)stage) * sizeof(double));
    }
    w->passes = w->sequences = w->loads = w->asked = w->told = 0;
    w->job.retarget = w->changes_targets ? retarget : NULL;
    *loss = NAN;
    return lb_model_backward(&w->job, loss, err);
}

static double must_run(whole *w)
{
    lb_error err;
    double loss;
    ok(run(w, &loss, &err), &err);
    assert_int_equal(w->sequences, SEQUENCES * w->job.config->layers);
    return loss;
}

/* ---- The same in double ------------------------------------------------------------------------------ */

/* What the teacher's predictions lose where these logits are taken for them. */
static double divergence(const whole *w, size_t t, const double *logits)
{
    const tiny_model_options *o = &w->made->options;
    const float *head = reference_tensor(w->made, o->tied ? "model.embed_tokens.weight" : "lm_head.weight");
    double *x = must(malloc(o->hidden * sizeof *x)), *wanted = must(malloc(o->vocab * sizeof *wanted));
    double sums[2] = {0.0, 0.0}, total = 0.0;
    for (size_t i = 0; i < o->hidden; i++)
        x[i] = (double)w->teacher[t * o->hidden + i];
    reference_norm(reference_tensor(w->made, "model.norm.weight"), o->hidden, o->norm_eps, x, x);
    reference_linear(head, NULL, o->vocab, o->hidden, x, wanted);
    for (size_t v = 0; v < o->vocab; v++) {
        sums[0] += exp(wanted[v]);
        sums[1] += exp(logits[v]);
    }
    for (size_t v = 0; v < o->vocab; v++)
        total += exp(wanted[v]) / sums[0] * (wanted[v] - log(sums[0]) - logits[v] + log(sums[1]));
    free(x);
    free(wanted);
    return total;
}

/* Of all next tokens, or, where targets are changed, of the one that is left. */
static double reference_loss(const whole *w, bool of_change)
{
    const size_t vocab = w->made->options.vocab;
    double *logits = must(malloc(LENGTH * vocab * sizeof *logits)), total = 0.0;
    for (size_t s = 0; s < SEQUENCES; s++) {
        if (of_change && s != w->changed / LENGTH)
            continue;
        reference_logits(w->made, w->ids + s * LENGTH, LENGTH, logits);
        for (size_t t = 0; w->teacher && t < LENGTH; t++)
            total += divergence(w, s * LENGTH + t, logits + t * vocab);
        for (size_t t = 0; !w->teacher && t + 1 < LENGTH; t++) {
            double sum = 0.0;
            if (of_change && t != w->changed % LENGTH)
                continue;
            for (size_t v = 0; v < vocab; v++)
                sum += exp(logits[t * vocab + v]);
            total += log(sum) - logits[t * vocab + (of_change ? w->wanted : w->ids[s * LENGTH + t + 1])];
        }
    }
    free(logits);
    return total;
}

static tiny_tensor *tensor_of(const whole *w, size_t layer, unsigned which)
{
    char base[96], name[128];
    lb_linear_name(layer, which, base, sizeof base);
    snprintf(name, sizeof name, "%s.weight", base);
    for (size_t i = 0; i < w->made->count; i++)
        if (strcmp(w->made->tensors[i].name, name) == 0)
            return &w->made->tensors[i];
    fail_msg("no %s", name);
    return NULL;
}

/* By one weight. The step that a float really makes is what is divided by. */
static double by_weight(const whole *w, size_t layer, unsigned which, size_t i)
{
    float *at = &tensor_of(w, layer, which)->values[i];
    const float kept = *at;
    double slopes[2];
    for (int half = 0; half < 2; half++) {
        const float step = half ? 0x1p-8f : 0x1p-7f, up = kept + step, down = kept - step;
        *at = up;
        slopes[half] = reference_loss(w, w->changes_targets);
        *at = down;
        slopes[half] = (slopes[half] - reference_loss(w, w->changes_targets)) / ((double)up - (double)down);
    }
    *at = kept;
    return (4.0 * slopes[1] - slopes[0]) / 3.0; /* Richardson */
}

/* The weights that input i of a stage is multiplied by, times `factor`. */
static void scale_columns(const whole *w, size_t layer, unsigned stage, size_t i, float factor)
{
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        const tiny_tensor *t = tensor_of(w, layer, which);
        for (size_t row = 0; lb_block_linears[which].stage == stage && row < t->rows; row++)
            t->values[row * t->cols + i] *= factor;
    }
}

/* By the logarithm of the size of input i, which is as good as scaling what it is multiplied by. */
static double by_input(const whole *w, size_t layer, unsigned stage, size_t i)
{
    double slopes[2];
    for (int half = 0; half < 2; half++) {
        const float step = half ? 0x1p-7f : 0x1p-6f;
        scale_columns(w, layer, stage, i, 1.0f + step);
        slopes[half] = reference_loss(w, false);
        scale_columns(w, layer, stage, i, 1.0f / (1.0f + step));
        scale_columns(w, layer, stage, i, 1.0f - step);
        slopes[half] = (slopes[half] - reference_loss(w, false)) / (2.0 * (double)step);
        scale_columns(w, layer, stage, i, 1.0f / (1.0f - step));
    }
    return (4.0 * slopes[1] - slopes[0]) / 3.0;
}

static double rms(const float *x, size_t n)
{
    double squares = 0.0;
    for (size_t i = 0; i < n; i++)
        squares += (double)x[i] * (double)x[i];
    return sqrt(squares / (double)n);
}

static void check_weights(const whole *w)
{
    lb_rng rng;
    lb_rng_seed(&rng, 32);
    for (size_t layer = 0; layer < w->job.config->layers; layer++) {
        for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
            size_t rows, cols;
            lb_linear_shape(w->job.config, which, &rows, &cols);
            const double size = rms(w->sums[layer][which], rows * cols);
            for (size_t k = 0; k < 2; k++) {
                const size_t i = lb_rng_below(&rng, rows * cols);
                const double got = (double)w->sums[layer][which][i], want = by_weight(w, layer, which, i);
                if (!(fabs(got - want) <= 2e-4 * (size + fabs(want))))
                    fail_msg("block %zu, %s [%zu]: %.9g, wanted %.9g (size %.3g)", layer,
                             lb_block_linears[which].suffix, i, got, want, size);
            }
        }
    }
}

static void gradients_are_differences(void **state)
{
    (void)state;
    for (size_t i = 0; i < TINY_KINDS; i++) {
        whole w;
        open_whole(&w, &tiny_kinds[i]);
        const double loss = must_run(&w), want = reference_loss(&w, false);
        assert_true(fabs(loss - want) <= 1e-5 * want);
        check_weights(&w);
        close_whole(&w);
    }
}

/* Every token counts, a sequence's last too; without a way back the loss is the same. */
static void gradients_of_divergence_are_differences(void **state)
{
    (void)state;
    for (size_t i = 0; i < TINY_KINDS; i++) {
        whole w;
        lb_rng rng;
        lb_error err;
        double loss_only;
        open_whole(&w, &tiny_kinds[i]);
        lb_rng_seed(&rng, 36);
        w.teacher = must(malloc(TOKENS * w.job.config->hidden * sizeof *w.teacher));
        for (size_t k = 0; k < TOKENS * w.job.config->hidden; k++)
            w.teacher[k] = (float)lb_rng_normal(&rng);
        w.job.teacher = w.teacher;
        const double loss = must_run(&w), want = reference_loss(&w, false);
        assert_true(fabs(loss - want) <= 1e-5 * want);
        check_weights(&w);
        w.job.loss_only = true;
        ok(run(&w, &loss_only, &err), &err);
        assert_true(loss_only == loss);
        assert_true(w.passes == 0 && w.loads == w.job.config->layers);
        close_whole(&w);
    }
}

static void gradients_by_inputs_are_differences(void **state)
{
    (void)state;
    for (size_t k = 0; k < 2; k++) {
        whole w;
        open_whole(&w, &tiny_kinds[k]);
        w.job.wants_inputs = true;
        must_run(&w);
        for (size_t layer = 0; layer < w.job.config->layers; layer++) {
            for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++) {
                const size_t width = lb_stage_width(w.job.config, (lb_stage)stage),
                             i = (layer + stage) % width;
                double size = 0.0;
                for (size_t at = 0; at < width; at++)
                    size += fabs(w.fed[layer][stage][at]) / (double)width;
                const double got = w.fed[layer][stage][i], want = by_input(&w, layer, stage, i);
                if (!(fabs(got - want) <= 5e-4 * (size + fabs(want))))
                    fail_msg("block %zu, stage %u [%zu]: %.9g, wanted %.9g (size %.3g)", layer, stage, i, got,
                             want, size);
            }
        }
        close_whole(&w);
    }
}

/* The loss is that of the text; the gradients are those of the targets that it was replaced by. */
static void targets_can_be_replaced(void **state)
{
    (void)state;
    for (size_t k = 0; k < 2; k++) {
        whole w;
        open_whole(&w, &tiny_kinds[k]);
        const double plain = must_run(&w);
        w.changes_targets = true;
        w.changed = 2 * LENGTH + 4;
        w.wanted = 7;
        assert_true(must_run(&w) == plain);
        check_weights(&w);
        close_whole(&w);
    }
}

/* ---- Promises ---------------------------------------------------------------------------------------- */

/* All gradients one after the other; free it. */
static float *copy_sums(const whole *w, size_t *n)
{
    const lb_config *c = w->job.config;
    float *all = NULL;
    *n = 0;
    for (size_t i = 0; i < c->layers * LB_BLOCK_LINEARS; i++) {
        size_t rows, cols;
        lb_linear_shape(c, (unsigned)(i % LB_BLOCK_LINEARS), &rows, &cols);
        all = must(realloc(all, (*n + rows * cols) * sizeof *all));
        memcpy(all + *n, w->sums[i / LB_BLOCK_LINEARS][i % LB_BLOCK_LINEARS], rows * cols * sizeof *all);
        *n += rows * cols;
    }
    return all;
}

static void batches_add_up(void **state)
{
    (void)state;
    static const size_t batches[] = {SEQUENCES, 1, 2, 3, SEQUENCES + 2};
    whole w;
    float *first = NULL;
    double loss = 0.0;
    size_t n;
    open_whole(&w, &tiny_kinds[0]);
    w.job.wants_inputs = true;
    for (size_t b = 0; b < sizeof batches / sizeof *batches; b++) {
        w.job.batch = batches[b];
        const double again = must_run(&w);
        float *sums = copy_sums(&w, &n);
        assert_int_equal(w.passes, 3 * ((SEQUENCES + batches[b] - 1) / batches[b]));
        assert_int_equal(w.loads, 6); /* every block once on the way there, and once on the way back */
        if (!first) {
            first = sums;
            loss = again;
            continue;
        }
        assert_true(fabs(again - loss) <= 1e-6 * loss);
        near_array(sums, first, n, 1e-4 * rms(first, n));
        free(sums);
    }
    free(first);
    close_whole(&w);
}

/* What a rotation does to the weights it does to their gradients. */
static void rotated_weights_have_rotated_gradients(void **state)
{
    (void)state;
    whole w;
    lb_error err;
    size_t n;
    open_whole(&w, &tiny_kinds[2]);
    const double loss = must_run(&w);
    float *plain = copy_sums(&w, &n);
    const lb_transform transform = {.kind = LB_TRANSFORM_HADAMARD, .block = 2, .seed = 9};
    ok(lb_inputs_create(w.job.config, &transform, NULL, &w.inputs, &err), &err);
    w.rotates = true;
    w.job.inputs = &w.inputs;
    assert_true(fabs(must_run(&w) - loss) <= 1e-5 * loss);
    float *rotated = copy_sums(&w, &n);
    double difference = 0.0;
    for (size_t i = 0; i < n; i++)
        difference = fmax(difference, fabs((double)rotated[i] - (double)plain[i]));
    assert_true(difference > 0.1 * rms(plain, n)); /* or nothing was rotated at all */
    free(rotated);
    for (size_t i = 0; i < w.job.config->layers * LB_BLOCK_LINEARS; i++) {
        size_t rows, cols;
        const unsigned which = (unsigned)(i % LB_BLOCK_LINEARS);
        lb_linear_shape(w.job.config, which, &rows, &cols);
        lb_rotation_undo(w.job.kernels, w.inputs.rotations[lb_block_linears[which].stage],
                         w.sums[i / LB_BLOCK_LINEARS][which], rows);
    }
    rotated = copy_sums(&w, &n);
    near_array(rotated, plain, n, 1e-4 * rms(plain, n));
    free(rotated);
    free(plain);
    close_whole(&w);
}

static void the_same_bits_at_any_thread_count(void **state)
{
    (void)state;
    const unsigned usual = lb_thread_count();
    /* wide enough that there is something to share out */
    const tiny_model_options wide = {.seed = 35, .hidden = 192, .ffn = 320, .vocab = 300};
    whole w;
    size_t n;
    open_whole(&w, &wide);
    w.job.wants_inputs = true;
    lb_thread_set_count(1);
    const double loss = must_run(&w);
    float *one = copy_sums(&w, &n);
    lb_thread_set_count(3);
    assert_true(must_run(&w) == loss);
    float *three = copy_sums(&w, &n);
    assert_memory_equal(one, three, n * sizeof *one);
    lb_thread_set_count(usual);
    free(one);
    free(three);
    close_whole(&w);
}

static void must_refuse(whole *w, lb_status wanted, const char *sentence)
{
    lb_error err = {LB_OK, ""};
    double loss;
    const lb_status st = run(w, &loss, &err);
    if (st != wanted || err.status != wanted || strcmp(err.msg, sentence) != 0)
        fail_msg("status %d, \"%s\"; wanted %d, \"%s\"", (int)st, err.msg, (int)wanted, sentence);
}

static void too_little_to_learn_from_is_refused(void **state)
{
    (void)state;
    whole w;
    open_whole(&w, &tiny_kinds[2]);
    w.job.sequences = 0;
    must_refuse(&w, LB_EINVAL, "gradients of a model want at least 1 sequence of 2 tokens, got 0 of 8");
    w.job.sequences = SEQUENCES;
    w.job.length = 1;
    must_refuse(&w, LB_EINVAL, "gradients of a model want at least 1 sequence of 2 tokens, got 5 of 1");
    w.job.length = 0;
    must_refuse(&w, LB_EINVAL, "gradients of a model want at least 1 sequence of 2 tokens, got 5 of 0");
    assert_int_equal(w.loads, 0);
    w.job.length = LENGTH;
    w.ids[11] = 40;
    lb_error err;
    double loss;
    assert_int_equal(run(&w, &loss, &err), LB_EINVAL); /* an id that the model has no row for */
    assert_non_null(strstr(err.msg, "40"));
    close_whole(&w);
}

/* With a tied embedding and without, whether the last block or the one before it spoils the numbers. */
static void a_loss_that_is_no_number_is_refused(void **state)
{
    (void)state;
    for (size_t k = 0; k < 2; k++) {
        whole w;
        char *folder = scratch_make("lb_model_grad");
        open_whole(&w, &tiny_kinds[k]);
        tiny_tensor *t = tensor_of(&w, k, LB_LINEAR_UP);
        for (size_t i = 0; i < t->rows * t->cols; i++)
            t->values[i] = 3e38f;
        assert_int_equal(tiny_model_save(folder, w.made), 0);
        lb_error err;
        lb_weights_close(w.weights);
        lb_embedding_free(&w.ends);
        ok(lb_weights_open(folder, &w.weights, &err), &err);
        ok(lb_embedding_load(w.weights, &w.ends, &err), &err);
        w.job.config = &w.weights->config;
        must_refuse(&w, LB_EINVAL,
                    "gradients: the model's loss on the calibration text is nan, so that nothing can be "
                    "learned from its gradients");
        assert_int_equal(w.passes, 0);
        scratch_remove(folder);
        free(folder);
        close_whole(&w);
    }
}

/* At every question that is asked. */
static void a_run_can_be_stopped(void **state)
{
    (void)state;
    whole w;
    lb_error err;
    double loss;
    open_whole(&w, &tiny_kinds[2]);
    const lb_progress progress = {ask, &w};
    w.job.progress = &progress;
    w.job.batch = 3;
    must_run(&w);
    assert_int_equal(w.told, 4);
    const size_t all = w.asked;
    assert_true(all >= 12); /* two blocks, both ways: once each, and once for each of two batches */
    for (w.stop_at = 1; w.stop_at <= all; w.stop_at++) {
        assert_int_equal(run(&w, &loss, &err), LB_ECANCELED);
        assert_string_equal(err.msg, "interrupted at gradients");
        assert_int_equal(w.asked, w.stop_at);
    }
    close_whole(&w);
}

static void what_fails_inside_is_passed_on(void **state)
{
    (void)state;
    whole w;
    lb_error err;
    double loss;
    open_whole(&w, &tiny_kinds[2]);
    for (w.stop_load = 1; w.stop_load <= 4; w.stop_load++)
        must_refuse(&w, LB_EFORMAT, w.stop_load == 1 || w.stop_load == 4 ? "no block 0" : "no block 1");
    w.stop_load = 0;
    for (w.stop_take = 1; w.stop_take <= 6; w.stop_take++)
        must_refuse(&w, LB_EFORMAT, "no pass");
    w.stop_take = 0;
    lb_thread_set_count(1);
    lb_status st = LB_ENOMEM;
    w.job.wants_inputs = true;
    for (size_t k = 1; st != LB_OK; k++) {
        lb_alloc_fail_at(k);
        st = run(&w, &loss, &err);
        lb_alloc_fail_at(0);
        assert_true(st == LB_OK ? k > 60 : st == LB_ENOMEM && err.status == LB_ENOMEM);
    }
    lb_thread_set_count(0);
    close_whole(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_differences),
        cmocka_unit_test(gradients_of_divergence_are_differences),
        cmocka_unit_test(gradients_by_inputs_are_differences),
        cmocka_unit_test(targets_can_be_replaced),
        cmocka_unit_test(batches_add_up),
        cmocka_unit_test(rotated_weights_have_rotated_gradients),
        cmocka_unit_test(the_same_bits_at_any_thread_count),
        cmocka_unit_test(too_little_to_learn_from_is_refused),
        cmocka_unit_test(a_loss_that_is_no_number_is_refused),
        cmocka_unit_test(a_run_can_be_stopped),
        cmocka_unit_test(what_fails_inside_is_passed_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
