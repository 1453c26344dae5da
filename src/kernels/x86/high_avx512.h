/* SPDX-License-Identifier: MIT
 * What high_avx512.c and high_avx512vnni.c share: a line of 64 bytes is one register, 16 rows. */
#ifndef LB_KERNELS_X86_HIGH_AVX512_H
#define LB_KERNELS_X86_HIGH_AVX512_H

#include <stdint.h>

#include "kernels/x86/intrinsics.h"

typedef __m512i ints;
typedef __m512 floats;

LB_INLINE ints table_load(const int8_t *p)
{
    return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)p));
}

LB_INLINE floats halves_load(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

/* v with the sign that x gives it. */
LB_INLINE ints signed_by(ints v, ints x)
{
    return _mm512_mask_sub_epi8(v, _mm512_movepi8_mask(x), _mm512_setzero_si512(), v);
}

#define REGISTER_BYTES 64
#define V(name) _mm512_##name
#define INTS_LOAD(p) _mm512_load_si512((const void *)(p))
#define INTS_OR(a, b) _mm512_or_si512((a), (b))
#define INTS_ZERO() _mm512_setzero_si512()

#endif
