/* SPDX-License-Identifier: MIT
 * A row of codes as one dense bit stream: code i takes bits [i * width, (i + 1) * width), the lowest
 * bit of a byte first. Unused bits of the last byte are zero. */
#ifndef LB_FORMATS_BITS_H
#define LB_FORMATS_BITS_H

#include <stddef.h>
#include <stdint.h>

static inline size_t lb_bits_bytes(size_t count, unsigned width)
{
    return (count * width + 7) / 8;
}

/* width 1..8; out [lb_bits_bytes(count, width)]. */
void lb_bits_pack(const uint8_t *codes, size_t count, unsigned width, uint8_t *out);
void lb_bits_unpack(const uint8_t *bytes, size_t count, unsigned width, uint8_t *codes);

#endif
