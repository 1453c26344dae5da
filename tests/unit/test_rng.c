/* SPDX-License-Identifier: MIT
 * The generator against published numbers, and its distributions against what they should be. */
#include "near.h"

#include "base/rng.h"

/* splitmix64 from seed 1234567: the list on Rosetta Code, "Pseudo-random numbers/Splitmix64". */
static void seeding_is_splitmix64(void **state)
{
    (void)state;
    static const uint64_t want[4] = {6457827717110365317u, 3203168211198807973u, 9817491932198370423u,
                                     4593380528125082431u};
    lb_rng rng;
    lb_rng_seed(&rng, 1234567);
    for (int i = 0; i < 4; i++)
        assert_true(rng.state[i] == want[i]);
}

/* xoshiro256** from state {1, 2, 3, 4}: the vector in the tests of Rust's rand_xoshiro, made with the
 * authors' C code. */
static void sequence_is_xoshiro256starstar(void **state)
{
    (void)state;
    static const uint64_t want[10] = {11520u, 0u, 1509978240u, 1215971899390074240u, 1216172134540287360u,
                                      607988272756665600u, 16172922978634559625u, 8476171486693032832u,
                                      10595114339597558777u, 2904607092377533576u};
    lb_rng rng = {{1, 2, 3, 4}};
    for (int i = 0; i < 10; i++)
        assert_true(lb_rng_u64(&rng) == want[i]);
}

static void uniform_is_uniform(void **state)
{
    (void)state;
    enum { DRAWS = 200000, CELLS = 20 };
    size_t cells[CELLS] = {0};
    double sum = 0;
    lb_rng rng;
    lb_rng_seed(&rng, 7);
    for (int i = 0; i < DRAWS; i++) {
        double x = lb_rng_uniform(&rng);
        assert_true(x >= 0 && x < 1);
        sum += x;
        cells[(int)(x * CELLS)]++;
    }
    assert_true(fabs(sum / DRAWS - 0.5) < 5 * sqrt(1.0 / 12 / DRAWS));
    double chi = 0, expected = (double)DRAWS / CELLS;
    for (int c = 0; c < CELLS; c++)
        chi += ((double)cells[c] - expected) * ((double)cells[c] - expected) / expected;
    assert_true(chi < 43.8); /* 19 degrees of freedom, one in a thousand */
}

static void below_stays_below_and_hits_all(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 3);
    for (uint64_t n = 1; n <= 17; n++) {
        size_t seen[17] = {0};
        for (int i = 0; i < 17000; i++) {
            uint64_t x = lb_rng_below(&rng, n);
            assert_true(x < n);
            seen[x]++;
        }
        double mean = 17000.0 / (double)n;
        for (uint64_t k = 0; k < n; k++)
            assert_true(fabs((double)seen[k] - mean) <= 5 * sqrt(mean));
    }
    for (int i = 0; i < 1000; i++)
        assert_true(lb_rng_below(&rng, (UINT64_C(1) << 63) + 1) <= UINT64_C(1) << 63);
}

static void normal_has_its_moments(void **state)
{
    (void)state;
    enum { DRAWS = 400000 };
    double power[4] = {0};
    size_t beyond_two = 0;
    lb_rng rng;
    lb_rng_seed(&rng, 11);
    for (int i = 0; i < DRAWS; i++) {
        double x = lb_rng_normal(&rng);
        assert_true(isfinite(x));
        power[0] += x;
        power[1] += x * x;
        power[2] += x * x * x;
        power[3] += x * x * x * x;
        beyond_two += fabs(x) > 2;
    }
    double n = DRAWS; /* standard errors: 1, sqrt 2, sqrt 15, sqrt 96, each over sqrt n */
    assert_true(fabs(power[0] / n) < 5 / sqrt(n));
    assert_true(fabs(power[1] / n - 1) < 5 * sqrt(2 / n));
    assert_true(fabs(power[2] / n) < 5 * sqrt(15 / n));
    assert_true(fabs(power[3] / n - 3) < 5 * sqrt(96 / n));
    assert_true(fabs((double)beyond_two / n - 0.0455003) < 5 * sqrt(0.0455 * 0.9545 / n));
}

static void same_seed_same_numbers(void **state)
{
    (void)state;
    lb_rng a, b, c;
    lb_rng_seed(&a, 42);
    lb_rng_seed(&b, 42);
    lb_rng_seed(&c, 43);
    size_t equal = 0;
    for (int i = 0; i < 100; i++) {
        uint64_t x = lb_rng_u64(&a);
        assert_true(x == lb_rng_u64(&b));
        equal += x == lb_rng_u64(&c);
    }
    assert_int_equal(equal, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(seeding_is_splitmix64),
        cmocka_unit_test(sequence_is_xoshiro256starstar),
        cmocka_unit_test(uniform_is_uniform),
        cmocka_unit_test(below_stays_below_and_hits_all),
        cmocka_unit_test(normal_has_its_moments),
        cmocka_unit_test(same_seed_same_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
