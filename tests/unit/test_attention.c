/* SPDX-License-Identifier: MIT
 * Attention against the formula in double, one query and head at a time. */
#include "slow_attention.h"

#include "base/alloc.h"
#include "base/thread.h"

static void check(lb_rng *rng, shape s, double size)
{
    const lb_kernels *kernels = lb_kernels_get(LB_CPU_BEST);
    const lb_config config = {
        .heads = s.heads, .kv_heads = s.kv_heads, .head_dim = s.head_dim, .window = s.window};
    const size_t queries = s.sequences * s.tokens, positions = s.sequences * (s.past + s.tokens);
    const size_t q_width = s.heads * s.head_dim, kv_width = s.kv_heads * s.head_dim;
    float *q = random_floats(rng, queries * q_width, size),
          *k = random_floats(rng, positions * kv_width, size);
    float *v = random_floats(rng, positions * kv_width, 1.0);
    float *out = must(malloc((queries * q_width + 1) * sizeof *out)),
          *again = must(malloc(queries * q_width * sizeof *out));
    const lb_attention_input in = {q, k, v, s.sequences, s.tokens, s.past, NULL, NULL};
    memset(out, 0xff, queries * q_width * sizeof *out); /* NaN */
    out[queries * q_width] = 55.0f;
    lb_thread_set_count(1);
    assert_int_equal(lb_attention(kernels, &config, &in, out, NULL), LB_OK);
    assert_true(out[queries * q_width] == 55.0f);
    double want[LB_MAX_HEAD_DIM], bounds[LB_MAX_HEAD_DIM];
    for (size_t t = 0; t < queries; t++) {
        for (size_t h = 0; h < s.heads; h++) {
            slow_head(&s, &in, t / s.tokens, t % s.tokens, h, want, bounds);
            near_array_by(out + t * q_width + h * s.head_dim, want, s.head_dim, bounds);
        }
    }
    lb_thread_set_count(2);
    assert_int_equal(lb_attention(kernels, &config, &in, again, NULL), LB_OK);
    assert_memory_equal(again, out, queries * q_width * sizeof *out);
    lb_thread_set_count(0);
    free(q);
    free(k);
    free(v);
    free(out);
    free(again);
}

static void shapes(void **state)
{
    (void)state;
    static const shape cases[] = {
        /* heads, kv, dim, sequences, tokens, past, window */
        {1, 1, 2, 1, 1, 0, 0},
        {2, 2, 16, 1, 5, 0, 0},
        {4, 2, 16, 3, 7, 0, 0},
        {6, 1, 8, 2, 9, 0, 0},
        {4, 4, 64, 1, 64, 0, 0},
        {4, 2, 20, 1, 65, 0, 0},
        {3, 3, 10, 2, 130, 0, 0},
        {4, 2, 16, 1, 1, 1, 0},
        {4, 2, 16, 1, 1, 300, 0},
        {4, 2, 16, 2, 3, 11, 0},
        {2, 1, 32, 1, 70, 50, 0},
        {8, 2, 128, 1, 1, 200, 0},
        /* windows: of one token, shorter and longer than all, across the query blocks, with a past */
        {2, 1, 8, 1, 9, 0, 1},
        {2, 1, 8, 2, 9, 0, 4},
        {2, 1, 8, 1, 9, 0, 9},
        {2, 1, 8, 1, 9, 0, 100},
        {2, 2, 8, 1, 150, 0, 70},
        {2, 2, 8, 1, 150, 0, 3},
        {2, 1, 8, 2, 5, 20, 7},
        {2, 1, 8, 1, 1, 100, 16},
        {2, 1, 8, 1, 1, 100, 101},
        {2, 1, 8, 1, 1, 100, 1},
        /* across blocks of keys */
        {2, 1, 16, 2, 300, 0, 0},
        {4, 2, 8, 1, 70, 700, 0},
        {2, 2, 16, 1, 130, 500, 260},
        {2, 1, 8, 1, 600, 0, 20},
        {1, 1, 8, 1, 1, 255, 0},
        {1, 1, 8, 1, 2, 255, 0},
    };
    lb_rng rng;
    lb_rng_seed(&rng, 51);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        check(&rng, cases[i], 1.0);
        check(&rng, cases[i], 4.0); /* sharp: nearly all of it on one position */
    }
}

/* Keys and values of every type that a cache has: attention of what they are there. */
static void cached(void **state)
{
    (void)state;
    static const shape cases[] = {{4, 2, 40, 1, 30, 0, 0},
                                  {6, 2, 64, 1, 5, 600, 0},
                                  {3, 1, 33, 1, 100, 300, 0},
                                  {2, 2, 16, 1, 90, 500, 70},
                                  {2, 1, 8, 1, 1, 9, 0}};
    const lb_kernels *kernels = lb_kernels_get(LB_CPU_BEST);
    lb_rng rng;
    lb_rng_seed(&rng, 53);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (unsigned type = 0; type < LB_KV_TYPES; type++) {
            const shape s = cases[i];
            const lb_config config = {
                .heads = s.heads, .kv_heads = s.kv_heads, .head_dim = s.head_dim, .window = s.window};
            slow_cache k = slow_cache_make(kernels, &rng, &s, (lb_kv_type)type, 2.0),
                       v = slow_cache_make(kernels, &rng, &s, (lb_kv_type)type, 1.0);
            const size_t width = s.heads * s.head_dim;
            float *q = random_floats(&rng, s.tokens * width, 1.0),
                  *out = must(malloc(s.tokens * width * sizeof *out));
            const lb_attention_input in = {q, NULL, NULL, 1, s.tokens, s.past, &k.kv, &v.kv};
            const lb_attention_input wide = {q, k.wide, v.wide, 1, s.tokens, s.past, NULL, NULL};
            assert_int_equal(lb_attention(kernels, &config, &in, out, NULL), LB_OK);
            for (size_t t = 0; t < s.tokens; t++) {
                double want[LB_MAX_HEAD_DIM], bounds[LB_MAX_HEAD_DIM];
                for (size_t h = 0; h < s.heads; h++) {
                    slow_head(&s, &wide, 0, t, h, want, bounds);
                    near_array_by(out + t * width + h * s.head_dim, want, s.head_dim, bounds);
                }
            }
            slow_cache_free(&k);
            slow_cache_free(&v);
            free(q);
            free(out);
        }
    }
}

/* Token by token on top of a past is the whole sequence at once. */
static void continuing_is_the_same_as_at_once(void **state)
{
    (void)state;
    enum { HEADS = 4, KV = 2, DIM = 16, TOKENS = 90 };
    const lb_kernels *kernels = lb_kernels_get(LB_CPU_BEST);
    const lb_config config = {.heads = HEADS, .kv_heads = KV, .head_dim = DIM, .window = 50};
    lb_rng rng;
    lb_rng_seed(&rng, 52);
    float *q = random_floats(&rng, TOKENS * HEADS * DIM, 1.0),
          *k = random_floats(&rng, TOKENS * KV * DIM, 1.0);
    float *v = random_floats(&rng, TOKENS * KV * DIM, 1.0);
    static float whole[TOKENS * HEADS * DIM], step[HEADS * DIM];
    const lb_attention_input all = {q, k, v, 1, TOKENS, 0, NULL, NULL};
    assert_int_equal(lb_attention(kernels, &config, &all, whole, NULL), LB_OK);
    for (size_t t = 0; t < TOKENS; t++) {
        const lb_attention_input one = {q + t * HEADS * DIM, k, v, 1, 1, t, NULL, NULL};
        assert_int_equal(lb_attention(kernels, &config, &one, step, NULL), LB_OK);
        near_array(step, whole + t * HEADS * DIM, HEADS * DIM, 60.0 * U24 * 3.0);
    }
    free(q);
    free(k);
    free(v);
}

static void lack_of_memory_is_said(void **state)
{
    (void)state;
    const lb_config config = {.heads = 1, .kv_heads = 1, .head_dim = 2};
    const float x[2] = {1.0f, 2.0f};
    float out[2];
    const lb_attention_input in = {x, x, x, 1, 1, 0, NULL, NULL};
    lb_error err;
    lb_alloc_fail_at(1);
    assert_int_equal(lb_attention(lb_kernels_get(LB_CPU_REF), &config, &in, out, &err), LB_ENOMEM);
    lb_alloc_fail_at(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes),
        cmocka_unit_test(cached),
        cmocka_unit_test(continuing_is_the_same_as_at_once),
        cmocka_unit_test(lack_of_memory_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
