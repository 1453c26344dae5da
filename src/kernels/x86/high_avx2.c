/* SPDX-License-Identifier: MIT
 * SQ-format's high elements with AVX2: eight rows a register. */
#include <stdint.h>

#include "kernels/x86/intrinsics.h"

typedef __m256i ints;
typedef __m256 floats;

LB_INLINE ints table_load(const int8_t *p)
{
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)p));
}

LB_INLINE floats halves_load(const uint16_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

/* Two products of 127 * 128 fit 16 bits. */
LB_INLINE ints dot(ints sums, ints v, ints x)
{
    const ints pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(x), _mm256_sign_epi8(v, x));
    return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

#define REGISTER_BYTES 32
#define V(name) _mm256_##name
#define INTS_LOAD(p) _mm256_load_si256((const __m256i *)(p))
#define INTS_OR(a, b) _mm256_or_si256((a), (b))
#define INTS_ZERO() _mm256_setzero_si256()
#include "kernels/x86/high_body.h"

void lb_fill_high_avx2(lb_kernels *table)
{
    table->high_times = high_times;
}
