/* SPDX-License-Identifier: MIT
 *
 * Block formats: a row is cut into short blocks, and a block has one scale. What MX formats (mx.c) and NV
 * formats (nv.c) have in common, and the rules by which a block's scale follows from its largest magnitude
 * (arXiv:2510.25602 eq. 8-9; OCP MX v1.0).
 *
 *   value = scale * element;   scale = 2^k (MX),  block * tensor (NV: E4M3 times a float of the tensor)
 *
 * A block that holds a NaN or an infinity has the scale NaN, and all its values are NaN. A block of zeros has
 * the least scale there is, and zeros. A value whose block is too small for the least scale rounds to the
 * grid of that scale, which is to zero in the end.
 *
 * Parameters of a group, in this order: the scale as a float; NV's two levels: the block's E4M3 factor.
 */
#ifndef LB_FORMATS_BLOCK_FORMAT_H
#define LB_FORMATS_BLOCK_FORMAT_H

#include "formats/element.h"
#include "formats/format.h"

enum { LB_BLOCK_SCALE = 0, LB_NV_BLOCK_FACTOR = 1, LB_MX_BLOCK = 32, LB_NV_BLOCK = 16 };

/* The largest magnitude as bits of a float; anything not finite is at least 0x7f800000. */
static inline uint32_t lb_block_largest(const float *x, size_t n)
{
    uint32_t largest = 0;
    for (size_t i = 0; i < n; i++) {
        const uint32_t magnitude = lb_float_bits(x[i]) & 0x7fffffffu;
        largest = magnitude > largest ? magnitude : largest;
    }
    return largest;
}

/* k of an MX block whose largest magnitude is `largest`, held to -127..127. From the bits alone: a
 * logarithm of a rounded number would be one off at powers of two. */
static inline int lb_mx_exponent(const lb_element *e, lb_scale_rule rule, uint32_t largest)
{
    const uint32_t max = lb_float_bits(e->max), max_fraction = max & 0x7fffffu;
    if (rule == LB_SCALE_EVEN)
        largest += 1u << (22 - (e->twos_complement ? e->bits - 2 : e->fraction_bits));
    const uint32_t fraction = largest & 0x7fffffu;
    int k = (int)(largest >> 23) - (int)(max >> 23);
    if (rule == LB_SCALE_CEIL)
        k += fraction > max_fraction;
    else if (rule == LB_SCALE_FLOOR)
        k -= fraction < max_fraction;
    else if (rule == LB_SCALE_ROUND) {
        /* (1 + fraction) / (1 + max_fraction) against sqrt 2 and its inverse, squared */
        const uint64_t one = 0x800000u | fraction, other = 0x800000u | max_fraction;
        k += one * one >= 2 * other * other;
        k -= 2 * one * one < other * other;
    }
    return k < -127 ? -127 : k > 127 ? 127 : k;
}

/* 2^k, -127 <= k <= 127 (2^-127 is a subnormal float). */
static inline float lb_power_of_two(int k)
{
    return lb_float_from_bits(k == -127 ? 0x400000u : (uint32_t)(k + 127) << 23);
}

/* E4M3 block factor of an NV block, as a float; `tensor` > 0. */
static inline float lb_nv_factor(const lb_element *e, float tensor, uint32_t largest)
{
    return lb_element_decode(
        &lb_e4m3, lb_element_encode(&lb_e4m3, 448.0f, lb_float_from_bits(largest) / e->max / tensor));
}

/* How far down an element may go: one further than up in asymmetric integer formats. */
static inline float lb_block_low_max(const lb_format *format)
{
    return format->symmetric ? format->element->max : format->element->max + 1.0f;
}

/* The operations that MX and NV formats share. `params` as above; block rule and element from `format`. */
void lb_block_fit(const lb_format *format, const float *w, const float *importance, size_t n, lb_fit how,
                  float *params);
void lb_block_round(const lb_format *format, const float *params, const float *w, size_t n, uint8_t *codes);
void lb_block_value(const lb_format *format, const float *params, const uint8_t *codes, size_t n, float *w);

/* Storage: "codes" (bits.h) and "scales", which are E8M0 bytes (MX), E4M3 bytes (NV) or little-endian floats
 * (rule "exact"). Unpacking refuses NaNs, infinities and codes below the range of a symmetric integer format
 * with LB_EFORMAT. */
unsigned lb_block_parts(const lb_format *format, size_t cols, lb_format_part out[LB_FORMAT_MAX_PARTS]);
void lb_block_pack(const lb_format *format, const uint8_t *codes, const float *params, size_t cols,
                   uint8_t *const *parts);
lb_status lb_block_unpack(const lb_format *format, const uint8_t *const *parts, size_t cols, uint8_t *codes,
                          float *params, lb_error *err);

#endif
