/* SPDX-License-Identifier: MIT
 * Bit planes by look-up with AVX-512: 64 rows at once. */
#include <stdint.h>

#include "kernels/x86/intrinsics.h"

typedef __m512i ints;
typedef __m512 floats;

LB_INLINE ints table_load(const uint8_t *p)
{
    return _mm512_broadcast_i32x4(_mm_load_si128((const __m128i *)p));
}

LB_INLINE floats halves_load(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

#define REGISTER_BYTES 64
#define V(name) _mm512_##name
#define INTS_LOAD(p) _mm512_load_si512((const void *)(p))
#define INTS_AND(a, b) _mm512_and_si512((a), (b))
#define INTS_ZERO() _mm512_setzero_si512()
#include "kernels/x86/planes_body.h"

void lb_fill_planes_avx512(lb_kernels *table)
{
    table->planes_times = planes_times;
}
