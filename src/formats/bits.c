/* SPDX-License-Identifier: MIT
 * Eight codes are `width` bytes: those go through one word, compiled for each width; the last few codes one
 * at a time. */
#include "formats/bits.h"

#define INLINE static inline __attribute__((always_inline))

INLINE void pack_eights(const uint8_t *codes, size_t eights, unsigned width, uint8_t *out)
{
    for (; eights > 0; eights--, codes += 8, out += width) {
        uint64_t word = 0;
        for (unsigned i = 0; i < 8; i++)
            word |= (uint64_t)codes[i] << (i * width);
        for (unsigned b = 0; b < width; b++)
            out[b] = (uint8_t)(word >> (8 * b));
    }
}

INLINE void unpack_eights(const uint8_t *bytes, size_t eights, unsigned width, uint8_t *codes)
{
    for (; eights > 0; eights--, bytes += width, codes += 8) {
        uint64_t word = 0;
        for (unsigned b = 0; b < width; b++)
            word |= (uint64_t)bytes[b] << (8 * b);
        for (unsigned i = 0; i < 8; i++)
            codes[i] = (uint8_t)(word >> (i * width) & ((1u << width) - 1u));
    }
}

#define FOR_WIDTH(width, call) \
    switch (width) { \
    case 1: \
        call(1); \
        break; \
    case 2: \
        call(2); \
        break; \
    case 3: \
        call(3); \
        break; \
    case 4: \
        call(4); \
        break; \
    case 5: \
        call(5); \
        break; \
    case 6: \
        call(6); \
        break; \
    case 7: \
        call(7); \
        break; \
    default: \
        call(8); \
        break; \
    }

void lb_bits_pack(const uint8_t *codes, size_t count, unsigned width, uint8_t *out)
{
#define PACK(constant) pack_eights(codes, count / 8, constant, out)
    FOR_WIDTH(width, PACK)
    uint32_t pending = 0; /* bits not yet written, lowest first: at most 7 + 8 of them */
    unsigned have = 0;
    out += count / 8 * width;
    for (size_t i = count / 8 * 8; i < count; i++) {
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
#define UNPACK(constant) unpack_eights(bytes, count / 8, constant, codes)
    FOR_WIDTH(width, UNPACK)
    const uint32_t mask = (1u << width) - 1;
    uint32_t pending = 0;
    unsigned have = 0;
    bytes += count / 8 * width;
    for (size_t i = count / 8 * 8; i < count; i++) {
        if (have < width) {
            pending |= (uint32_t)*bytes++ << have;
            have += 8;
        }
        codes[i] = (uint8_t)(pending & mask);
        pending >>= width;
        have -= width;
    }
}
