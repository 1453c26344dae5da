/* SPDX-License-Identifier: MIT
 * Widening 16-bit floats, and reading memory, with AVX2. */
#include <stdint.h>
#include <string.h>

#include "kernels/x86/intrinsics.h"
#include "kernels/x86/x86.h"

enum { LANES = 8 };

LB_INLINE __m256 load_f16(const uint16_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

LB_INLINE __m256 load_bf16(const uint16_t *p)
{
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

static void f16_to_f32(const uint16_t *in, float *out, size_t n)
{
    size_t i = 0;
    for (; n - i >= LANES; i += LANES)
        _mm256_storeu_ps(out + i, load_f16(in + i));
    if (i < n) {
        uint16_t last[LANES] = {0};
        float wide[LANES];
        memcpy(last, in + i, (n - i) * sizeof *in);
        _mm256_storeu_ps(wide, load_f16(last));
        memcpy(out + i, wide, (n - i) * sizeof *out);
    }
}

static void bf16_to_f32(const uint16_t *in, float *out, size_t n)
{
    size_t i = 0;
    for (; n - i >= LANES; i += LANES)
        _mm256_storeu_ps(out + i, load_bf16(in + i));
    for (; i < n; i++) {
        uint32_t bits = (uint32_t)in[i] << 16;
        memcpy(out + i, &bits, sizeof bits);
    }
}

static uint64_t read_sum(const void *data, size_t bytes)
{
    const uint8_t *p = data, *end = p + bytes / 256 * 256;
    __m256i s0 = _mm256_setzero_si256(), s1 = s0, s2 = s0, s3 = s0;
    for (; p != end; p += 256) {
        const __m256i *v = (const __m256i *)p;
        s0 = _mm256_add_epi64(s0, _mm256_add_epi64(_mm256_loadu_si256(v), _mm256_loadu_si256(v + 1)));
        s1 = _mm256_add_epi64(s1, _mm256_add_epi64(_mm256_loadu_si256(v + 2), _mm256_loadu_si256(v + 3)));
        s2 = _mm256_add_epi64(s2, _mm256_add_epi64(_mm256_loadu_si256(v + 4), _mm256_loadu_si256(v + 5)));
        s3 = _mm256_add_epi64(s3, _mm256_add_epi64(_mm256_loadu_si256(v + 6), _mm256_loadu_si256(v + 7)));
    }
    for (end += bytes % 256 / 64 * 64; p != end; p += 32)
        s0 = _mm256_add_epi64(s0, _mm256_loadu_si256((const __m256i *)p));
    uint64_t words[4];
    s0 = _mm256_add_epi64(_mm256_add_epi64(s0, s1), _mm256_add_epi64(s2, s3));
    memcpy(words, &s0, sizeof words);
    return words[0] + words[1] + words[2] + words[3];
}

void lb_fill_dense_avx2(lb_kernels *table)
{
    table->f16_to_f32 = f16_to_f32;
    table->bf16_to_f32 = bf16_to_f32;
    table->read_sum = read_sum;
}
