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

LB_INLINE void floats_store(float *p, floats v)
{
    _mm512_storeu_ps(p, v);
}

#define LINE_LOAD(p) _mm512_load_si512((const void *)(p))
#define LINE_AND(v, byte) _mm512_and_si512((v), _mm512_set1_epi8((char)(byte)))
#define LINE_OR(u, v) _mm512_or_si512((u), (v))
#define LINE_SHIFT_RIGHT(v, n) _mm512_srli_epi16((v), (unsigned)(n))
#define LINE_SHIFT_LEFT(v, n) _mm512_slli_epi16((v), (unsigned)(n))
#define FLOATS_ZERO() _mm512_setzero_ps()
#define FLOATS_ALL(f) _mm512_set1_ps(f)
#define FLOATS_ADD(a, b) _mm512_add_ps((a), (b))
#define FLOATS_SUB(a, b) _mm512_sub_ps((a), (b))
#define FLOATS_MUL(a, b) _mm512_mul_ps((a), (b))

#endif
