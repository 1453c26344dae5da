/* SPDX-License-Identifier: MIT
 * The trainer's pass through a model in memory against the pass with one block in memory (model/model_grad), which
 * tests/unit/test_model_sums.c compares with differences of a transformer in double; and parameters' views. */
#define _GNU_SOURCE
#include "scratch.h"

#include "base/alloc.h"
#include "base/thread.h"
#include "model/model_grad.h"
#include "tiny_kinds.h"
#include "train/training_pass.h"

enum { SEQUENCES = 3, LENGTH = 7, TOKENS = SEQUENCES * LENGTH };

typedef struct both {
    tiny_model *made;
    lb_weights *weights;
    lb_parameters parameters;
    float *values, *grads, *want;
    uint32_t ids[TOKENS], targets[TOKENS];
} both;

static void open_both(both *b, const tiny_model_options *options)
{
    lb_error err;
    lb_rng rng;
    char *folder = scratch_make("lb_training_pass");
    *b = (both){.made = tiny_model_make(options)};
    assert_non_null(b->made);
    assert_int_equal(tiny_model_save(folder, b->made), 0);
    assert_int_equal(lb_weights_open(folder, &b->weights, &err), LB_OK);
    scratch_remove(folder);
    free(folder);
    assert_int_equal(lb_parameters_create(&b->weights->config, &b->parameters, &err), LB_OK);
    b->values = lb_alloc_zero(b->parameters.floats, sizeof(float));
    b->grads = lb_alloc_zero(b->parameters.floats, sizeof(float));
    b->want = lb_alloc_zero(b->parameters.floats, sizeof(float));
    assert_true(b->values && b->grads && b->want);
    assert_int_equal(b->parameters.count, b->made->count);
    for (size_t i = 0; i < b->parameters.count; i++) {
        const lb_parameter *p = &b->parameters.list[i];
        lb_weight w;
        assert_int_equal(lb_weights_find(b->weights, p->name, p->rows, p->cols, &w, &err), LB_OK);
        assert_int_equal(lb_weight_read(&w, 0, p->rows, b->values + p->at, &err), LB_OK);
    }
    lb_rng_seed(&rng, 41);
    for (size_t t = 0; t < TOKENS; t++)
        b->ids[t] = (uint32_t)lb_rng_below(&rng, b->weights->config.vocab);
    for (size_t t = 0; t < TOKENS; t++)
        b->targets[t] = (t + 1) % LENGTH == 0 ? LB_NO_TARGET : b->ids[t + 1];
}

static void close_both(both *b)
{
    lb_free(b->values);
    lb_free(b->grads);
    lb_free(b->want);
    lb_parameters_free(&b->parameters);
    lb_weights_close(b->weights);
    tiny_model_free(b->made);
}

static lb_status load(void *self, size_t layer, lb_block *out, lb_error *err)
{
    return lb_block_load(((both *)self)->weights, layer, LB_LOAD_FLOAT, out, err);
}

/* The other implementation's gradients, into b->want. */
static double other(both *b)
{
    lb_error err;
    lb_block_grads blocks[TINY_KINDS_LAYERS];
    lb_embedding ends, sums;
    double loss = NAN;
    assert_int_equal(lb_embedding_load(b->weights, &ends, &err), LB_OK);
    for (size_t i = 0; i < b->weights->config.layers; i++)
        lb_parameters_grads(&b->parameters, b->want, i, &blocks[i]);
    lb_parameters_ends(&b->parameters, b->want, &sums);
    const lb_model_sums all = {
        .blocks = blocks, .embed = sums.embed.dense, .head = sums.head.dense, .norm = sums.norm};
    const lb_model_grad job = {.kernels = lb_kernels_get(LB_CPU_BEST),
                               .config = &b->weights->config,
                               .ends = &ends,
                               .ids = b->ids,
                               .sequences = SEQUENCES,
                               .length = LENGTH,
                               .batch = SEQUENCES,
                               .sums = &all,
                               .label = "gradients",
                               .self = b,
                               .load = load};
    if (lb_model_backward(&job, &loss, &err) != LB_OK)
        fail_msg("%s", err.msg);
    lb_embedding_free(&ends);
    return loss;
}

static double pass(both *b, size_t at_once, float scale, float z_weight)
{
    lb_error err;
    lb_training_pass p;
    double total = 0.0, loss = NAN, alone = NAN;
    assert_int_equal(lb_training_pass_create(lb_kernels_get(LB_CPU_BEST), &b->parameters, b->values, b->grads,
                                             at_once * LENGTH, LENGTH, &p, &err),
                     LB_OK);
    p.z_weight = z_weight;
    for (size_t at = 0; at < SEQUENCES; at += at_once) {
        const size_t count = SEQUENCES - at < at_once ? SEQUENCES - at : at_once;
        assert_int_equal(lb_training_pass_run(&p, b->ids + at * LENGTH, b->targets + at * LENGTH, count,
                                              scale, &loss, &err),
                         LB_OK);
        assert_int_equal(
            lb_training_pass_loss(&p, b->ids + at * LENGTH, b->targets + at * LENGTH, count, &alone, &err),
            LB_OK);
        assert_true(loss == alone);
        total += loss;
    }
    lb_training_pass_free(&p);
    return total;
}

static void compare(const both *b, double scale, double share)
{
    for (size_t i = 0; i < b->parameters.count; i++) {
        const lb_parameter *p = &b->parameters.list[i];
        double largest = 0.0;
        for (size_t k = 0; k < p->rows * p->cols; k++) {
            b->want[p->at + k] = (float)(scale * (double)b->want[p->at + k]);
            largest = fmax(largest, fabs((double)b->want[p->at + k]));
        }
        assert_true(largest > 0.0);
        near_array(b->grads + p->at, b->want + p->at, p->rows * p->cols, share * largest);
    }
}

/* All kinds of models; all sequences at once, and in parts that add up. */
static void gradients_are_those_of_the_other_pass(void **state)
{
    (void)state;
    for (size_t k = 0; k < TINY_KINDS; k++) {
        for (size_t at_once = 2; at_once <= SEQUENCES; at_once++) {
            both b;
            open_both(&b, &tiny_kinds[k]);
            const double want = other(&b), got = pass(&b, at_once, 0.25f, 0.0f);
            assert_true(fabs(got - want) <= 1e-6 * want);
            compare(&b, 0.25, 2e-5);
            close_both(&b);
        }
    }
}

static void threads_change_no_bit(void **state)
{
    (void)state;
    both one, more;
    open_both(&one, &tiny_kinds[0]);
    open_both(&more, &tiny_kinds[0]);
    lb_thread_set_count(1);
    const double loss = pass(&one, SEQUENCES, 1.0f, 0.0f);
    lb_thread_set_count(3);
    assert_true(pass(&more, SEQUENCES, 1.0f, 0.0f) == loss);
    lb_thread_set_count(0);
    assert_memory_equal(one.grads, more.grads, one.parameters.floats * sizeof(float));
    close_both(&one);
    close_both(&more);
}

/* Sum of squares of log sum e^logit, by the model's logits, with a parameter moved. */
static double squared_z(both *b)
{
    lb_error err;
    double sum = 0.0;
    const lb_kernels *kernels = lb_kernels_get(LB_CPU_BEST);
    const size_t vocab = b->parameters.config.vocab;
    float *scratch = lb_alloc(LENGTH * b->parameters.config.hidden, sizeof *scratch);
    float *logits = lb_alloc(LENGTH * vocab, sizeof *logits);
    lb_training_pass p;
    double ignored;
    assert_true(scratch && logits);
    assert_int_equal(
        lb_training_pass_create(kernels, &b->parameters, b->values, NULL, LENGTH, LENGTH, &p, &err), LB_OK);
    for (size_t s = 0; s < SEQUENCES; s++) {
        assert_int_equal(
            lb_training_pass_loss(&p, b->ids + s * LENGTH, b->targets + s * LENGTH, 1, &ignored, &err),
            LB_OK);
        assert_int_equal(lb_embedding_logits(kernels, &p.ends, p.x, LENGTH, scratch, logits, &err), LB_OK);
        for (size_t t = 0; t + 1 < LENGTH; t++) { /* the last has no target, and does not count */
            double total = 0.0;
            for (size_t v = 0; v < vocab; v++)
                total += exp((double)logits[t * vocab + v]);
            sum += log(total) * log(total);
        }
    }
    lb_training_pass_free(&p);
    lb_free(scratch);
    lb_free(logits);
    return sum;
}

/* What a z-loss adds to the gradient, against differences: of the final norm's weights, and of some of the head's. */
static void z_loss_has_its_gradient(void **state)
{
    (void)state;
    static const char *const names[] = {"model.norm.weight", "model.layers.0.mlp.down_proj.weight"};
    both b;
    open_both(&b, &tiny_kinds[0]);
    pass(&b, SEQUENCES, 1.0f, 0.0f);
    memcpy(b.want, b.grads, b.parameters.floats * sizeof(float));
    memset(b.grads, 0, b.parameters.floats * sizeof(float));
    pass(&b, SEQUENCES, 1.0f, 0.5f);
    for (size_t i = 0; i < 2; i++) {
        const lb_parameter *p = lb_parameter_find(&b.parameters, names[i]);
        assert_non_null(p);
        for (size_t k = 0; k < 4; k++) {
            float *at = b.values + p->at + k;
            const float kept = *at, step = 0x1p-6f;
            *at = kept + step;
            double slope = squared_z(&b);
            *at = kept - step;
            slope = 0.5 * (slope - squared_z(&b)) / (2.0 * (double)step);
            *at = kept;
            const double got = (double)b.grads[p->at + k] - (double)b.want[p->at + k];
            if (!(fabs(got - slope) <= 2e-2 * fabs(slope) + 2e-3))
                fail_msg("%s [%zu]: %.6g, wanted %.6g", names[i], k, got, slope);
        }
    }
    close_both(&b);
}

/* Every float of the array belongs to one parameter at the most, and initial values are what the header says. */
static void parameters_begin_as_documented(void **state)
{
    (void)state;
    both b;
    open_both(&b, &tiny_kinds[0]);
    const lb_parameters *p = &b.parameters;
    size_t end = 0, weights = 0;
    lb_parameters_init(p, 0.5, 9, b.values);
    for (size_t i = 0; i < p->count; i++) {
        const lb_parameter *one = &p->list[i];
        const size_t n = one->rows * one->cols;
        double squares = 0.0;
        assert_true(one->at >= end && one->at % 16 == 0);
        end = one->at + n;
        weights += n;
        for (size_t k = 0; k < n; k++)
            squares += (double)b.values[one->at + k] * (double)b.values[one->at + k];
        double std = one->is_last_of_branch ? 0.5 / sqrt(2.0 * (double)p->config.layers) : 0.5;
        if (one->kind == LB_PARAMETER_NORM)
            assert_true(squares == (double)n);
        else if (one->kind == LB_PARAMETER_BIAS)
            assert_true(squares == 0.0);
        else /* chi squared: 5 sigma of its mean */
            assert_true(fabs(squares / (double)n / (std * std) - 1.0) < 5.0 * sqrt(2.0 / (double)n));
    }
    assert_true(end <= p->floats && weights == p->weights);
    close_both(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_those_of_the_other_pass),
        cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(z_loss_has_its_gradient),
        cmocka_unit_test(parameters_begin_as_documented),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
