/* SPDX-License-Identifier: MIT
 * Second moments against plain sums in double. */
#include "near.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "base/thread.h"
#include "calibrate/hessian.h"

enum { TOKENS = 90, N = 270, ROWS = 11 };

static float inputs[TOKENS * N], originals[TOKENS * N];

static void fill(float *x, size_t n, uint64_t seed)
{
    lb_rng rng;
    lb_rng_seed(&rng, seed);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)lb_rng_normal(&rng) + (float)(i % 5) * 0.1f;
}

/* mean over tokens of a_i (b_j - c_j), and the size of a float's error in it. */
static double moment(const float *a, const float *b, const float *c, size_t n, size_t i, size_t j,
                     double *bound)
{
    double sum = 0.0, size = 0.0;
    for (size_t t = 0; t < TOKENS; t++) {
        const double right = (double)b[t * n + j] - (c ? (double)c[t * n + j] : 0.0);
        sum += (double)a[t * n + i] * right;
        size += fabs((double)a[t * n + i] * right);
    }
    *bound = (2.0 * sqrt((double)TOKENS) + 3.0) * U24 * size / TOKENS;
    return sum / TOKENS;
}

/* Sums over several calls of different lengths. */
static void collect(size_t n, bool drift, lb_hessian *h)
{
    static const size_t parts[] = {1, 40, 0, 49};
    static float scratch[TOKENS * N];
    assert_int_equal(lb_hessian_create(n, drift, h, NULL), LB_OK);
    memcpy(scratch, originals, TOKENS * n * sizeof *scratch); /* is overwritten */
    for (size_t p = 0, at = 0; p < 4; p++) {
        lb_hessian_add(h, inputs + at * n, drift ? scratch + at * n : NULL, parts[p]);
        at += parts[p];
    }
    assert_int_equal(h->tokens, TOKENS);
    lb_hessian_finish(h);
}

static void means_of_products(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 3, 64, N};
    fill(inputs, TOKENS * N, 1);
    fill(originals, TOKENS * N, 2);
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        const size_t n = sizes[k];
        lb_hessian h, again;
        lb_thread_set_count(1);
        collect(n, true, &h);
        for (size_t i = 0; i < n; i++) {
            for (size_t j = 0; j < n; j++) {
                double bound, want = moment(inputs, inputs, NULL, n, i, j, &bound);
                near_array(&h.h[i * n + j], &want, 1, bound);
                assert_true(h.h[i * n + j] == h.h[j * n + i]);
                want = moment(inputs, originals, inputs, n, i, j, &bound);
                near_array(&h.drift[i * n + j], &want, 1, bound);
            }
        }
        lb_thread_set_count(3);
        collect(n, false, &again);
        assert_null(again.drift);
        assert_memory_equal(again.h, h.h, n * n * sizeof *h.h);
        lb_hessian_free(&again);
        lb_hessian_free(&h);
        assert_null(h.h);
    }
    lb_thread_set_count(0);
}

static void no_tokens_give_zero(void **state)
{
    (void)state;
    lb_hessian h;
    float importance[4];
    const float zeros[16] = {0}, ones[4] = {1, 1, 1, 1};
    assert_int_equal(lb_hessian_create(4, true, &h, NULL), LB_OK);
    lb_hessian_finish(&h);
    same_array(h.h, zeros, 16);
    same_array(h.drift, zeros, 16);
    lb_hessian_importance(&h, importance);
    same_array(importance, ones, 4);
    lb_hessian_free(&h);
}

static void importance_is_the_mean_square(void **state)
{
    (void)state;
    enum { CHANNELS = 5 };
    float x[3 * CHANNELS], importance[CHANNELS];
    const float sizes[CHANNELS] = {10.0f, 0.0f, 1.0f, 1e-9f, 0.02f};
    const double want[CHANNELS] = {100.0, 1e-4, 1.0, 1e-4, 4e-4}; /* never below a millionth of the largest */
    lb_hessian h;
    for (size_t i = 0; i < 3 * CHANNELS; i++)
        x[i] = (i / CHANNELS % 2 ? -1.0f : 1.0f) * sizes[i % CHANNELS];
    assert_int_equal(lb_hessian_create(CHANNELS, false, &h, NULL), LB_OK);
    lb_hessian_add(&h, x, NULL, 3);
    lb_hessian_finish(&h);
    lb_hessian_importance(&h, importance);
    for (size_t i = 0; i < CHANNELS; i++)
        near_array(importance + i, want + i, 1, 1e-6 * want[i]);
    lb_hessian_free(&h);
}

/* tr(D H D^T) is also the mean of |D x|^2. */
static void energy_is_the_mean_squared_output(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 7, 64, N};
    static float d[ROWS * N];
    fill(inputs, TOKENS * N, 3);
    fill(originals, TOKENS * N, 4);
    fill(d, ROWS * N, 5);
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        const size_t n = sizes[k];
        lb_hessian h;
        double got, want = 0.0;
        collect(n, false, &h);
        for (size_t t = 0; t < TOKENS; t++) {
            for (size_t r = 0; r < ROWS; r++) {
                double y = 0.0;
                for (size_t i = 0; i < n; i++)
                    y += (double)d[r * n + i] * (double)inputs[t * n + i];
                want += y * y / TOKENS;
            }
        }
        assert_int_equal(lb_hessian_energy(&h, d, ROWS, &got, NULL), LB_OK);
        assert_true(fabs(got - want) <= 1e-5 * want);
        assert_int_equal(lb_hessian_energy(&h, d, 0, &got, NULL), LB_OK);
        assert_true(got == 0.0);
        lb_hessian_free(&h);
    }
}

static void lack_of_memory_is_said(void **state)
{
    (void)state;
    for (size_t k = 1; k <= 2; k++) {
        lb_hessian h;
        lb_error err;
        lb_alloc_fail_at(k);
        assert_int_equal(lb_hessian_create(8, true, &h, &err), LB_ENOMEM);
    }
    lb_alloc_fail_at(0);
    lb_hessian h;
    double energy;
    const float d[8] = {0};
    assert_int_equal(lb_hessian_create(8, false, &h, NULL), LB_OK);
    lb_alloc_fail_at(1);
    assert_int_equal(lb_hessian_energy(&h, d, 1, &energy, NULL), LB_ENOMEM);
    lb_alloc_fail_at(0);
    lb_hessian_free(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(means_of_products),
        cmocka_unit_test(no_tokens_give_zero),
        cmocka_unit_test(importance_is_the_mean_square),
        cmocka_unit_test(energy_is_the_mean_squared_output),
        cmocka_unit_test(lack_of_memory_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
