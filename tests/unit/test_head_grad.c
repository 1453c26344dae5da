/* SPDX-License-Identifier: MIT
 * The loss ends against cross-entropy and divergence in double and their differences; and a whole model's gradients,
 * block by block from the end, against differences of a transformer in double. */
#define _GNU_SOURCE
#include "near.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/half.h"
#include "base/thread.h"
#include "model/block_grad.h"
#include "model/head_grad.h"
#include "reference_model.h"
#include "tiny_kinds.h"

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

typedef struct ends_case {
    lb_embedding ends;
    lb_head_scratch scratch;
    size_t tokens;
    uint32_t *targets;
    float *teacher; /* [tokens, hidden]; NULL: targets count */
    float *x, *head, *norm; /* head: what the stored one stands for */
    double *in_double; /* x, head and norm, one after the other */
    float *d; /* their gradients, the same */
    size_t n_x, n_head, n_norm;
} ends_case;

enum { NO_TARGET_EVERY = 7 };

/* A head of bfloat16 unless `type` is float32. */
static void make(ends_case *e, size_t vocab, size_t hidden, size_t tokens, lb_dense_type type, double size)
{
    lb_rng rng;
    lb_error err;
    *e = (ends_case){.tokens = tokens, .n_x = tokens * hidden, .n_head = vocab * hidden, .n_norm = hidden};
    const size_t all = e->n_x + e->n_head + e->n_norm;
    lb_rng_seed(&rng, 81);
    e->x = must(malloc(all * sizeof *e->x));
    e->head = e->x + e->n_x;
    e->norm = e->head + e->n_head;
    e->d = must(calloc(all, sizeof *e->d));
    e->in_double = must(malloc(all * sizeof *e->in_double));
    for (size_t i = 0; i < all; i++) {
        const bool is_head = i >= e->n_x && i < e->n_x + e->n_head;
        float value = (float)((is_head ? size / sqrt((double)hidden) : 1.0) * lb_rng_normal(&rng));
        if (is_head && type == LB_DENSE_BF16)
            value = lb_bf16_to_float(lb_bf16_from_float(value));
        e->x[i] = value;
        e->in_double[i] = (double)value;
    }
    e->targets = must(malloc(tokens * sizeof *e->targets));
    for (size_t t = 0; t < tokens; t++)
        e->targets[t] = t % NO_TARGET_EVERY == 3 ? LB_NO_TARGET : (uint32_t)lb_rng_below(&rng, vocab);
    e->ends = (lb_embedding){.vocab = vocab,
                             .hidden = hidden,
                             .norm = e->norm,
                             .norm_eps = 1e-2,
                             .head = {.rows = vocab, .cols = hidden, .type = type, .dense = e->head}};
    if (type == LB_DENSE_BF16) {
        uint16_t *halves = must(malloc(e->n_head * sizeof *halves));
        for (size_t i = 0; i < e->n_head; i++)
            halves[i] = lb_bf16_from_float(e->head[i]);
        e->ends.head.dense = halves;
    }
    ok(lb_head_scratch_create(&e->ends, &e->scratch, &err), &err);
}

static void drop(ends_case *e)
{
    if (e->ends.head.dense != e->head)
        free(e->ends.head.dense);
    lb_head_scratch_free(&e->scratch);
    free(e->x);
    free(e->d);
    free(e->in_double);
    free(e->targets);
    free(e->teacher);
}

/* Another model's last block, this far from x. */
static void add_teacher(ends_case *e, double apart)
{
    lb_error err;
    lb_rng rng;
    lb_rng_seed(&rng, 84);
    e->teacher = must(malloc(e->n_x * sizeof *e->teacher));
    for (size_t i = 0; i < e->n_x; i++)
        e->teacher[i] = (float)((double)e->x[i] + apart * lb_rng_normal(&rng));
    ok(lb_head_scratch_add_teacher(&e->ends, &e->scratch, &err), &err);
}

static lb_head_grads all_grads(const ends_case *e)
{
    return (lb_head_grads){.dx = e->d, .head = e->d + e->n_x, .norm = e->d + e->n_x + e->n_head};
}

static double run(const ends_case *e, float scale)
{
    lb_error err;
    double loss = NAN;
    const lb_head_grads g = all_grads(e);
    const lb_kernels *kernels = lb_kernels_get(LB_CPU_BEST);
    ok(e->teacher ? lb_head_divergence(kernels, &e->ends, e->x, e->teacher, e->tokens, scale, &e->scratch, &g,
                                       &loss, &err)
                  : lb_head_backward(kernels, &e->ends, e->x, e->targets, e->tokens, scale, &e->scratch, &g,
                                     &loss, &err),
       &err);
    return loss;
}

/* log p [vocab] after a token. The teacher's norm and head are those of the model as it was made. */
static void slow_predictions(const ends_case *e, const double *x, const float *teacher, double *log_p)
{
    const size_t hidden = e->n_norm, vocab = e->ends.vocab;
    const double *head = e->in_double + e->n_x, *norm = head + e->n_head;
    double squares = 0.0, largest = -HUGE_VAL, sum = 0.0;
    for (size_t i = 0; i < hidden; i++)
        squares += teacher ? (double)teacher[i] * (double)teacher[i] : x[i] * x[i];
    const double size = sqrt(squares / (double)hidden + e->ends.norm_eps);
    for (size_t v = 0; v < vocab; v++) {
        log_p[v] = 0.0;
        for (size_t i = 0; i < hidden; i++)
            log_p[v] += teacher
                            ? (double)teacher[i] / size * (double)e->norm[i] * (double)e->head[v * hidden + i]
                            : x[i] / size * norm[i] * head[v * hidden + i];
        largest = fmax(largest, log_p[v]);
    }
    for (size_t v = 0; v < vocab; v++)
        sum += exp(log_p[v] - largest);
    for (size_t v = 0; v < vocab; v++)
        log_p[v] -= largest + log(sum);
}

/* -log p of the targets of tokens [first, first + count), or the divergences of p from the teacher's there. */
static double slow_loss(const ends_case *e, size_t first, size_t count)
{
    const size_t hidden = e->n_norm, vocab = e->ends.vocab;
    double *log_p = must(malloc(vocab * sizeof *log_p)), *wanted = must(malloc(vocab * sizeof *wanted)),
           total = 0.0;
    for (size_t t = first; t < first + count; t++) {
        if (!e->teacher && e->targets[t] == LB_NO_TARGET)
            continue;
        slow_predictions(e, e->in_double + t * hidden, NULL, log_p);
        if (e->teacher)
            slow_predictions(e, NULL, e->teacher + t * hidden, wanted);
        else
            total -= log_p[e->targets[t]];
        for (size_t v = 0; e->teacher && v < vocab; v++)
            total += exp(wanted[v]) * (wanted[v] - log_p[v]);
    }
    free(log_p);
    free(wanted);
    return total;
}

/* By one entry of in_double; an x changes one token's loss only. */
static double slow_derivative(const ends_case *e, size_t i)
{
    static const double STEP = 1e-3, offsets[] = {-2, -1, 1, 2}, factors[] = {1, -8, 8, -1};
    const double kept = e->in_double[i];
    double sum = 0.0;
    for (size_t o = 0; o < 4; o++) {
        e->in_double[i] = kept + STEP * offsets[o];
        sum += factors[o] * (i < e->n_x ? slow_loss(e, i / e->n_norm, 1) : slow_loss(e, 0, e->tokens));
    }
    e->in_double[i] = kept;
    return sum / (12.0 * STEP);
}

static void check_entries(const ends_case *e, lb_rng *rng, const char *what, size_t first, size_t n,
                          size_t entries, double scale)
{
    double squares = 0.0;
    for (size_t i = first; i < first + n; i++)
        squares += (double)e->d[i] * (double)e->d[i] / (double)n;
    /* Norm, logits, softmax, product, norm: five sums in a row. */
    const double longest = fmax((double)e->tokens, fmax((double)e->ends.vocab, (double)e->n_norm));
    const double relative = 8.0 * 2.0 * sqrt(longest) * U24;
    for (size_t k = 0; k < entries; k++) {
        const size_t i = first + lb_rng_below(rng, n);
        const double want = scale * slow_derivative(e, i);
        if (!(fabs((double)e->d[i] - want) <= relative * (sqrt(squares) + fabs(want)) + 1e-10))
            fail_msg("%s: [%zu] is %.9g, wanted %.9g (size %.3g)", what, i - first, (double)e->d[i], want,
                     sqrt(squares));
    }
}

/* apart 0: of targets, else of a teacher. */
static void check(size_t vocab, size_t hidden, size_t tokens, lb_dense_type type, size_t chunk, float scale,
                  double apart)
{
    ends_case e;
    lb_rng rng;
    lb_rng_seed(&rng, 82);
    make(&e, vocab, hidden, tokens, type, 2.0);
    if (apart > 0.0)
        add_teacher(&e, apart);
    assert_true(chunk <= e.scratch.chunk_tokens);
    if (chunk > 0)
        e.scratch.chunk_tokens = chunk;
    const double loss = run(&e, scale), want = slow_loss(&e, 0, tokens);
    assert_true(fabs(loss - want) <= 40.0 * U24 * (fabs(want) + 10.0 * sqrt((double)tokens)));
    for (size_t t = 3; !e.teacher && t < tokens; t += NO_TARGET_EVERY)
        for (size_t i = 0; i < hidden; i++)
            assert_true(e.d[t * hidden + i] == 0.0f);
    check_entries(&e, &rng, "x", 0, e.n_x, 40, (double)scale);
    check_entries(&e, &rng, "head", e.n_x, e.n_head, 15, (double)scale);
    check_entries(&e, &rng, "norm", e.n_x + e.n_head, e.n_norm, 6, (double)scale);
    drop(&e);
}

static void gradients_are_differences(void **state)
{
    (void)state;
    check(1, 3, 4, LB_DENSE_F32, 0, 1.0f, 0.0);
    check(37, 10, 1, LB_DENSE_F32, 0, 1.0f, 0.0);
    check(37, 10, 20, LB_DENSE_F32, 7, 0.25f, 0.0);
    check(50, 18, 300, LB_DENSE_F32, 0, 1.0f, 0.0);
    check(50, 18, 30, LB_DENSE_BF16, 8, -2.0f, 0.0);
    check(4999, 6, 9, LB_DENSE_BF16, 0, 1.0f, 0.0); /* two slabs */
}

static void gradients_of_divergence_are_differences(void **state)
{
    (void)state;
    check(37, 10, 1, LB_DENSE_F32, 0, 1.0f, 0.5);
    check(37, 10, 20, LB_DENSE_F32, 7, 0.25f, 0.5);
    check(50, 18, 300, LB_DENSE_F32, 0, 1.0f, 1.0);
    check(50, 18, 30, LB_DENSE_BF16, 8, -2.0f, 0.3);
    check(4999, 6, 9, LB_DENSE_BF16, 4, 1.0f, 0.5); /* two slabs */
}

/* A teacher that is the model itself leaves nothing to learn. */
static void divergence_from_oneself(void **state)
{
    (void)state;
    ends_case e;
    make(&e, 200, 24, 30, LB_DENSE_BF16, 2.0);
    add_teacher(&e, 0.0);
    e.scratch.chunk_tokens = 8;
    assert_true(fabs(run(&e, 1.0f)) <= 30.0 * 20.0 * U24);
    for (size_t i = 0; i < e.n_x + e.n_head + e.n_norm; i++)
        assert_true(e.d[i] == 0.0f);
    assert_true(e.scratch.teacher != NULL && lb_head_teacher_bytes(&e.ends) > 0);
    drop(&e);
}

/* Probabilities of both that no float can hold; and what is no number stays none, on either side. */
static void divergence_of_the_sure(void **state)
{
    (void)state;
    lb_error err;
    double loss;
    float x[2] = {1.0f, 0.0f}, teacher[2] = {-1.0f, 0.0f}, norm[2] = {1.0f, 1.0f},
          head[6] = {200.0f, 0, -200.0f, 0, 100.0f, 0}, dx[2], d_head[6] = {0};
    lb_embedding ends = {.vocab = 3,
                         .hidden = 2,
                         .norm = norm,
                         .head = {.rows = 3, .cols = 2, .type = LB_DENSE_F32, .dense = head}};
    const lb_kernels *kernels = lb_kernels_get(LB_CPU_BEST);
    const lb_head_grads grads = {.dx = dx, .head = d_head};
    lb_head_scratch scratch;
    ok(lb_head_scratch_create(&ends, &scratch, &err), &err);
    ok(lb_head_scratch_add_teacher(&ends, &scratch, &err), &err);
    ok(lb_head_divergence(kernels, &ends, x, teacher, 1, 1.0f, &scratch, &grads, &loss, &err), &err);
    assert_true(fabs(loss - 400.0 * sqrt(2.0)) < 1e-3); /* the teacher is sure of 1, the model of 0 */
    assert_true(fabsf(dx[0]) < 1e-3f && fabsf(dx[1]) < 1e-3f);
    /* p - the teacher's p, times what the norm makes of x. */
    const float wanted[] = {sqrtf(2.0f), 0, -sqrtf(2.0f), 0, 0, 0};
    near_array(d_head, wanted, 6, 1e-6);
    float *const spoilt[] = {x, teacher};
    const float values[] = {NAN, INFINITY};
    for (size_t i = 0; i < 4; i++) {
        const float kept = spoilt[i / 2][0];
        spoilt[i / 2][0] = values[i % 2];
        ok(lb_head_divergence(kernels, &ends, x, teacher, 1, 1.0f, &scratch, &(lb_head_grads){0}, &loss,
                              &err),
           &err);
        assert_true(isnan(loss));
        spoilt[i / 2][0] = kept;
    }
    lb_head_scratch_free(&scratch);
}

static void divergence_at_any_thread_count(void **state)
{
    (void)state;
    ends_case e;
    make(&e, 4999, 20, 70, LB_DENSE_BF16, 1.0);
    add_teacher(&e, 0.5);
    e.scratch.chunk_tokens = 30;
    const size_t all = (e.n_x + e.n_head + e.n_norm) * sizeof(float);
    float *kept = must(malloc(all));
    lb_thread_set_count(1);
    const double loss = run(&e, 1.0f);
    memcpy(kept, e.d, all);
    for (unsigned threads = 2; threads <= 3; threads++) {
        lb_thread_set_count(threads);
        memset(e.d, 0, all);
        assert_true(run(&e, 1.0f) == loss);
        assert_memory_equal(e.d, kept, all);
    }
    lb_thread_set_count(0);
    lb_error err;
    double again;
    memcpy(e.d, e.x, e.n_x * sizeof(float)); /* dx may be x */
    ok(lb_head_divergence(lb_kernels_get(LB_CPU_BEST), &e.ends, e.d, e.teacher, e.tokens, 1.0f, &e.scratch,
                          &(lb_head_grads){.dx = e.d}, &again, &err),
       &err);
    assert_true(again == loss);
    assert_memory_equal(e.d, kept, e.n_x * sizeof(float));
    free(kept);
    drop(&e);
}

/* A probability far below what a float can hold has a loss all the same. */
static void unlikely_targets(void **state)
{
    (void)state;
    lb_error err;
    double loss;
    float x[2] = {1.0f, 0.0f}, norm[2] = {1.0f, 1.0f}, head[6] = {200.0f, 0, -200.0f, 0, 100.0f, 0}, dx[2];
    const uint32_t target = 1;
    lb_embedding ends = {.vocab = 3,
                         .hidden = 2,
                         .norm = norm,
                         .head = {.rows = 3, .cols = 2, .type = LB_DENSE_F32, .dense = head}};
    lb_head_scratch scratch;
    ok(lb_head_scratch_create(&ends, &scratch, &err), &err);
    ok(lb_head_backward(lb_kernels_get(LB_CPU_BEST), &ends, x, &target, 1, 1.0f, &scratch,
                        &(lb_head_grads){.dx = dx}, &loss, &err),
       &err);
    assert_true(fabs(loss - 400.0 * sqrt(2.0)) < 1e-3);
    /* x / |x| does not change along x; across it nothing has weight. */
    assert_true(fabsf(dx[0]) < 1e-3f && fabsf(dx[1]) < 1e-3f);
    x[0] = NAN;
    ok(lb_head_backward(lb_kernels_get(LB_CPU_BEST), &ends, x, &target, 1, 1.0f, &scratch,
                        &(lb_head_grads){0}, &loss, &err),
       &err);
    assert_true(isnan(loss));
    lb_head_scratch_free(&scratch);
}

static void threads_targets_and_what_is_not_wanted(void **state)
{
    (void)state;
    ends_case e;
    lb_error err;
    const lb_kernels *kernels = lb_kernels_get(LB_CPU_BEST);
    make(&e, 4999, 20, 70, LB_DENSE_BF16, 1.0);
    e.scratch.chunk_tokens = 30;
    const size_t all = (e.n_x + e.n_head + e.n_norm) * sizeof(float);
    lb_thread_set_count(1);
    const double loss = run(&e, 1.0f);
    float *kept = must(malloc(all));
    memcpy(kept, e.d, all);
    lb_thread_set_count(3);
    memset(e.d, 0, all);
    assert_true(run(&e, 1.0f) == loss);
    assert_memory_equal(e.d, kept, all);
    lb_thread_set_count(0);

    lb_head_grads alone[] = {{.dx = e.d}, {.head = e.d + e.n_x}, {.norm = e.d + e.n_x + e.n_head}, {0}};
    const size_t first[] = {0, e.n_x, e.n_x + e.n_head}, count[] = {e.n_x, e.n_head, e.n_norm};
    for (size_t a = 0; a < 4; a++) {
        double again = 0.0;
        memset(e.d, 0, all);
        ok(lb_head_backward(kernels, &e.ends, e.x, e.targets, e.tokens, 1.0f, &e.scratch, &alone[a], &again,
                            &err),
           &err);
        assert_true(again == loss);
        for (size_t part = 0; part < 3; part++)
            for (size_t i = first[part]; i < first[part] + count[part]; i++)
                assert_true(e.d[i] == (part == a ? kept[i] : 0.0f));
    }
    double again;
    memcpy(e.d, e.x, e.n_x * sizeof(float)); /* dx may be x */
    ok(lb_head_backward(kernels, &e.ends, e.d, e.targets, e.tokens, 1.0f, &e.scratch, &alone[0], &again,
                        &err),
       &err);
    assert_memory_equal(e.d, kept, e.n_x * sizeof(float));

    e.targets[50] = 4999;
    memset(e.d, 0, all);
    const lb_head_grads g = all_grads(&e);
    assert_int_equal(
        lb_head_backward(kernels, &e.ends, e.x, e.targets, e.tokens, 1.0f, &e.scratch, &g, &again, &err),
        LB_EINVAL);
    assert_non_null(strstr(err.msg, "4999"));
    for (size_t i = 0; i < all / sizeof(float); i++)
        assert_true(e.d[i] == 0.0f);
    free(kept);
    drop(&e);
}

static void lack_of_memory(void **state)
{
    (void)state;
    ends_case e;
    lb_error err;
    lb_head_scratch scratch;
    lb_status st = LB_ENOMEM;
    double loss;
    make(&e, 40, 8, 5, LB_DENSE_BF16, 1.0);
    for (size_t k = 1; st != LB_OK; k++) {
        assert_true(k < 20);
        lb_alloc_fail_at(k);
        st = lb_head_scratch_create(&e.ends, &scratch, &err);
        assert_true(st == LB_OK ? k > 6 : st == LB_ENOMEM);
    }
    lb_head_scratch_free(&scratch);
    assert_true(lb_head_scratch_bytes(&e.ends) > 0);
    const lb_head_grads g = all_grads(&e);
    lb_alloc_fail_at(1); /* the head's tile as floats */
    assert_int_equal(lb_head_backward(lb_kernels_get(LB_CPU_BEST), &e.ends, e.x, e.targets, e.tokens, 1.0f,
                                      &e.scratch, &g, &loss, &err),
                     LB_ENOMEM);
    lb_alloc_fail_at(0);
    drop(&e);
}

/* ---- A whole model ------------------------------------------------------------------------------------ */

enum { TOKENS = 23 };

typedef struct whole {
    tiny_model *made;
    lb_weights *weights;
    lb_embedding ends;
    lb_rope rope;
    lb_block_trace trace;
    lb_head_scratch scratch;
    uint32_t ids[TOKENS], targets[TOKENS];
    float *inputs[8]; /* what goes into each block, and into the head */
    lb_block_grads grads[8];
    lb_head_grads head;
} whole;

static void open_whole(whole *w, const tiny_model_options *options)
{
    lb_error err;
    lb_rng rng;
    char folder[128];
    *w = (whole){.made = must(tiny_model_make(options))};
    snprintf(folder, sizeof folder, "/tmp/lowbit_test_head_grad_%ld", (long)getpid());
    assert_int_equal(tiny_model_save(folder, w->made), 0);
    ok(lb_weights_open(folder, &w->weights, &err), &err);
    tiny_model_remove(folder);
    const lb_config *c = &w->weights->config;
    ok(lb_embedding_load(w->weights, &w->ends, &err), &err);
    ok(lb_rope_create(c, TOKENS, &w->rope, &err), &err);
    ok(lb_block_trace_create(c, TOKENS, TOKENS, &w->trace, &err), &err);
    ok(lb_head_scratch_create(&w->ends, &w->scratch, &err), &err);
    lb_rng_seed(&rng, 83);
    for (size_t t = 0; t < TOKENS; t++)
        w->ids[t] = (uint32_t)lb_rng_below(&rng, c->vocab);
    for (size_t t = 0; t < TOKENS; t++)
        w->targets[t] = t + 1 < TOKENS ? w->ids[t + 1] : LB_NO_TARGET;
    for (size_t layer = 0; layer <= c->layers; layer++) {
        w->inputs[layer] = must(malloc(TOKENS * c->hidden * sizeof(float)));
        for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
            size_t rows, cols;
            lb_linear_shape(c, which, &rows, &cols);
            w->grads[layer].weights[which] = must(calloc(rows * cols, sizeof(float)));
        }
        w->grads[layer].attn_norm = must(calloc(c->hidden, sizeof(float)));
        w->grads[layer].q_norm = must(calloc(c->head_dim, sizeof(float)));
    }
    w->head.head = must(calloc(c->vocab * c->hidden, sizeof(float)));
    w->head.dx = must(malloc(TOKENS * c->hidden * sizeof(float)));
}

static void close_whole(whole *w)
{
    for (size_t layer = 0; layer <= w->weights->config.layers; layer++) {
        free(w->inputs[layer]);
        for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++)
            free(w->grads[layer].weights[which]);
        free(w->grads[layer].attn_norm);
        free(w->grads[layer].q_norm);
    }
    free(w->head.head);
    free(w->head.dx);
    lb_rope_free(&w->rope);
    lb_block_trace_free(&w->trace);
    lb_head_scratch_free(&w->scratch);
    lb_embedding_free(&w->ends);
    lb_weights_close(w->weights);
    tiny_model_free(w->made);
}

/* Forward keeping the blocks' inputs, then backward from the end with one block's trace at a time: the loss. */
static double whole_backward(whole *w)
{
    lb_error err;
    lb_block block;
    double loss = NAN;
    const lb_config *c = &w->weights->config;
    lb_stage_context stage = {
        .kernels = lb_kernels_get(LB_CPU_BEST), .config = c, .rope = &w->rope, .block = &block};
    ok(lb_embedding_look_up(stage.kernels, &w->ends, w->ids, TOKENS, w->inputs[0], &err), &err);
    for (size_t layer = 0; layer < c->layers; layer++) {
        ok(lb_block_load(w->weights, layer, LB_LOAD_FLOAT, &block, &err), &err);
        ok(lb_block_forward_traced(&stage, w->inputs[layer], 1, TOKENS, &w->trace, w->inputs[layer + 1],
                                   &err),
           &err);
        lb_block_free(&block);
    }
    ok(lb_head_backward(stage.kernels, &w->ends, w->inputs[c->layers], w->targets, TOKENS, 1.0f, &w->scratch,
                        &w->head, &loss, &err),
       &err);
    float *y = must(malloc(TOKENS * c->hidden * sizeof *y));
    for (size_t layer = c->layers; layer-- > 0;) {
        if (!c->qk_norm) {
            free(w->grads[layer].q_norm);
            w->grads[layer].q_norm = NULL;
        }
        ok(lb_block_load(w->weights, layer, LB_LOAD_FLOAT, &block, &err), &err);
        ok(lb_block_forward_traced(&stage, w->inputs[layer], 1, TOKENS, &w->trace, y, &err), &err);
        ok(lb_block_backward(&stage, &w->trace, w->head.dx, &w->grads[layer], w->head.dx, &err), &err);
        lb_block_free(&block);
    }
    free(y);
    return loss;
}

static double reference_loss(const whole *w)
{
    const size_t vocab = w->made->options.vocab;
    double *logits = must(malloc(TOKENS * vocab * sizeof *logits)), total = 0.0;
    reference_logits(w->made, w->ids, TOKENS, logits);
    for (size_t t = 0; t + 1 < TOKENS; t++) {
        double sum = 0.0;
        for (size_t v = 0; v < vocab; v++)
            sum += exp(logits[t * vocab + v]);
        total += log(sum) - logits[t * vocab + w->targets[t]];
    }
    free(logits);
    return total;
}

/* One weight of the reference, moved by powers of two so that a float holds it exactly enough: the step that was
 * really made is what is divided by. */
static void check_weight(const whole *w, const char *name, size_t i, double got, double size)
{
    const tiny_tensor *tensor = NULL;
    for (size_t k = 0; k < w->made->count; k++)
        if (strcmp(w->made->tensors[k].name, name) == 0)
            tensor = &w->made->tensors[k];
    assert_non_null(tensor);
    float *at = &tensor->values[i];
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
    const double want = (4.0 * slopes[1] - slopes[0]) / 3.0; /* Richardson */
    if (!(fabs(got - want) <= 2e-4 * (size + fabs(want))))
        fail_msg("%s [%zu]: %.9g, wanted %.9g (size %.3g)", name, i, got, want, size);
}

static double rms(const float *x, size_t n)
{
    double squares = 0.0;
    for (size_t i = 0; i < n; i++)
        squares += (double)x[i] * (double)x[i];
    return sqrt(squares / (double)n);
}

static void check_whole(const tiny_model_options *options)
{
    whole w;
    lb_rng rng;
    char name[128];
    open_whole(&w, options);
    const lb_config *c = &w.weights->config;
    const double loss = whole_backward(&w), want = reference_loss(&w);
    assert_true(fabs(loss - want) <= 1e-5 * want);
    lb_rng_seed(&rng, 84);
    for (size_t layer = 0; layer < c->layers; layer++) {
        for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
            size_t rows, cols;
            char base[96];
            lb_linear_shape(c, which, &rows, &cols);
            lb_linear_name(layer, which, base, sizeof base);
            snprintf(name, sizeof name, "%s.weight", base);
            const float *got = w.grads[layer].weights[which];
            const size_t i = lb_rng_below(&rng, rows * cols);
            check_weight(&w, name, i, (double)got[i], rms(got, rows * cols));
        }
        snprintf(name, sizeof name, "model.layers.%zu.input_layernorm.weight", layer);
        const size_t i = lb_rng_below(&rng, c->hidden);
        check_weight(&w, name, i, (double)w.grads[layer].attn_norm[i],
                     rms(w.grads[layer].attn_norm, c->hidden));
        if (c->qk_norm) {
            snprintf(name, sizeof name, "model.layers.%zu.self_attn.q_norm.weight", layer);
            check_weight(&w, name, 1, (double)w.grads[layer].q_norm[1],
                         rms(w.grads[layer].q_norm, c->head_dim));
        }
    }
    if (!options->tied) {
        const size_t i = w.targets[5] * c->hidden + 2;
        check_weight(&w, "lm_head.weight", i, (double)w.head.head[i], rms(w.head.head, c->vocab * c->hidden));
    }
    close_whole(&w);
}

static void whole_models(void **state)
{
    (void)state;
    for (size_t i = 0; i < TINY_KINDS; i++)
        check_whole(&tiny_kinds[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_differences),
        cmocka_unit_test(gradients_of_divergence_are_differences),
        cmocka_unit_test(divergence_from_oneself),
        cmocka_unit_test(divergence_of_the_sure),
        cmocka_unit_test(divergence_at_any_thread_count),
        cmocka_unit_test(unlikely_targets),
        cmocka_unit_test(threads_targets_and_what_is_not_wanted),
        cmocka_unit_test(lack_of_memory),
        cmocka_unit_test(whole_models),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
