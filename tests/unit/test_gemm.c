/* SPDX-License-Identifier: MIT
 * Float products against sums in double: shapes around the tile sizes, strides, beta, thread counts. */
#include "near.h"

#include <stdlib.h>

#include "base/rng.h"
#include "base/thread.h"
#include "linalg/gemm.h"

static float *random_floats(lb_rng *rng, size_t n)
{
    float *x = malloc((n ? n : 1) * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)lb_rng_normal(rng);
    return x;
}

typedef struct shape {
    size_t m, n, k, more; /* more: unused elements after every row */
} shape;

static const float MARK = 12345.0f;

static void check_product(lb_rng *rng, shape s, float beta)
{
    const size_t lda = s.k + s.more, ldb = s.k + 2 * s.more, ldc = s.n + 3 * s.more;
    float *a = random_floats(rng, s.m * lda), *b = random_floats(rng, s.n * ldb);
    float *c = random_floats(rng, s.m * ldc), *again = malloc((s.m * ldc + 1) * sizeof *again);
    double *want = malloc((s.n + 1) * sizeof *want), *bounds = malloc((s.n + 1) * sizeof *bounds);
    assert_true(again && want && bounds);
    for (size_t i = 0; i < s.m; i++) {
        for (size_t j = 0; j < ldc; j++)
            if (j >= s.n)
                c[i * ldc + j] = MARK;
            else if (beta == 0.0f)
                c[i * ldc + j] = NAN; /* what was there must not matter */
    }
    memcpy(again, c, s.m * ldc * sizeof *c);
    float *before = malloc((s.m * ldc + 1) * sizeof *before);
    assert_non_null(before);
    memcpy(before, c, s.m * ldc * sizeof *c);
    lb_thread_set_count(1);
    lb_gemm_nt(s.m, s.n, s.k, a, lda, b, ldb, beta, c, ldc);
    for (size_t i = 0; i < s.m; i++) {
        for (size_t j = 0; j < s.n; j++) {
            const double old = beta == 0.0f ? 0.0 : (double)beta * (double)before[i * ldc + j];
            double sum = old, size = fabs(old);
            for (size_t k = 0; k < s.k; k++) {
                const double term = (double)a[i * lda + k] * (double)b[j * ldb + k];
                sum += term;
                size += fabs(term);
            }
            want[j] = sum;
            bounds[j] = 2.0 * sqrt((double)s.k + 1.0) * U24 * size;
        }
        near_array_by(c + i * ldc, want, s.n, bounds);
        for (size_t j = s.n; j < ldc; j++)
            assert_true(c[i * ldc + j] == MARK);
    }
    for (unsigned threads = 2; threads <= 5; threads += 3) {
        lb_thread_set_count(threads);
        memcpy(again, before, s.m * ldc * sizeof *c);
        lb_gemm_nt(s.m, s.n, s.k, a, lda, b, ldb, beta, again, ldc);
        assert_memory_equal(again, c, s.m * ldc * sizeof *c);
    }
    lb_thread_set_count(0);
    free(a);
    free(b);
    free(c);
    free(again);
    free(before);
    free(want);
    free(bounds);
}

static void products(void **state)
{
    (void)state;
    static const shape shapes[] = {
        {1, 1, 1, 0},     {3, 5, 7, 0},     {3, 5, 7, 2},      {17, 1, 300, 1},
        {1, 17, 300, 1},  {2, 2, 2000, 0},  {256, 768, 5, 0},  {257, 769, 9, 1},
        {255, 767, 8, 3}, {513, 70, 31, 0}, {40, 1540, 12, 0},
    };
    lb_rng rng;
    lb_rng_seed(&rng, 3);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        check_product(&rng, shapes[i], 0.0f);
        check_product(&rng, shapes[i], 1.0f);
    }
    check_product(&rng, (shape){9, 11, 13, 0}, -0.5f);
}

static void products_not_transposed(void **state)
{
    (void)state;
    static const shape shapes[] = {{1, 1, 1, 0}, {3, 5, 7, 2}, {257, 769, 9, 1}, {30, 1540, 40, 0}};
    lb_rng rng;
    lb_rng_seed(&rng, 6);
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        const size_t m = shapes[s].m, n = shapes[s].n, k = shapes[s].k, more = shapes[s].more;
        const size_t lda = k + more, ldb = n + more, ldc = n + 2 * more;
        float *a = random_floats(&rng, m * lda), *b = random_floats(&rng, k * ldb),
              *c = random_floats(&rng, m * ldc);
        for (size_t i = 0; i < m * ldc; i++)
            c[i] = i % ldc < n ? NAN : MARK;
        lb_gemm_nn(m, n, k, a, lda, b, ldb, c, ldc);
        for (size_t i = 0; i < m * ldc; i++) {
            const size_t row = i / ldc, col = i % ldc;
            double sum = 0.0, size = 0.0;
            for (size_t t = 0; col < n && t < k; t++) {
                sum += (double)a[row * lda + t] * (double)b[t * ldb + col];
                size += fabs((double)a[row * lda + t] * (double)b[t * ldb + col]);
            }
            if (col >= n)
                sum = (double)MARK;
            near_array(c + i, &sum, 1, 2.0 * sqrt((double)k + 1.0) * U24 * size);
        }
        free(a);
        free(b);
        free(c);
    }
}

static void empty_products(void **state)
{
    (void)state;
    float c[6] = {1, 2, 3, 4, 5, 6};
    const float want[6] = {1, 2, 3, 4, 5, 6}, zero[6] = {0};
    lb_gemm_nt(0, 3, 4, c, 4, c, 4, 0.0f, c, 3);
    lb_gemm_nt(2, 0, 4, c, 4, c, 4, 0.0f, c, 1);
    same_array(c, want, 6);
    lb_gemm_nt(2, 3, 0, want, 1, want, 1, 1.0f, c, 3); /* a sum of no terms */
    same_array(c, want, 6);
    lb_gemm_nt(2, 3, 0, want, 1, want, 1, 0.0f, c, 3);
    same_array(c, zero, 6);
}

static void check_gram(lb_rng *rng, size_t m, size_t n)
{
    float *x = random_floats(rng, m * n), *h = malloc(n * n * sizeof *h),
          *again = malloc(n * n * sizeof *again);
    double *want = malloc(n * sizeof *want), *bounds = malloc(n * sizeof *bounds);
    assert_true(h && again && want && bounds);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            again[i * n + j] = h[i * n + j] = j < i ? MARK : (float)(i + j);
    lb_thread_set_count(1);
    lb_gram_add(m, n, x, h);
    for (size_t i = 0; i < n; i++) {
        for (size_t j = i; j < n; j++) {
            double sum = (double)(float)(i + j), size = sum;
            for (size_t t = 0; t < m; t++) {
                const double term = (double)x[t * n + i] * (double)x[t * n + j];
                sum += term;
                size += fabs(term);
            }
            want[j] = sum;
            bounds[j] = 2.0 * sqrt((double)m + 1.0) * U24 * size;
        }
        near_array_by(h + i * n + i, want + i, n - i, bounds + i);
        for (size_t j = 0; j < i; j++)
            assert_true(h[i * n + j] == MARK);
    }
    lb_thread_set_count(3);
    lb_gram_add(m, n, x, again);
    assert_memory_equal(again, h, n * n * sizeof *h);
    lb_thread_set_count(0);
    free(x);
    free(h);
    free(again);
    free(want);
    free(bounds);
}

/* Every element, also where x and y are the same array. */
static void check_cross(lb_rng *rng, size_t m, size_t n, bool same)
{
    float *x = random_floats(rng, m * n), *other = random_floats(rng, m * n), *h = calloc(n * n, sizeof *h);
    const float *y = same ? x : other;
    assert_non_null(h);
    lb_cross_add(m, n, x, y, h);
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < n; j++) {
            double sum = 0.0, size = 0.0;
            for (size_t t = 0; t < m; t++) {
                sum += (double)x[t * n + i] * (double)y[t * n + j];
                size += fabs((double)x[t * n + i] * (double)y[t * n + j]);
            }
            near_array(h + i * n + j, &sum, 1, 2.0 * sqrt((double)m + 1.0) * U24 * size);
        }
    }
    free(x);
    free(other);
    free(h);
}

static void cross_products(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 5);
    check_cross(&rng, 7, 5, false);
    check_cross(&rng, 20, 300, false);
    check_cross(&rng, 20, 300, true);
}

static void gram_matrices(void **state)
{
    (void)state;
    static const size_t shapes[][2] = {{1, 1}, {5, 3}, {300, 17}, {1, 257}, {70, 255}, {9, 256}, {33, 513}};
    lb_rng rng;
    lb_rng_seed(&rng, 4);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        check_gram(&rng, shapes[i][0], shapes[i][1]);
    float h = 3.0f;
    lb_gram_add(0, 1, &h, &h);
    assert_true(h == 3.0f);
}

/* C += A B, in tiles of either size. */
static void products_added(void **state)
{
    (void)state;
    static const shape shapes[] = {
        {1, 1, 1, 0}, {3, 5, 7, 2}, {65, 257, 9, 1}, {40, 300, 900, 0}, {1100, 3080, 3, 2}};
    lb_rng rng;
    lb_rng_seed(&rng, 7);
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        const size_t m = shapes[s].m, n = shapes[s].n, k = shapes[s].k, more = shapes[s].more;
        const size_t lda = k + more, ldb = n + more, ldc = n + 2 * more;
        float *a = random_floats(&rng, m * lda), *b = random_floats(&rng, k * ldb);
        float *before = random_floats(&rng, m * ldc), *c = random_floats(&rng, m * ldc);
        for (unsigned threads = 1; threads <= 4; threads += 3) {
            float *again = random_floats(&rng, m * ldc);
            memcpy(again, before, m * ldc * sizeof *c);
            lb_thread_set_count(threads);
            lb_gemm_nn_add(m, n, k, a, lda, b, ldb, again, ldc);
            if (threads == 1)
                memcpy(c, again, m * ldc * sizeof *c);
            assert_memory_equal(again, c, m * ldc * sizeof *c);
            free(again);
        }
        lb_thread_set_count(0);
        for (size_t i = 0; i < m * ldc; i += 1 + i % 3) {
            const size_t row = i / ldc, col = i % ldc;
            double sum = (double)before[i], size = fabs(sum);
            for (size_t t = 0; col < n && t < k; t++) {
                sum += (double)a[row * lda + t] * (double)b[t * ldb + col];
                size += fabs((double)a[row * lda + t] * (double)b[t * ldb + col]);
            }
            near_array(c + i, &sum, 1, col < n ? 2.0 * sqrt((double)k + 1.0) * U24 * size : 0.0);
        }
        free(a);
        free(b);
        free(before);
        free(c);
    }
}

/* Several C += A^T B at once: each as it comes out alone. */
static void transposed_products_added(void **state)
{
    (void)state;
    enum { COUNT = 6 };
    static const shape shapes[COUNT] = {{1, 1, 1, 0},      {193, 769, 5, 0}, {0, 4, 3, 0},
                                        {200, 40, 300, 0}, {3, 1540, 2, 0},  {7, 9, 0, 0}};
    lb_gemm_tn products[COUNT];
    float *c[COUNT], *before[COUNT];
    lb_rng rng;
    lb_rng_seed(&rng, 8);
    for (size_t s = 0; s < COUNT; s++) {
        const size_t m = shapes[s].m, n = shapes[s].n, k = shapes[s].k;
        before[s] = random_floats(&rng, m * n);
        c[s] = random_floats(&rng, m * n);
        products[s] = (lb_gemm_tn){.m = m,
                                   .n = n,
                                   .k = k,
                                   .a = random_floats(&rng, k * m),
                                   .b = random_floats(&rng, k * n),
                                   .c = c[s]};
        memcpy(c[s], before[s], m * n * sizeof(float));
    }
    lb_thread_set_count(3);
    lb_gemm_tn_add(products, COUNT);
    lb_gemm_tn_add(products, 0);
    lb_thread_set_count(1);
    for (size_t s = 0; s < COUNT; s++) {
        const lb_gemm_tn *p = &products[s];
        for (size_t i = 0; i < p->m * p->n; i++) {
            double sum = (double)before[s][i], size = fabs(sum);
            for (size_t t = 0; t < p->k; t++) {
                const double term = (double)p->a[t * p->m + i / p->n] * (double)p->b[t * p->n + i % p->n];
                sum += term;
                size += fabs(term);
            }
            near_array(c[s] + i, &sum, 1, 2.0 * sqrt((double)p->k + 1.0) * U24 * size);
        }
        lb_gemm_tn alone = *p;
        alone.c = before[s];
        lb_gemm_tn_add(&alone, 1);
        assert_memory_equal(before[s], c[s], p->m * p->n * sizeof(float));
        free((void *)(uintptr_t)p->a);
        free((void *)(uintptr_t)p->b);
        free(before[s]);
        free(c[s]);
    }
    lb_thread_set_count(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products),
        cmocka_unit_test(empty_products),
        cmocka_unit_test(gram_matrices),
        cmocka_unit_test(cross_products),
        cmocka_unit_test(products_not_transposed),
        cmocka_unit_test(products_added),
        cmocka_unit_test(transposed_products_added),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
