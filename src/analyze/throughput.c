/* SPDX-License-Identifier: MIT */
#include "analyze/throughput.h"

#include <math.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/rng.h"
#include "kernels/qrows.h"

/* A layer of a small model, and a prompt's worth of tokens. */
enum { ROWS = 512, COLS = 2048, TOKENS = 64, KINDS = 3 + LB_THROUGHPUT_SHARES, ROUNDS = 5 };

const double lb_throughput_shares[LB_THROUGHPUT_SHARES] = {0.5, 0.75, 0.875, 0.9375};

double lb_serial_speedup(double share, double ratio)
{
    return 1.0 / (1.0 - share + share / ratio);
}

double lb_parallel_speedup(double share, double ratio)
{
    return 1.0 / fmax(1.0 / ratio, 1.0 - share);
}

double lb_parallel_share(double ratio)
{
    return ratio > 1.0 ? 1.0 - 1.0 / ratio : 0.0;
}

typedef struct bench {
    const lb_kernels *kernels;
    lb_qmat *matrices[2]; /* of 8 and of 4 bits */
    lb_qrows *rows[KINDS];
    float *x, *y;
    lb_format formats[2]; /* of 8 and of 4 bits */
} bench;

static void close_bench(bench *b)
{
    for (size_t i = 0; i < 2; i++)
        lb_qmat_destroy(b->matrices[i]);
    for (size_t i = 0; i < KINDS; i++)
        lb_qrows_destroy(b->rows[i]);
    lb_free(b->x);
    lb_free(b->y);
}

static lb_status fill_matrix(unsigned bits, lb_rng *rng, lb_qmat **out, lb_error *err)
{
    uint8_t codes[COLS];
    const float scale = 1.0f;
    LB_TRY(lb_qmat_create(ROWS, COLS, bits, 0, true, out, err));
    for (size_t r = 0; r < ROWS; r++) {
        for (size_t c = 0; c < COLS; c++)
            codes[c] = (uint8_t)lb_rng_below(rng, 1u << bits);
        lb_qmat_set_row(*out, r, codes, &scale, NULL);
    }
    return LB_OK;
}

/* Inputs of kind k: all of 8 bits, 8, 4, or 8 for the first of two parts. */
static lb_status fill_rows(bench *b, size_t k, lb_error *err)
{
    lb_row_parts parts = {.formats = {&b->formats[0], &b->formats[k < 2 ? 0 : 1]}};
    if (k >= 3)
        parts.split = (size_t)((1.0 - lb_throughput_shares[k - 3]) * COLS);
    LB_TRY(lb_qrows_create(&b->rows[k], err));
    return lb_qrows_set(b->rows[k], &parts, b->x, TOKENS, COLS, err);
}

static lb_status open_bench(const lb_kernels *kernels, bench *b, lb_error *err)
{
    lb_rng rng;
    *b = (bench){.kernels = kernels};
    lb_rng_seed(&rng, 1);
    LB_TRY(lb_format_parse("int8-row", &b->formats[0], err));
    LB_TRY(lb_format_parse("int4-row", &b->formats[1], err));
    LB_TRY(lb_alloc_array(&b->x, TOKENS, COLS * sizeof *b->x, "products to be timed", err));
    LB_TRY(lb_alloc_array(&b->y, TOKENS, ROWS * sizeof *b->y, "products to be timed", err));
    for (size_t i = 0; i < TOKENS * COLS; i++)
        b->x[i] = (float)lb_rng_normal(&rng);
    LB_TRY(fill_matrix(8, &rng, &b->matrices[0], err));
    LB_TRY(fill_matrix(4, &rng, &b->matrices[1], err));
    for (size_t k = 0; k < KINDS; k++)
        LB_TRY(fill_rows(b, k, err));
    return LB_OK;
}

lb_status lb_throughput_measure(const lb_kernels *kernels, lb_throughput *out, lb_error *err)
{
    bench b;
    double least[KINDS];
    lb_status st = LB_OK;
    LB_GO(open_bench(kernels, &b, err));
    /* In turn, and the best of some rounds: what else the machine does should hit no kind alone. */
    for (size_t round = 0; round < ROUNDS; round++) {
        for (size_t k = 0; k < KINDS; k++) {
            const double start = lb_now();
            lb_qmat_times_rows(kernels, b.matrices[k == 0 ? 0 : 1], b.rows[k], b.y);
            const double seconds = lb_now() - start;
            least[k] = round == 0 || seconds < least[k] ? seconds : least[k];
        }
    }
    const double products = (double)ROWS * COLS * TOKENS;
    *out = (lb_throughput){
        .w8a8 = products / least[0], .w4a8 = products / least[1], .w4a4 = products / least[2]};
    for (size_t i = 0; i < LB_THROUGHPUT_SHARES; i++)
        out->mixed[i] = products / least[3 + i];
done:
    close_bench(&b);
    return st;
}
