/* SPDX-License-Identifier: MIT
 * The sampler: which tokens each filter leaves, with which probabilities, and that draws follow them. */
#include "near.h"

#include <stdlib.h>

#include "base/rng.h"
#include "infer/sampler.h"

static const lb_sampling plain = {
    .temperature = 1, .top_p = 1, .repeat_penalty = 1, .repeat_window = 64, .seed = 7};

static lb_sampler *create(const lb_sampling *how, size_t vocab)
{
    lb_sampler *sampler;
    lb_error err = {0};
    if (lb_sampler_create(how, vocab, &sampler, &err) != LB_OK)
        fail_msg("%s", err.msg);
    return sampler;
}

static uint32_t pick(lb_sampler *sampler, const float *logits, size_t n)
{
    lb_error err = {0};
    uint32_t id;
    float *copy = malloc(n * sizeof *copy);
    memcpy(copy, logits, n * sizeof *copy);
    if (lb_sampler_pick(sampler, copy, &id, &err) != LB_OK)
        fail_msg("%s", err.msg);
    free(copy);
    return id;
}

/* The probabilities that one pick drew from, by id; 0 for those that were left out. */
static size_t distribution(const lb_sampling *how, const float *logits, size_t n, double *p)
{
    lb_sampler *sampler = create(how, n);
    size_t count;
    pick(sampler, logits, n);
    const lb_candidate *kept = lb_sampler_candidates(sampler, &count);
    memset(p, 0, n * sizeof *p);
    for (size_t i = 0; i < count; i++)
        p[kept[i].id] = kept[i].probability;
    lb_sampler_destroy(sampler);
    return count;
}

/* Logits whose softmax at temperature 1 is 0.4, 0.3, 0.15, 0.1, 0.05, in another order. */
enum { FIVE = 5 };
static const double five_p[FIVE] = {0.1, 0.4, 0.05, 0.3, 0.15};
static float five[FIVE];

static int make_five(void **state)
{
    (void)state;
    for (int i = 0; i < FIVE; i++)
        five[i] = (float)(log(five_p[i]) + 3.25);
    return 0;
}

static void without_filters_it_is_softmax(void **state)
{
    (void)state;
    double p[FIVE];
    assert_int_equal(distribution(&plain, five, FIVE, p), FIVE);
    near_array(p, five_p, FIVE, 1e-6);
}

static void temperature_sharpens_and_flattens(void **state)
{
    (void)state;
    lb_sampling how = plain;
    double p[FIVE], want[FIVE], sum;
    for (how.temperature = 0.25; how.temperature < 10; how.temperature *= 2) {
        sum = 0;
        for (int i = 0; i < FIVE; i++)
            sum += want[i] = pow(five_p[i], 1 / how.temperature);
        for (int i = 0; i < FIVE; i++)
            want[i] /= sum;
        distribution(&how, five, FIVE, p);
        near_array(p, want, FIVE, 1e-5);
    }
    how.temperature = 1e-300; /* not 0, but as good as */
    assert_int_equal(distribution(&how, five, FIVE, p), FIVE);
    assert_true(p[1] == 1.0);
}

static void check_set(const lb_sampling *how, const double *want_unscaled)
{
    double p[FIVE], want[FIVE], sum = 0;
    for (int i = 0; i < FIVE; i++)
        sum += want_unscaled[i];
    for (int i = 0; i < FIVE; i++)
        want[i] = want_unscaled[i] / sum;
    distribution(how, five, FIVE, p);
    near_array(p, want, FIVE, 1e-6);
}

static void filters_leave_their_sets(void **state)
{
    (void)state;
    lb_sampling how = plain;
    how.top_k = 2;
    check_set(&how, (double[]){0, 0.4, 0, 0.3, 0});
    how.top_k = 1;
    check_set(&how, (double[]){0, 0.4, 0, 0, 0});
    how.top_k = 99;
    check_set(&how, five_p);
    how = plain;
    how.top_p = 0.69; /* 0.4 is too little, 0.7 is enough */
    check_set(&how, (double[]){0, 0.4, 0, 0.3, 0});
    how.top_p = 0.71;
    check_set(&how, (double[]){0, 0.4, 0, 0.3, 0.15});
    how.top_p = 1e-9;
    check_set(&how, (double[]){0, 0.4, 0, 0, 0});
    how = plain;
    how.min_p = 0.24; /* of 0.4: 0.096 */
    check_set(&how, (double[]){0.1, 0.4, 0, 0.3, 0.15});
    how.min_p = 0.26;
    check_set(&how, (double[]){0, 0.4, 0, 0.3, 0.15});
    how.min_p = 1;
    check_set(&how, (double[]){0, 0.4, 0, 0, 0});
    /* All together: top-k leaves 0.4, 0.3, 0.15 (sum 0.85), of which top-p 0.8 wants only two. */
    how = plain;
    how.top_k = 3;
    how.top_p = 0.8;
    check_set(&how, (double[]){0, 0.4, 0, 0.3, 0});
    how.top_p = 0.83;
    check_set(&how, (double[]){0, 0.4, 0, 0.3, 0.15});
    how.min_p = 0.7;
    check_set(&how, (double[]){0, 0.4, 0, 0.3, 0});
}

/* Against the obvious: sort everything, walk down. */
typedef struct entry {
    double p;
    uint32_t id;
} entry;

static int by_p(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    if (x->p != y->p)
        return x->p < y->p ? 1 : -1;
    return x->id < y->id ? -1 : 1;
}

static size_t obvious(const lb_sampling *how, const float *logits, size_t n, double *p)
{
    entry *e = malloc(n * sizeof *e);
    double sum = 0, mass = 0, kept_mass = 0;
    size_t kept = 0, k = how->top_k && how->top_k < n ? how->top_k : n;
    for (size_t i = 0; i < n; i++)
        e[i] = (entry){exp((double)logits[i] / how->temperature), (uint32_t)i};
    qsort(e, n, sizeof *e, by_p);
    for (size_t i = 0; i < k; i++)
        sum += e[i].p;
    memset(p, 0, n * sizeof *p);
    while (kept < k && e[kept].p >= how->min_p * e[0].p && (kept == 0 || mass < how->top_p * sum)) {
        kept_mass = mass += e[kept].p;
        kept++;
    }
    for (size_t i = 0; i < kept; i++)
        p[e[i].id] = e[i].p / kept_mass;
    free(e);
    return kept;
}

static void many_random_cases_match_the_obvious_way(void **state)
{
    (void)state;
    enum { VOCAB = 500 };
    float logits[VOCAB];
    double p[VOCAB], want[VOCAB];
    uint64_t random = 12345;
    static const size_t ks[] = {0, 1, 2, 40, 499, 500, 501};
    static const double ps[] = {1, 0.999, 0.95, 0.5, 0.01}, mins[] = {0, 0.001, 0.05, 0.9};
    for (size_t round = 0; round < 7 * 5 * 4; round++) {
        lb_sampling how = plain;
        for (size_t i = 0; i < VOCAB; i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            logits[i] = (float)((double)(random >> 40) / 1e6 - 8); /* -8 .. 8.8 */
        }
        how.top_k = ks[round % 7];
        how.top_p = ps[round / 7 % 5];
        how.min_p = mins[round / 35];
        how.temperature = round % 2 ? 0.7 : 1.9;
        size_t kept = obvious(&how, logits, VOCAB, want);
        assert_int_equal(distribution(&how, logits, VOCAB, p), kept);
        near_array(p, want, VOCAB, 1e-12);
    }
}

static void ties_go_to_the_lowest_id(void **state)
{
    (void)state;
    const float tied[] = {1, 5, 5, -2, 5, 5};
    double p[6];
    lb_sampling how = plain;
    how.top_k = 2;
    assert_int_equal(distribution(&how, tied, 6, p), 2);
    near_array(p, ((double[]){0, 0.5, 0.5, 0, 0, 0}), 6, 1e-12);
    how = plain;
    how.top_p = 0.6;
    assert_int_equal(distribution(&how, tied, 6, p), 3);
    near_array(p, ((double[]){0, 1 / 3.0, 1 / 3.0, 0, 1 / 3.0, 0}), 6, 1e-12);
    how = plain;
    how.temperature = 0;
    lb_sampler *sampler = create(&how, 6);
    assert_int_equal(pick(sampler, tied, 6), 1);
    assert_int_equal(pick(sampler, (const float[]){-3, -3, -3, -3, -3, -3}, 6), 0);
    lb_sampler_destroy(sampler);
}

static void draws_follow_the_probabilities(void **state)
{
    (void)state;
    enum { DRAWS = 40000 };
    lb_sampler *sampler = create(&plain, FIVE);
    double seen[FIVE] = {0}, chi2 = 0;
    for (int i = 0; i < DRAWS; i++)
        seen[pick(sampler, five, FIVE)]++;
    for (int i = 0; i < FIVE; i++)
        chi2 += (seen[i] - DRAWS * five_p[i]) * (seen[i] - DRAWS * five_p[i]) / (DRAWS * five_p[i]);
    assert_true(chi2 < 18.5); /* 4 degrees of freedom: exceeded once in a thousand seeds */
    lb_sampler_destroy(sampler);
}

static void seeds_repeat_and_differ(void **state)
{
    (void)state;
    lb_sampling other = plain;
    other.seed = 8;
    lb_sampler *a = create(&plain, FIVE), *b = create(&plain, FIVE), *c = create(&other, FIVE);
    int differ = 0;
    for (int i = 0; i < 200; i++) {
        const uint32_t id = pick(a, five, FIVE);
        assert_int_equal(pick(b, five, FIVE), id);
        differ += pick(c, five, FIVE) != id;
    }
    assert_true(differ > 50);
    lb_sampler_destroy(a);
    lb_sampler_destroy(b);
    lb_sampler_destroy(c);
}

static void the_penalty_concerns_a_window_once_per_id(void **state)
{
    (void)state;
    lb_sampling how = plain;
    const float logits[] = {2, 2, -2, -2, 1};
    float got[FIVE];
    uint32_t id;
    lb_error err;
    how.repeat_penalty = 2;
    how.repeat_window = 3;
    lb_sampler *sampler = create(&how, FIVE);
    const uint32_t history[] = {4, 0, 2, 0, 77}; /* 4 has left the window; 77 is outside and ignored */
    for (int i = 0; i < 5; i++)
        lb_sampler_accept(sampler, history[i]);
    for (int round = 0; round < 2; round++) {
        memcpy(got, logits, sizeof got);
        assert_int_equal(lb_sampler_pick(sampler, got, &id, &err), LB_OK);
        near_array(got, ((float[]){1, 2, -4, -2, 1}), FIVE, 0);
    }
    lb_sampler_destroy(sampler);
    /* Greedy obeys it, too. */
    how.temperature = 0;
    sampler = create(&how, FIVE);
    assert_int_equal(pick(sampler, logits, FIVE), 0);
    lb_sampler_accept(sampler, 0);
    assert_int_equal(pick(sampler, logits, FIVE), 1);
    lb_sampler_destroy(sampler);
}

static void broken_logits_are_an_error(void **state)
{
    (void)state;
    const float inf = INFINITY;
    const float broken[][4] = {{NAN, 1, 2, 3}, {1, 2, 3, NAN}, {1, inf, 3, 4}, {-inf, -inf, -inf, -inf}};
    for (int greedy = 0; greedy < 2; greedy++) {
        for (size_t k = 0; k < 5; k++) {
            lb_sampling how = plain;
            how.temperature = greedy ? 0 : 1;
            how.top_k = k;
            lb_sampler *sampler = create(&how, 4);
            for (int i = 0; i < 4; i++) {
                float logits[4];
                lb_error err = {0};
                uint32_t id = 55;
                memcpy(logits, broken[i], sizeof logits);
                assert_int_equal(lb_sampler_pick(sampler, logits, &id, &err), LB_EFORMAT);
                assert_true(id == 55 && err.msg[0] != '\0');
            }
            assert_int_equal(pick(sampler, (const float[]){-inf, -inf, -40, -inf}, 4), 2);
            lb_sampler_destroy(sampler);
        }
    }
}

static void settings_out_of_range_are_refused(void **state)
{
    (void)state;
    lb_sampling bad[10];
    for (size_t i = 0; i < 10; i++)
        bad[i] = plain;
    bad[0].temperature = -0.1;
    bad[1].temperature = NAN;
    bad[2].top_p = 0;
    bad[3].top_p = 1.01;
    bad[4].top_p = NAN;
    bad[5].min_p = -1;
    bad[6].min_p = 1.5;
    bad[7].repeat_penalty = 0;
    bad[8].repeat_penalty = NAN;
    bad[9].temperature = INFINITY;
    for (size_t i = 0; i < 10; i++) {
        lb_sampler *sampler;
        lb_error err = {0};
        assert_int_equal(lb_sampler_create(&bad[i], 10, &sampler, &err), LB_EINVAL);
    }
    lb_sampler *sampler;
    assert_int_equal(lb_sampler_create(&plain, 0, &sampler, NULL), LB_EINVAL);
    lb_sampler_destroy(NULL);
}

/* ---- Proposals ------------------------------------------------------------------------------------------- */

/* How often each token comes out where another distribution proposes; `rule` false: the proposal as it is. */
static void count_verified(const lb_sampling *how, const float *target, const float *draft, size_t n,
                           size_t draws, bool rule, size_t *counts, size_t *accepted)
{
    lb_sampling own = *how;
    own.seed = 1234;
    lb_sampler *sampler = create(how, n), *drafter = create(&own, n);
    lb_proposal proposal = {.q = malloc(lb_sampler_most(drafter) * sizeof *proposal.q)};
    float *copy = malloc(n * sizeof *copy);
    lb_error err = {0};
    memset(counts, 0, n * sizeof *counts);
    *accepted = 0;
    for (size_t i = 0; i < draws; i++) {
        uint32_t id = pick(drafter, draft, n);
        bool taken = false;
        lb_sampler_propose(drafter, id, &proposal);
        memcpy(copy, target, n * sizeof *copy);
        if (rule)
            assert_int_equal(lb_sampler_verify(sampler, copy, &proposal, &id, &taken, &err), LB_OK);
        assert_true(!taken || id == proposal.id);
        *accepted += taken;
        counts[id]++;
    }
    free(copy);
    free(proposal.q);
    lb_sampler_destroy(sampler);
    lb_sampler_destroy(drafter);
}

/* Pearson's statistic over tokens that can come out; one that cannot must not. */
static double chi_square(const size_t *counts, const double *p, size_t n, size_t draws, size_t *freedom)
{
    double sum = 0;
    *freedom = 0;
    for (size_t i = 0; i < n; i++) {
        const double expected = p[i] * (double)draws;
        if (p[i] == 0 && counts[i] > 0)
            return HUGE_VAL;
        if (p[i] == 0)
            continue;
        sum += ((double)counts[i] - expected) * ((double)counts[i] - expected) / expected;
        ++*freedom;
    }
    --*freedom;
    return sum;
}

/* Beyond it lies about a thousandth of the distribution (Wilson and Hilferty). */
static double chi_square_bound(size_t freedom)
{
    const double k = (double)freedom, t = 1 - 2 / (9 * k) + 3.09 * sqrt(2 / (9 * k));
    return k * t * t * t;
}

static void verified_proposals_have_the_targets_distribution(void **state)
{
    (void)state;
    enum { TOKENS = 8, DRAWS = 40000 };
    const lb_sampling ways[] = {
        {.temperature = 1, .top_p = 1, .repeat_penalty = 1, .seed = 5},
        {.temperature = 0.7, .top_p = 1, .repeat_penalty = 1, .seed = 6, .top_k = 5},
        {.temperature = 1.3, .top_p = 0.8, .repeat_penalty = 1, .seed = 7},
        {.temperature = 1, .top_p = 0.95, .min_p = 0.1, .repeat_penalty = 1, .seed = 8, .top_k = 6},
    };
    lb_rng rng;
    lb_rng_seed(&rng, 99);
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
        for (unsigned likeness = 0; likeness < 3;
             likeness++) { /* drafts that have nothing to do with it, to good ones */
            float target[TOKENS], draft[TOKENS];
            double p[TOKENS], q[TOKENS], overlap = 0;
            size_t counts[TOKENS], accepted, freedom;
            for (size_t i = 0; i < TOKENS; i++) {
                target[i] = (float)(1.5 * lb_rng_normal(&rng));
                draft[i] = (float)((likeness ? (double)target[i] : 0) +
                                   (likeness == 2 ? 0.2 : 1.5) * lb_rng_normal(&rng));
            }
            distribution(&ways[w], target, TOKENS, p);
            distribution(&ways[w], draft, TOKENS, q);
            for (size_t i = 0; i < TOKENS; i++)
                overlap += fmin(p[i], q[i]);
            count_verified(&ways[w], target, draft, TOKENS, DRAWS, true, counts, &accepted);
            const double got = chi_square(counts, p, TOKENS, DRAWS, &freedom);
            if (!(got < chi_square_bound(freedom)))
                fail_msg("way %zu, likeness %u: %g with %zu degrees of freedom", w, likeness, got, freedom);
            /* As often as can be: min(p, q) summed up, within four standard deviations. */
            assert_true(fabs((double)accepted / DRAWS - overlap) <= 4 * sqrt(0.25 / DRAWS));
            /* And the statistic would tell: proposals that nobody judges have another distribution. */
            count_verified(&ways[w], target, draft, TOKENS, DRAWS, false, counts, &accepted);
            assert_true(likeness == 2 ||
                        chi_square(counts, p, TOKENS, DRAWS, &freedom) > 2 * chi_square_bound(freedom));
        }
    }
}

static void greedy_proposals_are_taken_where_they_are_right(void **state)
{
    (void)state;
    const lb_sampling greedy = {.top_p = 1, .repeat_penalty = 1};
    lb_sampler *sampler = create(&greedy, FIVE);
    lb_candidate q = {.probability = 1};
    for (uint32_t proposed = 0; proposed < FIVE; proposed++) {
        lb_proposal proposal = {.id = proposed, .q = &q, .count = 1};
        float copy[FIVE];
        uint32_t id;
        bool taken;
        lb_error err;
        q.id = proposed;
        memcpy(copy, five, sizeof copy);
        assert_int_equal(lb_sampler_verify(sampler, copy, &proposal, &id, &taken, &err), LB_OK);
        assert_int_equal(id, 1);
        assert_int_equal(taken, proposed == 1);
    }
    lb_sampler_destroy(sampler);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_filters_it_is_softmax),
        cmocka_unit_test(temperature_sharpens_and_flattens),
        cmocka_unit_test(filters_leave_their_sets),
        cmocka_unit_test(many_random_cases_match_the_obvious_way),
        cmocka_unit_test(ties_go_to_the_lowest_id),
        cmocka_unit_test(draws_follow_the_probabilities),
        cmocka_unit_test(seeds_repeat_and_differ),
        cmocka_unit_test(the_penalty_concerns_a_window_once_per_id),
        cmocka_unit_test(broken_logits_are_an_error),
        cmocka_unit_test(settings_out_of_range_are_refused),
        cmocka_unit_test(verified_proposals_have_the_targets_distribution),
        cmocka_unit_test(greedy_proposals_are_taken_where_they_are_right),
    };
    return cmocka_run_group_tests_name("sampler", tests, make_five, NULL);
}
