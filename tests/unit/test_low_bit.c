/* SPDX-License-Identifier: MIT
 * Training in low precision: which numbers are multiplied. Every product of a block that can be seen from outside,
 * forward and backward, against sums in double of numbers rounded by the slow formats along the axis of the sum.
 */
#include "near.h"

#include "base/alloc.h"
#include "base/rng.h"
#include "base/thread.h"
#include "model/block_grad.h"
#include "slow_formats.h"
#include "train/parameters.h"

enum {
    HIDDEN = 64,
    FFN = 96,
    KV = 32,
    LENGTH = 32,
    SEQUENCES = 2,
    TOKENS = SEQUENCES * LENGTH,
    MOST = 96 * 96
};

static const char *const formats[] = {"mxint8",     "mxfp8-e4m3",      "mxint6",
                                      "mxfp6-e2m3", "mxint8-ocp-asym", "mxint4"};

static const slow_format *find_slow(const char *name)
{
    static slow_format all[SLOW_MOST_FORMATS];
    const size_t count = slow_list_formats(all);
    for (size_t i = 0; i < count; i++)
        if (strcmp(all[i].name, name) == 0)
            return &all[i];
    fail_msg("no slow %s", name);
    return NULL;
}

/* A copy of x [rows, cols] rounded in blocks along rows, or along columns. */
static float *rounded(const slow_format *f, const float *x, size_t rows, size_t cols, bool along_columns)
{
    float *out = malloc(rows * cols * sizeof *out), block[32], values[32], factor;
    uint8_t codes[32];
    assert_non_null(out);
    for (size_t line = 0; line < (along_columns ? cols : rows); line++) {
        for (size_t at = 0; at < (along_columns ? rows : cols); at += 32) {
            for (size_t i = 0; i < 32; i++)
                block[i] = along_columns ? x[(at + i) * cols + line] : x[line * cols + at + i];
            slow_round(f, slow_scale(f, 1.0f, block, 32, &factor), block, 32, codes, values);
            for (size_t i = 0; i < 32; i++)
                out[along_columns ? (at + i) * cols + line : line * cols + at + i] = values[i];
        }
    }
    return out;
}

/* want [m, n] += sum over k of a(i, k) b(k, j) by strides, and the bound of a float sum of that. */
static void product(size_t m, size_t n, size_t k, const float *a, size_t a_row, size_t a_step, const float *b,
                    size_t b_step, size_t b_col, double *want, double *bound)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++)
            for (size_t s = 0; s < k; s++) {
                const double term = (double)a[i * a_row + s * a_step] * (double)b[s * b_step + j * b_col];
                want[i * n + j] += term;
                bound[i * n + j] += 2.0 * sqrt((double)k) * U24 * fabs(term);
            }
}

typedef struct sums {
    double want[MOST], bound[MOST];
} sums;

/* Y = X W^T, dX = dY W, dW = dY^T X, with everything rounded along the axis of the sum. */
static void forward_product(const slow_format *f, const float *x, const float *w, size_t n, size_t k, sums *s)
{
    float *a = rounded(f, x, TOKENS, k, false), *b = rounded(f, w, n, k, false);
    product(TOKENS, n, k, a, k, 1, b, 1, k, s->want, s->bound);
    free(a);
    free(b);
}

static void input_product(const slow_format *f, const float *d, const float *w, size_t n, size_t k, sums *s)
{
    float *a = rounded(f, d, TOKENS, n, false), *b = rounded(f, w, n, k, true);
    product(TOKENS, k, n, a, n, 1, b, k, 1, s->want, s->bound);
    free(a);
    free(b);
}

static void weight_product(const slow_format *f, const float *d, const float *x, size_t n, size_t k, sums *s)
{
    float *a = rounded(f, d, TOKENS, n, true), *b = rounded(f, x, TOKENS, k, true);
    product(n, k, TOKENS, a, 1, n, b, k, 1, s->want, s->bound);
    free(a);
    free(b);
}

static void draw(lb_rng *rng, double size, size_t n, float *x)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(size * lb_rng_normal(rng) * exp2(3.0 * lb_rng_normal(rng)));
}

typedef struct setup {
    lb_parameters parameters;
    float *values, *grads;
    lb_block block;
    lb_block_grads g;
    lb_rope rope;
    lb_low_bit low_bit;
    lb_block_trace trace;
    lb_stage_context c;
    float x[TOKENS * HIDDEN], y[TOKENS * HIDDEN], dy[TOKENS * HIDDEN];
    float down_input[TOKENS * FFN], gate_up_input[TOKENS * HIDDEN];
} setup;

static setup *make(const char *format)
{
    lb_error err;
    lb_rng rng;
    lb_format parsed;
    setup *s = calloc(1, sizeof *s);
    const lb_config config = {.hidden = HIDDEN,
                              .ffn = FFN,
                              .layers = 1,
                              .heads = 2,
                              .kv_heads = 1,
                              .head_dim = KV,
                              .vocab = 16,
                              .max_context = LENGTH,
                              .norm_eps = 1e-5,
                              .rope_theta = 1e4,
                              .tied_embeddings = true};
    assert_non_null(s);
    assert_int_equal(lb_parameters_create(&config, &s->parameters, &err), LB_OK);
    s->values = lb_alloc_zero(s->parameters.floats, sizeof(float));
    s->grads = lb_alloc_zero(s->parameters.floats, sizeof(float));
    assert_true(s->values && s->grads);
    lb_parameters_init(&s->parameters, 0.2, 3, s->values);
    lb_parameters_block(&s->parameters, s->values, 0, &s->block);
    lb_parameters_grads(&s->parameters, s->grads, 0, &s->g);
    s->g.inputs[LB_STAGE_DOWN] = s->down_input;
    s->g.inputs[LB_STAGE_GATE_UP] = s->gate_up_input;
    assert_int_equal(lb_rope_create(&config, LENGTH, &s->rope, &err), LB_OK);
    assert_int_equal(lb_format_parse(format, &parsed, &err), LB_OK);
    assert_int_equal(lb_low_bit_create(&parsed, &config, TOKENS, LENGTH, &s->low_bit, &err), LB_OK);
    assert_int_equal(lb_block_trace_create(&config, TOKENS, LENGTH, &s->trace, &err), LB_OK);
    s->c = (lb_stage_context){.kernels = lb_kernels_get(LB_CPU_BEST),
                              .config = &s->parameters.config,
                              .rope = &s->rope,
                              .block = &s->block,
                              .low_bit = &s->low_bit};
    lb_rng_seed(&rng, 8);
    draw(&rng, 1.0, TOKENS * HIDDEN, s->x);
    draw(&rng, 1e-3, TOKENS * HIDDEN, s->dy);
    assert_int_equal(lb_block_forward_traced(&s->c, s->x, SEQUENCES, LENGTH, &s->trace, s->y, &err), LB_OK);
    assert_int_equal(lb_block_backward(&s->c, &s->trace, s->dy, &s->g, s->dy, &err), LB_OK);
    return s;
}

static void drop(setup *s)
{
    lb_block_trace_free(&s->trace);
    lb_low_bit_free(&s->low_bit);
    lb_rope_free(&s->rope);
    lb_parameters_free(&s->parameters);
    lb_free(s->values);
    lb_free(s->grads);
    free(s);
}

static void forward_products_are_of_rounded_numbers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        const slow_format *f = find_slow(formats[i]);
        setup *s = make(formats[i]);
        const lb_linear *l = s->block.linear;
        const lb_block_trace *t = &s->trace;
        const struct {
            unsigned which;
            const float *got;
            lb_stage stage;
        } seen[] = {{LB_LINEAR_V, t->v, LB_STAGE_QKV},
                    {LB_LINEAR_GATE, t->gate, LB_STAGE_GATE_UP},
                    {LB_LINEAR_UP, t->up, LB_STAGE_GATE_UP}};
        for (size_t k = 0; k < 3; k++) {
            sums want = {0};
            const lb_linear *one = &l[seen[k].which];
            forward_product(f, t->inputs[seen[k].stage], one->dense, one->rows, one->cols, &want);
            near_array_by(seen[k].got, want.want, TOKENS * one->rows, want.bound);
        }
        sums down = {0}; /* added to the stream, and rounded once more there */
        forward_product(f, t->inputs[LB_STAGE_DOWN], l[LB_LINEAR_DOWN].dense, HIDDEN, FFN, &down);
        for (size_t k = 0; k < TOKENS * HIDDEN; k++) {
            down.want[k] += (double)t->mid[k];
            down.bound[k] += U24 * fabs(down.want[k]);
        }
        near_array_by(s->y, down.want, TOKENS * HIDDEN, down.bound);
        drop(s);
    }
}

static void backward_products_are_of_rounded_numbers(void **state)
{
    (void)state;
    static float dgate[TOKENS * FFN], dup[TOKENS * FFN], dy[TOKENS * HIDDEN];
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        const slow_format *f = find_slow(formats[i]);
        setup *s = make(formats[i]);
        const lb_linear *l = s->block.linear;
        const lb_block_trace *t = &s->trace;
        lb_rng rng;
        lb_rng_seed(&rng, 8); /* the dy that `make` drew, which became dx in its place */
        draw(&rng, 1.0, TOKENS * HIDDEN, dy);
        draw(&rng, 1e-3, TOKENS * HIDDEN, dy);
        sums in = {0}, weights = {0}, both = {0}, gate = {0}, up = {0};
        input_product(f, dy, l[LB_LINEAR_DOWN].dense, HIDDEN, FFN, &in);
        near_array_by(s->down_input, in.want, TOKENS * FFN, in.bound);
        weight_product(f, dy, t->inputs[LB_STAGE_DOWN], HIDDEN, FFN, &weights);
        near_array_by(s->g.weights[LB_LINEAR_DOWN], weights.want, HIDDEN * FFN, weights.bound);
        /* Two layers of one input: rounding their gradients sees the very floats that the block saw. */
        s->c.kernels->silu_mul_grad(t->gate, t->up, s->down_input, TOKENS * FFN, dgate, dup);
        input_product(f, dgate, l[LB_LINEAR_GATE].dense, FFN, HIDDEN, &both);
        input_product(f, dup, l[LB_LINEAR_UP].dense, FFN, HIDDEN, &both);
        near_array_by(s->gate_up_input, both.want, TOKENS * HIDDEN, both.bound);
        weight_product(f, dgate, t->inputs[LB_STAGE_GATE_UP], FFN, HIDDEN, &gate);
        near_array_by(s->g.weights[LB_LINEAR_GATE], gate.want, FFN * HIDDEN, gate.bound);
        weight_product(f, dup, t->inputs[LB_STAGE_GATE_UP], FFN, HIDDEN, &up);
        near_array_by(s->g.weights[LB_LINEAR_UP], up.want, FFN * HIDDEN, up.bound);
        drop(s);
    }
}

/* What is kept for the backward pass are the original numbers: the inputs are those of a block in float32 where they
 * come before any product. */
static void inputs_are_kept_unrounded(void **state)
{
    (void)state;
    setup *s = make("mxint4");
    float want[TOKENS * HIDDEN];
    for (size_t t = 0; t < TOKENS; t++)
        s->c.kernels->rms_norm(s->x + t * HIDDEN, s->block.attn_norm, HIDDEN, 1e-5f, want + t * HIDDEN);
    same_array(s->trace.inputs[LB_STAGE_QKV], want, TOKENS * HIDDEN);
    drop(s);
}

static void threads_change_no_bit(void **state)
{
    (void)state;
    lb_thread_set_count(1);
    setup *one = make("mxfp8");
    lb_thread_set_count(3);
    setup *more = make("mxfp8");
    lb_thread_set_count(0);
    assert_memory_equal(one->grads, more->grads, one->parameters.floats * sizeof(float));
    assert_memory_equal(one->dy, more->dy, sizeof one->dy);
    drop(one);
    drop(more);
}

static void misfits_are_refused(void **state)
{
    (void)state;
    static const char *const others[] = {"int4-g128", "nvfp4", "bf16"};
    const lb_config good = {
        .hidden = 64, .ffn = 96, .layers = 1, .heads = 2, .kv_heads = 1, .head_dim = 32, .vocab = 16};
    lb_config c = good;
    lb_low_bit out;
    lb_format f;
    lb_error err;
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(lb_format_parse(others[i], &f, &err), LB_OK);
        assert_int_equal(lb_low_bit_create(&f, &c, 64, 32, &out, &err), LB_EUNSUPPORTED);
    }
    assert_int_equal(lb_format_parse("mxint8", &f, &err), LB_OK);
    assert_int_equal(lb_low_bit_create(&f, &c, 64, 48, &out, &err), LB_EINVAL);
    assert_string_equal(err.msg,
                        "training in mxint8: a sequence's length 48 is not a multiple of its blocks of 32");
    c.ffn = 100;
    assert_int_equal(lb_low_bit_create(&f, &c, 64, 32, &out, &err), LB_EINVAL);
    c = good;
    c.head_dim = 16;
    assert_int_equal(lb_low_bit_create(&f, &c, 64, 32, &out, &err), LB_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forward_products_are_of_rounded_numbers),
        cmocka_unit_test(backward_products_are_of_rounded_numbers),
        cmocka_unit_test(inputs_are_kept_unrounded),
        cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(misfits_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
