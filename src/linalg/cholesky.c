/* SPDX-License-Identifier: MIT
 *
 * The textbook way is Cholesky, inverse, Cholesky again: 4/3 n^3. Here: let P reverse the order of
 * the coordinates, and P H P = L L^T. Then R = P L P is upper triangular with H = R R^T, so
 * H^-1 = R^-T R^-1, and U = R^-1 = P L^-1 P. One factorization and one triangular inverse, 2/3 n^3,
 * and no inverse of H is ever formed. In double, since H is often nearly singular.
 */
#include "linalg/cholesky.h"

#include <cblas.h>
#include <lapacke.h>
#include <math.h>
#include <stdatomic.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "linalg/gemm.h"

enum { BLOCK = 128 };

typedef struct factor {
    size_t n;
    double *l; /* [n, n] row-major; the lower triangle becomes L */
    size_t at; /* the current block column */
    size_t width;
    size_t tiles;
    float *u;
    atomic_bool failed; /* any thread's memory */
} factor;

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

typedef struct reversal {
    size_t n;
    const float *h;
    double damp, *l;
} reversal;

static void reverse_rows(void *arg, size_t begin, size_t end)
{
    const reversal *r = arg;
    for (size_t i = begin; i < end; i++) {
        size_t row = r->n - 1 - i; /* j <= i gives n-1-j >= n-1-i: the upper triangle of h */
        for (size_t j = 0; j <= i; j++)
            r->l[i * r->n + j] = (double)r->h[row * r->n + (r->n - 1 - j)];
        r->l[i * r->n + i] += r->damp;
    }
}

/* Rows below the diagonal block: A_ik <- A_ik L_kk^-T. */
static void panel_rows(void *arg, size_t begin, size_t end)
{
    const factor *f = arg;
    lb_blas_prepare();
    size_t first = f->at + f->width;
    cblas_dtrsm(CblasRowMajor, CblasRight, CblasLower, CblasTrans, CblasNonUnit, (int)(end - begin),
                (int)f->width, 1.0, f->l + f->at * f->n + f->at, (int)f->n,
                f->l + (first + begin) * f->n + f->at, (int)f->n);
}

/* Trailing tiles: A_ij <- A_ij - A_ik A_jk^T for j <= i. */
static void trailing_tile(void *arg, size_t begin, size_t end)
{
    const factor *f = arg;
    lb_blas_prepare();
    size_t first = f->at + f->width;
    for (size_t index = begin; index < end; index++) {
        size_t row = first + index / f->tiles * BLOCK, col = first + index % f->tiles * BLOCK;
        if (col > row)
            continue;
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)least(BLOCK, f->n - row),
                    (int)least(BLOCK, f->n - col), (int)f->width, -1.0, f->l + row * f->n + f->at, (int)f->n,
                    f->l + col * f->n + f->at, (int)f->n, 1.0, f->l + row * f->n + col, (int)f->n);
    }
}

/* Not every LAPACK notices a NaN; one anywhere in H, or an infinity, shows on some later diagonal. */
static bool diagonal_is_good(const factor *f)
{
    for (size_t i = f->at; i < f->at + f->width; i++)
        if (!(f->l[i * f->n + i] > 0.0 && f->l[i * f->n + i] < HUGE_VAL))
            return false;
    return true;
}

static bool factorize(factor *f)
{
    lb_blas_prepare();
    for (f->at = 0; f->at < f->n; f->at += f->width) {
        f->width = least(BLOCK, f->n - f->at);
        /* A row-major lower triangle is a column-major upper one. */
        lapack_int info = LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'U', (lapack_int)f->width,
                                              f->l + f->at * f->n + f->at, (lapack_int)f->n);
        if (info != 0 || !diagonal_is_good(f))
            return false;
        size_t below = f->n - f->at - f->width;
        lb_parallel_for(below, BLOCK, panel_rows, f);
        f->tiles = (below + BLOCK - 1) / BLOCK;
        lb_parallel_for(f->tiles * f->tiles, 1, trailing_tile, f);
    }
    return true;
}

/* Columns [begin, end) of L^-1, one block at a time, written reversed into u. */
static void invert_columns(void *arg, size_t begin, size_t end)
{
    factor *f = arg;
    const size_t n = f->n, height = n - begin, width = end - begin;
    double *x = lb_alloc_zero(height * width, sizeof *x);
    if (!x) {
        atomic_store(&f->failed, true);
        return;
    }
    for (size_t j = 0; j < width; j++)
        x[j * width + j] = 1.0;
    lb_blas_prepare();
    cblas_dtrsm(CblasRowMajor, CblasLeft, CblasLower, CblasNoTrans, CblasNonUnit, (int)height, (int)width,
                1.0, f->l + begin * n + begin, (int)n, x, (int)width);
    for (size_t i = 0; i < height; i++) {
        float *row = f->u + (n - 1 - begin - i) * n;
        for (size_t j = 0; j < width; j++)
            row[n - 1 - begin - j] = (float)x[i * width + j]; /* zero above L^-1's diagonal, as wanted */
    }
    lb_free(x);
}

lb_status lb_inverse_cholesky(size_t n, const float *h, double damp, float *u, bool *definite, lb_error *err)
{
    factor f = {.n = n, .u = u};
    LB_TRY(lb_alloc_array(&f.l, n * n, sizeof *f.l, "Cholesky factor", err));
    reversal r = {n, h, damp, f.l};
    lb_parallel_for(n, BLOCK, reverse_rows, &r);
    *definite = factorize(&f);
    if (*definite) {
        for (size_t i = 0; i < n; i++) /* what no block column reaches */
            for (size_t j = 0; j < i; j++)
                u[i * n + j] = 0.0f;
        lb_parallel_for(n, BLOCK, invert_columns, &f);
    }
    lb_free(f.l);
    return atomic_load(&f.failed) ? lb_fail(err, LB_ENOMEM, "Cholesky inverse: no memory for a block column")
                                  : LB_OK;
}

lb_status lb_inverse_of_factor(size_t n, const float *u, size_t ldu, double *out, lb_error *err)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            out[i * n + j] = j < i ? 0.0 : (double)u[i * ldu + j];
    lb_blas_prepare();
    /* U by rows is L by columns, which spares LAPACKE a copy */
    if (LAPACKE_dpotri_work(LAPACK_COL_MAJOR, 'L', (int)n, out, (int)n) != 0)
        return lb_fail(err, LB_EINVAL, "a factor of %zu columns has no inverse", n);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < i; j++)
            out[i * n + j] = out[j * n + i];
    return LB_OK;
}
