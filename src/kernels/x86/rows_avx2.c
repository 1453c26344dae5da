/* SPDX-License-Identifier: MIT
 * Rows beside vectors with AVX2: sixteen registers hold twelve sums, three vectors and a row. */
#include <stdint.h>
#include <string.h>

#include "base/half.h"
#include "kernels/x86/intrinsics.h"
#include "kernels/x86/x86.h"

typedef __m256 vec;
#define LANES 8
#define DOT_VECTORS 4
#define FEW_ROWS 2
#define MIX_VECTORS 3

LB_INLINE vec v_load(const float *p)
{
    return _mm256_loadu_ps(p);
}

LB_INLINE void v_store(float *p, vec a)
{
    _mm256_storeu_ps(p, a);
}

LB_INLINE vec v_zero(void)
{
    return _mm256_setzero_ps();
}

LB_INLINE vec v_set(float a)
{
    return _mm256_set1_ps(a);
}

LB_INLINE vec v_mul(vec a, vec b)
{
    return _mm256_mul_ps(a, b);
}

LB_INLINE vec v_fma(vec a, vec b, vec c)
{
    return _mm256_fmadd_ps(a, b, c);
}

LB_INLINE float v_join(vec s)
{
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

LB_INLINE vec v_load_f16(const void *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

LB_INLINE vec v_load_bf16(const void *p)
{
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

LB_INLINE vec v_load_i8(const void *p)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}

#include "kernels/x86/rows_body.h"

/* The limits come first in min and max, which give the second operand where one is a NaN. */
LB_INLINE __m128i narrow(vec x)
{
    x = _mm256_min_ps(_mm256_set1_ps(65504.0f), _mm256_max_ps(_mm256_set1_ps(-65504.0f), x));
    return _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT);
}

static void f32_to_f16(const float *in, uint16_t *out, size_t n)
{
    size_t i = 0;
    for (; n - i >= LANES; i += LANES)
        _mm_storeu_si128((__m128i *)(out + i), narrow(v_load(in + i)));
    if (i < n) {
        const __m128i last = narrow(vector_end(in + i, n - i));
        memcpy(out + i, &last, (n - i) * sizeof *out);
    }
}

void lb_fill_rows_avx2(lb_kernels *table)
{
    table->rows_dot = rows_dot;
    table->rows_mix = rows_mix;
    table->f32_to_f16 = f32_to_f16;
}
