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

static size_t tiles(size_t n, size_t tile)
{
    return (n + tile - 1) / tile;
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

/* Tiles large enough that BLAS's packing of operands stays a small share. */
enum { TILE_ROWS = 256, TILE_COLS = 1536 };

static void multiply_by(product *p, size_t tile_rows, size_t tile_cols)
{
    if (p->m == 0 || p->n == 0)
        return;
    p->tile_rows = tile_rows;
    p->tile_cols = tile_cols;
    p->tiles_across = tiles(p->n, tile_cols);
    lb_parallel_for(tiles(p->m, tile_rows) * p->tiles_across, 1, product_tile, p);
}

static void multiply(product *p)
{
    multiply_by(p, TILE_ROWS, TILE_COLS);
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

void lb_gemm_nn_add(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, size_t ldb,
                    float *c, size_t ldc)
{
    /* A head's gradient is a small matrix with a sum over the vocabulary: there tiles must be smaller for
     * there to be several. */
    enum { FEW_TILES = 8, SMALL_ROWS = 64, SMALL_COLS = 256 };
    const bool few = tiles(m, TILE_ROWS) * tiles(n, TILE_COLS) < FEW_TILES;
    product p = {
        .m = m, .n = n, .k = k, .lda = lda, .ldb = ldb, .ldc = ldc, .a = a, .b = b, .beta = 1.0f, .c = c};
    multiply_by(&p, few ? SMALL_ROWS : TILE_ROWS, few ? SMALL_COLS : TILE_COLS);
}

enum { TN_ROWS = 192, TN_COLS = 768 };

typedef struct tn_batch {
    const lb_gemm_tn *products;
} tn_batch;

static size_t tn_tiles(const lb_gemm_tn *p)
{
    return tiles(p->m, TN_ROWS) * tiles(p->n, TN_COLS);
}

static void tn_tile(void *arg, size_t begin, size_t end)
{
    const tn_batch *batch = arg;
    lb_blas_prepare();
    for (size_t index = begin; index < end; index++) {
        const lb_gemm_tn *p = batch->products;
        size_t tile = index;
        for (; tile >= tn_tiles(p); p++)
            tile -= tn_tiles(p);
        const size_t across = tiles(p->n, TN_COLS);
        const size_t row = tile / across * TN_ROWS, col = tile % across * TN_COLS;
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)least(TN_ROWS, p->m - row),
                    (int)least(TN_COLS, p->n - col), (int)p->k, 1.0f, p->a + row, (int)p->m, p->b + col,
                    (int)p->n, 1.0f, p->c + row * p->n + col, (int)p->n);
    }
}

void lb_gemm_tn_add(const lb_gemm_tn *products, size_t count)
{
    tn_batch batch = {.products = products};
    size_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += tn_tiles(&products[i]);
    lb_parallel_for(total, 1, tn_tile, &batch);
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
    g->tiles = tiles(g->n, GRAM_TILE);
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
