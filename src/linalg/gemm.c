/* SPDX-License-Identifier: MIT */
#include "linalg/gemm.h"

#include <cblas.h>
#include <stdbool.h>

#include "base/thread.h"

void lb_blas_prepare(void)
{
    /* OpenBLAS on OpenMP keeps this setting per thread. */
    static _Thread_local bool prepared;
    if (!prepared)
        openblas_set_num_threads(1);
    prepared = true;
}

typedef struct product {
    size_t m, n, k, lda, ldb, ldc;
    const float *a, *b;
    float beta, *c;
    bool b_transposed;
    size_t tile_rows, tile_cols, tiles_across;
} product;

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static void product_tile(void *arg, size_t begin, size_t end)
{
    const product *p = arg;
    lb_blas_prepare();
    for (size_t tile = begin; tile < end; tile++) {
        size_t row = tile / p->tiles_across * p->tile_rows;
        size_t col = tile % p->tiles_across * p->tile_cols;
        cblas_sgemm(CblasRowMajor, CblasNoTrans, p->b_transposed ? CblasTrans : CblasNoTrans,
                    (int)least(p->tile_rows, p->m - row), (int)least(p->tile_cols, p->n - col), (int)p->k,
                    1.0f, p->a + row * p->lda, (int)p->lda, p->b + (p->b_transposed ? col * p->ldb : col),
                    (int)p->ldb, p->beta, p->c + row * p->ldc + col, (int)p->ldc);
    }
}

static void multiply(product *p)
{
    /* Tiles large enough that BLAS's packing of operands stays a small share. */
    enum { TILE_ROWS = 256, TILE_COLS = 1536 };
    if (p->m == 0 || p->n == 0)
        return;
    p->tile_rows = TILE_ROWS;
    p->tile_cols = TILE_COLS;
    p->tiles_across = (p->n + TILE_COLS - 1) / TILE_COLS;
    lb_parallel_for((p->m + TILE_ROWS - 1) / TILE_ROWS * p->tiles_across, 1, product_tile, p);
}

void lb_gemm_nt(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, size_t ldb,
                float beta, float *c, size_t ldc)
{
    product p = {.m = m,
                 .n = n,
                 .k = k,
                 .lda = lda,
                 .ldb = ldb,
                 .ldc = ldc,
                 .a = a,
                 .b = b,
                 .beta = beta,
                 .c = c,
                 .b_transposed = true};
    multiply(&p);
}

void lb_gemm_nn(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, size_t ldb,
                float *c, size_t ldc)
{
    product p = {.m = m, .n = n, .k = k, .lda = lda, .ldb = ldb, .ldc = ldc, .a = a, .b = b, .c = c};
    multiply(&p);
}

typedef struct gram {
    size_t m, n, tiles;
    const float *x, *y;
    float *h;
    bool symmetric; /* y is x: the upper triangle is enough */
} gram;

enum { GRAM_TILE = 256 };

static void gram_tile(void *arg, size_t begin, size_t end)
{
    const gram *g = arg;
    lb_blas_prepare();
    for (size_t index = begin; index < end; index++) {
        const size_t row = index / g->tiles * GRAM_TILE, col = index % g->tiles * GRAM_TILE;
        const int rows = (int)least(GRAM_TILE, g->n - row), cols = (int)least(GRAM_TILE, g->n - col);
        float *h = g->h + row * g->n + col;
        if (g->symmetric && col < row)
            continue;
        if (g->symmetric && col == row)
            cblas_ssyrk(CblasRowMajor, CblasUpper, CblasTrans, rows, (int)g->m, 1.0f, g->x + row, (int)g->n,
                        1.0f, h, (int)g->n);
        else
            cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, rows, cols, (int)g->m, 1.0f, g->x + row,
                        (int)g->n, g->y + col, (int)g->n, 1.0f, h, (int)g->n);
    }
}

static void gram_add(gram *g)
{
    if (g->m == 0 || g->n == 0)
        return;
    g->tiles = (g->n + GRAM_TILE - 1) / GRAM_TILE;
    lb_parallel_for(g->tiles * g->tiles, 1, gram_tile, g);
}

void lb_cross_add(size_t m, size_t n, const float *x, const float *y, float *h)
{
    gram_add(&(gram){.m = m, .n = n, .x = x, .y = y, .h = h});
}

void lb_gram_add(size_t m, size_t n, const float *x, float *h)
{
    gram_add(&(gram){.m = m, .n = n, .x = x, .y = x, .h = h, .symmetric = true});
}
