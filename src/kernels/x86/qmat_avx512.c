/* SPDX-License-Identifier: MIT
 * Quantized matrices with AVX-512 but without VNNI (Skylake-X). The bounds of qmat_avx2.c hold. */
#include "kernels/x86/qmat_avx512.h"

typedef struct counter {
    ints pairs, uppers, sums; /* as in qmat_avx2.c */
} counter;

LB_INLINE ints add_products(ints pairs, ints codes, ints xs, const bool first)
{
    const ints products = _mm512_maddubs_epi16(codes, xs);
    return first ? products : _mm512_add_epi16(pairs, products);
}

/* c += codes * the four activations at x, for quad 0 .. quads - 1 in turn. */
LB_INLINE void count(counter *c, ints codes, const int8_t *x, const int bits, const int quad, const int quads)
{
    const ints xs = activations(x);
    const int most = bits <= 4 || bits == 8 ? 8 : bits == 5 ? 4 : bits == 6 ? 2 : 1;
    const int run = most < quads ? most : quads;
    const bool first = quad % run == 0;
    if (bits == 8) {
        c->pairs = add_products(c->pairs, LINE_AND(codes, 15), xs, first);
        c->uppers = add_products(c->uppers, LINE_AND(LINE_SHIFT_RIGHT(codes, 4), 15), xs, first);
    } else {
        c->pairs = add_products(c->pairs, codes, xs, first);
    }
    if ((quad + 1) % run != 0)
        return;
    ints sums = _mm512_madd_epi16(c->pairs, _mm512_set1_epi16(1));
    if (bits == 8)
        sums = _mm512_add_epi32(sums, _mm512_madd_epi16(c->uppers, _mm512_set1_epi16(16)));
    c->sums = quad < run ? sums : _mm512_add_epi32(c->sums, sums);
}

LB_INLINE ints counted(const counter *c)
{
    return c->sums;
}

#include "kernels/x86/qmat_times.h"

void lb_fill_qmat_avx512(lb_kernels *table)
{
    table->qmat_times = qmat_times;
    table->qmat_times_few = qmat_times_few;
    table->qmat_times_rows = qmat_times_rows;
}
