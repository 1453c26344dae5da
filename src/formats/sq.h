/* SPDX-License-Identifier: MIT
 *
 * The sparse-quantized format of arXiv:2512.05409, sqH/L-bB-sS: in each bank of B neighbouring weights (1 - S) B are
 * high, integers of H bits, and the others low, integers of L bits; each kind of a bank has a scale of its own.
 *
 *   value = scale_high * q, |q| <= 2^(H-1) - 1     or     scale_low * q, |q| <= 2^(L-1) - 1
 *
 * Both grids are symmetric. A bank has so many high elements exactly, so that hardware never waits for a fuller one;
 * a row has whole banks only.
 *
 * Codes (a byte each in memory): 0 .. 2^L - 2 are the low integers from the least on, and above them lie the high ones.
 * A byte has no room for all of them when H is 8: the high integers then end at 128 - 2^(L-1), which is 120, 124, 126
 * beside 4, 3, 2 low bits. A grid that is 6 % coarser for the eighth of the weights whose steps are sixteen times
 * finer than the others' is nothing that can be measured (docs/formats.md has the numbers).
 *
 * Storage, whichever is smaller, a sentinel where they are equal:
 *   sentinel  "codes": L bits for every element, two's complement, -2^(L-1) where it is high
 *             "high":  H bits for every high element, two's complement, in their order
 *   mask      "codes": L bits for every low element;  "high" as above;  "mask": a bit for every element, 1: high
 *   both      "scales": f16, of every bank the low and the high one
 *
 * Parameters of a group, in this order: the low scale, the high one. */
#ifndef LB_FORMATS_SQ_H
#define LB_FORMATS_SQ_H

#include "formats/format.h"

enum { LB_SQ_LOW = 0, LB_SQ_HIGH = 1, LB_SQ_PARAMS = 2 };

extern const lb_format_ops lb_sq_format;

/* Largest magnitude of an integer of either kind. */
static inline int lb_sq_low_top(const lb_format *format)
{
    return (1 << (format->low_bits - 1)) - 1;
}

static inline int lb_sq_high_top(const lb_format *format)
{
    const int all = (1 << (format->high_bits - 1)) - 1, room = (256 - (1 << format->low_bits)) / 2;
    return all < room ? all : room;
}

/* The kind and the integer of a code. */
static inline bool lb_sq_is_high(const lb_format *format, uint8_t code)
{
    return code > 2 * lb_sq_low_top(format);
}

static inline int lb_sq_integer(const lb_format *format, uint8_t code)
{
    const int low_top = lb_sq_low_top(format);
    return lb_sq_is_high(format, code) ? (int)code - 2 * low_top - 1 - lb_sq_high_top(format)
                                       : (int)code - low_top;
}

/* The code of an integer of a kind. */
static inline uint8_t lb_sq_code(const lb_format *format, bool high, int q)
{
    const int low_top = lb_sq_low_top(format);
    return (uint8_t)(high ? q + lb_sq_high_top(format) + 2 * low_top + 1 : q + low_top);
}

#endif
