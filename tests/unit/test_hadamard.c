/* SPDX-License-Identifier: MIT
 * Rotations against matrices in double that are written down entry by entry from the definitions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "base/thread.h"
#include "kernels/hadamard.h"
#include "near.h"

/* Every kind of factor alone and in pairs, and the sizes of models. */
static const size_t orders[] = {1,   2,   4,   8,   16,  32,  64,  128, 256, 512,  1024,
                                12,  24,  48,  96,  20,  40,  80,  28,  56,  112,  144,
                                240, 336, 400, 560, 784, 576, 768, 896, 960, 1152, 1536};
enum { ORDERS = sizeof orders / sizeof *orders, MOST_PROVED = 600 };

static const lb_kernels *kernels(void)
{
    return lb_kernels_get(LB_CPU_BEST);
}

static lb_rotation *make(size_t n, size_t block, bool cut_tail, uint64_t seed)
{
    lb_rotation *r = NULL;
    lb_error err;
    assert_int_equal(lb_rotation_create(n, block, cut_tail, seed, &r, &err), LB_OK);
    assert_int_equal(lb_rotation_size(r), n);
    return r;
}

static void *memory(size_t count, size_t size)
{
    void *p = calloc(count, size);
    assert_non_null(p);
    return p;
}

static void fill(float *x, size_t n, uint64_t seed)
{
    lb_rng rng;
    lb_rng_seed(&rng, seed);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)lb_rng_normal(&rng);
}

/* ---- The matrices, from their definitions ---------------------------------------------------------- */

/* Sylvester: the parity of the bits that row and column share. */
static int sylvester(size_t i, size_t k)
{
    int sign = 1;
    for (size_t both = i & k; both > 0; both >>= 1)
        sign = both & 1 ? -sign : sign;
    return sign;
}

/* Whether a - b is a square other than 0 modulo 5 or 13, or among the Gaussian integers modulo 3 (9): the
 * squares are listed, 1 and 4; 1, 3, 4, 9, 10, 12; and 1, 2, i, 2 i ((1 + i)^2 = 2 i, i^2 = 2). */
static int character(unsigned q, unsigned a, unsigned b)
{
    static const char *const marks[] = {"0+--+", "0+-++----++-+",
                                        "0++"
                                        "+--"
                                        "+--"};
    const unsigned real = (a % 3 + 3 - b % 3) % 3, imaginary = (a / 3 + 3 - b / 3) % 3;
    const unsigned difference = q == 9 ? real + 3 * imaginary : (a + q - b) % q;
    const char mark = marks[q == 5 ? 0 : q == 13 ? 1 : 2][difference];
    return mark == '0' ? 0 : mark == '+' ? 1 : -1;
}

/* Paley's second construction: C (x) [1 1; 1 -1] + I (x) [1 -1; -1 -1]. */
static int paley(size_t order, size_t i, size_t k)
{
    static const int c_part[2][2] = {{1, 1}, {1, -1}}, i_part[2][2] = {{1, -1}, {-1, -1}};
    const unsigned q = (unsigned)order / 2 - 1, row = (unsigned)i / 2, col = (unsigned)k / 2;
    const int c = row == col ? 0 : row == 0 || col == 0 ? 1 : character(q, row - 1, col - 1);
    return c * c_part[i % 2][k % 2] + (row == col) * i_part[i % 2][k % 2];
}

/* The Kronecker product of matrices of Paley, 12s outermost, then 20s, then 28s, and one of Sylvester. */
static int hadamard(size_t n, size_t i, size_t k)
{
    static const struct {
        size_t prime, order;
    } kinds[] = {{3, 12}, {5, 20}, {7, 28}};
    for (size_t f = 0; f < 3; f++)
        if (n % kinds[f].prime == 0) {
            const size_t order = kinds[f].order, inner = n / order;
            return paley(order, i / inner, k / inner) * hadamard(inner, i % inner, k % inner);
        }
    return sylvester(i, k);
}

/* The size of the chunk that entry i of n is in, and where it begins. */
static size_t chunk_at(size_t n, size_t block, size_t i, size_t *begin)
{
    size_t size = block;
    *begin = i / block * block;
    if (i < n / block * block)
        return block;
    for (;; *begin += size) {
        for (size = 1; 2 * size <= n - *begin;)
            size *= 2;
        if (i < *begin + size)
            return size;
    }
}

/* R in double: [n, n]; the signs are read off what unit vectors become, everything else is computed. */
static double *matrix_of(const lb_rotation *r, size_t block)
{
    const size_t n = lb_rotation_size(r);
    double *m = memory(n * n, sizeof *m);
    float *x = memory(n, sizeof *x);
    for (size_t i = 0; i < n; i++) {
        size_t begin;
        const size_t size = chunk_at(n, block ? block : n, i, &begin);
        memset(x, 0, n * sizeof *x);
        x[i] = 1.0f;
        lb_rotation_apply(kernels(), r, x, 1);
        const double sign = (x[begin] > 0 ? 1 : -1) * hadamard(size, i - begin, 0);
        for (size_t k = 0; k < size; k++)
            m[i * n + begin + k] = sign * hadamard(size, i - begin, k) / sqrt((double)size);
    }
    free(x);
    return m;
}

/* A bound of the relative error of one entry's sum: each of its n terms goes through that many additions,
 * and through one product with a rounded factor. One addition for each halving; 1 + fours for an order. */
static double growth(size_t n)
{
    double steps = 3;
    for (; n % 3 == 0; n /= 12)
        steps += 4;
    for (; n % 5 == 0; n /= 20)
        steps += 6;
    for (; n % 7 == 0; n /= 28)
        steps += 8;
    return (steps + log2((double)n)) * U24 * 1.001;
}

/* bounds[k] = growth * the sum over i of |x_i R_ik|. */
static void bounds_of(const double *m, size_t n, size_t block, const float *x, double *bounds)
{
    for (size_t k = 0; k < n; k++) {
        size_t begin;
        const size_t size = chunk_at(n, block ? block : n, k, &begin);
        bounds[k] = 0;
        for (size_t i = begin; i < begin + size; i++)
            bounds[k] += fabs((double)x[i] * m[i * n + k]);
        bounds[k] *= growth(size);
    }
}

/* ---- Tests ------------------------------------------------------------------------------------------ */

/* The definitions above, and with them what the next test compares with: symmetric, H H = n I. */
static void definitions(void **state)
{
    (void)state;
    for (size_t o = 0; o < ORDERS; o++) {
        const size_t n = orders[o];
        if (n > MOST_PROVED) /* n^3 steps; these are products of smaller ones */
            continue;
        int8_t *h = memory(n * n, 1);
        for (size_t i = 0; i < n * n; i++) {
            const int entry = hadamard(n, i / n, i % n);
            assert_true(entry == 1 || entry == -1);
            h[i] = (int8_t)entry;
        }
        for (size_t i = 0; i < n; i++) {
            for (size_t j = i; j < n; j++) {
                int sum = 0;
                assert_int_equal(h[i * n + j], h[j * n + i]);
                for (size_t k = 0; k < n; k++)
                    sum += h[i * n + k] * h[j * n + k];
                assert_int_equal(sum, i == j ? (int)n : 0);
            }
        }
        free(h);
    }
}

/* x R, x R^T, and back again: everything within a derived bound of the products in double. */
static void check_against_matrix(size_t n, size_t block, bool cut_tail, uint64_t seed)
{
    lb_rotation *r = make(n, block, cut_tail, seed);
    double *m = matrix_of(r, block), *want = memory(n, sizeof *want), *back = memory(n, sizeof *back);
    double *bounds = memory(n, sizeof *bounds), *back_bounds = memory(n, sizeof *bounds);
    float *x = memory(n, sizeof *x), *got = memory(n, sizeof *got);
    fill(x, n, seed + 1);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < n; k++) {
            want[k] += (double)x[i] * m[i * n + k];
            back[i] += (double)x[k] * m[i * n + k];
        }
    memcpy(got, x, n * sizeof *x);
    lb_rotation_apply(kernels(), r, got, 1);
    bounds_of(m, n, block, x, bounds);
    near_array_by(got, want, n, bounds);

    /* Undone: its own errors, and those of `got` as R^T passes them on. */
    bounds_of(m, n, block, got, back_bounds);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < n; k++)
            back_bounds[i] += bounds[k] * fabs(m[i * n + k]);
    lb_rotation_undo(kernels(), r, got, 1);
    near_array_by(got, x, n, back_bounds);

    /* R^T of x itself; |R| has the same entries in each row and column of a chunk. */
    memcpy(got, x, n * sizeof *x);
    lb_rotation_undo(kernels(), r, got, 1);
    near_array_by(got, back, n, bounds);
    free(m);
    free(want);
    free(back);
    free(bounds);
    free(back_bounds);
    free(x);
    free(got);
    lb_rotation_destroy(r);
}

static void whole_rows(void **state)
{
    (void)state;
    for (size_t o = 0; o < ORDERS; o++)
        check_against_matrix(orders[o], 0, false, 100 + o);
}

static void chunks(void **state)
{
    (void)state;
    static const size_t cases[][2] = {{576, 32},   {576, 16}, {576, 64}, {576, 192}, {576, 12}, {1536, 32},
                                      {1536, 512}, {960, 20}, {560, 28}, {96, 48},   {96, 1},   {6, 2}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        check_against_matrix(cases[c][0], cases[c][1], false, 200 + c);
}

static void tails(void **state)
{
    (void)state;
    static const size_t cases[][2] = {{172, 32}, {31, 16}, {7, 32}, {1, 16}, {45, 12}, {100, 48}, {64, 32}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        check_against_matrix(cases[c][0], cases[c][1], true, 300 + c);
    /* 172 = 5 * 32 + 8 + 4: an entry reaches its own chunk and no other. */
    static const size_t ends[] = {32, 64, 96, 128, 160, 168, 172};
    lb_rotation *r = make(172, 32, true, 1);
    for (size_t i = 0; i < 172; i++) {
        float x[172] = {0};
        size_t c = 0;
        while (i >= ends[c])
            c++;
        x[i] = 1.0f;
        lb_rotation_apply(kernels(), r, x, 1);
        for (size_t k = 0; k < 172; k++)
            assert_true((x[k] != 0.0f) == (k < ends[c] && k >= (c ? ends[c - 1] : 0)));
    }
    lb_rotation_destroy(r);
}

/* (x R) (W R)^T = x W^T: each entry of x R is off by at most bx, of W R by bw. */
static void products_are_unchanged(void **state)
{
    (void)state;
    enum { ROWS = 5, N = 576 };
    static const size_t blocks[] = {0, 16, 32, 64};
    static float x[ROWS][N], w[ROWS][N], xr[ROWS][N], wr[ROWS][N];
    double bx[N], bw[N];
    for (size_t b = 0; b < sizeof blocks / sizeof *blocks; b++) {
        lb_rotation *r = make(N, blocks[b], false, 17);
        double *m = matrix_of(r, blocks[b]);
        fill(*x, ROWS * N, 18);
        fill(*w, ROWS * N, 19);
        for (size_t i = 0; i < ROWS; i++)
            x[i][7] *= 100.0f; /* as real activations have them */
        memcpy(xr, x, sizeof x);
        memcpy(wr, w, sizeof w);
        lb_rotation_apply(kernels(), r, *xr, ROWS);
        lb_rotation_apply(kernels(), r, *wr, ROWS);
        for (size_t i = 0; i < ROWS; i++)
            for (size_t j = 0; j < ROWS; j++) {
                double plain = 0, rotated = 0, bound = 0;
                bounds_of(m, N, blocks[b], x[i], bx);
                bounds_of(m, N, blocks[b], w[j], bw);
                for (size_t k = 0; k < N; k++) {
                    plain += (double)x[i][k] * (double)w[j][k];
                    rotated += (double)xr[i][k] * (double)wr[j][k];
                    bound += bx[k] * fabs((double)wr[j][k]) + (fabs((double)xr[i][k]) + bx[k]) * bw[k];
                }
                assert_true(fabs(plain - rotated) <= bound);
                assert_true(bound < 0.05); /* and it says something: x and w are of length 24 and more */
            }
        free(m);
        lb_rotation_destroy(r);
    }
}

/* An outlier is spread over its chunk: that is what rotations are for. */
static void outliers_are_spread(void **state)
{
    (void)state;
    lb_rotation *r = make(64, 32, false, 3);
    float x[64] = {0};
    x[40] = 1000.0f;
    lb_rotation_apply(kernels(), r, x, 1);
    for (size_t i = 0; i < 64; i++)
        assert_true(i < 32 ? x[i] == 0.0f : fabsf(fabsf(x[i]) - 176.776695f) < 1e-4f);
    lb_rotation_destroy(r);
}

/* Signs of n entries in a row: those of the first column of R. */
static void signs_of(const lb_rotation *r, bool *plus)
{
    const size_t n = lb_rotation_size(r);
    float *x = memory(n, sizeof *x);
    for (size_t i = 0; i < n; i++) {
        memset(x, 0, n * sizeof *x);
        x[i] = 1.0f;
        lb_rotation_apply(kernels(), r, x, 1);
        plus[i] = x[i / 32 * 32] > 0;
    }
    free(x);
}

static void seeds(void **state)
{
    (void)state;
    enum { N = 1024 };
    bool first[N], again[N], other[N], larger[N];
    size_t same = 0, pluses = 0, runs = 0;
    lb_rotation *a = make(N, 32, false, 5), *b = make(N, 32, false, 5), *c = make(N, 32, false, 6);
    lb_rotation *d = make(N, N, false, 5);
    signs_of(a, first);
    signs_of(b, again);
    signs_of(c, other);
    assert_memory_equal(first, again, sizeof first);
    /* Another size of chunk, the same signs: row i of R is sign_i times the row of Sylvester's matrix. */
    for (size_t i = 0; i < N; i++) {
        float x[N] = {0};
        x[i] = 1.0f;
        lb_rotation_apply(kernels(), d, x, 1);
        larger[i] = x[0] > 0;
    }
    assert_memory_equal(first, larger, sizeof first);
    for (size_t i = 0; i < N; i++) {
        pluses += first[i];
        same += first[i] == other[i];
        runs += i > 0 && first[i] != first[i - 1];
    }
    /* Coins: 512 of 1024 expected, with a standard deviation of 16. */
    assert_in_range(pluses, 512 - 64, 512 + 64);
    assert_in_range(same, 512 - 64, 512 + 64);
    assert_in_range(runs, 512 - 64, 512 + 64);
    lb_rotation_destroy(a);
    lb_rotation_destroy(b);
    lb_rotation_destroy(c);
    lb_rotation_destroy(d);
}

/* Many rows at once, at any number of threads: each as if alone. */
static void rows_are_independent(void **state)
{
    (void)state;
    enum { N = 96, ROWS = 700 };
    static float x[ROWS * N], alone[ROWS * N], many[ROWS * N];
    lb_rotation *r = make(N, 48, false, 9);
    fill(x, ROWS * N, 10);
    memcpy(alone, x, sizeof x);
    for (size_t i = 0; i < ROWS; i++)
        lb_rotation_apply(kernels(), r, alone + i * N, 1);
    for (unsigned threads = 1; threads <= 3; threads++) {
        lb_thread_set_count(threads);
        memcpy(many, x, sizeof x);
        lb_rotation_apply(kernels(), r, many, ROWS);
        assert_memory_equal(many, alone, sizeof many);
    }
    for (size_t i = 0; i < ROWS; i++)
        lb_rotation_undo(kernels(), r, alone + i * N, 1);
    lb_rotation_undo(kernels(), r, many, ROWS);
    assert_memory_equal(many, alone, sizeof many);
    memcpy(many, x, sizeof x);
    lb_rotation_apply(kernels(), r, many, 0);
    assert_memory_equal(many, x, sizeof many);
    lb_thread_set_count(0);
    lb_rotation_destroy(r);
}

/* What is not finite stays in its chunk. */
static void not_finite(void **state)
{
    (void)state;
    lb_rotation *r = make(96, 32, false, 2);
    float x[96], clean[96];
    fill(x, 96, 1);
    memcpy(clean, x, sizeof x);
    x[40] = NAN;
    x[70] = INFINITY;
    lb_rotation_apply(kernels(), r, x, 1);
    lb_rotation_apply(kernels(), r, clean, 1);
    assert_memory_equal(x, clean, 32 * sizeof *x);
    for (size_t i = 32; i < 96; i++)
        assert_true(i < 64 ? isnan(x[i]) : isinf(x[i]));
    lb_rotation_destroy(r);
}

/* Against a list of all products, up to a size. */
static void which_orders_exist(void **state)
{
    (void)state;
    enum { UP_TO = 20000 };
    static bool possible[UP_TO + 1];
    for (size_t a = 1; a <= UP_TO; a *= 12)
        for (size_t b = a; b <= UP_TO; b *= 20)
            for (size_t c = b; c <= UP_TO; c *= 28)
                for (size_t d = c; d <= UP_TO; d *= 2)
                    possible[d] = true;
    for (size_t n = 0; n <= UP_TO; n++)
        assert_int_equal(lb_hadamard_order_exists(n), possible[n]);
    assert_true(lb_hadamard_order_exists((size_t)1 << 63));
    assert_false(lb_hadamard_order_exists(SIZE_MAX));
}

static void says_no(size_t n, size_t block, bool cut_tail, const char *sentence)
{
    lb_rotation *r = NULL;
    lb_error err;
    assert_int_equal(lb_rotation_create(n, block, cut_tail, 1, &r, &err), LB_EINVAL);
    assert_null(r);
    assert_string_equal(err.msg, sentence);
}

static void refusals(void **state)
{
    (void)state;
    says_no(
        576, 36, false,
        "Hadamard rotation: there is no matrix of order 36 (a power of two, or a product of 12s, 20s, 28s "
        "and powers of two), the nearest are 32 and 40");
    says_no(
        11, 0, false,
        "Hadamard rotation: there is no matrix of order 11 (a power of two, or a product of 12s, 20s, 28s "
        "and powers of two), the nearest are 8 and 12");
    says_no(4864, 0, true,
            "Hadamard rotation: there is no matrix of order 4864 (a power of two, or a product of 12s, 20s, "
            "28s and powers of two), the nearest are 4800 and 5120");
    says_no(172, 32, false, "Hadamard rotation: 172 entries are no multiple of the chunk of 32");
    says_no(16, 32, false, "Hadamard rotation: 16 entries are no multiple of the chunk of 32");
    says_no(0, 32, true, "Hadamard rotation: 0 entries in chunks of 32: both are from 1 to 1099511627776");
    says_no(SIZE_MAX, 0, false,
            "Hadamard rotation: 18446744073709551615 entries in chunks of 18446744073709551615: both are "
            "from 1 to 1099511627776");
    says_no(32, SIZE_MAX / 2 + 1, true,
            "Hadamard rotation: 32 entries in chunks of 9223372036854775808: both are from 1 to "
            "1099511627776");
    for (size_t k = 1; k <= 2; k++) {
        lb_rotation *r = NULL;
        lb_error err;
        lb_alloc_fail_at(k);
        assert_int_equal(lb_rotation_create(64, 32, false, 1, &r, &err), LB_ENOMEM);
        lb_alloc_fail_at(0);
        assert_null(r);
    }
    lb_rotation_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(definitions),
        cmocka_unit_test(whole_rows),
        cmocka_unit_test(chunks),
        cmocka_unit_test(tails),
        cmocka_unit_test(products_are_unchanged),
        cmocka_unit_test(outliers_are_spread),
        cmocka_unit_test(seeds),
        cmocka_unit_test(rows_are_independent),
        cmocka_unit_test(not_finite),
        cmocka_unit_test(which_orders_exist),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
