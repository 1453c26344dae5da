/* SPDX-License-Identifier: MIT
 * What the versions of the block formats' kernels share: a block's scale, from its largest magnitude and
 * from its stored bytes, and the functions that enter each version into a table. */
#ifndef LB_KERNELS_BLOCK_CODEC_H
#define LB_KERNELS_BLOCK_CODEC_H

#include "formats/block_format.h"
#include "kernels/kernels.h"

/* The elements as constants of the file. */
#define LB_CONSTANT(name, ...) static const lb_element lb_constant_##name = {#name, __VA_ARGS__};
LB_ELEMENTS(LB_CONSTANT)

/* NaN and infinity as bits of a magnitude: at least this. */
enum { LB_BLOCK_NOT_FINITE = 0x7f800000, LB_BLOCK_MOST = LB_MX_BLOCK, LB_BLOCK_SCALE_BYTES = 4 };

/* x / divisor or, where the scale is a power of two, x * factor: the same bits, and no division. */
typedef struct lb_block_step {
    float scale, factor;
    bool by_factor;
} lb_block_step;

/* What lb_mx_exponent does, for many blocks at once: before it is held to -127..127, the exponent is
 * (largest + bias) >> 23, less the exponent of e->max. Every rule is a threshold on the fraction of `largest`;
 * a bias brings it to where the exponent changes. */
static inline int32_t lb_mx_bias(const lb_element *e, lb_scale_rule rule)
{
    const int32_t max_fraction = (int32_t)(lb_float_bits(e->max) & 0x7fffffu);
    switch (rule) {
    case LB_SCALE_CEIL:
        return 0x7fffff - max_fraction;
    case LB_SCALE_FLOOR:
        return -max_fraction;
    case LB_SCALE_EVEN:
        return 1 << (22 - (e->twos_complement ? e->bits - 2 : e->fraction_bits));
    case LB_SCALE_ROUND: { /* down below max / sqrt 2, never up: all elements' max are above 2^k sqrt 2 */
        const uint64_t max = 0x800000u | (uint32_t)max_fraction;
        uint64_t least = (uint64_t)((double)max * 0.7071067); /* at most */
        while (2 * least * least < max * max)
            least++;
        return 0x800000 - (int32_t)least;
    }
    default:
        return 0;
    }
}

/* Bytes of one block's scale as stored. */
static inline size_t lb_block_scale_bytes(const lb_format *format)
{
    return format->rule == LB_SCALE_EXACT ? 4 : 1;
}

static inline void lb_block_store_float(float scale, uint8_t *stored)
{
    const uint32_t bits = lb_float_bits(scale);
    for (unsigned b = 0; b < 4; b++)
        stored[b] = (uint8_t)(bits >> (8 * b));
}

/* The scale of a block whose largest magnitude `largest` is finite. The inverse of 2^k is a float too, for
 * all k that there are: 2^-127 is subnormal. */
static inline lb_block_step lb_block_measure(const lb_element *e, const lb_format *format, uint32_t largest,
                                             uint8_t *stored)
{
    if (format->rule == LB_SCALE_TWO_LEVEL) {
        const float factor = lb_nv_factor(e, format->tensor_scale, largest);
        *stored = lb_element_encode(&lb_e4m3, lb_e4m3.max, factor);
        return (lb_block_step){.scale = factor * format->tensor_scale};
    }
    if (format->rule == LB_SCALE_EXACT) {
        const float scale = lb_float_from_bits(largest) / e->max;
        lb_block_store_float(scale, stored);
        return (lb_block_step){.scale = scale};
    }
    const int k = lb_mx_exponent(e, format->rule, largest);
    *stored = (uint8_t)(k + 127);
    return (lb_block_step){.scale = lb_power_of_two(k), .factor = lb_power_of_two(-k), .by_factor = true};
}

/* The stored scale of a block that has none because it holds a NaN or an infinity. */
static inline void lb_block_store_nan(const lb_format *format, uint8_t *stored)
{
    if (format->rule == LB_SCALE_EXACT)
        lb_block_store_float(lb_float_from_bits(0x7fc00000u), stored);
    else
        *stored = format->rule == LB_SCALE_TWO_LEVEL ? 0x7f : 0xff;
}

static inline float lb_block_load_scale(const lb_format *format, const uint8_t *stored)
{
    if (format->rule == LB_SCALE_TWO_LEVEL)
        return lb_element_decode(&lb_e4m3, *stored) * format->tensor_scale;
    if (format->rule == LB_SCALE_EXACT)
        return lb_float_from_bits((uint32_t)stored[0] | (uint32_t)stored[1] << 8 | (uint32_t)stored[2] << 16 |
                                  (uint32_t)stored[3] << 24);
    return *stored == 0xff ? lb_float_from_bits(0x7fc00000u) : lb_power_of_two(*stored - 127);
}

void lb_fill_block_codec_ref(lb_kernels *table);

#endif
