/* SPDX-License-Identifier: MIT
 * Rows beside vectors with AVX-512: of 32 registers sixteen hold sums. */
#include <stdint.h>
#include <string.h>

#include "base/half.h"
#include "kernels/x86/intrinsics.h"
#include "kernels/x86/x86.h"

typedef __m512 vec;
#define LANES 16
#define DOT_VECTORS 4
#define FEW_ROWS 4
#define MIX_VECTORS 4

LB_INLINE vec v_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

LB_INLINE void v_store(float *p, vec a)
{
    _mm512_storeu_ps(p, a);
}

LB_INLINE vec v_zero(void)
{
    return _mm512_setzero_ps();
}

LB_INLINE vec v_set(float a)
{
    return _mm512_set1_ps(a);
}

LB_INLINE vec v_mul(vec a, vec b)
{
    return _mm512_mul_ps(a, b);
}

LB_INLINE vec v_fma(vec a, vec b, vec c)
{
    return _mm512_fmadd_ps(a, b, c);
}

/* Halves of what remains, in a fixed order. */
LB_INLINE float v_join(vec s)
{
    float lanes[LANES];
    _mm512_storeu_ps(lanes, s);
    __m256 eight = _mm256_add_ps(_mm256_loadu_ps(lanes), _mm256_loadu_ps(lanes + 8));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

LB_INLINE vec v_load_f16(const void *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

LB_INLINE vec v_load_bf16(const void *p)
{
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

LB_INLINE vec v_load_i8(const void *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}

#include "kernels/x86/rows_body.h"

void lb_fill_rows_avx512(lb_kernels *table)
{
    table->rows_dot = rows_dot;
    table->rows_mix = rows_mix;
}
