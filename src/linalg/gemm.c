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
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)least(p->tile_rows, p->m - row),
                    (int)least(p->tile_cols, p->n - col), (int)p->k, 1.0f, p->a + row * p->lda, (int)p->lda,
                    p->b + col * p->ldb, (int)p->ldb, p->beta, p->c + row * p->ldc + col, (int)p->ldc);
    }
}

void lb_gemm_nt(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, size_t ldb,
                float beta, float *c, size_t ldc)
{
    /* Tiles large enough that BLAS's packing of operands stays a small share. */
    enum { TILE_ROWS = 256, TILE_COLS = 768 };
    if (m == 0 || n == 0)
        return;
    product p = {m, n, k, lda, ldb, ldc, a, b, beta, c, TILE_ROWS, TILE_COLS, 0};
    p.tiles_across = (n + TILE_COLS - 1) / TILE_COLS;
    lb_parallel_for((m + TILE_ROWS - 1) / TILE_ROWS * p.tiles_across, 1, product_tile, &p);
}

typedef struct gram {
    size_t m, n, tiles;
    const float *x;
    float *h;
} gram;

enum { GRAM_TILE = 256 };

static void gram_tile(void *arg, size_t begin, size_t end)
{
    const gram *g = arg;
    lb_blas_prepare();
    for (size_t index = begin; index < end; index++) {
        size_t row = index / g->tiles * GRAM_TILE, col = index % g->tiles * GRAM_TILE;
        if (col < row)
            continue;
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)least(GRAM_TILE, g->n - row),
                    (int)least(GRAM_TILE, g->n - col), (int)g->m, 1.0f, g->x + row, (int)g->n, g->x + col,
                    (int)g->n, 1.0f, g->h + row * g->n + col, (int)g->n);
    }
}

void lb_gram_add(size_t m, size_t n, const float *x, float *h)
{
    if (m == 0 || n == 0)
        return;
    gram g = {m, n, (n + GRAM_TILE - 1) / GRAM_TILE, x, h};
    lb_parallel_for(g.tiles * g.tiles, 1, gram_tile, &g);
}
