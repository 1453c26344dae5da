/* SPDX-License-Identifier: MIT
 * Activations to integers with AVX2: what kernels/activation.h does. */
#ifndef LB_KERNELS_X86_ENCODE_AVX2_H
#define LB_KERNELS_X86_ENCODE_AVX2_H

#include <float.h>
#include <stddef.h>

#include "kernels/x86/intrinsics.h"

LB_INLINE float largest_lane(__m256 v)
{
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    m = _mm_max_ss(m, _mm_movehdup_ps(m));
    return _mm_cvtss_f32(m);
}

/* x [n], n a multiple of 8. */
LB_INLINE float activation_scale(const float *x, size_t n, float most)
{
    const __m256 no_sign = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    __m256 all = _mm256_setzero_ps();
    for (size_t i = 0; i < n; i += 8) /* max gives its second operand where one is NaN */
        all = _mm256_max_ps(_mm256_and_ps(_mm256_loadu_ps(x + i), no_sign), all);
    const float largest = largest_lane(all);
    const float scale = (largest < FLT_MAX ? largest : FLT_MAX) / most;
    return scale >= FLT_MIN ? scale : 0.0f;
}

LB_INLINE __m256i encode_8(const float *x, __m256 inverse, float most)
{
    __m256 v = _mm256_mul_ps(_mm256_loadu_ps(x), inverse);
    v = _mm256_and_ps(v, _mm256_cmp_ps(v, v, _CMP_ORD_Q));
    v = _mm256_max_ps(_mm256_min_ps(v, _mm256_set1_ps(most)), _mm256_set1_ps(-most));
    return _mm256_cvtps_epi32(v);
}

#endif
