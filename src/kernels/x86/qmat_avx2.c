/* SPDX-License-Identifier: MIT
 *
 * Quantized matrices with AVX2. A line of 64 bytes is a pair of registers, eight rows each.
 *
 * vpmaddubsw multiplies unsigned codes by signed activations and adds neighbours with 16-bit
 * saturation. Two terms of at most (2^bits - 1) * 128 fit up to 7 bits, and 8, 4 or 2 results may
 * be added in 16 bits before they must be widened; 8-bit codes are two of 4 bits. */
#include <stdint.h>
#include <string.h>

#include "kernels/x86/encode_avx2.h"
#include "kernels/x86/x86.h"

typedef struct ints {
    __m256i low, high;
} ints;
typedef struct floats {
    __m256 low, high;
} floats;

LB_INLINE ints line_load(const uint8_t *p)
{
    return (ints){_mm256_load_si256((const __m256i *)p), _mm256_load_si256((const __m256i *)(p + 32))};
}

LB_INLINE ints line_and(ints v, int byte)
{
    __m256i mask = _mm256_set1_epi8((char)byte);
    return (ints){_mm256_and_si256(v.low, mask), _mm256_and_si256(v.high, mask)};
}

LB_INLINE ints line_or(ints u, ints v)
{
    return (ints){_mm256_or_si256(u.low, v.low), _mm256_or_si256(u.high, v.high)};
}

LB_INLINE ints line_shift_right(ints v, int n)
{
    return n ? (ints){_mm256_srli_epi16(v.low, n), _mm256_srli_epi16(v.high, n)} : v;
}

LB_INLINE ints line_shift_left(ints v, int n)
{
    return (ints){_mm256_slli_epi16(v.low, n), _mm256_slli_epi16(v.high, n)};
}

/* The sum of a block: 16-bit pairs not yet widened (of 8-bit codes those of the lower halves and of the upper), and
 * the 32-bit rest. */
typedef struct counter {
    ints pairs, uppers, sums;
} counter;

LB_INLINE __m256i widened(__m256i pairs, int times)
{
    return _mm256_madd_epi16(pairs, _mm256_set1_epi16((short)times));
}

LB_INLINE ints ints_add(ints a, ints b)
{
    return (ints){_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)};
}

LB_INLINE ints ints_zero(void)
{
    return (ints){_mm256_setzero_si256(), _mm256_setzero_si256()};
}

/* pairs + codes * xs, or without pairs before the first. */
LB_INLINE ints add_products(ints pairs, ints codes, __m256i xs, const bool first)
{
    ints products = {_mm256_maddubs_epi16(codes.low, xs), _mm256_maddubs_epi16(codes.high, xs)};
    if (!first) {
        products.low = _mm256_add_epi16(products.low, pairs.low);
        products.high = _mm256_add_epi16(products.high, pairs.high);
    }
    /* Keeps gcc from rebalancing the additions into a tree, for which there are not enough registers. */
    __asm__("" : "+x"(products.low), "+x"(products.high));
    return products;
}

/* c += codes * the four activations at x, for quad 0 .. quads - 1 in turn. */
LB_INLINE void count(counter *c, ints codes, const int8_t *x, const int bits, const int quad, const int quads)
{
    int word;
    memcpy(&word, x, sizeof word);
    const __m256i xs = _mm256_set1_epi32(word);
    /* How many 16-bit results may be added: run * 2 * 128 * (2^bits - 1) <= 32767. */
    const int most = bits <= 4 || bits == 8 ? 8 : bits == 5 ? 4 : bits == 6 ? 2 : 1;
    const int run = most < quads ? most : quads;
    const bool first = quad % run == 0;
    if (bits == 8) {
        c->pairs = add_products(c->pairs, line_and(codes, 15), xs, first);
        c->uppers = add_products(c->uppers, line_and(line_shift_right(codes, 4), 15), xs, first);
    } else {
        c->pairs = add_products(c->pairs, codes, xs, first);
    }
    if ((quad + 1) % run != 0)
        return;
    ints sums = {widened(c->pairs.low, 1), widened(c->pairs.high, 1)};
    if (bits == 8)
        sums = ints_add(sums, (ints){widened(c->uppers.low, 16), widened(c->uppers.high, 16)});
    c->sums = quad < run ? sums : ints_add(sums, c->sums);
}

LB_INLINE ints counted(const counter *c)
{
    return c->sums;
}

LB_INLINE ints less(ints sums, int32_t from_all)
{
    const __m256i all = _mm256_set1_epi32(from_all);
    return (ints){_mm256_sub_epi32(sums.low, all), _mm256_sub_epi32(sums.high, all)};
}

LB_INLINE ints less_zeros(ints sums, const uint8_t *zeros, int32_t x_sum)
{
    const __m128i bytes = _mm_loadu_si128((const __m128i *)zeros);
    const __m256i all = _mm256_set1_epi32(x_sum);
    const __m256i low = _mm256_mullo_epi32(_mm256_cvtepu8_epi32(bytes), all);
    const __m256i high = _mm256_mullo_epi32(_mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8)), all);
    return (ints){_mm256_sub_epi32(sums.low, low), _mm256_sub_epi32(sums.high, high)};
}

LB_INLINE floats to_floats(ints v)
{
    return (floats){_mm256_cvtepi32_ps(v.low), _mm256_cvtepi32_ps(v.high)};
}

LB_INLINE ints line_e2m1(ints codes)
{
    const __m256i table = _mm256_setr_epi8(LB_PANEL_E2M1, LB_PANEL_E2M1);
    return (ints){_mm256_shuffle_epi8(table, codes.low), _mm256_shuffle_epi8(table, codes.high)};
}

LB_INLINE floats floats_all(float f)
{
    return (floats){_mm256_set1_ps(f), _mm256_set1_ps(f)};
}

LB_INLINE floats floats_add(floats a, floats b)
{
    return (floats){_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
}

LB_INLINE floats floats_sub(floats a, floats b)
{
    return (floats){_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
}

LB_INLINE floats floats_mul(floats a, floats b)
{
    return (floats){_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
}

LB_INLINE floats scales_load(const uint16_t *p)
{
    return (floats){_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)),
                    _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 8)))};
}

/* The scales of a blocked panel. */
LB_INLINE floats block_scales(const lb_qmat_panel *panel, size_t index)
{
    const uint8_t *bytes = (const uint8_t *)panel->scales + index * LB_PANEL_ROWS;
    const floats factor = {_mm256_set1_ps(panel->factor), _mm256_set1_ps(panel->factor)};
    if (panel->scale_type == LB_PANEL_F32) {
        const float *p = (const float *)panel->scales + index * LB_PANEL_ROWS;
        return (floats){_mm256_mul_ps(_mm256_loadu_ps(p), factor.low),
                        _mm256_mul_ps(_mm256_loadu_ps(p + 8), factor.high)};
    }
    const __m128i codes = _mm_loadu_si128((const __m128i *)bytes);
    if (panel->scale_type == LB_PANEL_E4M3) {
        const __m256i halves = _mm256_slli_epi16(_mm256_cvtepu8_epi16(codes), 7);
        return (floats){_mm256_mul_ps(_mm256_cvtph_ps(_mm256_castsi256_si128(halves)), factor.low),
                        _mm256_mul_ps(_mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1)), factor.high)};
    }
    /* Byte 0 is 2^-127, whose bits are below those of all others. */
    const __m256i least = _mm256_set1_epi32(1 << 22);
    const __m256i low = _mm256_max_epi32(_mm256_slli_epi32(_mm256_cvtepu8_epi32(codes), 23), least);
    const __m256i high =
        _mm256_max_epi32(_mm256_slli_epi32(_mm256_cvtepu8_epi32(_mm_srli_si128(codes, 8)), 23), least);
    return (floats){_mm256_mul_ps(_mm256_castsi256_ps(low), factor.low),
                    _mm256_mul_ps(_mm256_castsi256_ps(high), factor.high)};
}

LB_INLINE floats zeros_load(const uint8_t *p)
{
    __m128i bytes = _mm_loadu_si128((const __m128i *)p);
    return (floats){_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)),
                    _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8)))};
}

LB_INLINE void floats_store(float *p, floats v)
{
    _mm256_storeu_ps(p, v.low);
    _mm256_storeu_ps(p + 8, v.high);
}

#define LINE_LOAD line_load
#define LINE_AND line_and
#define LINE_OR line_or
#define LINE_SHIFT_RIGHT line_shift_right
#define LINE_SHIFT_LEFT line_shift_left
#define LINE_E2M1 line_e2m1
#define INTS_ZERO ints_zero
#define INTS_ADD ints_add
#define FLOATS_ZERO() floats_all(0.0f)
#define FLOATS_ALL floats_all
#define FLOATS_ADD floats_add
#define FLOATS_SUB floats_sub
#define FLOATS_MUL floats_mul
#include "kernels/x86/qmat_times.h"

/* ---- Expanding ----------------------------------------------------------------------------------- */

/* The codes of one quad, one byte each, as in the 8-bit layout. */
LB_INLINE ints quad_codes(const uint8_t *block, unsigned bits, unsigned quad)
{
    ints codes = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    int place = 0;
    for (unsigned width = 8; width != 0; width /= 2) {
        if (!(bits & width))
            continue;
        const unsigned per_line = 8 / width;
        ints part = line_load(block + (size_t)(quad / per_line) * LB_LINE_BYTES);
        part = line_and(line_shift_right(part, (int)(quad % per_line * width)), (1 << width) - 1);
        codes = line_or(codes, line_shift_left(part, place));
        block += (size_t)width * LB_LINE_BYTES;
        place += (int)width;
    }
    return codes;
}

/* lanes[quad] holds a quad of rows 0..7; afterwards lanes[row] holds the eight quads of that row. */
LB_INLINE void transpose_8x8(__m256i lanes[8])
{
    __m256i pairs[8], fours[8];
    for (unsigned i = 0; i < 8; i += 2) {
        pairs[i] = _mm256_unpacklo_epi32(lanes[i], lanes[i + 1]);
        pairs[i + 1] = _mm256_unpackhi_epi32(lanes[i], lanes[i + 1]);
    }
    for (unsigned i = 0; i < 8; i += 4) {
        fours[i] = _mm256_unpacklo_epi64(pairs[i], pairs[i + 2]);
        fours[i + 1] = _mm256_unpackhi_epi64(pairs[i], pairs[i + 2]);
        fours[i + 2] = _mm256_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
        fours[i + 3] = _mm256_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
    }
    for (unsigned i = 0; i < 4; i++) {
        lanes[i] = _mm256_permute2x128_si256(fours[i], fours[i + 4], 0x20);
        lanes[i + 4] = _mm256_permute2x128_si256(fours[i], fours[i + 4], 0x31);
    }
}

/* A block's integers row by row. */
LB_INLINE void untangle(const uint8_t *block, const lb_qmat_panel *panel,
                        uint8_t rows[LB_PANEL_ROWS][LB_PANEL_COLS])
{
    __m256i low[LB_PANEL_QUADS], high[LB_PANEL_QUADS];
    for (unsigned quad = 0; quad < LB_PANEL_QUADS; quad++) {
        ints codes = quad_codes(block, panel->bits, quad);
        if (panel->e2m1)
            codes = line_e2m1(codes);
        low[quad] = codes.low;
        high[quad] = codes.high;
    }
    transpose_8x8(low);
    transpose_8x8(high);
    for (unsigned row = 0; row < 8; row++) {
        _mm256_storeu_si256((__m256i *)rows[row], low[row]);
        _mm256_storeu_si256((__m256i *)rows[row + 8], high[row]);
    }
}

LB_INLINE void expand_half(const uint8_t *codes, float scale, float zero, float *out)
{
    for (unsigned c = 0; c < LB_PANEL_HALF; c += 8) {
        __m256i wide = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(codes + c)));
        __m256 centred = _mm256_sub_ps(_mm256_cvtepi32_ps(wide), _mm256_set1_ps(zero));
        _mm256_storeu_ps(out + c, _mm256_mul_ps(_mm256_set1_ps(scale), centred));
    }
}

/* What the rows of a block are multiplied by, for each of its halves, and what is taken off before. */
typedef struct block_parameters {
    float scales[2][LB_PANEL_ROWS], zeros[LB_PANEL_ROWS];
} block_parameters;

LB_INLINE void load_parameters(block_parameters *p, const lb_qmat_panel *panel, size_t b)
{
    const size_t group = b / panel->group_blocks * (panel->halves ? 2 : 1);
    for (size_t half = 0; half < 2; half++) {
        const size_t at = group + (panel->halves ? half : 0);
        floats_store(p->scales[half],
                     panel->blocked ? block_scales(panel, at)
                                    : scales_load((const uint16_t *)panel->scales + at * LB_PANEL_ROWS));
    }
    floats_store(p->zeros,
                 panel->zeros ? zeros_load(panel->zeros + group * LB_PANEL_ROWS) : floats_all(panel->zero));
}

static void qmat_dequantize(const lb_qmat_panel *panel, size_t first, size_t count, size_t cols, float *out)
{
    const uint8_t *block = panel->codes;
    block_parameters p;
    for (size_t b = 0; b < panel->col_blocks; b++, block += (size_t)panel->bits * LB_LINE_BYTES) {
        if (b % panel->group_blocks == 0)
            load_parameters(&p, panel, b);
        uint8_t codes[LB_PANEL_ROWS][LB_PANEL_COLS];
        untangle(block, panel, codes);
        size_t column = b * LB_PANEL_COLS, here = cols - column;
        for (size_t row = first; row < first + count; row++) {
            float last[LB_PANEL_COLS], *to = out + (row - first) * cols + column;
            float *into = here >= LB_PANEL_COLS ? to : last;
            expand_half(codes[row], p.scales[0][row], p.zeros[row], into);
            expand_half(codes[row] + LB_PANEL_HALF, p.scales[1][row], p.zeros[row], into + LB_PANEL_HALF);
            if (into == last)
                memcpy(to, last, here * sizeof *to);
        }
    }
}

/* ---- Activations --------------------------------------------------------------------------------- */

static void qvec_encode(const float *x, size_t blocks, int8_t *codes, float *scales, int32_t *code_sums)
{
    const __m256i in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    for (size_t b = 0; b < blocks; b++, x += LB_PANEL_COLS, codes += LB_PANEL_COLS) {
        const float scale = activation_scale(x, LB_PANEL_COLS, 127.0f);
        scales[2 * b] = scales[2 * b + 1] = scale;
        __m256i packed = _mm256_setzero_si256();
        if (scale > 0.0f) {
            const __m256 inverse = _mm256_set1_ps(1.0f / scale);
            __m256i low = _mm256_packs_epi32(encode_8(x, inverse, 127.0f), encode_8(x + 8, inverse, 127.0f));
            __m256i high =
                _mm256_packs_epi32(encode_8(x + 16, inverse, 127.0f), encode_8(x + 24, inverse, 127.0f));
            packed = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), in_order);
        }
        _mm256_storeu_si256((__m256i *)codes, packed);
        __m256i fours = widened(_mm256_maddubs_epi16(_mm256_set1_epi8(1), packed), 1);
        /* Within each half: neighbours, then neighbours of those. */
        const __m256i eights = _mm256_hadd_epi32(fours, fours), sums = _mm256_hadd_epi32(eights, eights);
        code_sums[2 * b] = _mm_cvtsi128_si32(_mm256_castsi256_si128(sums));
        code_sums[2 * b + 1] = _mm_cvtsi128_si32(_mm256_extracti128_si256(sums, 1));
    }
}

void lb_fill_qmat_avx2(lb_kernels *table)
{
    table->qmat_times = qmat_times;
    table->qmat_times_few = qmat_times_few;
    table->qmat_times_rows = qmat_times_rows;
    table->qmat_dequantize = qmat_dequantize;
    table->qvec_encode = qvec_encode;
}
