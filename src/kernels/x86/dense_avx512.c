/* SPDX-License-Identifier: MIT
 * Float kernels with AVX-512. Decoding waits for memory, so only the reductions are here: the other
 * float kernels stay at AVX2. */
#include <stdint.h>
#include <string.h>

#include "kernels/x86/intrinsics.h"
#include "kernels/x86/x86.h"

enum { LANES = 16, STEP = 4 * LANES };

LB_INLINE __m512 load_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

LB_INLINE __m512 load_bf16(const uint16_t *p)
{
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

/* The four registers, then halves of what remains, in a fixed order. */
LB_INLINE float join(__m512 s0, __m512 s1, __m512 s2, __m512 s3)
{
    float lanes[LANES];
    _mm512_storeu_ps(lanes, _mm512_add_ps(_mm512_add_ps(s0, s1), _mm512_add_ps(s2, s3)));
    for (unsigned half = LANES / 2; half != 0; half /= 2)
        for (unsigned i = 0; i < half; i++)
            lanes[i] += lanes[i + half];
    return lanes[0];
}

static float dot_f32(const float *w, const float *x, size_t n)
{
    __m512 s0 = _mm512_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
    size_t i = 0;
    for (; n - i >= STEP; i += STEP) {
        s0 = _mm512_fmadd_ps(_mm512_loadu_ps(w + i), _mm512_loadu_ps(x + i), s0);
        s1 = _mm512_fmadd_ps(_mm512_loadu_ps(w + i + 16), _mm512_loadu_ps(x + i + 16), s1);
        s2 = _mm512_fmadd_ps(_mm512_loadu_ps(w + i + 32), _mm512_loadu_ps(x + i + 32), s2);
        s3 = _mm512_fmadd_ps(_mm512_loadu_ps(w + i + 48), _mm512_loadu_ps(x + i + 48), s3);
    }
    for (; n - i >= LANES; i += LANES)
        s0 = _mm512_fmadd_ps(_mm512_loadu_ps(w + i), _mm512_loadu_ps(x + i), s0);
    if (i < n) {
        float last_w[LANES] = {0}, last_x[LANES] = {0};
        memcpy(last_w, w + i, (n - i) * sizeof *w);
        memcpy(last_x, x + i, (n - i) * sizeof *x);
        s1 = _mm512_fmadd_ps(_mm512_loadu_ps(last_w), _mm512_loadu_ps(last_x), s1);
    }
    return join(s0, s1, s2, s3);
}

static float dot_f16(const uint16_t *w, const float *x, size_t n)
{
    __m512 s0 = _mm512_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
    size_t i = 0;
    for (; n - i >= STEP; i += STEP) {
        s0 = _mm512_fmadd_ps(load_f16(w + i), _mm512_loadu_ps(x + i), s0);
        s1 = _mm512_fmadd_ps(load_f16(w + i + 16), _mm512_loadu_ps(x + i + 16), s1);
        s2 = _mm512_fmadd_ps(load_f16(w + i + 32), _mm512_loadu_ps(x + i + 32), s2);
        s3 = _mm512_fmadd_ps(load_f16(w + i + 48), _mm512_loadu_ps(x + i + 48), s3);
    }
    for (; n - i >= LANES; i += LANES)
        s0 = _mm512_fmadd_ps(load_f16(w + i), _mm512_loadu_ps(x + i), s0);
    if (i < n) {
        uint16_t last_w[LANES] = {0};
        float last_x[LANES] = {0};
        memcpy(last_w, w + i, (n - i) * sizeof *w);
        memcpy(last_x, x + i, (n - i) * sizeof *x);
        s1 = _mm512_fmadd_ps(load_f16(last_w), _mm512_loadu_ps(last_x), s1);
    }
    return join(s0, s1, s2, s3);
}

static float dot_bf16(const uint16_t *w, const float *x, size_t n)
{
    __m512 s0 = _mm512_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
    size_t i = 0;
    for (; n - i >= STEP; i += STEP) {
        s0 = _mm512_fmadd_ps(load_bf16(w + i), _mm512_loadu_ps(x + i), s0);
        s1 = _mm512_fmadd_ps(load_bf16(w + i + 16), _mm512_loadu_ps(x + i + 16), s1);
        s2 = _mm512_fmadd_ps(load_bf16(w + i + 32), _mm512_loadu_ps(x + i + 32), s2);
        s3 = _mm512_fmadd_ps(load_bf16(w + i + 48), _mm512_loadu_ps(x + i + 48), s3);
    }
    for (; n - i >= LANES; i += LANES)
        s0 = _mm512_fmadd_ps(load_bf16(w + i), _mm512_loadu_ps(x + i), s0);
    if (i < n) {
        uint16_t last_w[LANES] = {0};
        float last_x[LANES] = {0};
        memcpy(last_w, w + i, (n - i) * sizeof *w);
        memcpy(last_x, x + i, (n - i) * sizeof *x);
        s1 = _mm512_fmadd_ps(load_bf16(last_w), _mm512_loadu_ps(last_x), s1);
    }
    return join(s0, s1, s2, s3);
}

void lb_fill_dense_avx512(lb_kernels *table)
{
    table->dot_f32 = dot_f32;
    table->dot_f16 = dot_f16;
    table->dot_bf16 = dot_bf16;
}
