/* SPDX-License-Identifier: MIT
 * Bit planes with AVX2: products by look-up, 32 rows a register; expanding; and the tables of sums. */
#include <stdint.h>

#include "kernels/x86/encode_avx2.h"

typedef __m256i ints;
typedef __m256 floats;

LB_INLINE ints table_load(const uint8_t *p)
{
    return _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)p));
}

LB_INLINE floats halves_load(const uint16_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

#define REGISTER_BYTES 32
#define V(name) _mm256_##name
#define INTS_LOAD(p) _mm256_load_si256((const __m256i *)(p))
#define INTS_AND(a, b) _mm256_and_si256((a), (b))
#define INTS_ZERO() _mm256_setzero_si256()
#include "kernels/x86/planes_body.h"

/* ---- What planes_simd.h is made of --------------------------------------------------------------- */

LB_INLINE void expand_8(const uint8_t *bits, size_t stride, unsigned planes, const float *coefficients,
                        float *out)
{
    const __m256i places = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    __m256 sum = _mm256_set1_ps(coefficients[0]);
    for (unsigned p = 0; p < planes; p++, bits += stride) {
        const __m256i set = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(*bits), places), places);
        const __m256 added = _mm256_add_ps(sum, _mm256_set1_ps(coefficients[p + 1]));
        sum = _mm256_blendv_ps(sum, added, _mm256_castsi256_ps(set));
    }
    _mm256_storeu_ps(out, sum);
}

LB_INLINE int32_t encode_unit(const float *x, float scale, int16_t *codes)
{
    const float most = (float)LB_SUM_MOST;
    const __m256 inverse = _mm256_set1_ps(1.0f / scale);
    const __m256i mixed = _mm256_packs_epi32(encode_8(x, inverse, most), encode_8(x + 8, inverse, most));
    const __m256i in_order = _mm256_permute4x64_epi64(mixed, 0xd8);
    _mm256_storeu_si256((__m256i *)codes, in_order);
    const __m256i pairs = _mm256_madd_epi16(in_order, _mm256_set1_epi16(1));
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1)));
}

LB_INLINE void set_quad(const int16_t *codes, uint8_t *table)
{
    const __m256i first = _mm256_set1_epi32(-65536); /* odd subsets have it */
    const __m256i second = _mm256_set1_epi64x((long long)0xffffffff00000000ull);
    const __m256i third = _mm256_setr_epi64x(0, -1, 0, -1), fourth = _mm256_setr_epi64x(0, 0, -1, -1);
    __m256i sums = _mm256_set1_epi16(LB_SUM_OFFSET);
    sums = _mm256_add_epi16(sums, _mm256_and_si256(_mm256_set1_epi16(codes[0]), first));
    sums = _mm256_add_epi16(sums, _mm256_and_si256(_mm256_set1_epi16(codes[1]), second));
    sums = _mm256_add_epi16(sums, _mm256_and_si256(_mm256_set1_epi16(codes[2]), third));
    sums = _mm256_add_epi16(sums, _mm256_and_si256(_mm256_set1_epi16(codes[3]), fourth));
    const __m256i low = _mm256_and_si256(sums, _mm256_set1_epi16((1 << LB_SUM_HALF_BITS) - 1));
    const __m256i high = _mm256_srli_epi16(sums, LB_SUM_HALF_BITS);
    _mm256_store_si256((__m256i *)table, _mm256_permute4x64_epi64(_mm256_packus_epi16(low, high), 0xd8));
}

#include "kernels/planes_simd.h"

void lb_fill_planes_avx2(lb_kernels *table)
{
    table->planes_times = planes_times;
    table->planes_dequantize = planes_dequantize;
    table->sum_tables = sum_tables;
}
