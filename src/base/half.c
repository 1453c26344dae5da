/* SPDX-License-Identifier: MIT */
#include "base/half.h"

uint16_t lb_bf16_from_float(float x)
{
    uint32_t bits = lb_float_bits(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)((bits >> 16) | 0x40u); /* quiet NaN, whose low payload must not round to Inf */
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

float lb_f16_to_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    uint32_t exponent = (h >> 10) & 0x1fu;
    uint32_t mantissa = h & 0x3ffu;
    if (exponent == 31)
        return lb_float_from_bits(sign | 0x7f800000u | mantissa << 13);
    if (exponent != 0)
        return lb_float_from_bits(sign | (exponent + 112) << 23 | mantissa << 13);
    float subnormal = (float)mantissa * 0x1p-24f;
    return lb_float_from_bits(sign | lb_float_bits(subnormal));
}

uint16_t lb_f16_from_float(float x)
{
    uint32_t bits = lb_float_bits(x);
    uint16_t sign = (uint16_t)((bits >> 16) & 0x8000u);
    uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u)
        return sign | 0x7e00u;
    if (magnitude >= 0x477ff000u) /* 65520 and above round to infinity */
        return sign | 0x7c00u;
    if (magnitude < 0x38800000u) { /* below 2^-14: adding 0.5 lines the subnormal's bits up at the bottom */
        float shifted = lb_float_from_bits(magnitude) + 0.5f;
        return (uint16_t)(sign | (lb_float_bits(shifted) - 0x3f000000u));
    }
    uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
    return (uint16_t)(sign | ((rounded - 0x38000000u) >> 13));
}

float lb_round_to_f16(float x)
{
    if (x > 65504.0f)
        return 65504.0f;
    if (x < -65504.0f)
        return -65504.0f;
    return lb_f16_to_float(lb_f16_from_float(x));
}
