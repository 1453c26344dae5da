/* SPDX-License-Identifier: MIT
 * What qmat_avx512.c and qmat_avx512vnni.c share: a line of 64 bytes is one register, 16 rows. */
#ifndef LB_KERNELS_X86_QMAT_AVX512_H
#define LB_KERNELS_X86_QMAT_AVX512_H

#include <stdint.h>
#include <string.h>

#include "kernels/x86/intrinsics.h"
#include "kernels/x86/x86.h"

typedef __m512i ints;
typedef __m512 floats;

LB_INLINE ints activations(const int8_t *x)
{
    int word;
    memcpy(&word, x, sizeof word);
    return _mm512_set1_epi32(word);
}

LB_INLINE floats zeros_load(const uint8_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)));
}

LB_INLINE floats scales_load(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

LB_INLINE floats to_floats(ints v)
{
    return _mm512_cvtepi32_ps(v);
}

LB_INLINE ints less(ints sums, int32_t from_all)
{
    return _mm512_sub_epi32(sums, _mm512_set1_epi32(from_all));
}

LB_INLINE ints less_zeros(ints sums, const uint8_t *zeros, int32_t x_sum)
{
    const ints wide = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)zeros));
    return _mm512_sub_epi32(sums, _mm512_mullo_epi32(wide, _mm512_set1_epi32(x_sum)));
}

LB_INLINE ints line_e2m1(ints codes)
{
    static const uint8_t table[] = {LB_PANEL_E2M1, LB_PANEL_E2M1, LB_PANEL_E2M1, LB_PANEL_E2M1};
    return _mm512_shuffle_epi8(_mm512_loadu_si512((const void *)table), codes);
}

/* The scales of a blocked panel. */
LB_INLINE floats block_scales(const lb_qmat_panel *panel, size_t index)
{
    const uint8_t *bytes = (const uint8_t *)panel->scales + index * LB_PANEL_ROWS;
    const floats factor = _mm512_set1_ps(panel->factor);
    if (panel->scale_type == LB_PANEL_F32)
        return _mm512_mul_ps(_mm512_loadu_ps((const float *)panel->scales + index * LB_PANEL_ROWS), factor);
    const __m128i codes = _mm_loadu_si128((const __m128i *)bytes);
    if (panel->scale_type == LB_PANEL_E4M3)
        return _mm512_mul_ps(_mm512_cvtph_ps(_mm256_slli_epi16(_mm256_cvtepu8_epi16(codes), 7)), factor);
    /* Byte 0 is 2^-127, whose bits are below those of all others. */
    const ints powers = _mm512_slli_epi32(_mm512_cvtepu8_epi32(codes), 23);
    return _mm512_mul_ps(_mm512_castsi512_ps(_mm512_max_epi32(powers, _mm512_set1_epi32(1 << 22))), factor);
}

LB_INLINE void floats_store(float *p, floats v)
{
    _mm512_storeu_ps(p, v);
}

#define LINE_LOAD(p) _mm512_load_si512((const void *)(p))
#define LINE_AND(v, byte) _mm512_and_si512((v), _mm512_set1_epi8((char)(byte)))
#define LINE_OR(u, v) _mm512_or_si512((u), (v))
#define LINE_SHIFT_RIGHT(v, n) _mm512_srli_epi16((v), (unsigned)(n))
#define LINE_SHIFT_LEFT(v, n) _mm512_slli_epi16((v), (unsigned)(n))
#define LINE_E2M1(v) line_e2m1(v)
#define INTS_ZERO() _mm512_setzero_si512()
#define INTS_ADD(a, b) _mm512_add_epi32((a), (b))
#define FLOATS_ZERO() _mm512_setzero_ps()
#define FLOATS_ALL(f) _mm512_set1_ps(f)
#define FLOATS_ADD(a, b) _mm512_add_ps((a), (b))
#define FLOATS_SUB(a, b) _mm512_sub_ps((a), (b))
#define FLOATS_MUL(a, b) _mm512_mul_ps((a), (b))

#endif
