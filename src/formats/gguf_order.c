/* SPDX-License-Identifier: MIT
 * See gguf_order.h. Layouts: block_mxfp4 and block_nvfp4 of ggml. */
#include "formats/gguf_order.h"

#include "formats/block_format.h"

enum { PART_CODES, PART_SCALES };

const lb_gguf_order lb_gguf_mxfp4 = {"MXFP4", 39, 32, 17, LB_MX_BLOCK};
const lb_gguf_order lb_gguf_nvfp4 = {"NVFP4", 40, 64, 36, LB_NV_BLOCK};

const lb_gguf_order *lb_gguf_order_of(const lb_format *format)
{
    if (format->element != &lb_e2m1 || format->rule == LB_SCALE_EXACT)
        return NULL;
    return format->rule == LB_SCALE_TWO_LEVEL ? &lb_gguf_nvfp4 : &lb_gguf_mxfp4;
}

static lb_status check_cols(const lb_gguf_order *order, size_t cols, lb_error *err)
{
    if (cols % order->elems == 0)
        return LB_OK;
    return lb_fail(err, LB_EINVAL,
                   "a row of %zu elements, not a multiple of the %zu that a block of GGUF's %s holds", cols,
                   order->elems, order->name);
}

static lb_status check_scale(const lb_gguf_order *order, const char *whose, uint8_t scale, uint8_t most,
                             size_t group, lb_error *err)
{
    if (order->group == LB_MX_BLOCK || scale <= most)
        return LB_OK;
    return lb_fail(err, LB_EFORMAT, "the scale of block %zu is 0x%02x, %s has 0x00 to 0x%02x", group, scale,
                   whose, most);
}

static int nibble(const uint8_t *codes, size_t element)
{
    return element % 2 ? codes[element / 2] >> 4 : codes[element / 2] & 15;
}

lb_status lb_gguf_order_pack(const lb_gguf_order *order, const uint8_t *const *parts, size_t cols,
                             uint8_t *blocks, lb_error *err)
{
    const size_t half = order->group / 2, scales = order->elems / order->group;
    LB_TRY(check_cols(order, cols, err));
    for (size_t g = 0; g < cols / order->group; g++) {
        uint8_t *block = blocks + g / scales * order->bytes;
        uint8_t *to = block + scales + g % scales * half;
        const uint8_t *from = parts[PART_CODES] + g * half, scale = parts[PART_SCALES][g];
        LB_TRY(check_scale(order, "GGUF's NVFP4", scale, 0x7e, g, err));
        block[g % scales] = scale;
        for (size_t j = 0; j < half; j++) {
            to[j] = (uint8_t)(nibble(from, j) | nibble(from, j + half) << 4);
        }
    }
    return LB_OK;
}

lb_status lb_gguf_order_unpack(const lb_gguf_order *order, const uint8_t *blocks, size_t cols,
                               uint8_t *const *parts, lb_error *err)
{
    const size_t half = order->group / 2, scales = order->elems / order->group;
    LB_TRY(check_cols(order, cols, err));
    for (size_t g = 0; g < cols / order->group; g++) {
        const uint8_t *block = blocks + g / scales * order->bytes;
        const uint8_t *from = block + scales + g % scales * half;
        uint8_t *to = parts[PART_CODES] + g * half;
        const uint8_t scale = block[g % scales];
        LB_TRY(check_scale(order, "an unsigned E4M3", scale, 0x7f, g, err));
        parts[PART_SCALES][g] = order->group == LB_NV_BLOCK && scale == 0x7f ? 0 : scale;
        for (size_t j = 0; j < half; j += 2) {
            to[j / 2] = (uint8_t)((from[j] & 15) | (from[j + 1] & 15) << 4);
            to[(j + half) / 2] = (uint8_t)(from[j] >> 4 | (from[j + 1] & 0xf0));
        }
    }
    return LB_OK;
}
