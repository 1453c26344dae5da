/* SPDX-License-Identifier: MIT
 *
 * Block formats, 16 elements at a time, for the instruction set whose registers of 16 floats and 16 integers
 * the includer has defined: floats, ints, the operations on them that are used below, and
 * LB_FILL_BLOCK_CODEC, the name of the function that enters the kernels into a table. Codes on their way are
 * 16 shorts in an AVX2 register at every level. Everything is compiled once per element, so that its fields
 * are constants.
 *
 * Decoding brings a code to the top of a short; from there a small float is an f16 after one shift, but for
 * the bias of its exponent, and the processor converts f16. Encoding does what lb_element_encode does.
 */
#include <float.h>
#include <string.h>

#include "formats/bits.h"
#include "kernels/block_codec.h"

/* 2^n as a constant, n within a float's normal exponents. */
#define POWER(n) lb_float_from_bits((uint32_t)((n) + 127) << 23)

LB_INLINE floats with_sign_of(floats magnitude, floats v)
{
    return floats_of_bits(ints_or(bits_of(magnitude), ints_and(bits_of(v), ints_all(0x80000000u))));
}

/* The steps of lb_element_encode: the magnitude within the element's range, its exponent's bits (at least
 * those of the lowest binade), and the number that rounds it. */
typedef struct rounding {
    floats magnitude, shifter;
    ints exponent;
} rounding;

LB_INLINE rounding rounding_of(const lb_element *e, floats y)
{
    rounding r;
    r.magnitude = floats_min(floats_of_bits(ints_and(bits_of(y), ints_all(0x7fffffffu))), floats_all(e->max));
    r.exponent = ints_max(ints_and(bits_of(r.magnitude), ints_all(0x7f800000u)),
                          ints_all((uint32_t)(e->min_exponent + 127) << 23));
    r.shifter = floats_of_bits(ints_add(r.exponent, ints_all(((23u - e->fraction_bits) << 23) + 0x400000u)));
    return r;
}

LB_INLINE floats within(const lb_element *e, float low, floats y)
{
    return floats_min(floats_max(y, floats_all(-low)), floats_all(e->max));
}

/* y to codes. */
LB_INLINE __m256i encode_16(const lb_element *e, float low, floats y)
{
    if (e->twos_complement)
        return _mm256_and_si256(shorts_of(ints_rounded(within(e, low, y))),
                                _mm256_set1_epi16((short)((1 << e->bits) - 1)));
    const rounding r = rounding_of(e, y);
    const ints rounded = bits_of(floats_add(r.magnitude, r.shifter));
    const ints code =
        ints_add(ints_sub(rounded, bits_of(r.shifter)), ints_shift_right(r.exponent, 23 - e->fraction_bits));
    const ints sign = ints_shift_right(ints_and(bits_of(y), ints_all(0x80000000u)), 32 - e->bits);
    return _mm256_sub_epi16(shorts_of(ints_add(code, sign)),
                            _mm256_set1_epi16((short)((e->min_exponent + 127) << e->fraction_bits)));
}

/* y to the nearest values there are. */
LB_INLINE floats round_16(const lb_element *e, float low, floats y)
{
    if (e->twos_complement)
        return floats_of_ints(ints_rounded(within(e, low, y)));
    const rounding r = rounding_of(e, y);
    return with_sign_of(floats_sub(floats_add(r.magnitude, r.shifter), r.shifter), y);
}

/* 16 codes to 2 * bits bytes. */
LB_INLINE void pack_16(unsigned bits, __m256i codes, uint8_t *out)
{
    const __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(codes), _mm256_extracti128_si256(codes, 1));
    if (bits == 8) {
        _mm_storeu_si128((__m128i *)out, bytes);
    } else if (bits == 4) {
        const __m128i pairs = _mm_maddubs_epi16(bytes, _mm_set1_epi16(0x1001));
        _mm_storel_epi64((__m128i *)out, _mm_packus_epi16(pairs, pairs));
    } else {
        const __m128i pairs = _mm_maddubs_epi16(bytes, _mm_set1_epi16(0x4001));
        const __m128i fours = _mm_madd_epi16(pairs, _mm_set1_epi32(0x10000001));
        const __m128i dense =
            _mm_shuffle_epi8(fours, _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1));
        const int last = _mm_extract_epi32(dense, 2);
        _mm_storel_epi64((__m128i *)out, dense);
        memcpy(out + 8, &last, sizeof last);
    }
}

/* Codes at the top of shorts, with neighbours' bits below them where they have fewer than 8. `second`: the
 * later 16 of a block of 32, so that the bytes read are the block's. */
LB_INLINE __m256i unpack_16(unsigned bits, bool second, const uint8_t *block)
{
    const uint8_t *in = block + (second ? 2 * bits : 0);
    if (bits == 8)
        return _mm256_slli_epi16(_mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)in)), 8);
    if (bits == 4) {
        long long bytes;
        memcpy(&bytes, in, sizeof bytes);
        const __m256i place = _mm256_setr_epi8(-1, 0, -1, 0, -1, 1, -1, 1, -1, 2, -1, 2, -1, 3, -1, 3, -1, 4,
                                               -1, 4, -1, 5, -1, 5, -1, 6, -1, 6, -1, 7, -1, 7);
        return _mm256_mullo_epi16(_mm256_shuffle_epi8(_mm256_set1_epi64x(bytes), place),
                                  _mm256_set1_epi32(0x00010010));
    }
    /* Four codes lie in three bytes, at bits 0 and 6 of the first two and at bits 4 and 10 of the last two. */
    const __m256i place = _mm256_setr_epi8(0, 1, 0, 1, 1, 2, 1, 2, 3, 4, 3, 4, 4, 5, 4, 5, 6, 7, 6, 7, 7, 8,
                                           7, 8, 9, 10, 9, 10, 10, 11, 10, 11);
    const __m128i bytes = _mm_loadu_si128((const __m128i *)(second ? in - 4 : in));
    const __m256i both = _mm256_broadcastsi128_si256(second ? _mm_srli_si128(bytes, 4) : bytes);
    return _mm256_mullo_epi16(_mm256_shuffle_epi8(both, place), _mm256_set1_epi64x(0x0001004000100400));
}

/* Values of codes, before the scale; for floats also before their UNIT. */
LB_INLINE floats value_16(const lb_element *e, __m256i top)
{
    if (e->twos_complement)
        return floats_of_shorts(_mm256_srai_epi16(top, (int)(16 - e->bits)));
    const int exponent_bits = (int)(e->bits - 1 - e->fraction_bits);
    const int fields = ((1 << (e->bits - 1)) - 1) << (10 - e->fraction_bits);
    const __m256i half = _mm256_and_si256(_mm256_srai_epi16(top, 5 - exponent_bits),
                                          _mm256_set1_epi16((short)(0x8000 | fields)));
    if (e->nan_code != e->max_code + 1)
        return floats_of_halves(half);
    const __m256i all = _mm256_set1_epi16((short)fields);
    const __m256i nan = _mm256_cmpeq_epi16(_mm256_and_si256(half, all), all);
    return floats_of_halves(_mm256_or_si256(half, _mm256_and_si256(nan, _mm256_set1_epi16(0x7c00))));
}

#define UNIT(e) ((e)->twos_complement ? 1.0f : POWER(14 + (e)->min_exponent))

/* ---- The scales of up to 16 blocks at once ------------------------------------------------------- */

enum { BATCH = 16 };

/* largest[b]: of the magnitudes of block b, as bits; 0 for blocks that are not there. */
LB_INLINE void measure_blocks(size_t block, const float *x, size_t blocks, uint32_t *largest)
{
    const ints mask = ints_all(0x7fffffffu);
    for (size_t b = 0; b < blocks; b++, x += block) {
        ints all = ints_and(bits_of(floats_load(x)), mask);
        if (block == 32)
            all = ints_max(all, ints_and(bits_of(floats_load(x + 16)), mask));
        largest[b] = ints_largest(all);
    }
    for (size_t b = blocks; b < BATCH; b++)
        largest[b] = 0;
}

typedef struct fitted {
    float scale[BATCH], inverse[BATCH]; /* inverse: where the scales are powers of two */
    uint8_t stored[BATCH * LB_BLOCK_SCALE_BYTES];
} fitted;

/* What lb_block_fit does by the format's rule. */
LB_INLINE void fit_scales(const lb_element *e, const lb_format *format, const uint32_t *largest, fitted *out)
{
    const ints all = ints_load(largest);
    const floats ratio = floats_div(floats_of_bits(all), floats_all(e->max));
    if (format->rule == LB_SCALE_EXACT) {
        floats_store(out->scale, ratio);
        memcpy(out->stored, out->scale, sizeof out->scale);
    } else if (format->rule == LB_SCALE_TWO_LEVEL) {
        const floats tensor = floats_all(format->tensor_scale);
        const floats factor = floats_div(ratio, tensor);
        pack_16(8, encode_16(&lb_constant_e4m3, 448.0f, factor), out->stored);
        floats_store(out->scale, floats_mul(round_16(&lb_constant_e4m3, 448.0f, factor), tensor));
    } else {
        /* k + 127, held to 0..254; exponents of 0 are the subnormal 2^-127 */
        ints code = ints_add(all, ints_all((uint32_t)lb_mx_bias(e, format->rule)));
        code = ints_shift_right(ints_max(code, ints_all(0)), 23);
        code = ints_sub(code, ints_all((lb_float_bits(e->max) >> 23) - 127));
        code = ints_min(ints_max(code, ints_all(0)), ints_all(254));
        const ints subnormal = ints_all(0x400000u);
        const ints opposite = ints_sub(ints_all(254), code);
        floats_store(out->scale, floats_of_bits(ints_max(ints_shift_left(code, 23), subnormal)));
        floats_store(out->inverse, floats_of_bits(ints_max(ints_shift_left(opposite, 23), subnormal)));
        pack_16(8, shorts_of(code), out->stored);
    }
    for (size_t b = 0; b < BATCH; b++) {
        if (largest[b] >= LB_BLOCK_NOT_FINITE) {
            out->scale[b] = lb_float_from_bits(0x7fc00000u);
            lb_block_store_nan(format, out->stored + b * lb_block_scale_bytes(format));
        }
    }
}

/* Scales as stored to floats. */
LB_INLINE void load_scales(const lb_format *format, const uint8_t *stored, size_t blocks, float *scale)
{
    uint8_t padded[BATCH * LB_BLOCK_SCALE_BYTES] = {0};
    memcpy(padded, stored, blocks * lb_block_scale_bytes(format));
    if (format->rule == LB_SCALE_EXACT) {
        memcpy(scale, padded, sizeof padded);
    } else if (format->rule == LB_SCALE_TWO_LEVEL) {
        const floats factor = value_16(&lb_constant_e4m3, unpack_16(8, false, padded));
        floats_store(scale, floats_mul(floats_mul(factor, floats_all(UNIT(&lb_constant_e4m3))),
                                       floats_all(format->tensor_scale)));
    } else {
        const ints code = ints_of_bytes(_mm_loadu_si128((const __m128i *)padded));
        const ints nan = ints_shift_left(ints_shift_right(ints_add(code, ints_all(1)), 8), 22);
        floats_store(scale,
                     floats_of_bits(ints_max(ints_or(ints_shift_left(code, 23), nan), ints_all(0x400000u))));
    }
}

/* ---- Up to 16 whole blocks ------------------------------------------------------------------------ */

LB_INLINE bool by_inverse(const lb_format *format)
{
    return format->rule != LB_SCALE_EXACT && format->rule != LB_SCALE_TWO_LEVEL;
}

LB_INLINE floats in_steps(bool inverse, const fitted *s, size_t b, const float *x)
{
    return inverse ? floats_mul(floats_load(x), floats_all(s->inverse[b]))
                   : floats_div(floats_load(x), floats_all(s->scale[b]));
}

LB_INLINE void encode_batch(const lb_element *e, const lb_format *format, size_t block, const float *x,
                            size_t blocks, uint8_t *codes, uint8_t *stored)
{
    const size_t half_bytes = 2 * e->bits, halves = block / 16;
    const float low = lb_block_low_max(format);
    const bool inverse = by_inverse(format);
    uint32_t largest[BATCH];
    fitted s;
    measure_blocks(block, x, blocks, largest);
    fit_scales(e, format, largest, &s);
    memcpy(stored, s.stored, blocks * lb_block_scale_bytes(format));
    for (size_t b = 0; b < blocks; b++, x += block, codes += halves * half_bytes) {
        if (!(s.scale[b] > 0.0f)) {
            memset(codes, 0, halves * half_bytes);
            continue;
        }
        for (size_t h = 0; h < halves; h++)
            pack_16(e->bits, encode_16(e, low, in_steps(inverse, &s, b, x + 16 * h)), codes + h * half_bytes);
    }
}

LB_INLINE void decode_batch(const lb_element *e, const lb_format *format, size_t block, const uint8_t *codes,
                            const uint8_t *stored, size_t blocks, float *x)
{
    const size_t half_bytes = 2 * e->bits, halves = block / 16;
    float scale[BATCH];
    load_scales(format, stored, blocks, scale);
    /* The UNIT goes with the scale, unless that would overflow. */
    const floats unit = floats_all(UNIT(e)), by = floats_load(scale);
    const bool apart =
        ints_largest(ints_and(bits_of(by), ints_all(0x7fffffffu))) > lb_float_bits(FLT_MAX / UNIT(e));
    if (!apart)
        floats_store(scale, floats_mul(by, unit));
    for (size_t b = 0; b < blocks; b++, codes += halves * half_bytes) {
        for (size_t h = 0; h < halves; h++, x += 16) {
            floats value = value_16(e, unpack_16(e->bits, h > 0, codes));
            if (apart)
                value = floats_mul(value, unit);
            floats_store(x, floats_mul(value, floats_all(scale[b])));
        }
    }
}

LB_INLINE void cast_batch(const lb_element *e, const lb_format *format, size_t block, float *x, size_t blocks)
{
    const float low = lb_block_low_max(format);
    const bool inverse = by_inverse(format);
    uint32_t largest[BATCH];
    fitted s;
    measure_blocks(block, x, blocks, largest);
    fit_scales(e, format, largest, &s);
    for (size_t b = 0; b < blocks; b++) {
        const floats scale = floats_all(s.scale[b]);
        for (size_t h = 0; h < block / 16; h++, x += 16) {
            if (s.scale[b] > 0.0f)
                floats_store(x, floats_mul(scale, round_16(e, low, in_steps(inverse, &s, b, x))));
            else
                floats_store(x, scale);
        }
    }
}

/* ---- Rows: whole blocks, and a short last one by way of a copy padded with zeros ------------------- */

/* How many elements the next batch takes off: whole blocks, or a short one. */
LB_INLINE size_t next_batch(size_t n, size_t block)
{
    return n < block ? n : n < BATCH * block ? n / block * block : BATCH * block;
}

LB_INLINE void encode_row(const lb_element *e, const lb_format *format, size_t block, const float *x,
                          size_t n, uint8_t *codes, uint8_t *stored)
{
    float last[LB_BLOCK_MOST] = {0};
    uint8_t last_codes[LB_BLOCK_MOST];
    for (size_t taken; n > 0; n -= taken) {
        taken = next_batch(n, block);
        const bool cut = taken < block;
        const size_t blocks = cut ? 1 : taken / block;
        if (cut)
            memcpy(last, x, n * sizeof *x);
        encode_batch(e, format, block, cut ? last : x, blocks, cut ? last_codes : codes, stored);
        if (cut)
            memcpy(codes, last_codes, lb_bits_bytes(n, e->bits));
        x += taken;
        codes += taken / 8 * e->bits;
        stored += blocks * lb_block_scale_bytes(format);
    }
}

LB_INLINE void decode_row(const lb_element *e, const lb_format *format, size_t block, const uint8_t *codes,
                          const uint8_t *stored, size_t n, float *x)
{
    float last[LB_BLOCK_MOST];
    uint8_t last_codes[LB_BLOCK_MOST] = {0};
    for (size_t taken; n > 0; n -= taken) {
        taken = next_batch(n, block);
        const bool cut = taken < block;
        const size_t blocks = cut ? 1 : taken / block;
        if (cut)
            memcpy(last_codes, codes, lb_bits_bytes(n, e->bits));
        decode_batch(e, format, block, cut ? last_codes : codes, stored, blocks, cut ? last : x);
        if (cut)
            memcpy(x, last, n * sizeof *x);
        x += taken;
        codes += taken / 8 * e->bits;
        stored += blocks * lb_block_scale_bytes(format);
    }
}

LB_INLINE void cast_row(const lb_element *e, const lb_format *format, size_t block, float *x, size_t n)
{
    float last[LB_BLOCK_MOST] = {0};
    for (size_t taken; n > 0; n -= taken, x += taken) {
        taken = next_batch(n, block);
        const bool cut = taken < block;
        if (cut)
            memcpy(last, x, n * sizeof *x);
        cast_batch(e, format, block, cut ? last : x, cut ? 1 : taken / block);
        if (cut)
            memcpy(x, last, n * sizeof *x);
    }
}

#include "kernels/block_codec_rows.h"
