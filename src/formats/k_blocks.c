/* SPDX-License-Identifier: MIT
 * See k_blocks.h. Where bits lie in a block: block_q2_K to block_q6_K of ggml, which io/tensor_blocks.c reads. */
#include "formats/k_blocks.h"

#include <math.h>
#include <string.h>

#include "base/half.h"
#include "formats/int_round.h"

static const lb_k_type types[] = {
    {"q2_k", 2, 16, false, 0, 15, 15, 84},    {"q3_k", 3, 16, true, -32, 31, 0, 110},
    {"q4_k", 4, 8, false, 0, 63, 63, 144},    {"q5_k", 5, 8, false, 0, 63, 63, 176},
    {"q6_k", 6, 16, true, -128, 127, 0, 210},
};

const lb_k_type *lb_k_type_of(const lb_format *format)
{
    return &types[format->bits - 2];
}

static bool parse_k(const char *name, lb_format *out)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        const lb_k_type *t = &types[i];
        if (strcmp(name, t->name) != 0)
            continue;
        *out = (lb_format){.ops = &lb_k_format,
                           .bits = t->bits,
                           .group = LB_K_BLOCK,
                           .grid = LB_K_BLOCK / t->grids,
                           .grid_params = LB_K_GRID_PARAMS,
                           .symmetric = t->symmetric,
                           .params = t->grids * LB_K_GRID_PARAMS + 2};
        memcpy(out->name, t->name, strlen(t->name) + 1);
        return true;
    }
    return false;
}

static void round_k(const lb_format *format, const float *params, const float *w, size_t n, uint8_t *codes)
{
    const float offset = (float)lb_k_offset(lb_k_type_of(format)), top = (float)((1u << format->bits) - 1);
    for (size_t i = 0; i < n; i++) {
        const float *p = lb_format_grid(format, params, i);
        const float scale = p[LB_K_SCALE];
        const float x = scale != 0.0f ? (w[i] + p[LB_K_MINIMUM]) / scale : 0.0f;
        codes[i] = (uint8_t)(lb_int_round_within(x, -offset, top - offset) + offset);
    }
}

static void value_k(const lb_format *format, const float *params, const uint8_t *codes, size_t n, float *w)
{
    const int offset = lb_k_offset(lb_k_type_of(format));
    for (size_t i = 0; i < n; i++) {
        const float *p = lb_format_grid(format, params, i);
        w[i] = p[LB_K_SCALE] * (float)(codes[i] - offset) - p[LB_K_MINIMUM];
    }
}

/* ---- Blocks ------------------------------------------------------------------------------------------ */

/* Some bits of a number, lowest first, and where a block has them. */
typedef struct slot {
    unsigned byte, shift, bits;
} slot;

enum { MOST_SLOTS = 2 };

static void put(const slot *slots, unsigned count, unsigned number, uint8_t *block)
{
    for (unsigned k = 0; k < count; k++) {
        const unsigned mask = (1u << slots[k].bits) - 1;
        block[slots[k].byte] = (uint8_t)(block[slots[k].byte] | (number & mask) << slots[k].shift);
        number >>= slots[k].bits;
    }
}

static unsigned get(const slot *slots, unsigned count, const uint8_t *block)
{
    unsigned number = 0;
    for (unsigned k = 0, at = 0; k < count; at += slots[k++].bits)
        number |= (unsigned)(block[slots[k].byte] >> slots[k].shift & ((1u << slots[k].bits) - 1)) << at;
    return number;
}

/* Element e's code. */
static unsigned code_slots(unsigned bits, unsigned e, slot out[MOST_SLOTS])
{
    const unsigned i = e % 32, part = e / 32, half = e / 128, quarter = part % 4;
    switch (bits) {
    case 2:
        out[0] = (slot){16 + 32 * half + i, 2 * quarter, 2};
        return 1;
    case 3:
        out[0] = (slot){32 + 32 * half + i, 2 * quarter, 2};
        out[1] = (slot){i, part, 1};
        return 2;
    case 4:
        out[0] = (slot){16 + 32 * (part / 2) + i, 4 * (part % 2), 4};
        return 1;
    case 5:
        out[0] = (slot){48 + 32 * (part / 2) + i, 4 * (part % 2), 4};
        out[1] = (slot){16 + i, part, 1};
        return 2;
    default:
        out[0] = (slot){64 * half + 32 * (quarter % 2) + i, 4 * (quarter / 2), 4};
        out[1] = (slot){128 + 32 * half + i, 2 * quarter, 2};
        return 2;
    }
}

/* Grid g's scale, less its lowest value. */
static unsigned scale_slots(unsigned bits, unsigned g, slot out[MOST_SLOTS])
{
    switch (bits) {
    case 2:
        out[0] = (slot){g, 0, 4};
        return 1;
    case 3:
        out[0] = (slot){96 + g % 8, 4 * (g / 8), 4};
        out[1] = (slot){104 + g % 4, 2 * (g / 4), 2};
        return 2;
    case 6:
        out[0] = (slot){192 + g, 0, 8};
        return 1;
    default:
        out[0] = (slot){g < 4 ? 4 + g : 8 + g, 0, g < 4 ? 6 : 4};
        out[1] = (slot){g, 6, 2};
        return g < 4 ? 1 : 2;
    }
}

/* Grid g's minimum. */
static unsigned minimum_slots(unsigned bits, unsigned g, slot out[MOST_SLOTS])
{
    if (bits == 2) {
        out[0] = (slot){g, 4, 4};
        return 1;
    }
    out[0] = (slot){8 + g, g < 4 ? 0 : 4, g < 4 ? 6 : 4};
    out[1] = (slot){4 + g, 6, 2};
    return g < 4 ? 1 : 2;
}

/* Where d is; dmin follows it. */
static size_t float_at(unsigned bits)
{
    static const size_t places[] = {80, 108, 0, 0, 208};
    return places[bits - 2];
}

static unsigned parts_of_row(const lb_format *format, size_t cols, lb_format_part out[LB_FORMAT_MAX_PARTS])
{
    out[0] = (lb_format_part){"codes", 1, cols / LB_K_BLOCK * lb_k_type_of(format)->block_bytes};
    return 1;
}

/* Q6_K's scales are two's complement, Q3_K's have 32 added. */
static unsigned stored_scale(const lb_k_type *t, float scale, float d)
{
    const int n =
        d != 0.0f ? (int)lb_int_round_within(scale / d, (float)t->scale_low, (float)t->scale_high) : 0;
    return t->bits == 6 ? (unsigned)n & 255u : (unsigned)(n - t->scale_low);
}

static int read_scale(const lb_k_type *t, unsigned stored)
{
    if (t->bits == 6)
        return stored < 128 ? (int)stored : (int)stored - 256;
    return (int)stored + t->scale_low;
}

static void pack_block(const lb_k_type *t, const uint8_t *codes, const float *params, uint8_t *block)
{
    const float *floats = params + t->grids * LB_K_GRID_PARAMS;
    slot slots[MOST_SLOTS];
    memset(block, 0, t->block_bytes);
    for (unsigned e = 0; e < LB_K_BLOCK; e++)
        put(slots, code_slots(t->bits, e, slots), codes[e], block);
    for (unsigned g = 0; g < t->grids; g++) {
        const float *p = params + g * LB_K_GRID_PARAMS;
        put(slots, scale_slots(t->bits, g, slots), stored_scale(t, p[LB_K_SCALE], floats[0]), block);
        if (t->symmetric)
            continue;
        const float minimum = floats[1] != 0.0f ? p[LB_K_MINIMUM] / floats[1] : 0.0f;
        put(slots, minimum_slots(t->bits, g, slots),
            (unsigned)lb_int_round_within(minimum, 0.0f, (float)t->minimum_high), block);
    }
    lb_f16_write(floats[0], block + float_at(t->bits));
    if (!t->symmetric)
        lb_f16_write(floats[1], block + float_at(t->bits) + 2);
}

static void pack_k(const lb_format *format, const uint8_t *codes, const float *params, size_t cols,
                   uint8_t *const *parts)
{
    const lb_k_type *t = lb_k_type_of(format);
    for (size_t b = 0; b < cols / LB_K_BLOCK; b++)
        pack_block(t, codes + b * LB_K_BLOCK, params + b * format->params, parts[0] + b * t->block_bytes);
}

static void unpack_block(const lb_k_type *t, const uint8_t *block, uint8_t *codes, float *params)
{
    float *floats = params + t->grids * LB_K_GRID_PARAMS;
    slot slots[MOST_SLOTS];
    floats[0] = lb_f16_read(block + float_at(t->bits));
    floats[1] = t->symmetric ? 0.0f : lb_f16_read(block + float_at(t->bits) + 2);
    for (unsigned e = 0; e < LB_K_BLOCK; e++)
        codes[e] = (uint8_t)get(slots, code_slots(t->bits, e, slots), block);
    for (unsigned g = 0; g < t->grids; g++) {
        float *p = params + g * LB_K_GRID_PARAMS;
        p[LB_K_SCALE] = floats[0] * (float)read_scale(t, get(slots, scale_slots(t->bits, g, slots), block));
        p[LB_K_MINIMUM] =
            t->symmetric ? 0.0f : floats[1] * (float)get(slots, minimum_slots(t->bits, g, slots), block);
    }
}

static lb_status unpack_k(const lb_format *format, const uint8_t *const *parts, size_t cols, uint8_t *codes,
                          float *params, lb_error *err)
{
    const lb_k_type *t = lb_k_type_of(format);
    for (size_t b = 0; b < cols / LB_K_BLOCK; b++) {
        float *p = params + b * format->params;
        unpack_block(t, parts[0] + b * t->block_bytes, codes + b * LB_K_BLOCK, p);
        for (unsigned i = 0; i < 2; i++)
            if (!isfinite(p[t->grids * LB_K_GRID_PARAMS + i]))
                return lb_fail(err, LB_EFORMAT, "%s of block %zu is %g, not a finite number",
                               i ? "dmin" : "d", b, (double)p[t->grids * LB_K_GRID_PARAMS + i]);
    }
    return LB_OK;
}

const lb_format_ops lb_k_format = {
    .family = "k",
    .syntax = "q2_k, q3_k, q4_k, q5_k, q6_k",
    .whole_groups = true,
    .parse = parse_k,
    .fit = lb_k_fit,
    .round = round_k,
    .value = value_k,
    .parts = parts_of_row,
    .pack = pack_k,
    .unpack = unpack_k,
};
