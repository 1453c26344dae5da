/* SPDX-License-Identifier: MIT
 * Quantized matrices with AVX-512 but without VNNI (Skylake-X). The bounds of qmat_avx2.c hold. */
#include "kernels/x86/qmat_avx512.h"

typedef struct counter {
    ints pairs, sums;
} counter;

/* The products of 8-bit codes less 128, pairwise added: |code - 128| times x with the sign of the rest. */
LB_INLINE ints centred_products(ints codes, ints xs)
{
    codes = _mm512_xor_si512(codes, _mm512_set1_epi8(-128));
    const __mmask64 negative = _mm512_movepi8_mask(codes);
    return _mm512_maddubs_epi16(_mm512_abs_epi8(codes),
                                _mm512_mask_sub_epi8(xs, negative, _mm512_setzero_si512(), xs));
}

/* c += codes * the four activations at x, for quad 0 .. quads - 1 in turn. */
LB_INLINE void count(counter *c, ints codes, const int8_t *x, const int bits, const int quad, const int quads)
{
    const ints xs = activations(x);
    const int most = bits <= 4 ? 8 : bits == 5 ? 4 : bits == 6 ? 2 : 1;
    const int run = most < quads ? most : quads;
    ints products = bits == 8 ? centred_products(codes, xs) : _mm512_maddubs_epi16(codes, xs);
    c->pairs = quad % run == 0 ? products : _mm512_add_epi16(c->pairs, products);
    if ((quad + 1) % run != 0)
        return;
    ints sums = _mm512_madd_epi16(c->pairs, _mm512_set1_epi16(1));
    c->sums = quad < run ? sums : _mm512_add_epi32(c->sums, sums);
}

LB_INLINE ints counted(const counter *c, const int bits, int32_t code_sum)
{
    return bits == 8 ? _mm512_add_epi32(c->sums, _mm512_set1_epi32(128 * code_sum)) : c->sums;
}

#include "kernels/x86/qmat_times.h"

void lb_fill_qmat_avx512(lb_kernels *table)
{
    table->qmat_times = qmat_times;
}
