/* SPDX-License-Identifier: MIT
 * The kernels of block formats out of encode_row, decode_row and cast_row, which the includer has defined as
 * functions of an element and a block's size: compiled for every element and size there is, so that both are
 * constants (blocks of 16 are of 4 bits), and entered into a table by the function LB_FILL_BLOCK_CODEC. */

#define DEFINE(name, ...) \
    static void encode_##name(const lb_format *format, const float *x, size_t n, uint8_t *codes, \
                              uint8_t *scales) \
    { \
        if (lb_constant_##name.bits > 4 || format->group == LB_MX_BLOCK) \
            encode_row(&lb_constant_##name, format, LB_MX_BLOCK, x, n, codes, scales); \
        else \
            encode_row(&lb_constant_##name, format, LB_NV_BLOCK, x, n, codes, scales); \
    } \
    static void decode_##name(const lb_format *format, const uint8_t *codes, const uint8_t *scales, \
                              size_t n, float *x) \
    { \
        if (lb_constant_##name.bits > 4 || format->group == LB_MX_BLOCK) \
            decode_row(&lb_constant_##name, format, LB_MX_BLOCK, codes, scales, n, x); \
        else \
            decode_row(&lb_constant_##name, format, LB_NV_BLOCK, codes, scales, n, x); \
    } \
    static void cast_##name(const lb_format *format, float *x, size_t n) \
    { \
        if (lb_constant_##name.bits > 4 || format->group == LB_MX_BLOCK) \
            cast_row(&lb_constant_##name, format, LB_MX_BLOCK, x, n); \
        else \
            cast_row(&lb_constant_##name, format, LB_NV_BLOCK, x, n); \
    }
LB_ELEMENTS(DEFINE)

#define ENCODE(name, ...) \
    if (format->element == &lb_##name) \
        encode_##name(format, x, n, codes, scales);
static void block_encode(const lb_format *format, const float *x, size_t n, uint8_t *codes, uint8_t *scales)
{
    LB_ELEMENTS(ENCODE)
}

#define DECODE(name, ...) \
    if (format->element == &lb_##name) \
        decode_##name(format, codes, scales, n, x);
static void block_decode(const lb_format *format, const uint8_t *codes, const uint8_t *scales, size_t n,
                         float *x)
{
    LB_ELEMENTS(DECODE)
}

#define CAST(name, ...) \
    if (format->element == &lb_##name) \
        cast_##name(format, x, n);
static void block_cast(const lb_format *format, float *x, size_t n)
{
    LB_ELEMENTS(CAST)
}

void LB_FILL_BLOCK_CODEC(lb_kernels *table)
{
    table->block_encode = block_encode;
    table->block_decode = block_decode;
    table->block_cast = block_cast;
}
