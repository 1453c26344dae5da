/* SPDX-License-Identifier: MIT
 *
 * The elements of block formats: small floats (OCP 8-bit floating point and MX v1.0: E4M3, E5M2, E2M3,
 * E3M2, E2M1) and small integers, coded in at most 8 bits.
 *
 * All of them are sign and magnitude codes over one kind of grid: magnitudes below 2^min_exponent lie
 * 2^(min_exponent - fraction_bits) apart (a float's subnormals and first binade), and the distance doubles
 * with every binade above. An integer is the case that has nothing above; its codes are two's complement.
 *
 *   magnitude code m = (e << M) + f:   e = 0: f * step;   e > 0: (2^M + f) * 2^(e-1) * step
 *
 * The functions are inline and free of branches on data, so that loops over them vectorise; kernels compile
 * them once for each instruction set.
 */
#ifndef LB_FORMATS_ELEMENT_H
#define LB_FORMATS_ELEMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/half.h"

typedef struct lb_element {
    const char *name; /* "e2m1", "int4" */
    unsigned bits; /* of a code, sign included */
    unsigned fraction_bits; /* M */
    int min_exponent; /* of the lowest binade: 1 - bias; integers of b bits: b - 1 */
    bool twos_complement;
    float max; /* largest magnitude, reached on both sides */
    unsigned max_code; /* its magnitude code */
    unsigned infinity_code; /* magnitude codes of infinity, and of the first NaN, where there are any: */
    unsigned nan_code; /* otherwise LB_ELEMENT_NO_CODE */
} lb_element;

enum { LB_ELEMENT_NO_CODE = 0x200 };

/* ELEMENT(name, then the fields after the name), so that kernels can have the fields as constants. Sources:
 * OCP OFP8 for E4M3 and E5M2, OCP MX v1.0 for the others, and arXiv:2510.25602 table 1 for int6 and int4. */
#define LB_ELEMENTS(ELEMENT) \
    ELEMENT(e4m3, 8, 3, -6, false, 448.0f, 0x7e, LB_ELEMENT_NO_CODE, 0x7f) \
    ELEMENT(e5m2, 8, 2, -14, false, 57344.0f, 0x7b, 0x7c, 0x7d) \
    ELEMENT(e2m3, 6, 3, 0, false, 7.5f, 0x1f, LB_ELEMENT_NO_CODE, LB_ELEMENT_NO_CODE) \
    ELEMENT(e3m2, 6, 2, -2, false, 28.0f, 0x1f, LB_ELEMENT_NO_CODE, LB_ELEMENT_NO_CODE) \
    ELEMENT(e2m1, 4, 1, 0, false, 6.0f, 0x07, LB_ELEMENT_NO_CODE, LB_ELEMENT_NO_CODE) \
    ELEMENT(int8, 8, 7, 7, true, 127.0f, 0x7f, LB_ELEMENT_NO_CODE, LB_ELEMENT_NO_CODE) \
    ELEMENT(int6, 6, 5, 5, true, 31.0f, 0x1f, LB_ELEMENT_NO_CODE, LB_ELEMENT_NO_CODE) \
    ELEMENT(int4, 4, 3, 3, true, 7.0f, 0x07, LB_ELEMENT_NO_CODE, LB_ELEMENT_NO_CODE)

extern const lb_element lb_e4m3, lb_e5m2, lb_e2m3, lb_e3m2, lb_e2m1, lb_int8, lb_int6, lb_int4;

/* A loop with a call in it does not vectorise. */
#define LB_ELEMENT_INLINE static inline __attribute__((always_inline))

/* The code of the grid value nearest to y, ties to the even code, saturated at +max and -low_max. `low_max`
 * is e->max, or one more for an integer that may use its whole range. The sign of a float's zero is kept.
 * NaN saturates like an infinity: callers mark its block. */
LB_ELEMENT_INLINE uint8_t lb_element_encode(const lb_element *e, float low_max, float y)
{
    const uint32_t bits = lb_float_bits(y), negative = bits >> 31;
    const uint32_t limit = lb_float_bits(negative ? low_max : e->max);
    uint32_t magnitude = bits & 0x7fffffffu;
    magnitude = magnitude > limit ? limit : magnitude;
    int32_t exponent = (int32_t)(magnitude >> 23) - 127;
    exponent = exponent < e->min_exponent ? e->min_exponent : exponent;
    /* 1.5 * 2^23 steps of this binade: adding it leaves a float no room for less than a step, and the
     * number of steps stands in its lowest bits, rounded half to even. */
    const uint32_t shifter = (uint32_t)(exponent + 150 - (int32_t)e->fraction_bits) << 23 | 0x400000u;
    const uint32_t steps =
        lb_float_bits(lb_float_from_bits(magnitude) + lb_float_from_bits(shifter)) - shifter;
    const uint32_t code = ((uint32_t)(exponent - e->min_exponent) << e->fraction_bits) + steps;
    const uint32_t coded =
        e->twos_complement ? (code ^ (0u - negative)) + negative : code | negative << (e->bits - 1);
    return (uint8_t)(coded & ((1u << e->bits) - 1u));
}

/* The value of a code. */
LB_ELEMENT_INLINE float lb_element_decode(const lb_element *e, uint8_t code)
{
    const uint32_t negative = (uint32_t)code >> (e->bits - 1) & 1u, mask = (1u << e->bits) - 1u;
    const uint32_t magnitude =
        e->twos_complement ? ((code ^ (0u - negative)) + negative) & mask : code & (mask >> 1);
    const uint32_t binade = magnitude >> e->fraction_bits;
    const uint32_t steps = (magnitude & ((1u << e->fraction_bits) - 1u)) | (binade ? 1u : 0u)
                                                                               << e->fraction_bits;
    const int32_t exponent = (int32_t)(binade ? binade - 1 : 0) + e->min_exponent - (int32_t)e->fraction_bits;
    uint32_t bits =
        lb_float_bits((float)(int32_t)steps * lb_float_from_bits((uint32_t)(exponent + 127) << 23));
    bits = magnitude >= e->nan_code ? 0x7fc00000u : bits;
    bits = magnitude == e->infinity_code ? 0x7f800000u : bits;
    return lb_float_from_bits(bits | negative << 31);
}

#endif
