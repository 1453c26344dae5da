/* SPDX-License-Identifier: MIT
 * The two 16-bit floating-point types as raw bits: IEEE binary16 (f16) and bfloat16 (bf16).
 * Conversions from float round half to even; f16 overflow gives infinity; NaN stays NaN. */
#ifndef LB_BASE_HALF_H
#define LB_BASE_HALF_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint32_t lb_float_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float lb_float_from_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline float lb_bf16_to_float(uint16_t h)
{
    return lb_float_from_bits((uint32_t)h << 16);
}

uint16_t lb_bf16_from_float(float x);
float lb_f16_to_float(uint16_t h);
uint16_t lb_f16_from_float(float x);

/* An f16 as files have it: two bytes, the lower one first. */
static inline float lb_f16_read(const uint8_t *bytes)
{
    return lb_f16_to_float((uint16_t)(bytes[0] | bytes[1] << 8));
}

static inline void lb_f16_write(float x, uint8_t *bytes)
{
    const uint16_t half = lb_f16_from_float(x);
    bytes[0] = (uint8_t)(half & 0xff);
    bytes[1] = (uint8_t)(half >> 8);
}

/* x rounded to the nearest f16 and back; values beyond 65504 saturate there instead of becoming
 * infinite, since a scale must stay finite. */
float lb_round_to_f16(float x);

#endif
