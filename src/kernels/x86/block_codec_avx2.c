/* SPDX-License-Identifier: MIT
 * Block formats with AVX2: 16 elements are a pair of registers. */
#include "kernels/x86/intrinsics.h"
#include "kernels/x86/x86.h"

typedef struct floats {
    __m256 low, high;
} floats;
typedef struct ints {
    __m256i low, high;
} ints;

LB_INLINE floats floats_load(const float *p)
{
    return (floats){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}

LB_INLINE void floats_store(float *p, floats v)
{
    _mm256_storeu_ps(p, v.low);
    _mm256_storeu_ps(p + 8, v.high);
}

LB_INLINE floats floats_all(float f)
{
    return (floats){_mm256_set1_ps(f), _mm256_set1_ps(f)};
}

LB_INLINE ints ints_all(uint32_t i)
{
    return (ints){_mm256_set1_epi32((int)i), _mm256_set1_epi32((int)i)};
}

LB_INLINE ints bits_of(floats v)
{
    return (ints){_mm256_castps_si256(v.low), _mm256_castps_si256(v.high)};
}

LB_INLINE floats floats_of_bits(ints v)
{
    return (floats){_mm256_castsi256_ps(v.low), _mm256_castsi256_ps(v.high)};
}

#define FLOATS_OP(name, instruction) \
    LB_INLINE floats name(floats a, floats b) \
    { \
        return (floats){instruction(a.low, b.low), instruction(a.high, b.high)}; \
    }
#define INTS_OP(name, instruction) \
    LB_INLINE ints name(ints a, ints b) \
    { \
        return (ints){instruction(a.low, b.low), instruction(a.high, b.high)}; \
    }
FLOATS_OP(floats_add, _mm256_add_ps)
FLOATS_OP(floats_sub, _mm256_sub_ps)
FLOATS_OP(floats_mul, _mm256_mul_ps)
FLOATS_OP(floats_div, _mm256_div_ps)
FLOATS_OP(floats_min, _mm256_min_ps)
FLOATS_OP(floats_max, _mm256_max_ps)
INTS_OP(ints_and, _mm256_and_si256)
INTS_OP(ints_or, _mm256_or_si256)
INTS_OP(ints_add, _mm256_add_epi32)
INTS_OP(ints_sub, _mm256_sub_epi32)
INTS_OP(ints_max, _mm256_max_epi32)
INTS_OP(ints_min, _mm256_min_epi32)

LB_INLINE ints ints_load(const uint32_t *p)
{
    return (ints){_mm256_loadu_si256((const __m256i *)p), _mm256_loadu_si256((const __m256i *)(p + 8))};
}

LB_INLINE ints ints_of_bytes(__m128i v)
{
    return (ints){_mm256_cvtepu8_epi32(v), _mm256_cvtepu8_epi32(_mm_srli_si128(v, 8))};
}

LB_INLINE ints ints_shift_left(ints v, const unsigned n)
{
    return (ints){_mm256_slli_epi32(v.low, (int)n), _mm256_slli_epi32(v.high, (int)n)};
}

LB_INLINE ints ints_shift_right(ints v, const unsigned n)
{
    return (ints){_mm256_srli_epi32(v.low, (int)n), _mm256_srli_epi32(v.high, (int)n)};
}

LB_INLINE ints ints_rounded(floats v)
{
    return (ints){_mm256_cvtps_epi32(v.low), _mm256_cvtps_epi32(v.high)};
}

LB_INLINE floats floats_of_ints(ints v)
{
    return (floats){_mm256_cvtepi32_ps(v.low), _mm256_cvtepi32_ps(v.high)};
}

LB_INLINE floats floats_of_shorts(__m256i v)
{
    return (floats){_mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm256_castsi256_si128(v))),
                    _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm256_extracti128_si256(v, 1)))};
}

LB_INLINE floats floats_of_halves(__m256i v)
{
    return (floats){_mm256_cvtph_ps(_mm256_castsi256_si128(v)),
                    _mm256_cvtph_ps(_mm256_extracti128_si256(v, 1))};
}

/* Of integers that fit into 16 bits. */
LB_INLINE __m256i shorts_of(ints v)
{
    return _mm256_permute4x64_epi64(_mm256_packs_epi32(v.low, v.high), _MM_SHUFFLE(3, 1, 2, 0));
}

/* Of numbers that are not negative. */
LB_INLINE uint32_t ints_largest(ints v)
{
    const __m256i eight = _mm256_max_epi32(v.low, v.high);
    __m128i four = _mm_max_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    four = _mm_max_epi32(four, _mm_shuffle_epi32(four, _MM_SHUFFLE(1, 0, 3, 2)));
    four = _mm_max_epi32(four, _mm_shuffle_epi32(four, _MM_SHUFFLE(2, 3, 0, 1)));
    return (uint32_t)_mm_cvtsi128_si32(four);
}

#define LB_FILL_BLOCK_CODEC lb_fill_block_codec_avx2
#include "kernels/x86/block_codec_simd.h"
