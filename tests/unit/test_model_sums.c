/* SPDX-License-Identifier: MIT
 * Gradients of every parameter of a model, summed up over batches, against differences of a transformer in double. */
#define _GNU_SOURCE
#include "scratch.h"

#include "base/thread.h"
#include "model/model_grad.h"
#include "reference_model.h"
#include "tiny_kinds.h"

enum { SEQUENCES = 3, LENGTH = 7, TOKENS = SEQUENCES * LENGTH };

/* A model, and a gradient for each of its tensors. */
typedef struct whole {
    tiny_model *made;
    lb_weights *weights;
    lb_embedding ends;
    lb_block_grads blocks[TINY_KINDS_LAYERS];
    lb_model_sums sums;
    lb_model_grad job;
    uint32_t ids[TOKENS];
    float **gradients; /* [made->count] */
} whole;

static size_t tensor_size(const tiny_tensor *t)
{
    return (t->rows ? t->rows : 1) * t->cols;
}

/* NULL when the model has no such tensor. */
static float *gradient_of(const whole *w, const char *name)
{
    for (size_t i = 0; i < w->made->count; i++)
        if (strcmp(w->made->tensors[i].name, name) == 0)
            return w->gradients[i];
    return NULL;
}

static float *of_layer(const whole *w, size_t layer, const char *suffix)
{
    char name[128];
    snprintf(name, sizeof name, "model.layers.%zu.%s", layer, suffix);
    return gradient_of(w, name);
}

static lb_status load(void *self, size_t layer, lb_block *out, lb_error *err)
{
    return lb_block_load(((whole *)self)->weights, layer, LB_LOAD_FLOAT, out, err);
}

static void wire(whole *w)
{
    for (size_t layer = 0; layer < w->weights->config.layers; layer++) {
        lb_block_grads *b = &w->blocks[layer];
        b->attn_norm = of_layer(w, layer, "input_layernorm.weight");
        b->ffn_norm = of_layer(w, layer, "post_attention_layernorm.weight");
        b->q_norm = of_layer(w, layer, "self_attn.q_norm.weight");
        b->k_norm = of_layer(w, layer, "self_attn.k_norm.weight");
        for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
            char base[96], name[128];
            lb_linear_name(layer, which, base, sizeof base);
            snprintf(name, sizeof name, "%s.weight", base);
            b->weights[which] = gradient_of(w, name);
            snprintf(name, sizeof name, "%s.bias", base);
            b->biases[which] = gradient_of(w, name);
            assert_non_null(b->weights[which]);
        }
        assert_non_null(b->attn_norm);
        assert_non_null(b->ffn_norm);
    }
    w->sums = (lb_model_sums){.blocks = w->blocks,
                              .embed = gradient_of(w, "model.embed_tokens.weight"),
                              .norm = gradient_of(w, "model.norm.weight"),
                              .head = gradient_of(w, "lm_head.weight")};
    if (!w->sums.head)
        w->sums.head = w->sums.embed;
}

static void open_whole(whole *w, const tiny_model_options *options)
{
    lb_error err;
    lb_rng rng;
    char *folder = scratch_make("lb_model_sums");
    *w = (whole){.made = tiny_model_make(options)};
    assert_non_null(w->made);
    assert_int_equal(tiny_model_save(folder, w->made), 0);
    assert_int_equal(lb_weights_open(folder, &w->weights, &err), LB_OK);
    scratch_remove(folder);
    free(folder);
    assert_int_equal(lb_embedding_load(w->weights, &w->ends, &err), LB_OK);
    w->gradients = calloc(w->made->count, sizeof *w->gradients);
    assert_non_null(w->gradients);
    for (size_t i = 0; i < w->made->count; i++) {
        w->gradients[i] = calloc(tensor_size(&w->made->tensors[i]), sizeof(float));
        assert_non_null(w->gradients[i]);
    }
    lb_rng_seed(&rng, 41);
    for (size_t t = 0; t < TOKENS; t++)
        w->ids[t] = (uint32_t)lb_rng_below(&rng, w->weights->config.vocab);
    wire(w);
    w->job = (lb_model_grad){.kernels = lb_kernels_get(LB_CPU_BEST),
                             .config = &w->weights->config,
                             .ends = &w->ends,
                             .ids = w->ids,
                             .sequences = SEQUENCES,
                             .length = LENGTH,
                             .batch = 2,
                             .sums = &w->sums,
                             .label = "gradients",
                             .self = w,
                             .load = load};
}

static void close_whole(whole *w)
{
    for (size_t i = 0; i < w->made->count; i++)
        free(w->gradients[i]);
    free(w->gradients);
    lb_embedding_free(&w->ends);
    lb_weights_close(w->weights);
    tiny_model_free(w->made);
}

static void clear(whole *w)
{
    for (size_t i = 0; i < w->made->count; i++)
        memset(w->gradients[i], 0, tensor_size(&w->made->tensors[i]) * sizeof(float));
}

static double run(whole *w)
{
    lb_error err;
    double loss = NAN;
    if (lb_model_backward(&w->job, &loss, &err) != LB_OK)
        fail_msg("%s", err.msg);
    return loss;
}

static double reference_loss(const whole *w)
{
    const size_t vocab = w->made->options.vocab;
    double *logits = malloc(LENGTH * vocab * sizeof *logits), total = 0.0;
    assert_non_null(logits);
    for (size_t s = 0; s < SEQUENCES; s++) {
        reference_logits(w->made, w->ids + s * LENGTH, LENGTH, logits);
        for (size_t t = 0; t + 1 < LENGTH; t++) {
            double sum = 0.0;
            for (size_t v = 0; v < vocab; v++)
                sum += exp(logits[t * vocab + v]);
            total += log(sum) - logits[t * vocab + w->ids[s * LENGTH + t + 1]];
        }
    }
    free(logits);
    return total;
}

/* By one parameter; the step that a float really makes is what is divided by. */
static double difference(const whole *w, float *at)
{
    const float kept = *at;
    double slopes[2];
    for (int half = 0; half < 2; half++) {
        const float step = half ? 0x1p-8f : 0x1p-7f, up = kept + step, down = kept - step;
        *at = up;
        slopes[half] = reference_loss(w);
        *at = down;
        slopes[half] = (slopes[half] - reference_loss(w)) / ((double)up - (double)down);
    }
    *at = kept;
    return (4.0 * slopes[1] - slopes[0]) / 3.0; /* Richardson */
}

static void every_parameter_has_its_gradient(void **state)
{
    (void)state;
    for (size_t k = 0; k < TINY_KINDS; k++) {
        lb_rng rng;
        whole w;
        lb_rng_seed(&rng, 42);
        open_whole(&w, &tiny_kinds[k]);
        const double want_loss = reference_loss(&w);
        assert_true(fabs(run(&w) - want_loss) <= 1e-5 * want_loss);
        for (size_t i = 0; i < w.made->count; i++) {
            const tiny_tensor *t = &w.made->tensors[i];
            const bool embeds = strcmp(t->name, "model.embed_tokens.weight") == 0;
            double squares = 0.0;
            for (size_t at = 0; at < tensor_size(t); at++)
                squares += (double)w.gradients[i][at] * (double)w.gradients[i][at];
            const double size = sqrt(squares / (double)tensor_size(t));
            assert_true(size > 0.0);
            for (unsigned round = 0; round < 3; round++) {
                /* Of the embedding, rows that the text has. */
                const size_t at =
                    embeds ? w.ids[lb_rng_below(&rng, TOKENS)] * t->cols + lb_rng_below(&rng, t->cols)
                           : lb_rng_below(&rng, tensor_size(t));
                const double got = (double)w.gradients[i][at], want = difference(&w, &t->values[at]);
                if (!(fabs(got - want) <= 3e-4 * (size + fabs(want))))
                    fail_msg("%s [%zu]: %.9g, wanted %.9g (size %.3g)", t->name, at, got, want, size);
            }
        }
        close_whole(&w);
    }
}

/* Sums go on from what is there; batches of any size give the same; so do threads, to the bit. */
static void sums_add_up(void **state)
{
    (void)state;
    whole w, again;
    open_whole(&w, &tiny_kinds[0]);
    open_whole(&again, &tiny_kinds[0]);
    lb_thread_set_count(1);
    run(&w);
    lb_thread_set_count(3);
    run(&again);
    lb_thread_set_count(0);
    for (size_t i = 0; i < w.made->count; i++)
        assert_memory_equal(w.gradients[i], again.gradients[i],
                            tensor_size(&w.made->tensors[i]) * sizeof(float));
    run(&w); /* twice now */
    clear(&again);
    for (size_t batch = 1; batch <= SEQUENCES; batch += 2) {
        again.job.batch = batch;
        run(&again);
    }
    for (size_t i = 0; i < w.made->count; i++) {
        const size_t n = tensor_size(&w.made->tensors[i]);
        double largest = 0.0;
        for (size_t at = 0; at < n; at++)
            largest = fmax(largest, fabs((double)w.gradients[i][at]));
        near_array(again.gradients[i], w.gradients[i], n, 1e-5 * largest);
    }
    close_whole(&w);
    close_whole(&again);
}

/* What is not wanted is left out, and nothing else changes. */
static void parts_can_be_left_out(void **state)
{
    (void)state;
    whole w, part;
    open_whole(&w, &tiny_kinds[0]);
    open_whole(&part, &tiny_kinds[0]);
    part.sums.embed = part.sums.head = NULL;
    part.blocks[1].attn_norm = NULL;
    const double loss = run(&w);
    assert_true(run(&part) == loss);
    for (size_t i = 0; i < w.made->count; i++) {
        const tiny_tensor *t = &w.made->tensors[i];
        const bool left_out = strstr(t->name, "embed_tokens") || strstr(t->name, "lm_head") ||
                              strcmp(t->name, "model.layers.1.input_layernorm.weight") == 0;
        for (size_t at = 0; at < tensor_size(t); at++)
            assert_true(part.gradients[i][at] == (left_out ? 0.0f : w.gradients[i][at]));
    }
    close_whole(&w);
    close_whole(&part);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_parameter_has_its_gradient),
        cmocka_unit_test(sums_add_up),
        cmocka_unit_test(parts_can_be_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
