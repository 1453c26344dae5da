/* SPDX-License-Identifier: MIT
 * SQ-format's high elements with AVX-512: sixteen rows a register. */
#include "kernels/x86/high_avx512.h"

/* Two products of 127 * 128 fit 16 bits. */
LB_INLINE ints dot(ints sums, ints v, ints x)
{
    const ints pairs = _mm512_maddubs_epi16(_mm512_abs_epi8(x), signed_by(v, x));
    return _mm512_add_epi32(sums, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}

#include "kernels/x86/high_body.h"

void lb_fill_high_avx512(lb_kernels *table)
{
    table->high_times = high_times;
}
