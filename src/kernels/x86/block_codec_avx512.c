/* SPDX-License-Identifier: MIT
 * Block formats with AVX-512: 16 elements are one register. */
#include "kernels/x86/intrinsics.h"
#include "kernels/x86/x86.h"

typedef __m512 floats;
typedef __m512i ints;

LB_INLINE floats floats_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

LB_INLINE void floats_store(float *p, floats v)
{
    _mm512_storeu_ps(p, v);
}

LB_INLINE floats floats_all(float f)
{
    return _mm512_set1_ps(f);
}

LB_INLINE ints ints_load(const uint32_t *p)
{
    return _mm512_loadu_si512((const void *)p);
}

LB_INLINE ints ints_all(uint32_t i)
{
    return _mm512_set1_epi32((int)i);
}

LB_INLINE ints bits_of(floats v)
{
    return _mm512_castps_si512(v);
}

LB_INLINE floats floats_of_bits(ints v)
{
    return _mm512_castsi512_ps(v);
}

#define OP(type, name, instruction) \
    LB_INLINE type name(type a, type b) \
    { \
        return instruction(a, b); \
    }
OP(floats, floats_add, _mm512_add_ps)
OP(floats, floats_sub, _mm512_sub_ps)
OP(floats, floats_mul, _mm512_mul_ps)
OP(floats, floats_div, _mm512_div_ps)
OP(floats, floats_min, _mm512_min_ps)
OP(floats, floats_max, _mm512_max_ps)
OP(ints, ints_and, _mm512_and_si512)
OP(ints, ints_or, _mm512_or_si512)
OP(ints, ints_add, _mm512_add_epi32)
OP(ints, ints_sub, _mm512_sub_epi32)
OP(ints, ints_min, _mm512_min_epi32)
OP(ints, ints_max, _mm512_max_epi32)

LB_INLINE ints ints_shift_right(ints v, const unsigned n)
{
    return _mm512_srli_epi32(v, n);
}

LB_INLINE ints ints_shift_left(ints v, const unsigned n)
{
    return _mm512_slli_epi32(v, n);
}

LB_INLINE ints ints_of_bytes(__m128i v)
{
    return _mm512_cvtepu8_epi32(v);
}

LB_INLINE ints ints_rounded(floats v)
{
    return _mm512_cvtps_epi32(v);
}

LB_INLINE floats floats_of_ints(ints v)
{
    return _mm512_cvtepi32_ps(v);
}

LB_INLINE floats floats_of_shorts(__m256i v)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(v));
}

LB_INLINE floats floats_of_halves(__m256i v)
{
    return _mm512_cvtph_ps(v);
}

/* Of integers that fit into 16 bits. */
LB_INLINE __m256i shorts_of(ints v)
{
    return _mm512_cvtsepi32_epi16(v);
}

/* Of numbers that are not negative. */
LB_INLINE uint32_t ints_largest(ints v)
{
    const __m256i eight = _mm256_max_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
    __m128i four = _mm_max_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    four = _mm_max_epi32(four, _mm_shuffle_epi32(four, _MM_SHUFFLE(1, 0, 3, 2)));
    four = _mm_max_epi32(four, _mm_shuffle_epi32(four, _MM_SHUFFLE(2, 3, 0, 1)));
    return (uint32_t)_mm_cvtsi128_si32(four);
}

#define LB_FILL_BLOCK_CODEC lb_fill_block_codec_avx512
#include "kernels/x86/block_codec_simd.h"
