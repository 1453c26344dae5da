/* SPDX-License-Identifier: MIT
 * The vendor's intrinsics; or, with LB_SIMDE, SIMDe's portable versions of them, so that the AVX-512
 * sources can be checked on a machine without AVX-512 (tests/kernels/simde_*.c). What SIMDe 0.7.4
 * lacks, or declares with the wrong arguments, is made up for here. */
#ifndef LB_KERNELS_X86_INTRINSICS_H
#define LB_KERNELS_X86_INTRINSICS_H

#ifndef LB_SIMDE

#include <immintrin.h>

#else

/* Emulated registers are passed between inlined functions only. */
#pragma GCC diagnostic ignored "-Wpsabi"
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#include <simde/x86/fma.h>
#include <string.h>

#define __mmask64 simde__mmask64

#undef _mm512_madd_epi16
#define _mm512_madd_epi16(a, b) simde_mm512_madd_epi16(a, b)

#undef _mm512_cvtepi32_ps
#define _mm512_cvtepi32_ps(a) lb_simde_cvtepi32_ps(a)
static inline __m512 lb_simde_cvtepi32_ps(__m512i a)
{
    int in[16];
    float out[16];
    memcpy(in, &a, sizeof in);
    for (int i = 0; i < 16; i++)
        out[i] = (float)in[i];
    return _mm512_loadu_ps(out);
}

#undef _mm512_cvtps_epi32
#define _mm512_cvtps_epi32(a) lb_simde_cvtps_epi32(a)
static inline __m512i lb_simde_cvtps_epi32(__m512 a)
{
    float in[16];
    memcpy(in, &a, sizeof in);
    __m256i low = _mm256_cvtps_epi32(_mm256_loadu_ps(in)), high = _mm256_cvtps_epi32(_mm256_loadu_ps(in + 8));
    int out[16];
    memcpy(out, &low, sizeof low);
    memcpy(out + 8, &high, sizeof high);
    return _mm512_loadu_si512(out);
}

#undef _mm512_cvtepi16_epi32
#define _mm512_cvtepi16_epi32(a) lb_simde_cvtepi16_epi32(a)
static inline __m512i lb_simde_cvtepi16_epi32(__m256i a)
{
    short in[16];
    int out[16];
    memcpy(in, &a, sizeof in);
    for (int i = 0; i < 16; i++)
        out[i] = in[i];
    return _mm512_loadu_si512(out);
}

#undef _mm512_cvtepi8_epi32
#define _mm512_cvtepi8_epi32(a) lb_simde_cvtepi8_epi32(a)
static inline __m512i lb_simde_cvtepi8_epi32(__m128i a)
{
    signed char in[16];
    int out[16];
    memcpy(in, &a, sizeof in);
    for (int i = 0; i < 16; i++)
        out[i] = in[i];
    return _mm512_loadu_si512(out);
}

#undef _mm512_cvtepu8_epi32
#define _mm512_cvtepu8_epi32(a) lb_simde_cvtepu8_epi32(a)
static inline __m512i lb_simde_cvtepu8_epi32(__m128i a)
{
    unsigned char in[16];
    int out[16];
    memcpy(in, &a, sizeof in);
    for (int i = 0; i < 16; i++)
        out[i] = in[i];
    return _mm512_loadu_si512(out);
}

#undef _mm512_cvtepu16_epi32
#define _mm512_cvtepu16_epi32(a) lb_simde_cvtepu16_epi32(a)
static inline __m512i lb_simde_cvtepu16_epi32(__m256i a)
{
    unsigned short in[16];
    int out[16];
    memcpy(in, &a, sizeof in);
    for (int i = 0; i < 16; i++)
        out[i] = in[i];
    return _mm512_loadu_si512(out);
}

#undef _mm512_cvtph_ps
#define _mm512_cvtph_ps(a) lb_simde_cvtph_ps(a)
static inline __m512 lb_simde_cvtph_ps(__m256i a)
{
    __m256 low = _mm256_cvtph_ps(_mm256_castsi256_si128(a));
    __m256 high = _mm256_cvtph_ps(_mm256_extracti128_si256(a, 1));
    float out[16];
    memcpy(out, &low, sizeof low);
    memcpy(out + 8, &high, sizeof high);
    return _mm512_loadu_ps(out);
}

#endif

/* Helpers are part of the loop that calls them: the width of the codes and the quad must be known. Emulated,
 * they only would take minutes to compile. */
#ifdef LB_SIMDE
#define LB_INLINE static inline
#else
#define LB_INLINE static inline __attribute__((always_inline))
#endif

#endif
