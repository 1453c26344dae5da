/* SPDX-License-Identifier: MIT
 * Drawn next tokens against the softmax in double, by Pearson's chi-square; seeds are fixed, so that a test that passes
 * passes always. */
#include "near.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "base/thread.h"
#include "model/head_grad.h"
#include "model/sampled_targets.h"

enum { VOCAB = 12, HIDDEN = 6, TOKENS = 6000 };

typedef struct ends_case {
    lb_embedding ends;
    float head[VOCAB * HIDDEN], norm[HIDDEN];
    float *x; /* [TOKENS, HIDDEN] all the same */
    double p[VOCAB]; /* of every token */
    uint32_t *targets; /* [TOKENS] */
} ends_case;

static void *must(void *ptr)
{
    assert_non_null(ptr);
    return ptr;
}

/* Softmax of head * rms_norm(x), in double. */
static void find_probabilities(ends_case *e)
{
    double squares = 0.0, sum = 0.0;
    for (size_t i = 0; i < HIDDEN; i++)
        squares += (double)e->x[i] * (double)e->x[i];
    for (size_t v = 0; v < VOCAB; v++) {
        double logit = 0.0;
        for (size_t i = 0; i < HIDDEN; i++)
            logit += (double)e->head[v * HIDDEN + i] * (double)e->norm[i] * (double)e->x[i] /
                     sqrt(squares / HIDDEN + e->ends.norm_eps);
        sum += e->p[v] = exp(logit);
    }
    for (size_t v = 0; v < VOCAB; v++)
        e->p[v] /= sum;
}

/* `size` of the logits: how uneven the distribution is. */
static void make(ends_case *e, double size)
{
    lb_rng rng;
    lb_rng_seed(&rng, 91);
    for (size_t i = 0; i < VOCAB * HIDDEN; i++)
        e->head[i] = (float)(size / sqrt((double)HIDDEN) * lb_rng_normal(&rng));
    e->x = must(malloc(TOKENS * HIDDEN * sizeof *e->x));
    e->targets = must(malloc(TOKENS * sizeof *e->targets));
    for (size_t i = 0; i < HIDDEN; i++) {
        e->norm[i] = (float)(1.0 + 0.3 * lb_rng_normal(&rng));
        e->x[i] = (float)lb_rng_normal(&rng);
    }
    for (size_t t = 0; t < TOKENS; t++) {
        memcpy(e->x + t * HIDDEN, e->x, HIDDEN * sizeof *e->x);
        e->targets[t] = (uint32_t)(t % VOCAB);
    }
    e->ends = (lb_embedding){.vocab = VOCAB,
                             .hidden = HIDDEN,
                             .norm = e->norm,
                             .norm_eps = 1e-2,
                             .head = {.rows = VOCAB, .cols = HIDDEN, .type = LB_DENSE_F32, .dense = e->head}};
    find_probabilities(e);
}

static void drop(ends_case *e)
{
    free(e->x);
    free(e->targets);
}

static void sample(const ends_case *e, uint64_t seed, size_t tokens, uint32_t *targets)
{
    lb_error err;
    if (lb_sample_targets(lb_kernels_get(LB_CPU_BEST), &e->ends, seed, e->x, tokens, targets, &err) != LB_OK)
        fail_msg("%s", err.msg);
}

/* Cells that hardly ever come are counted together. */
static void check_counts(const char *what, const size_t *counts, const double *p, size_t cells, size_t draws)
{
    double statistic = 0.0, rare_p = 0.0, rare = 0.0;
    size_t classes = 0;
    for (size_t i = 0; i <= cells; i++) {
        double want = i < cells ? p[i] * (double)draws : rare_p * (double)draws;
        double got = i < cells ? (double)counts[i] : rare;
        if (i < cells && want < 8.0) {
            rare_p += p[i];
            rare += got;
            continue;
        }
        if (want < 8.0) {
            assert_true(got < 25.0);
            continue;
        }
        statistic += (got - want) * (got - want) / want;
        classes++;
    }
    /* Its mean is classes - 1 and its variance twice that. */
    const double mean = (double)classes - 1.0;
    if (!(statistic <= mean + 4.0 * sqrt(2.0 * mean)))
        fail_msg("%s: chi-square %.4g of %zu classes", what, statistic, classes);
}

static void draws_follow_the_softmax(void **state)
{
    (void)state;
    static const double sizes[] = {0.0, 0.5, 1.5, 4.0};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        ends_case e;
        size_t counts[VOCAB] = {0}, pairs[VOCAB * VOCAB] = {0};
        double of_pairs[VOCAB * VOCAB];
        make(&e, sizes[k]);
        sample(&e, 5, TOKENS, e.targets);
        for (size_t t = 0; t < TOKENS; t++) {
            assert_true(e.targets[t] < VOCAB);
            counts[e.targets[t]]++;
        }
        check_counts("tokens", counts, e.p, VOCAB, TOKENS);
        /* Neighbours know nothing of one another; nor do tokens a chunk of 64 apart. */
        for (size_t apart = 1; apart <= 64; apart += 63) {
            memset(pairs, 0, sizeof pairs);
            for (size_t t = 0; t + apart < TOKENS; t++)
                pairs[e.targets[t] * VOCAB + e.targets[t + apart]]++;
            for (size_t i = 0; i < VOCAB * VOCAB; i++)
                of_pairs[i] = e.p[i / VOCAB] * e.p[i % VOCAB];
            check_counts("pairs", pairs, of_pairs, VOCAB * VOCAB, TOKENS - apart);
        }
        drop(&e);
    }
}

/* The same token of many runs, and two runs of all tokens beside one another. */
static void seeds_are_independent(void **state)
{
    (void)state;
    ends_case e;
    size_t counts[VOCAB] = {0}, pairs[VOCAB * VOCAB] = {0};
    double of_pairs[VOCAB * VOCAB];
    enum { RUNS = 2000, AT = 1 };
    make(&e, 1.0);
    for (size_t seed = 0; seed < RUNS; seed++) {
        uint32_t few[2] = {0};
        sample(&e, seed, 2, few);
        counts[few[AT]]++;
    }
    check_counts("runs", counts, e.p, VOCAB, RUNS);
    uint32_t *other = must(calloc(TOKENS, sizeof *other));
    sample(&e, 42, TOKENS, e.targets);
    sample(&e, 43, TOKENS, other);
    for (size_t t = 0; t < TOKENS; t++)
        pairs[e.targets[t] * VOCAB + other[t]]++;
    for (size_t i = 0; i < VOCAB * VOCAB; i++)
        of_pairs[i] = e.p[i / VOCAB] * e.p[i % VOCAB];
    check_counts("two runs", pairs, of_pairs, VOCAB * VOCAB, TOKENS);
    free(other);
    drop(&e);
}

static void only_tokens_with_a_target_get_one(void **state)
{
    (void)state;
    enum { FEW = 200 };
    ends_case e;
    uint32_t plain[FEW], with_gaps[FEW];
    make(&e, 1.0);
    for (size_t t = 0; t < FEW; t++) {
        plain[t] = 3;
        with_gaps[t] = t % 7 == 6 ? LB_NO_TARGET : (uint32_t)(t % VOCAB);
    }
    sample(&e, 8, FEW, plain);
    sample(&e, 8, FEW, with_gaps);
    for (size_t t = 0; t < FEW; t++) /* what stood there before does not matter, nor what the others get */
        assert_int_equal(with_gaps[t], t % 7 == 6 ? LB_NO_TARGET : plain[t]);
    drop(&e);
}

static void the_same_at_any_thread_count(void **state)
{
    (void)state;
    const unsigned usual = lb_thread_count();
    ends_case e;
    make(&e, 1.0);
    uint32_t *again = must(calloc(TOKENS, sizeof *again));
    lb_thread_set_count(1);
    sample(&e, 3, TOKENS, e.targets);
    lb_thread_set_count(3);
    sample(&e, 3, TOKENS, again);
    assert_memory_equal(again, e.targets, TOKENS * sizeof *again);
    lb_thread_set_count(usual);
    sample(&e, 4, TOKENS, again);
    assert_memory_not_equal(again, e.targets, TOKENS * sizeof *again);
    free(again);
    drop(&e);
}

/* What a float cannot tell from certain is certain; a NaN is left to those who look at the loss. */
static void extreme_logits(void **state)
{
    (void)state;
    ends_case e;
    make(&e, 0.0);
    for (size_t v = 0; v < VOCAB; v++)
        for (size_t i = 0; i < HIDDEN; i++)
            e.head[v * HIDDEN + i] = v == 9 ? e.x[i] * 1e4f : -e.x[i] * 1e4f;
    sample(&e, 1, TOKENS, e.targets);
    for (size_t t = 0; t < TOKENS; t++)
        assert_int_equal(e.targets[t], 9);
    for (size_t i = 0; i < HIDDEN; i++) /* two are equally likely, and all others impossible */
        e.head[4 * HIDDEN + i] = e.head[9 * HIDDEN + i];
    size_t fours = 0;
    sample(&e, 1, TOKENS, e.targets);
    for (size_t t = 0; t < TOKENS; t++) {
        assert_true(e.targets[t] == 4 || e.targets[t] == 9);
        fours += e.targets[t] == 4;
    }
    assert_true(fabs((double)fours - TOKENS / 2.0) < 4.0 * sqrt(TOKENS / 4.0));
    e.x[0] = NAN;
    e.targets[0] = 2;
    sample(&e, 1, 1, e.targets);
    assert_true(e.targets[0] < VOCAB);
    drop(&e);
}

static void lack_of_memory(void **state)
{
    (void)state;
    ends_case e;
    lb_error err;
    make(&e, 1.0);
    for (size_t k = 1; k <= 2; k++) {
        lb_alloc_fail_at(k);
        const lb_status st =
            lb_sample_targets(lb_kernels_get(LB_CPU_BEST), &e.ends, 1, e.x, 100, e.targets, &err);
        lb_alloc_fail_at(0);
        assert_int_equal(st, LB_ENOMEM);
        for (size_t t = 0; t < 100; t++)
            assert_int_equal(e.targets[t], t % VOCAB);
    }
    drop(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_follow_the_softmax),
        cmocka_unit_test(seeds_are_independent),
        cmocka_unit_test(only_tokens_with_a_target_get_one),
        cmocka_unit_test(the_same_at_any_thread_count),
        cmocka_unit_test(extreme_logits),
        cmocka_unit_test(lack_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
