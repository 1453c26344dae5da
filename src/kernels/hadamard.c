/* SPDX-License-Identifier: MIT
 *
 * Rotations: random signs, and the order in which the kernels are called.
 *
 * A chunk of n = 2^k * m1 * m2 * ... (each m one of 12, 20, 28) is an array [..., m2, m1, 2^k], and
 * ... H_m2 (x) H_m1 (x) H_2^k acts on one axis after the other. The power of two is the innermost axis, so
 * that the others find whole registers side by side.
 */
#include "kernels/hadamard.h"

#include <math.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "base/thread.h"

enum { MOST_FACTORS = 16, MOST_ORDER = 28, BASES = 3, LARGEST_BITS = 40, CHUNK_BYTES = 64 << 10 };

static const size_t LARGEST = (size_t)1 << LARGEST_BITS;

/* The orders that are no powers of two, by Paley's second construction from the field of q elements. */
static const struct {
    unsigned order, field;
} bases[BASES] = {{28, 13}, {20, 9}, {12, 5}};

/* A run of chunks of one size. */
typedef struct span {
    size_t begin, size, count;
    size_t power; /* the part of `size` that is a power of two */
    unsigned base[MOST_FACTORS], base_count;
} span;

struct lb_rotation {
    size_t n;
    float *scale; /* [n] sign / sqrt(chunk) */
    uint8_t picks[BASES][MOST_ORDER * MOST_ORDER / 4];
    unsigned span_count;
    span spans[LARGEST_BITS + 2]; /* the chunks, and what is left over */
};

/* ---- Matrices of Paley ------------------------------------------------------------------------------- */

/* a - b and a b in the field of q = 5, 9 or 13 elements; an element of that of 9 is a0 + 3 a1, for
 * a0 + a1 i with i^2 = -1, which is no square modulo 3. */
static unsigned field_minus(unsigned q, unsigned a, unsigned b)
{
    if (q != 9)
        return (a + q - b) % q;
    return (a % 3 + 3 - b % 3) % 3 + (a / 3 + 3 - b / 3) % 3 * 3;
}

static unsigned field_times(unsigned q, unsigned a, unsigned b)
{
    if (q != 9)
        return a * b % q;
    const unsigned a0 = a % 3, a1 = a / 3, b0 = b % 3, b1 = b / 3;
    return (a0 * b0 + 2 * a1 * b1) % 3 + (a0 * b1 + a1 * b0) % 3 * 3;
}

/* 0 for 0, 1 for the square of an element, -1 for the others. */
static int field_character(unsigned q, unsigned a)
{
    if (a == 0)
        return 0;
    for (unsigned b = 1; b < q; b++)
        if (field_times(q, b, b) == a)
            return 1;
    return -1;
}

/* Entry [i, k] of the symmetric Hadamard matrix of order 2 (q + 1), q = 1 modulo 4 (Paley 1933): in the
 * conference matrix C (0 on the diagonal, 1 in the first row and column, elsewhere the character of the
 * difference) each 0 becomes [1 -1; -1 -1] and each c becomes c [1 1; 1 -1]. */
static int paley_entry(unsigned q, unsigned i, unsigned k)
{
    const unsigned row = i / 2, col = k / 2, inner_row = i % 2, inner_col = k % 2;
    if (row == col)
        return inner_row == 0 && inner_col == 0 ? 1 : -1;
    const int c = row == 0 || col == 0 ? 1 : field_character(q, field_minus(q, row - 1, col - 1));
    return inner_row == 1 && inner_col == 1 ? -c : c;
}

/* See hadamard_mix in kernels.def. */
static void fill_picks(uint8_t *picks, unsigned order, unsigned q)
{
    for (unsigned i = 0; i < order; i++) {
        for (unsigned k = 0; k < order; k += 4) {
            unsigned signs = 0;
            for (unsigned j = 0; j < 4; j++)
                signs = 2 * signs + (paley_entry(q, i, k + j) < 0);
            *picks++ = (uint8_t)(signs & 8 ? signs ^ 7 : signs);
        }
    }
}

/* ---- Sizes ------------------------------------------------------------------------------------------- */

/* Splits n into a power of two and factors; false where that cannot be done. */
static bool split(size_t n, span *out)
{
    static const unsigned odd[BASES] = {7, 5, 3}; /* of 28, 20, 12 */
    out->size = n;
    out->base_count = 0;
    for (unsigned b = 0; b < BASES && n > 0; b++)
        for (; n % odd[b] == 0; n /= bases[b].order) {
            if (n % bases[b].order != 0 || out->base_count == MOST_FACTORS)
                return false;
            out->base[out->base_count++] = b;
        }
    out->power = n;
    return n != 0 && (n & (n - 1)) == 0;
}

bool lb_hadamard_order_exists(size_t n)
{
    span s;
    return split(n, &s);
}

/* The largest size below n and the smallest above it that can be made, for n > 1 that cannot be. */
static void sizes_near(size_t n, size_t *below, size_t *above)
{
    *below = 1;
    *above = SIZE_MAX;
    for (size_t a = 1; a < 2 * n; a *= 28)
        for (size_t b = a; b < 2 * n; b *= 20)
            for (size_t c = b; c < 2 * n; c *= 12)
                for (size_t size = c; size < 2 * n; size *= 2) {
                    if (size < n && size > *below)
                        *below = size;
                    if (size > n && size < *above)
                        *above = size;
                }
}

static lb_status check_sizes(size_t n, size_t block, bool cut_tail, lb_error *err)
{
    if (n == 0 || n > LARGEST || block > LARGEST)
        return lb_fail(err, LB_EINVAL,
                       "Hadamard rotation: %zu entries in chunks of %zu: both are from 1 to %zu", n,
                       block ? block : n, LARGEST);
    if (block == 0)
        block = n;
    if (!lb_hadamard_order_exists(block)) {
        size_t below, above;
        sizes_near(block, &below, &above);
        return lb_fail(err, LB_EINVAL,
                       "Hadamard rotation: there is no matrix of order %zu (a power of two, or a product of "
                       "12s, 20s, 28s and powers of two), the nearest are %zu and %zu",
                       block, below, above);
    }
    if (n % block != 0 && !cut_tail)
        return lb_fail(err, LB_EINVAL, "Hadamard rotation: %zu entries are no multiple of the chunk of %zu",
                       n, block);
    return LB_OK;
}

/* ---- Rotations --------------------------------------------------------------------------------------- */

static void add_span(lb_rotation *r, size_t begin, size_t size, size_t count)
{
    span *s = &r->spans[r->span_count++];
    (void)split(size, s);
    s->begin = begin;
    s->count = count;
}

static void cut(lb_rotation *r, size_t block)
{
    size_t at = r->n / block * block;
    if (at > 0)
        add_span(r, 0, block, r->n / block);
    for (size_t size = LARGEST; size > 0; size /= 2)
        if (size <= r->n - at) { /* once for each bit: what is left is below 2 size */
            add_span(r, at, size, 1);
            at += size;
        }
}

static void draw_signs(lb_rotation *r, uint64_t seed)
{
    lb_rng rng;
    uint64_t word = 0;
    size_t i = 0;
    lb_rng_seed(&rng, seed);
    for (unsigned s = 0; s < r->span_count; s++) {
        const float scale = (float)(1.0 / sqrt((double)r->spans[s].size));
        for (size_t k = 0; k < r->spans[s].size * r->spans[s].count; k++, i++, word >>= 1) {
            if (i % 64 == 0)
                word = lb_rng_u64(&rng);
            r->scale[i] = word & 1 ? -scale : scale;
        }
    }
}

lb_status lb_rotation_create(size_t n, size_t block, bool cut_tail, uint64_t seed, lb_rotation **out,
                             lb_error *err)
{
    LB_TRY(check_sizes(n, block, cut_tail, err));
    lb_rotation *r = NULL;
    LB_TRY(lb_alloc_array(&r, 1, sizeof *r, "Hadamard rotation", err));
    *r = (lb_rotation){.n = n};
    lb_status st = lb_alloc_array(&r->scale, n, sizeof *r->scale, "Hadamard rotation", err);
    if (st != LB_OK) {
        lb_rotation_destroy(r);
        return st;
    }
    for (unsigned b = 0; b < BASES; b++)
        fill_picks(r->picks[b], bases[b].order, bases[b].field);
    cut(r, block ? block : n);
    draw_signs(r, seed);
    *out = r;
    return LB_OK;
}

void lb_rotation_destroy(lb_rotation *rotation)
{
    if (!rotation)
        return;
    lb_free(rotation->scale);
    lb_free(rotation);
}

size_t lb_rotation_size(const lb_rotation *rotation)
{
    return rotation->n;
}

/* One row: x diag(scale or 1) blockdiag(H). */
static void transform(const lb_kernels *kernels, const lb_rotation *r, const float *scale, float *x)
{
    for (unsigned i = 0; i < r->span_count; i++) {
        const span *s = &r->spans[i];
        const size_t total = s->size * s->count;
        float *begin = x + s->begin;
        kernels->hadamard(begin, scale ? scale + s->begin : NULL, s->power, total / s->power);
        size_t stride = s->power;
        for (unsigned f = 0; f < s->base_count; f++) {
            const unsigned order = bases[s->base[f]].order;
            kernels->hadamard_mix(begin, r->picks[s->base[f]], order, stride, total / (order * stride));
            stride *= order;
        }
    }
}

typedef struct rows {
    const lb_kernels *kernels;
    const lb_rotation *rotation;
    float *x;
} rows;

static void apply_rows(void *arg, size_t begin, size_t end)
{
    const rows *a = arg;
    const lb_rotation *r = a->rotation;
    for (size_t row = begin; row < end; row++)
        transform(a->kernels, r, r->scale, a->x + row * r->n);
}

/* Blockdiag(H) is symmetric, so R^T is the transform first and the signs afterwards. */
static void undo_rows(void *arg, size_t begin, size_t end)
{
    const rows *a = arg;
    const lb_rotation *r = a->rotation;
    for (size_t row = begin; row < end; row++) {
        float *x = a->x + row * r->n;
        transform(a->kernels, r, NULL, x);
        for (size_t i = 0; i < r->n; i++)
            x[i] *= r->scale[i];
    }
}

static void for_rows(const lb_kernels *kernels, const lb_rotation *rotation, float *x, size_t count,
                     lb_chunk_fn fn)
{
    rows arg = {.kernels = kernels, .rotation = rotation, .x = x};
    const size_t grain = CHUNK_BYTES / (rotation->n * sizeof *x) + 1;
    if (count <= grain) /* waking the other threads would take longer */
        fn(&arg, 0, count);
    else
        lb_parallel_for(count, grain, fn, &arg);
}

void lb_rotation_apply(const lb_kernels *kernels, const lb_rotation *rotation, float *x, size_t row_count)
{
    for_rows(kernels, rotation, x, row_count, apply_rows);
}

void lb_rotation_undo(const lb_kernels *kernels, const lb_rotation *rotation, float *x, size_t row_count)
{
    for_rows(kernels, rotation, x, row_count, undo_rows);
}
