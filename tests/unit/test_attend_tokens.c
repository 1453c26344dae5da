/* SPDX-License-Identifier: MIT
 * Attention of single tokens over caches of every type: against the formula, and the same bits alone, beside others, at
 * any number of threads and in a larger room. */
#include "slow_attention.h"

#include "base/thread.h"
#include "infer/attend_tokens.h"

enum { MOST = 5 };

static void check(const lb_kernels *kernels, lb_rng *rng, shape s, lb_kv_type type)
{
    const lb_config config = {
        .heads = s.heads, .kv_heads = s.kv_heads, .head_dim = s.head_dim, .window = s.window};
    const size_t width = s.heads * s.head_dim, context = s.past + s.tokens;
    slow_cache k = slow_cache_make(kernels, rng, &s, type, 2.0),
               v = slow_cache_make(kernels, rng, &s, type, 1.0);
    float *q = random_floats(rng, s.tokens * width, 1.0), *out = must(malloc(s.tokens * width * sizeof *out));
    float *alone = must(malloc(width * sizeof *alone));
    float *scratch = must(malloc(MOST * lb_attend_scratch(&config, 2 * context + 300) * sizeof *scratch));
    const lb_attention_input wide = {q, k.wide, v.wide, 1, s.tokens, s.past, NULL, NULL};
    lb_attending tokens[MOST];
    assert_true(s.tokens <= MOST);
    for (size_t t = 0; t < s.tokens; t++)
        tokens[t] = (lb_attending){k.kv, v.kv, s.past + t, q + t * width, out + t * width};
    lb_thread_set_count(2);
    lb_attend_tokens(kernels, &config, tokens, s.tokens, context, scratch);
    lb_thread_set_count(1);
    for (size_t t = 0; t < s.tokens; t++) {
        double want[LB_MAX_HEAD_DIM], bounds[LB_MAX_HEAD_DIM];
        for (size_t h = 0; h < s.heads; h++) {
            slow_head(&s, &wide, 0, t, h, want, bounds);
            near_array_by(out + t * width + h * s.head_dim, want, s.head_dim, bounds);
        }
        lb_attending one = tokens[t];
        one.out = alone;
        lb_attend_tokens(kernels, &config, &one, 1, 2 * context + 300, scratch);
        assert_memory_equal(alone, tokens[t].out, width * sizeof *alone);
    }
    lb_thread_set_count(0);
    slow_cache_free(&k);
    slow_cache_free(&v);
    free(q);
    free(out);
    free(alone);
    free(scratch);
}

static void shapes(void **state)
{
    (void)state;
    static const shape cases[] = {
        /* heads, kv, dim, sequences, tokens, past, window */
        {1, 1, 2, 1, 1, 0, 0},     {6, 2, 64, 1, 3, 0, 0},     {9, 3, 64, 1, 4, 1000, 0},
        {8, 1, 128, 1, 2, 400, 0}, {4, 2, 33, 1, 5, 254, 0},   {32, 4, 64, 1, 2, 511, 0},
        {2, 2, 10, 1, 2, 300, 1},  {4, 2, 40, 1, 3, 700, 260}, {3, 1, 16, 1, 2, 513, 40},
    };
    static const lb_cpu_level levels[] = {LB_CPU_BEST, LB_CPU_REF};
    lb_rng rng;
    lb_rng_seed(&rng, 61);
    for (size_t level = 0; level < 2; level++)
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
            for (unsigned type = 0; type < LB_KV_TYPES; type++)
                check(lb_kernels_get(levels[level]), &rng, cases[i], (lb_kv_type)type);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(shapes)};
    return cmocka_run_group_tests_name("attend_tokens", tests, NULL, NULL);
}
