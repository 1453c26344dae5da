/* SPDX-License-Identifier: MIT
 * Block formats for any processor: loops over the functions of formats/element.h, compiled once for each
 * element so that its fields are constants. */
#include <string.h>

#include "formats/bits.h"
#include "kernels/block_codec.h"

#define INLINE static inline __attribute__((always_inline))

INLINE void encode_codes(const lb_element *e, const lb_format *format, lb_block_step step, const float *x,
                         size_t n, uint8_t *codes)
{
    const float low = e->twos_complement ? lb_block_low_max(format) : e->max;
    if (step.by_factor) {
        for (size_t i = 0; i < n; i++)
            codes[i] = lb_element_encode(e, low, x[i] * step.factor);
    } else if (step.scale != 0.0f) {
        for (size_t i = 0; i < n; i++)
            codes[i] = lb_element_encode(e, low, x[i] / step.scale);
    } else {
        memset(codes, 0, n);
    }
}

INLINE void decode_codes(const lb_element *e, float scale, const uint8_t *codes, size_t n, float *x)
{
    for (size_t i = 0; i < n; i++)
        x[i] = scale * lb_element_decode(e, codes[i]);
}

INLINE void encode_block(const lb_element *e, const lb_format *format, size_t block, const float *x,
                         uint8_t *codes, uint8_t *scale)
{
    const uint32_t largest = lb_block_largest(x, block);
    uint8_t raw[LB_BLOCK_MOST];
    if (largest >= LB_BLOCK_NOT_FINITE) {
        lb_block_store_nan(format, scale);
        memset(raw, 0, block);
    } else {
        encode_codes(e, format, lb_block_measure(e, format, largest, scale), x, block, raw);
    }
    lb_bits_pack(raw, block, e->bits, codes);
}

INLINE void cast_block(const lb_element *e, const lb_format *format, size_t block, float *x)
{
    const uint32_t largest = lb_block_largest(x, block);
    uint8_t raw[LB_BLOCK_MOST], stored[LB_BLOCK_SCALE_BYTES];
    if (largest >= LB_BLOCK_NOT_FINITE) {
        for (size_t i = 0; i < block; i++)
            x[i] = lb_float_from_bits(0x7fc00000u);
        return;
    }
    const lb_block_step step = lb_block_measure(e, format, largest, stored);
    encode_codes(e, format, step, x, block, raw);
    decode_codes(e, step.scale, raw, block, x);
}

/* Rows. A short last block goes through a copy padded with zeros, so that `block` is always a constant. A
 * block is a multiple of 8 elements: each begins at a byte. */
INLINE void encode_row(const lb_element *e, const lb_format *format, size_t block, const float *x, size_t n,
                       uint8_t *codes, uint8_t *scales)
{
    float last[LB_BLOCK_MOST] = {0};
    uint8_t last_codes[LB_BLOCK_MOST];
    for (size_t taken; n > 0; n -= taken) {
        const bool cut = n < block;
        taken = cut ? n : block;
        if (cut)
            memcpy(last, x, n * sizeof *x);
        encode_block(e, format, block, cut ? last : x, cut ? last_codes : codes, scales);
        if (cut)
            memcpy(codes, last_codes, lb_bits_bytes(n, e->bits));
        x += taken;
        codes += taken / 8 * e->bits;
        scales += lb_block_scale_bytes(format);
    }
}

INLINE void decode_row(const lb_element *e, const lb_format *format, size_t block, const uint8_t *codes,
                       const uint8_t *scales, size_t n, float *x)
{
    float last[LB_BLOCK_MOST];
    uint8_t raw[LB_BLOCK_MOST] = {0};
    for (size_t taken; n > 0; n -= taken) {
        const bool cut = n < block;
        taken = cut ? n : block;
        lb_bits_unpack(codes, taken, e->bits, raw);
        decode_codes(e, lb_block_load_scale(format, scales), raw, block, cut ? last : x);
        if (cut)
            memcpy(x, last, n * sizeof *x);
        x += taken;
        codes += taken / 8 * e->bits;
        scales += lb_block_scale_bytes(format);
    }
}

INLINE void cast_row(const lb_element *e, const lb_format *format, size_t block, float *x, size_t n)
{
    float last[LB_BLOCK_MOST] = {0};
    for (size_t taken; n > 0; n -= taken, x += taken) {
        const bool cut = n < block;
        taken = cut ? n : block;
        if (cut)
            memcpy(last, x, n * sizeof *x);
        cast_block(e, format, block, cut ? last : x);
        if (cut)
            memcpy(x, last, n * sizeof *x);
    }
}

#define LB_FILL_BLOCK_CODEC lb_fill_block_codec_ref
#include "kernels/block_codec_rows.h"
