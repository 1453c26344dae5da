/* SPDX-License-Identifier: MIT
 * Quantized matrices with AVX-512 VNNI: vpdpbusd adds four products of unsigned codes and signed
 * activations to each row's 32-bit sum, exactly for every width of codes. */
#include "kernels/x86/qmat_avx512.h"

/* Two sums, so that one instruction need not wait for the one before it. */
typedef struct counter {
    ints even, odd;
} counter;

/* c += codes * the four activations at x, for quad 0 .. quads - 1 in turn. */
LB_INLINE void count(counter *c, ints codes, const int8_t *x, const int bits, const int quad, const int quads)
{
    (void)bits;
    (void)quads;
    const ints xs = activations(x);
    if (quad % 2 == 0)
        c->even = _mm512_dpbusd_epi32(quad == 0 ? _mm512_setzero_si512() : c->even, codes, xs);
    else
        c->odd = _mm512_dpbusd_epi32(quad == 1 ? _mm512_setzero_si512() : c->odd, codes, xs);
}

LB_INLINE ints counted(const counter *c)
{
    return _mm512_add_epi32(c->even, c->odd);
}

#include "kernels/x86/qmat_times.h"

void lb_fill_qmat_avx512vnni(lb_kernels *table)
{
    table->qmat_times = qmat_times;
    table->qmat_times_few = qmat_times_few;
    table->qmat_times_rows = qmat_times_rows;
}
