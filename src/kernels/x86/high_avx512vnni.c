/* SPDX-License-Identifier: MIT
 * SQ-format's high elements with AVX-512 VNNI: one instruction for a lane's four products. */
#include "kernels/x86/high_avx512.h"

LB_INLINE ints dot(ints sums, ints v, ints x)
{
    return _mm512_dpbusd_epi32(sums, _mm512_abs_epi8(x), signed_by(v, x));
}

#include "kernels/x86/high_body.h"

void lb_fill_high_avx512vnni(lb_kernels *table)
{
    table->high_times = high_times;
}
