/* SPDX-License-Identifier: MIT
 *
 * SignRound (arXiv:2309.05516; V2: arXiv:2512.04746): how each weight of a block is rounded is learned, so
 * that the block puts out on the quantized stream what the original puts out on its own.
 *
 * An offset before rounding for every weight and factors on every group's scale move by signed gradients of
 * the block's squared error on mini-batches, with a rate that falls linearly to 0. V2 starts from the scale
 * search instead of each group's range, trains a multiplier of that scale, and leaves the largest errors out
 * of the loss where there are few bits.
 *
 * The iterate that is kept is the best on samples which are held aside; the papers' code takes the one with
 * the least loss on the batch it is trained on, whose noise chooses with it.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "model/block_grad.h"
#include "quantize/block_loss.h"
#include "quantize/tuned_layer.h"

enum {
    STEPS_PER_CHECK = 10, /* of the samples held aside */
    MOST_BATCHES_HELD = 4
};

typedef struct tuning {
    const lb_recipe *recipe;
    const lb_reconstruction *job;
    lb_tuned_layer layers[LB_BLOCK_LINEARS];
    size_t count;
    lb_block block; /* the job's, with the rounded weights */
    lb_block_grads grads;
    lb_block_trace trace;
    lb_block_loss loss;
    lb_rng rng;
    size_t *order; /* [sequences]: samples to train on, then those held aside */
    size_t batch, training, held, next;
    float *x, *target, *y; /* [batch * length, hidden] */
    double best; /* loss of the iterate that is stored; infinite when there is none */
} tuning;

static void tuning_free(tuning *t)
{
    for (size_t i = 0; i < t->count; i++)
        lb_tuned_layer_free(&t->layers[i]);
    lb_block_trace_free(&t->trace);
    lb_block_loss_free(&t->loss);
    lb_free(t->order);
    lb_free(t->x);
    lb_free(t->target);
    lb_free(t->y);
}

/* An eighth of the samples, of few of them a little less. */
static size_t held_aside(const lb_tuning *how, size_t sequences)
{
    const size_t most = MOST_BATCHES_HELD * how->batch, share = sequences < 8 ? sequences / 2 : sequences / 8;
    if (how->best != LB_BEST_HELD_ASIDE || how->iters == 0)
        return 0;
    return share < most ? share : most;
}

static size_t batch_size(const lb_tuning *how, size_t sequences)
{
    const size_t training = sequences - held_aside(how, sequences);
    return how->batch < training ? how->batch : training;
}

/* Walks through the training samples; shuffles them anew when fewer than a batch are left. */
static const size_t *next_batch(tuning *t)
{
    if (t->next + t->batch > t->training) {
        lb_rng_shuffle(&t->rng, t->order, t->training);
        t->next = 0;
    }
    t->next += t->batch;
    return t->order + t->next - t->batch;
}

/* Few bits, where outliers would steer everything. */
static bool wants_filter(const lb_recipe *recipe, const lb_layer *layers)
{
    bool few = !lb_format_is_float(&recipe->act.format) && recipe->act.format.bits <= 4;
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++)
        few = few || (!lb_format_is_float(&layers[which].format) && layers[which].format.bits < 4);
    return recipe->tuning.filter && few;
}

static lb_status add_layers(tuning *t, lb_layer *layers, lb_error *err)
{
    t->block = *t->job->block;
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        lb_tuned_layer *tuned = &t->layers[t->count];
        if (lb_format_is_float(&layers[which].format))
            continue;
        LB_TRY(lb_tuned_layer_create(t->recipe, &layers[which],
                                     t->job->importance[lb_block_linears[which].stage], tuned, err));
        t->count++;
        t->block.linear[which].dense = tuned->rounded;
        t->grads.weights[which] = tuned->grad;
    }
    return LB_OK;
}

static lb_status make_room(tuning *t, const lb_layer *layers, lb_error *err)
{
    const lb_reconstruction *job = t->job;
    const size_t width = job->config->hidden * sizeof(float), tokens = t->batch * job->length;
    LB_TRY(lb_alloc_array(&t->order, job->sequences, sizeof *t->order, "order of samples", err));
    LB_TRY(lb_alloc_array(&t->x, tokens, width, "mini-batch", err));
    LB_TRY(lb_alloc_array(&t->target, tokens, width, "mini-batch", err));
    LB_TRY(lb_alloc_array(&t->y, tokens, width, "mini-batch", err));
    LB_TRY(lb_block_loss_create(t->batch, job->length, job->config->hidden, wants_filter(t->recipe, layers),
                                &t->loss, err));
    return lb_block_trace_create(job->config, tokens, job->length, &t->trace, err);
}

/* From samples [count] to y - target, and its sum of squares. */
static lb_status forward(tuning *t, const size_t *samples, size_t count, double *sum, lb_error *err)
{
    const lb_reconstruction *job = t->job;
    const size_t n = job->length * job->config->hidden;
    const lb_stage_context c = {.kernels = job->kernels,
                                .config = job->config,
                                .rope = job->rope,
                                .block = &t->block,
                                .inputs = job->inputs};
    for (size_t i = 0; i < count; i++) {
        memcpy(t->x + i * n, job->x + samples[i] * n, n * sizeof(float));
        memcpy(t->target + i * n, job->target + samples[i] * n, n * sizeof(float));
    }
    LB_TRY(lb_block_forward_traced(&c, t->x, count, job->length, &t->trace, t->y, err));
    lb_block_loss_find(&t->loss, count, t->target, t->y, sum);
    if (isfinite(*sum))
        return LB_OK;
    return lb_fail(
        err, LB_EINVAL,
        "block %zu: the squared error of its output is %g while its rounding is learned; the model "
        "computes values that are not finite, or --lr is too large",
        job->index + 1, fabs(*sum)); /* a NaN's sign means nothing */
}

static void store(tuning *t)
{
    for (size_t i = 0; i < t->count; i++)
        lb_tuned_layer_store(&t->layers[i]);
}

static void keep_if_best(tuning *t, double loss)
{
    if (!(loss < t->best))
        return;
    t->best = loss;
    store(t);
}

static lb_status check_held_aside(tuning *t, lb_error *err)
{
    double total = 0.0;
    for (size_t at = 0; at < t->held; at += t->batch) {
        const size_t left = t->held - at;
        double sum;
        LB_TRY(forward(t, t->order + t->training + at, left < t->batch ? left : t->batch, &sum, err));
        total += sum;
    }
    keep_if_best(t, total);
    return LB_OK;
}

static lb_status train(tuning *t, lb_error *err)
{
    const lb_tuning *how = &t->recipe->tuning;
    const lb_stage_context c = {.kernels = t->job->kernels,
                                .config = t->job->config,
                                .rope = t->job->rope,
                                .block = &t->block,
                                .inputs = t->job->inputs};
    for (size_t i = 0; i < how->iters; i++) {
        double sum;
        if (t->held && i % STEPS_PER_CHECK == 0)
            LB_TRY(check_held_aside(t, err));
        LB_TRY(forward(t, next_batch(t), t->batch, &sum, err));
        /* With a single sample nothing can be held aside. */
        if (!t->held && how->best != LB_BEST_LAST)
            keep_if_best(t, sum);
        LB_TRY(lb_block_backward(&c, &t->trace, t->y, &t->grads, NULL, err));
        for (size_t k = 0; k < t->count; k++)
            lb_tuned_layer_step(&t->layers[k], 1.0 - (double)i / (double)how->iters);
        LB_TRY(lb_progress_tell(t->job->progress, t->job->label, 0, 0, err));
    }
    if (t->held)
        return check_held_aside(t, err);
    if (how->best == LB_BEST_LAST || how->iters == 0)
        store(t);
    return LB_OK;
}

static lb_status reconstruct_signround(const lb_recipe *recipe, const lb_reconstruction *job,
                                       lb_layer *layers, lb_error *err)
{
    tuning t = {.recipe = recipe,
                .job = job,
                .held = held_aside(&recipe->tuning, job->sequences),
                .batch = batch_size(&recipe->tuning, job->sequences),
                .best = HUGE_VAL};
    lb_status st = LB_OK;
    if (job->sequences == 0 || job->length < 2)
        return lb_fail(err, LB_EINVAL,
                       "learned rounding wants at least 1 calibration sample of 2 tokens, got %zu of %zu",
                       job->sequences, job->length);
    LB_GO(add_layers(&t, layers, err));
    if (t.count == 0)
        goto done;
    t.training = job->sequences - t.held;
    t.next = t.training; /* the first batch shuffles */
    LB_GO(make_room(&t, layers, err));
    /* Blocks do not see the same order of samples, and a resumed run sees the same ones as an unbroken one. */
    lb_rng_seed(&t.rng, recipe->seed + 0x9e3779b97f4a7c15u * (uint64_t)(job->index + 1));
    for (size_t i = 0; i < job->sequences; i++)
        t.order[i] = i;
    lb_rng_shuffle(&t.rng, t.order, job->sequences);
    st = train(&t, err);
done:
    tuning_free(&t);
    return st;
}

static size_t signround_memory(const lb_recipe *recipe, const lb_config *c, size_t samples, size_t seqlen)
{
    const size_t tokens = samples ? batch_size(&recipe->tuning, samples) * seqlen : 0;
    size_t bytes = lb_block_trace_bytes(c, tokens, seqlen) + 3 * tokens * c->hidden * sizeof(float);
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        size_t rows, cols;
        lb_linear_shape(c, which, &rows, &cols);
        bytes += lb_tuned_layer_bytes(rows, cols);
    }
    return bytes;
}

static bool takes_tuned(const lb_format *format)
{
    return format->ops->tune != NULL;
}

const lb_method lb_method_signround = {
    .name = "signround",
    .summary = "learns how to round, block by block (needs calibration; slow, best at few bits)",
    .needs_calibration = true,
    .takes = takes_tuned,
    .wants = "formats whose rounding can be learned: int, bp, mx and nv",
    .reconstruct = reconstruct_signround,
    .memory = signround_memory,
};
