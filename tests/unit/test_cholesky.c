/* SPDX-License-Identifier: MIT
 * The factor of the inverse against the textbook way in long double: Gauss-Jordan inverse, then Cholesky. */
#include "near.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "base/thread.h"
#include "linalg/cholesky.h"

static void *must(void *ptr)
{
    assert_non_null(ptr);
    return ptr;
}

/* x^T x / tokens of random inputs whose channels differ in size by up to `spread`, and share a part. NaN
 * below the diagonal: only the upper triangle may be read. Returns the mean of the diagonal. */
static double make_hessian(lb_rng *rng, size_t n, size_t tokens, double spread, float *h)
{
    double *x = must(malloc(tokens * n * sizeof *x)), mean = 0.0;
    for (size_t t = 0; t < tokens; t++) {
        const double shared = lb_rng_normal(rng);
        for (size_t i = 0; i < n; i++)
            x[t * n + i] = (lb_rng_normal(rng) + shared) * pow(spread, (double)(i * 7 % n) / (double)n);
    }
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < n; j++) {
            double sum = 0.0;
            for (size_t t = 0; t < tokens && j >= i; t++)
                sum += x[t * n + i] * x[t * n + j];
            h[i * n + j] = j >= i ? (float)(sum / (double)tokens) : NAN;
        }
        mean += (double)h[i * n + i] / (double)n;
    }
    free(x);
    return mean;
}

/* The inverse of a (destroyed), by Gauss-Jordan elimination; fine without pivoting: a is definite. */
static void invert(size_t n, long double *a, long double *inverse)
{
    for (size_t i = 0; i < n * n; i++)
        inverse[i] = i % (n + 1) == 0 ? 1.0L : 0.0L;
    for (size_t p = 0; p < n; p++) {
        const long double pivot = a[p * n + p];
        for (size_t j = 0; j < n; j++) {
            a[p * n + j] /= pivot;
            inverse[p * n + j] /= pivot;
        }
        for (size_t i = 0; i < n; i++) {
            const long double factor = a[i * n + p];
            if (i == p || factor == 0.0L)
                continue;
            for (size_t j = 0; j < n; j++) {
                a[i * n + j] -= factor * a[p * n + j];
                inverse[i * n + j] -= factor * inverse[p * n + j];
            }
        }
    }
}

/* m = u^T u, u upper triangular, row after row. */
static void upper_factor(size_t n, const long double *m, long double *u)
{
    memset(u, 0, n * n * sizeof *u);
    for (size_t i = 0; i < n; i++) {
        for (size_t j = i; j < n; j++) {
            long double sum = m[i * n + j];
            for (size_t k = 0; k < i; k++)
                sum -= u[k * n + i] * u[k * n + j];
            u[i * n + j] = i == j ? sqrtl(sum) : sum / u[i * n + i];
        }
    }
}

static long double element(const float *h, size_t n, double damp, size_t i, size_t j)
{
    return (long double)(i < j ? h[i * n + j] : h[j * n + i]) + (i == j ? (long double)damp : 0.0L);
}

/* Each element within half a unit in its last place (it is rounded to float), and what a backward stable
 * factorization in double makes of the matrix's condition. */
static void check_against_textbook(size_t n, const float *h, double damp, double condition, const float *u)
{
    long double *a = must(malloc(n * n * sizeof *a)), *inverse = must(malloc(n * n * sizeof *inverse));
    double *want = must(malloc(n * n * sizeof *want)), *bounds = must(malloc(n * n * sizeof *bounds));
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            a[i * n + j] = element(h, n, damp, i, j);
    invert(n, a, inverse);
    upper_factor(n, inverse, a);
    for (size_t j = 0; j < n; j++) {
        double column = 0.0;
        for (size_t i = 0; i <= j; i++)
            column += (double)(a[i * n + j] * a[i * n + j]);
        for (size_t i = 0; i < n; i++) {
            want[i * n + j] = (double)a[i * n + j];
            bounds[i * n + j] = i > j ? 0.0
                                      : 1.001 * U24 * fabs(want[i * n + j]) +
                                            0x1p-53 * sqrt((double)n) * condition * sqrt(column);
        }
    }
    near_array_by(u, want, n * n, bounds);
    free(a);
    free(inverse);
    free(want);
    free(bounds);
}

/* U^T U (H + damp I) = I, each element to the accuracy that U's rounding to float leaves it. */
static void check_identity(size_t n, const float *h, double damp, double condition, const float *u)
{
    double *gram = must(malloc(n * sizeof *gram)), *size = must(malloc(n * sizeof *size));
    double *got = must(malloc(n * sizeof *got)), *bounds = must(malloc(n * sizeof *bounds));
    double *want = must(malloc(n * sizeof *want));
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < n; k++) {
            gram[k] = size[k] = 0.0;
            for (size_t t = 0; t <= i && t <= k; t++) {
                gram[k] += (double)u[t * n + i] * (double)u[t * n + k];
                size[k] += fabs((double)u[t * n + i] * (double)u[t * n + k]);
            }
        }
        for (size_t j = 0; j < n; j++) {
            double sum = 0.0, total = 0.0;
            for (size_t k = 0; k < n; k++) {
                sum += gram[k] * (double)element(h, n, damp, k, j);
                total += size[k] * fabs((double)element(h, n, damp, k, j));
            }
            got[j] = sum;
            want[j] = i == j;
            bounds[j] = total * (2.01 * U24 + 0x1p-53 * (double)n * condition);
        }
        near_array_by(got, want, n, bounds);
    }
    free(gram);
    free(size);
    free(got);
    free(want);
    free(bounds);
}

static void check(lb_rng *rng, size_t n, size_t tokens, double spread, double damp_share)
{
    float *h = must(malloc(n * n * sizeof *h)), *u = must(malloc(n * n * sizeof *u));
    float *again = must(malloc(n * n * sizeof *again));
    const double mean = make_hessian(rng, n, tokens, spread, h), damp = damp_share * mean;
    /* The largest eigenvalue is at most the trace. Without damping the smallest is that of white noise. */
    const double condition = (double)n / (damp_share > 0.0 ? damp_share : 1e-3);
    bool definite = false;
    memset(u, 0xff, n * n * sizeof *u); /* NaN */
    lb_thread_set_count(1);
    assert_int_equal(lb_inverse_cholesky(n, h, damp, u, &definite, NULL), LB_OK);
    assert_true(definite);
    for (size_t i = 0; i < n; i++) {
        assert_true(u[i * n + i] > 0.0f);
        for (size_t j = 0; j < i; j++)
            assert_true(u[i * n + j] == 0.0f);
    }
    check_identity(n, h, damp, condition, u);
    check_against_textbook(n, h, damp, condition, u);
    for (unsigned threads = 2; threads <= 4; threads += 2) {
        memset(again, 0xff, n * n * sizeof *again);
        lb_thread_set_count(threads);
        assert_int_equal(lb_inverse_cholesky(n, h, damp, again, &definite, NULL), LB_OK);
        assert_memory_equal(again, u, n * n * sizeof *u);
    }
    lb_thread_set_count(0);
    free(h);
    free(u);
    free(again);
}

static void sizes_around_the_block(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 2, 3, 7, 127, 128, 129, 300};
    lb_rng rng;
    lb_rng_seed(&rng, 21);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        check(&rng, sizes[i], 2 * sizes[i] + 5, 3.0, 0.01);
}

static void ill_conditioned(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 22);
    check(&rng, 64, 300, 2.0, 0.0); /* no damping needed */
    check(&rng, 130, 20, 1.0, 1e-4); /* fewer tokens than channels: singular but for the damping */
    check(&rng, 130, 20, 1e-3, 1e-6); /* and channels of very different size */
    check(&rng, 40, 1, 1.0, 1e-6); /* one token */
}

static void zero_and_diagonal(void **state)
{
    (void)state;
    enum { N = 130 };
    static float h[N * N], u[N * N], want[N * N];
    bool definite = true;
    assert_int_equal(lb_inverse_cholesky(N, h, 0.0, u, &definite, NULL), LB_OK);
    assert_false(definite);
    assert_int_equal(lb_inverse_cholesky(N, h, 0.25, u, &definite, NULL), LB_OK);
    assert_true(definite);
    for (size_t i = 0; i < N; i++)
        want[i * N + i] = 2.0f;
    same_array(u, want, N * N);
    for (size_t i = 0; i < N; i++) {
        h[i * N + i] = (float)((i + 1) * (i + 1));
        want[i * N + i] = 1.0f / (float)(i + 1);
    }
    assert_int_equal(lb_inverse_cholesky(N, h, 0.0, u, &definite, NULL), LB_OK);
    near_array(u, want, N * N, U24);
}

static void not_definite_is_said(void **state)
{
    (void)state;
    static const size_t at[] = {0, 5, 127, 128, 199}; /* in each block, and at their borders */
    enum { N = 200 };
    static float h[N * N], u[N * N];
    for (size_t k = 0; k < sizeof at / sizeof *at; k++) {
        for (int wrong = 0; wrong < 5; wrong++) {
            bool definite = true;
            memset(h, 0, sizeof h);
            for (size_t i = 0; i < N; i++)
                h[i * N + i] = 1.0f;
            if (wrong == 0)
                h[at[k] * N + at[k]] = -0.5f;
            else if (wrong == 1)
                h[at[k] * N + at[k]] = NAN;
            else /* two channels more alike than each is to itself, or unknown */
                h[(at[k] < N - 1 ? at[k] : N - 2) * N + N - 1] = wrong == 2   ? 1.5f
                                                                 : wrong == 3 ? NAN
                                                                              : INFINITY;
            assert_int_equal(lb_inverse_cholesky(N, h, 0.01, u, &definite, NULL), LB_OK);
            assert_false(definite);
        }
    }
}

/* (U^T U)^-1 of a diagonal block of a factor, whose rows are longer: against Gauss and Jordan, symmetric to the bit,
 * and nothing of what lies below the diagonal or beside the block. */
static void check_inverse_of_factor(lb_rng *rng, size_t n, size_t ldu, size_t at, double spread)
{
    float *u = must(malloc(ldu * ldu * sizeof *u));
    long double *gram = must(malloc(n * n * sizeof *gram)), *want = must(malloc(n * n * sizeof *want));
    double *got = must(malloc(n * n * sizeof *got)), *plain = must(malloc(n * n * sizeof *plain));
    double *bounds = must(malloc(n * n * sizeof *bounds));
    for (size_t i = 0; i < ldu * ldu; i++)
        u[i] = NAN;
    for (size_t i = 0; i < n; i++)
        for (size_t j = i; j < n; j++)
            u[(at + i) * ldu + at + j] =
                (float)(pow(spread, (double)(i * 5 % n) / (double)n) *
                        (i == j ? 1.0 + lb_rng_uniform(rng) : 0.5 * lb_rng_normal(rng) / sqrt((double)n)));
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < n; j++) {
            gram[i * n + j] = 0.0L;
            for (size_t k = 0; k <= i && k <= j; k++)
                gram[i * n + j] +=
                    (long double)u[(at + k) * ldu + at + i] * (long double)u[(at + k) * ldu + at + j];
        }
    }
    invert(n, gram, want);
    memset(got, 0xff, n * n * sizeof *got); /* NaN */
    assert_int_equal(lb_inverse_of_factor(n, u + at * ldu + at, ldu, got, NULL), LB_OK);
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < n; j++) {
            assert_true(got[i * n + j] == got[j * n + i]);
            plain[i * n + j] = (double)want[i * n + j];
            bounds[i * n + j] = 1e-11 * sqrt((double)(want[i * (n + 1)] * want[j * (n + 1)]));
        }
    }
    near_array_by(got, plain, n * n, bounds);
    free(u);
    free(gram);
    free(want);
    free(got);
    free(plain);
    free(bounds);
}

static void inverses_of_factors(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 2, 3, 31, 64, 127, 130};
    lb_rng rng;
    lb_rng_seed(&rng, 24);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        check_inverse_of_factor(&rng, sizes[i], sizes[i], 0, 1.0);
        check_inverse_of_factor(&rng, sizes[i], sizes[i] + 9, 4, 30.0);
    }
}

static void check_block(const float *u, size_t n, size_t at, size_t size, const double *want)
{
    double *got = must(malloc(size * size * sizeof *got)), *block = must(malloc(size * size * sizeof *block));
    double largest = 0.0;
    for (size_t i = 0; i < size; i++) {
        for (size_t j = 0; j < size; j++) {
            block[i * size + j] = want[(at + i) * n + at + j];
            largest = fmax(largest, fabs(block[i * size + j]));
        }
    }
    assert_int_equal(lb_inverse_of_factor(size, u + at * (n + 1), n, got, NULL), LB_OK);
    near_array(got, block, size * size, 1e-5 * largest); /* U is float */
    free(got);
    free(block);
}

/* All of U gives the Hessian back, its last block the Hessian of the last columns, since those before them are done;
 * and its first block what is left of the Hessian of the first ones when those after them are free to answer. */
static void factors_give_the_hessian_back(void **state)
{
    (void)state;
    enum { N = 90, FIRST = 58 };
    static float h[N * N], u[N * N];
    static double want[N * N];
    bool definite;
    lb_rng rng;
    lb_rng_seed(&rng, 25);
    const double damp = 0.01 * make_hessian(&rng, N, 300, 3.0, h);
    assert_int_equal(lb_inverse_cholesky(N, h, damp, u, &definite, NULL), LB_OK);
    assert_true(definite);
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j < N; j++)
            want[i * N + j] = (double)element(h, N, damp, i, j);
    check_block(u, N, 0, N, want);
    check_block(u, N, FIRST, N - FIRST, want);
    for (size_t p = N; p-- > FIRST;)
        for (size_t i = 0; i < p; i++)
            for (size_t j = 0; j < p; j++)
                want[i * N + j] -= want[i * N + p] * want[p * N + j] / want[p * N + p];
    check_block(u, N, 0, FIRST, want);
}

static void singular_factors_are_refused(void **state)
{
    (void)state;
    enum { N = 20 };
    for (size_t at = 0; at < N; at++) {
        float u[N * N];
        double out[N * N];
        lb_error err;
        for (size_t i = 0; i < N * N; i++)
            u[i] = i % (N + 1) == 0 && i / N != at ? 1.0f : 0.0f;
        assert_int_equal(lb_inverse_of_factor(N, u, N, out, &err), LB_EINVAL);
        assert_non_null(strstr(err.msg, "20 columns"));
    }
}

static void lack_of_memory_is_said(void **state)
{
    (void)state;
    enum { N = 300 };
    static float h[N * N], u[N * N];
    lb_rng rng;
    lb_rng_seed(&rng, 23);
    make_hessian(&rng, N, 10, 1.0, h);
    lb_status st = LB_ENOMEM;
    for (size_t k = 1; st != LB_OK; k++) {
        lb_error err;
        bool definite;
        assert_true(k < 20);
        lb_alloc_fail_at(k);
        st = lb_inverse_cholesky(N, h, 1.0, u, &definite, &err);
        assert_true(st == LB_OK ? k > 1 : st == LB_ENOMEM);
    }
    lb_alloc_fail_at(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_around_the_block),
        cmocka_unit_test(ill_conditioned),
        cmocka_unit_test(zero_and_diagonal),
        cmocka_unit_test(not_definite_is_said),
        cmocka_unit_test(lack_of_memory_is_said),
        cmocka_unit_test(inverses_of_factors),
        cmocka_unit_test(factors_give_the_hessian_back),
        cmocka_unit_test(singular_factors_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
