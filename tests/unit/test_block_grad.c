/* SPDX-License-Identifier: MIT
 * A block's gradients against differences of a block written plainly in double: every class of parameters, the
 * block's input, and what the layers are fed, in every architecture that the forward pass knows. */
#include "slow_block.h"

#include "base/alloc.h"
#include "base/thread.h"
#include "kernels/cast.h"

static const block_case cases[] = {
    {"grouped queries",
     {.hidden = 24, .ffn = 40, .heads = 4, .kv_heads = 2, .head_dim = 8},
     2,
     7,
     NULL,
     NULL},
    {"one token", {.hidden = 12, .ffn = 20, .heads = 2, .kv_heads = 2, .head_dim = 6}, 1, 1, NULL, NULL},
    {"sequences of one token",
     {.hidden = 10, .ffn = 7, .heads = 2, .kv_heads = 1, .head_dim = 2},
     5,
     1,
     NULL,
     NULL},
    {"wide heads", {.hidden = 6, .ffn = 5, .heads = 4, .kv_heads = 4, .head_dim = 10}, 2, 6, NULL, NULL},
    {"past a block of queries",
     {.hidden = 10, .ffn = 9, .heads = 6, .kv_heads = 1, .head_dim = 4},
     1,
     65,
     NULL,
     NULL},
    {"two sequences past two blocks",
     {.hidden = 6, .ffn = 5, .heads = 2, .kv_heads = 1, .head_dim = 2},
     2,
     130,
     NULL,
     NULL},
    {"Qwen2",
     {.hidden = 16, .ffn = 24, .heads = 4, .kv_heads = 2, .head_dim = 4, .qkv_bias = true, .rope_theta = 1e6},
     2,
     9,
     NULL,
     NULL},
    {"Qwen3",
     {.hidden = 16, .ffn = 24, .heads = 4, .kv_heads = 2, .head_dim = 12, .qk_norm = true},
     2,
     9,
     NULL,
     NULL},
    {"all biases",
     {.hidden = 12,
      .ffn = 17,
      .heads = 3,
      .kv_heads = 3,
      .head_dim = 4,
      .qkv_bias = true,
      .o_bias = true,
      .mlp_bias = true},
     3,
     5,
     NULL,
     NULL},
    {"a window",
     {.hidden = 12, .ffn = 15, .heads = 4, .kv_heads = 1, .head_dim = 4, .window = 5},
     2,
     17,
     NULL,
     NULL},
    {"a window of one",
     {.hidden = 8, .ffn = 9, .heads = 2, .kv_heads = 1, .head_dim = 4, .window = 1},
     1,
     6,
     NULL,
     NULL},
    {"a window over blocks",
     {.hidden = 6, .ffn = 5, .heads = 2, .kv_heads = 1, .head_dim = 4, .window = 70},
     1,
     140,
     NULL,
     NULL},
    {"a window within blocks",
     {.hidden = 6, .ffn = 5, .heads = 2, .kv_heads = 1, .head_dim = 4, .window = 3},
     1,
     140,
     NULL,
     NULL},
    {"linear rope",
     {.hidden = 12,
      .ffn = 8,
      .heads = 2,
      .kv_heads = 1,
      .head_dim = 6,
      .rope_scaling = LB_ROPE_LINEAR,
      .rope_factor = 2.5},
     1,
     12,
     NULL,
     NULL},
    {"Llama 3 rope",
     {.hidden = 12,
      .ffn = 8,
      .heads = 2,
      .kv_heads = 1,
      .head_dim = 8,
      .rope_scaling = LB_ROPE_LLAMA3,
      .rope_factor = 8.0,
      .rope_low_freq_factor = 1.0,
      .rope_high_freq_factor = 4.0,
      .rope_original_context = 16},
     1,
     12,
     NULL,
     NULL},
    {"rope by factors",
     {.hidden = 12,
      .ffn = 8,
      .heads = 2,
      .kv_heads = 1,
      .head_dim = 6,
      .rope_scaling = LB_ROPE_FACTORS,
      .rope_factors = {1.0f, 3.0f, 0.5f}},
     1,
     12,
     NULL,
     NULL},
    {"rotated",
     {.hidden = 24, .ffn = 40, .heads = 4, .kv_heads = 2, .head_dim = 8},
     2,
     7,
     "hadamard-full",
     NULL},
    {"rotated in chunks",
     {.hidden = 24, .ffn = 40, .heads = 4, .kv_heads = 2, .head_dim = 8},
     2,
     7,
     "hadamard",
     NULL},
    {"rounded", {.hidden = 24, .ffn = 40, .heads = 4, .kv_heads = 2, .head_dim = 8}, 2, 7, NULL, "mxfp4"},
    {"rotated and rounded",
     {.hidden = 32, .ffn = 40, .heads = 4, .kv_heads = 2, .head_dim = 8},
     2,
     7,
     "hadamard",
     "nvfp4"},
    {"one token, rotated and rounded",
     {.hidden = 32, .ffn = 40, .heads = 4, .kv_heads = 2, .head_dim = 8},
     1,
     1,
     "hadamard",
     "mxint8"},
    {"everything at once",
     {.hidden = 24,
      .ffn = 40,
      .heads = 4,
      .kv_heads = 2,
      .head_dim = 10,
      .qkv_bias = true,
      .o_bias = true,
      .mlp_bias = true,
      .qk_norm = true,
      .window = 6,
      .rope_scaling = LB_ROPE_LINEAR,
      .rope_factor = 1.5},
     2,
     19,
     "hadamard-full",
     "mxfp8-e4m3"},
};
enum { CASES = sizeof cases / sizeof *cases };

static size_t longest_sum(const setup *s)
{
    const lb_config *c = &s->config;
    size_t n = s->tokens;
    n = n > c->hidden ? n : c->hidden;
    n = n > c->ffn ? n : c->ffn;
    return n > c->heads * c->head_dim ? n : c->heads * c->head_dim;
}

static void check_class(const setup *s, lb_rng *rng, unsigned class)
{
    enum { ENTRIES = 6 };
    /* From y back to x there are some 16 products, sums and quotients in a row, each with a relative error of
     * its vector of up to 2 sqrt(n) U24; the doubled exponent of softmax and silu makes it a little more. */
    const double relative = 24.0 * 2.0 * sqrt((double)longest_sum(s)) * U24;
    const parameters *p = &s->p[class];
    double *direction = must(malloc(p->n * sizeof *direction)), along = 0.0, squares = 0.0;
    for (size_t i = 0; i < p->n; i++) {
        direction[i] = lb_rng_normal(rng) / sqrt((double)p->n);
        along += direction[i] * (double)p->grad[i];
        squares += (double)p->grad[i] * (double)p->grad[i] / (double)p->n;
    }
    /* Differences of a loss of about sqrt(n), in double, have an error of their own. */
    const double size = sqrt(squares), floor = 1e-10 * sqrt((double)s->p[INPUT].n);
    const double want = slow_derivative(s, class, direction, 0);
    if (!(fabs(along - want) <= relative * size + floor))
        fail_msg(
            "%s: %s: %.9g along a random direction, wanted %.9g (%.2g of the gradients' size, %.2g allowed)",
            s->how->name, class_names[class], along, want, fabs(along - want) / size, relative);
    for (size_t e = 0; e < ENTRIES; e++) {
        const size_t i = p->n <= ENTRIES ? e % p->n : lb_rng_below(rng, p->n);
        const double one = slow_derivative(s, class, NULL, i);
        if (!(fabs((double)p->grad[i] - one) <= relative * (size + fabs(one)) + floor))
            fail_msg("%s: %s: [%zu] is %.9g, wanted %.9g (size %.3g)", s->how->name, class_names[class], i,
                     (double)p->grad[i], one, size);
    }
    free(direction);
}

static void gradients_are_differences(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 72);
    for (size_t i = 0; i < CASES; i++) {
        setup s;
        make(&s, &cases[i]);
        forward(&s);
        double *y = must(malloc(s.p[INPUT].n * sizeof *y));
        slow_block(&s, s.how->act != NULL, y);
        near_array(s.y, y, s.p[INPUT].n, 1e-4);
        free(y);
        backward(&s);
        for (unsigned class = 0; class < CLASSES; class ++)
            if (s.p[class].n)
                check_class(&s, &rng, class);
        drop(&s);
    }
}

/* The traced pass is the ordinary one. */
static void same_bits_as_the_plain_forward_pass(void **state)
{
    (void)state;
    for (size_t i = 0; i < CASES; i++) {
        setup s;
        lb_workspace ws;
        lb_error err;
        make(&s, &cases[i]);
        forward(&s);
        const size_t bytes = s.p[INPUT].n * sizeof(float);
        float *x = must(malloc(bytes));
        memcpy(x, s.p[INPUT].given, bytes);
        ok(lb_workspace_create(&s.config, s.tokens, &ws, &err), &err);
        lb_stage_context c = s.c;
        c.ws = &ws;
        ok(lb_block_forward(&c, x, s.how->sequences, s.how->tokens, &err), &err);
        assert_memory_equal(x, s.y, bytes);
        memcpy(x, s.p[INPUT].given, bytes);
        ok(lb_block_forward_traced(&s.c, x, s.how->sequences, s.how->tokens, &s.trace, x, &err), &err);
        assert_memory_equal(x, s.y, bytes); /* in place */
        lb_workspace_free(&ws);
        free(x);
        drop(&s);
    }
}

static void unrounded_inputs(void **state)
{
    (void)state;
    for (size_t i = 0; i < CASES; i++) {
        setup s;
        lb_error err;
        make(&s, &cases[i]);
        forward(&s);
        const bool rounds = lb_inputs_round(&s.inputs);
        for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++) {
            const size_t n = s.tokens * s.inputs.widths[stage];
            float *x = must(malloc(n * sizeof *x));
            ok(lb_block_trace_unrounded(&s.c, &s.trace, (lb_stage)stage, x, &err), &err);
            if (rounds)
                ok(lb_cast_act(s.c.kernels, &s.inputs.act, x, s.tokens, s.inputs.widths[stage], &err), &err);
            assert_memory_equal(x, s.trace.inputs[stage], n * sizeof *x);
            free(x);
        }
        drop(&s);
    }
}

typedef struct copies {
    float *grad[CLASSES];
} copies;

static copies keep(const setup *s)
{
    copies k;
    for (unsigned class = 0; class < CLASSES; class ++) {
        k.grad[class] = must(malloc((s->p[class].n + 1) * sizeof(float)));
        if (s->p[class].n)
            memcpy(k.grad[class], s->p[class].grad, s->p[class].n * sizeof(float));
    }
    return k;
}

static void same_as(const setup *s, const copies *k, unsigned class)
{
    if (s->p[class].n && memcmp(k->grad[class], s->p[class].grad, s->p[class].n * sizeof(float)) != 0)
        fail_msg("%s: %s: other bits", s->how->name, class_names[class]);
}

static void forget(copies *k)
{
    for (unsigned class = 0; class < CLASSES; class ++)
        free(k->grad[class]);
}

/* Enough tokens for every loop to have several chunks. */
static const block_case large = {"large",
                                 {.hidden = 40,
                                  .ffn = 72,
                                  .heads = 6,
                                  .kv_heads = 3,
                                  .head_dim = 8,
                                  .qkv_bias = true,
                                  .mlp_bias = true,
                                  .qk_norm = true},
                                 7,
                                 70,
                                 "hadamard",
                                 "mxfp8-e4m3"};

static void same_bits_at_any_thread_count_and_level(void **state)
{
    (void)state;
    setup s;
    make(&s, &large);
    lb_thread_set_count(1);
    forward(&s);
    backward(&s);
    copies one = keep(&s);
    for (unsigned threads = 2; threads <= 5; threads += 3) {
        lb_thread_set_count(threads);
        clear(&s);
        forward(&s);
        backward(&s);
        for (unsigned class = 0; class < CLASSES; class ++)
            same_as(&s, &one, class);
    }
    lb_thread_set_count(0);
    s.c.kernels = lb_kernels_get(LB_CPU_REF);
    clear(&s);
    forward(&s);
    backward(&s);
    for (unsigned class = 0; class < CLASSES; class ++)
        same_as(&s, &one, class);
    forget(&one);
    drop(&s);
}

/* A second pass through the same trace adds as much again to parameters, and sets the others again. */
static void parameters_are_added_to(void **state)
{
    (void)state;
    setup s;
    make(&s, &large);
    forward(&s);
    backward(&s);
    copies one = keep(&s);
    backward(&s);
    for (unsigned class = 0; class < CLASSES; class ++) {
        if (class >= FED) {
            same_as(&s, &one, class);
            continue;
        }
        double most = 0.0;
        for (size_t i = 0; i < s.p[class].n; i++)
            most = fmax(most, fabs((double)one.grad[class][i]));
        /* Terms are added to what is there already in other places of the sum. */
        for (size_t i = 0; i < s.p[class].n; i++)
            assert_true(fabs((double)s.p[class].grad[i] - 2.0 * (double)one.grad[class][i]) <=
                        4.0 * sqrt((double)s.tokens) * U24 * most);
    }
    forget(&one);
    drop(&s);
}

static lb_block_grads only(const setup *s, unsigned class)
{
    lb_block_grads g = {0};
    float *grad = s->p[class].grad;
    if (class < BIAS)
        g.weights[class - WEIGHT] = grad;
    else if (class < ATTN_NORM)
        g.biases[class - BIAS] = grad;
    else if (class >= FED && class < INPUT)
        g.inputs[class - FED] = grad;
    g.attn_norm = class == ATTN_NORM ? grad : NULL;
    g.ffn_norm = class == FFN_NORM ? grad : NULL;
    g.q_norm = class == Q_NORM ? grad : NULL;
    g.k_norm = class == K_NORM ? grad : NULL;
    return g;
}

/* Each alone comes out as it does together with all others, and nothing else is touched. */
static void what_is_not_wanted_is_left_out(void **state)
{
    (void)state;
    lb_error err;
    setup s;
    make(&s, &large);
    forward(&s);
    backward(&s);
    copies all = keep(&s);
    for (unsigned class = 0; class < CLASSES; class ++) {
        const lb_block_grads g = only(&s, class);
        clear(&s);
        ok(lb_block_backward(&s.c, &s.trace, s.dy, &g, class == INPUT ? s.p[INPUT].grad : NULL, &err), &err);
        same_as(&s, &all, class);
        for (unsigned other = 0; other < CLASSES; other++)
            for (size_t i = 0; other != class && i < s.p[other].n; i++)
                assert_true(s.p[other].grad[i] == 0.0f);
    }
    const lb_block_grads none = {0};
    memcpy(s.p[INPUT].grad, s.dy, s.p[INPUT].n * sizeof(float)); /* dx may be dy */
    ok(lb_block_backward(&s.c, &s.trace, s.p[INPUT].grad, &none, s.p[INPUT].grad, &err), &err);
    same_as(&s, &all, INPUT);
    ok(lb_block_backward(&s.c, &s.trace, s.dy, &none, NULL, &err), &err);
    forget(&all);
    drop(&s);
}

/* A trace serves smaller mini-batches, and says so when it is too small, or not set. */
static void sizes(void **state)
{
    (void)state;
    lb_error err;
    setup s;
    lb_block_trace big;
    make(&s, &large);
    assert_int_equal(lb_block_backward(&s.c, &s.trace, s.dy, &s.grads, NULL, &err), LB_EINVAL);
    forward(&s);
    backward(&s);
    copies all = keep(&s);
    ok(lb_block_trace_create(&s.config, 3 * s.tokens, 2 * large.tokens, &big, &err), &err);
    ok(lb_block_forward_traced(&s.c, s.p[INPUT].given, large.sequences, large.tokens, &big, s.y, &err), &err);
    clear(&s);
    ok(lb_block_backward(&s.c, &big, s.dy, &s.grads, s.p[INPUT].grad, &err), &err);
    for (unsigned class = 0; class < CLASSES; class ++)
        same_as(&s, &all, class);
    assert_true(lb_block_trace_bytes(&s.config, 3 * s.tokens, 2 * large.tokens) >
                lb_block_trace_bytes(&s.config, s.tokens, large.tokens));
    assert_int_equal(lb_block_forward_traced(&s.c, s.p[INPUT].given, large.sequences + 1, large.tokens,
                                             &s.trace, s.y, &err),
                     LB_EINVAL);
    assert_int_equal(
        lb_block_forward_traced(&s.c, s.p[INPUT].given, 1, large.tokens + 1, &s.trace, s.y, &err), LB_EINVAL);
    assert_int_equal(lb_block_backward(&s.c, &s.trace, s.dy, &s.grads, NULL, &err), LB_EINVAL);
    s.block.linear[LB_LINEAR_UP].type = LB_DENSE_BF16;
    assert_int_equal(lb_block_backward(&s.c, &big, s.dy, &s.grads, NULL, &err), LB_EINVAL);
    assert_non_null(strstr(err.msg, "up_proj"));
    lb_block_trace_free(&big);
    forget(&all);
    drop(&s);
}

static void lack_of_memory(void **state)
{
    (void)state;
    lb_error err;
    setup s;
    lb_block_trace t;
    lb_status st = LB_ENOMEM;
    make(&s, &large);
    lb_thread_set_count(1);
    for (size_t k = 1; st != LB_OK; k++) {
        assert_true(k < 100);
        lb_alloc_fail_at(k);
        st = lb_block_trace_create(&s.config, s.tokens, large.tokens, &t, &err);
        assert_true(st == LB_OK ? k > 20 : st == LB_ENOMEM);
    }
    st = LB_ENOMEM;
    for (size_t k = 1; st != LB_OK; k++) {
        assert_true(k < 1000);
        lb_alloc_fail_at(k);
        st = lb_block_forward_traced(&s.c, s.p[INPUT].given, large.sequences, large.tokens, &t, s.y, &err);
        assert_true(st == LB_OK || st == LB_ENOMEM);
    }
    lb_alloc_fail_at(1); /* the backward pass asks for none */
    ok(lb_block_backward(&s.c, &t, s.dy, &s.grads, s.p[INPUT].grad, &err), &err);
    lb_alloc_fail_at(0);
    lb_thread_set_count(0);
    lb_block_trace_free(&t);
    drop(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_differences),
        cmocka_unit_test(same_bits_as_the_plain_forward_pass),
        cmocka_unit_test(unrounded_inputs),
        cmocka_unit_test(same_bits_at_any_thread_count_and_level),
        cmocka_unit_test(parameters_are_added_to),
        cmocka_unit_test(what_is_not_wanted_is_left_out),
        cmocka_unit_test(sizes),
        cmocka_unit_test(lack_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
