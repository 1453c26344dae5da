/* SPDX-License-Identifier: MIT */
#include "formats/bits.h"

void lb_bits_pack(const uint8_t *codes, size_t count, unsigned width, uint8_t *out)
{
    uint32_t pending = 0; /* bits not yet written, lowest first: at most 7 + 8 of them */
    unsigned have = 0;
    for (size_t i = 0; i < count; i++) {
        pending |= (uint32_t)codes[i] << have;
        have += width;
        while (have >= 8) {
            *out++ = (uint8_t)pending;
            pending >>= 8;
            have -= 8;
        }
    }
    if (have > 0)
        *out = (uint8_t)pending;
}

void lb_bits_unpack(const uint8_t *bytes, size_t count, unsigned width, uint8_t *codes)
{
    const uint32_t mask = (1u << width) - 1;
    uint32_t pending = 0;
    unsigned have = 0;
    for (size_t i = 0; i < count; i++) {
        if (have < width) {
            pending |= (uint32_t)*bytes++ << have;
            have += 8;
        }
        codes[i] = (uint8_t)(pending & mask);
        pending >>= width;
        have -= width;
    }
}
