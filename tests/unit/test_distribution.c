/* SPDX-License-Identifier: MIT
 * Random tensors: moments and quantiles against what the distributions are defined by. */
#include "near_value.h"

#include <stdlib.h>

#include "analyze/distribution.h"

enum { N = 1 << 18 };

static lb_distribution parse(const char *text)
{
    lb_distribution d;
    lb_error err;
    if (lb_distribution_parse(text, &d, &err) != LB_OK)
        fail_msg("%s: %s", text, err.msg);
    return d;
}

static float *sample(const char *text, uint64_t seed)
{
    const lb_distribution d = parse(text);
    float *x = malloc(N * sizeof *x);
    assert_non_null(x);
    lb_distribution_fill(&d, seed, 32, x, N);
    return x;
}

/* The share of values below `at`; its standard deviation is at most 0.001. */
static double share_below(const float *x, double at)
{
    size_t below = 0;
    for (size_t i = 0; i < N; i++)
        below += (double)x[i] < at;
    return (double)below / N;
}

static double normal_below(double x)
{
    return 0.5 * erfc(-x / sqrt(2.0));
}

/* Student's t with 5 and with 1 degrees of freedom have closed forms. */
static double t5_below(double t)
{
    const double a = atan(t / sqrt(5.0)), s = sin(a), c = cos(a);
    return 0.5 + (a + s * c * (1.0 + 2.0 / 3.0 * c * c)) / acos(-1.0);
}

static double cauchy_below(double t)
{
    return 0.5 + atan(t) / acos(-1.0);
}

static double laplace_below(double x)
{
    const double tail = 0.5 * exp(-sqrt(2.0) * fabs(x));
    return x < 0.0 ? tail : 1.0 - tail;
}

static double uniform_below(double x)
{
    return fmin(fmax(0.5 * (x + 1.0), 0.0), 1.0);
}

static void cumulative_shares(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double scale;
        double (*below)(double x);
    } cases[] = {{"gaussian", 1.0, normal_below},    {"gaussian:0.25", 0.25, normal_below},
                 {"laplace", 1.0, laplace_below},    {"laplace:3", 3.0, laplace_below},
                 {"student-t", 1.0, t5_below},       {"student-t:5", 1.0, t5_below},
                 {"student-t:1", 1.0, cauchy_below}, {"student-t:1e6", 1.0, normal_below},
                 {"uniform", 1.0, uniform_below},    {"uniform:12", 12.0, uniform_below}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        float *x = sample(cases[k].text, 100 + k);
        for (double at = -4.0; at <= 4.0; at += 0.5) {
            const double got = share_below(x, at * cases[k].scale), want = cases[k].below(at);
            if (fabs(got - want) > 0.005)
                fail_msg("%s: %.4f of the values are below %g, want %.4f", cases[k].text, got, at, want);
        }
        for (size_t i = 0; i < N; i++)
            assert_true(isfinite(x[i]));
        free(x);
    }
}

/* Neighbours have nothing to do with each other, and the tails are there. */
static void normal_moments(void **state)
{
    (void)state;
    float *x = sample("gaussian", 7);
    double mean = 0.0, square = 0.0, fourth = 0.0, neighbours = 0.0, largest = 0.0;
    for (size_t i = 0; i < N; i++) {
        const double v = (double)x[i];
        mean += v / N;
        square += v * v / N;
        fourth += v * v * v * v / N;
        neighbours += i ? v * (double)x[i - 1] / N : 0.0;
        largest = fmax(largest, fabs(v));
    }
    near_value(mean, 0.0, 0.01);
    near_value(square, 1.0, 0.015);
    near_value(fourth, 3.0, 0.1);
    near_value(neighbours, 0.0, 0.01);
    assert_true(largest > 4.2 && largest < 6.5);
    free(x);
}

static void seeds(void **state)
{
    (void)state;
    float *a = sample("gaussian", 5), *b = sample("gaussian", 5), *c = sample("gaussian", 6);
    assert_memory_equal(a, b, N * sizeof *a);
    size_t same = 0;
    for (size_t i = 0; i < N; i++)
        same += a[i] == c[i];
    assert_true(same < 10);
    free(a);
    free(b);
    free(c);
}

static void crest_of(const float *x, size_t n, double *crest, double *rms, size_t *where)
{
    double square = 0.0, largest = 0.0;
    for (size_t i = 0; i < n; i++) {
        square += (double)x[i] * (double)x[i];
        if (fabs((double)x[i]) > largest) {
            largest = fabs((double)x[i]);
            *where = i;
        }
    }
    *rms = sqrt(square / (double)n);
    *crest = largest / *rms;
}

/* Every block has its crest factor; the largest is anywhere, of either sign; rms spreads over an octave so that
 * energies do evenly. */
static void blocks_of_one_crest(void **state)
{
    (void)state;
    static const struct {
        double crest;
        size_t block;
    } cases[] = {{2.0, 32}, {3.0, 32}, {5.0, 32}, {2.0, 16}, {3.5, 16}, {3.0, 128}, {1.9, 8}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        const size_t g = cases[k].block;
        char text[40];
        snprintf(text, sizeof text, "gaussian-crest:%g", cases[k].crest);
        const lb_distribution d = parse(text);
        assert_true(lb_distribution_has_blocks(&d));
        assert_int_equal(lb_distribution_check(&d, g, NULL), LB_OK);
        float *x = malloc(N * sizeof *x);
        lb_distribution_fill(&d, 11, g, x, N);
        size_t quarter[4] = {0}, at_place[128] = {0}, positive = 0;
        double energy = 0.0, energy_below = 0.0;
        for (size_t b = 0; b < N / g; b++) {
            double crest, rms;
            size_t where = 0;
            crest_of(x + b * g, g, &crest, &rms, &where);
            near_value(crest, cases[k].crest, 1e-6);
            assert_true(rms > 0.999999 && rms < 2.000001);
            at_place[where]++;
            positive += x[b * g + where] > 0.0f;
            energy += rms * rms;
            energy_below += rms < sqrt(2.0) ? rms * rms : 0.0;
            quarter[4 * where / g]++;
        }
        const double blocks = (double)(N / g);
        near_value(energy_below / energy, 0.5, 0.05); /* half an octave, half the energy */
        near_value((double)positive / blocks, 0.5, 0.05);
        for (int q = 0; q < 4; q++)
            near_value((double)quarter[q] / blocks, 0.25, 0.05);
        free(x);
    }
}

/* A tensor that ends inside a block has the beginning of that block. */
static void short_tensor(void **state)
{
    (void)state;
    const lb_distribution d = parse("gaussian-crest:3");
    float whole[96], part[70];
    lb_distribution_fill(&d, 3, 32, whole, 96);
    lb_distribution_fill(&d, 3, 32, part, 70);
    assert_memory_equal(whole, part, sizeof part);
}

static void refuse(const char *text, const char *sentence)
{
    lb_distribution d;
    lb_error err;
    assert_int_equal(lb_distribution_parse(text, &d, &err), LB_EINVAL);
    if (!strstr(err.msg, sentence))
        fail_msg("%s: \"%s\" lacks \"%s\"", text, err.msg, sentence);
}

static void misuse(void **state)
{
    (void)state;
    refuse("", "is not known: there are gaussian");
    refuse("gauss", "\"gauss\" is not known");
    refuse("gaussian:", "is \"\", want a number");
    refuse("gaussian:x", "is \"x\", want a number");
    refuse("gaussian:1e", "want a number");
    refuse("gaussian:-1", "want a number from 1e-30 to 1e+30");
    refuse("gaussian:0", "want a number from");
    refuse("gaussian:nan", "want a number");
    refuse("gaussian:1:2", "want a number");
    refuse("student-t:0.5", "from 1 to 1e+06");
    refuse("gaussian-crest", "wants its crest factor");
    refuse("gaussian-crest:0.9", "from 1 to 64");
    static const struct {
        const char *text;
        size_t block;
        const char *sentence;
    } cases[] = {{"gaussian-crest:5.66", 32, "a block of 32 values has a crest factor below 5.657"},
                 {"gaussian-crest:4", 16, "below 4"},
                 {"gaussian-crest:1.2", 32, "less than 1 in 100 blocks of 32"},
                 {"gaussian-crest:2", 1, "blocks of 2 to 4096 values, not 1"},
                 {"gaussian-crest:2", 5000, "blocks of 2 to 4096 values, not 5000"}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        const lb_distribution d = parse(cases[k].text);
        lb_error err;
        assert_int_equal(lb_distribution_check(&d, cases[k].block, &err), LB_EINVAL);
        if (!strstr(err.msg, cases[k].sentence))
            fail_msg("%s: \"%s\"", cases[k].text, err.msg);
    }
    const lb_distribution plain = parse("uniform");
    assert_int_equal(lb_distribution_check(&plain, 0, NULL), LB_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cumulative_shares),   cmocka_unit_test(normal_moments), cmocka_unit_test(seeds),
        cmocka_unit_test(blocks_of_one_crest), cmocka_unit_test(short_tensor),   cmocka_unit_test(misuse),
    };
    return cmocka_run_group_tests_name("distribution", tests, NULL, NULL);
}
