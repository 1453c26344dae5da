/* SPDX-License-Identifier: MIT
 * GGUF's block formats: the layouts of ggml (k-quants included), one function a format.
 *
 * Bytes of one block, in order; d, m and dmin are f16, q is an element's integer code:
 *
 *   32 elements                                       256 elements
 *   Q4_0  d | qs 16             w = d (q - 8)         Q2_K  scales 16 | qs 64 | d | dmin
 *   Q4_1  d | m | qs 16         w = d q + m           Q3_K  high 32 | qs 64 | scales 12 | d
 *   Q5_0  d | high 4 | qs 16    w = d (q - 16)        Q4_K  d | dmin | scales 12 | qs 128
 *   Q5_1  d | m | high 4 | qs 16                      Q5_K  d | dmin | scales 12 | high 32 | qs 128
 *   Q8_0  d | int8 32           w = d q               Q6_K  low 128 | high 64 | int8 scales 16 | d
 *   MXFP4 e | qs 16             w = 2^(e - 127) q     and of 64: NVFP4  4 scales | qs 32
 *
 * The 32-element formats keep element j in the low nibble of byte j and element j + 16 in the high
 * one; NVFP4 does so with every 16 elements that share a scale. Its codes and MXFP4's are E2M1, its scales
 * E4M3 without a sign (formats/gguf_order.h). The 256-element formats cut a block into sub-blocks of 16
 * or 32 that have a small integer scale (and minimum) each: w = d scale q - dmin minimum.
 *
 * The order of operations is part of the format: the results are compared bit for bit. */
#include "io/tensor_blocks.h"

#include <math.h>

#include "base/half.h"
#include "formats/block_format.h"

enum { SMALL = 32, SUPER = 256 };

/* Two's complement byte to int, without relying on how a cast wraps. */
static int signed_byte(uint8_t b)
{
    return b < 128 ? b : b - 256;
}

static int nibble(const uint8_t *qs, int element)
{
    return element < SMALL / 2 ? qs[element] & 15 : qs[element - SMALL / 2] >> 4;
}

static void decode_q4_0(const uint8_t *b, float *out)
{
    float d = lb_f16_read(b);
    for (int i = 0; i < SMALL; i++)
        out[i] = d * (float)(nibble(b + 2, i) - 8);
}

static void decode_q4_1(const uint8_t *b, float *out)
{
    float d = lb_f16_read(b), m = lb_f16_read(b + 2);
    for (int i = 0; i < SMALL; i++)
        out[i] = d * (float)nibble(b + 4, i) + m;
}

/* The fifth bit of element i is bit i of the 32-bit little-endian word at `high`. */
static int fifth_bit(const uint8_t *high, int element)
{
    return (high[element / 8] >> (element % 8) & 1) << 4;
}

static void decode_q5_0(const uint8_t *b, float *out)
{
    float d = lb_f16_read(b);
    for (int i = 0; i < SMALL; i++)
        out[i] = d * (float)((nibble(b + 6, i) | fifth_bit(b + 2, i)) - 16);
}

static void decode_q5_1(const uint8_t *b, float *out)
{
    float d = lb_f16_read(b), m = lb_f16_read(b + 2);
    for (int i = 0; i < SMALL; i++)
        out[i] = d * (float)(nibble(b + 8, i) | fifth_bit(b + 4, i)) + m;
}

static void decode_q8_0(const uint8_t *b, float *out)
{
    float d = lb_f16_read(b);
    for (int i = 0; i < SMALL; i++)
        out[i] = d * (float)signed_byte(b[2 + i]);
}

/* E2M1 by code. The reference keeps them as integers, so that -0 reads as 0. */
static const float e2m1_values[16] = {0.0f, 0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                      0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};

static void decode_mxfp4(const uint8_t *b, float *out)
{
    const float scale = b[0] == 255 ? NAN : lb_power_of_two(b[0] - 127);
    for (int i = 0; i < SMALL; i++)
        out[i] = scale * e2m1_values[nibble(b + 1, i)];
}

/* The reference's reading of all 256 codes: it ignores the sign's bit, and has no NaN. */
static float unsigned_e4m3(uint8_t code)
{
    if (code == 0x7f)
        return 0.0f;
    return code == 0xff ? 480.0f : lb_element_decode(&lb_e4m3, code & 0x7f);
}

static void decode_nvfp4(const uint8_t *b, float *out)
{
    enum { SCALES = 4, HALF = LB_NV_BLOCK / 2 };
    for (int s = 0; s < SCALES; s++) {
        const float scale = unsigned_e4m3(b[s]);
        const uint8_t *qs = b + SCALES + s * HALF;
        for (int j = 0; j < HALF; j++) {
            out[LB_NV_BLOCK * s + j] = scale * e2m1_values[qs[j] & 15];
            out[LB_NV_BLOCK * s + HALF + j] = scale * e2m1_values[qs[j] >> 4];
        }
    }
}

/* Q2_K and Q3_K: element e has its two low bits in byte 32 (e / 128) + e % 32, at bit 2 (e / 32 % 4). */
static int two_bits(const uint8_t *qs, int e)
{
    return qs[e / 128 * 32 + e % 32] >> (2 * (e / 32 % 4)) & 3;
}

static void decode_q2_k(const uint8_t *b, float *out)
{
    const uint8_t *scales = b, *qs = b + 16;
    float d = lb_f16_read(b + 80), dmin = lb_f16_read(b + 82);
    for (int sub = 0; sub < 16; sub++) {
        float scale = d * (float)(scales[sub] & 15);
        float minimum = dmin * (float)(scales[sub] >> 4);
        for (int e = 16 * sub; e < 16 * sub + 16; e++)
            out[e] = scale * (float)two_bits(qs, e) - minimum;
    }
}

/* The 16 six-bit scales of Q3_K: low nibbles in bytes 0 to 7, two high bits in bytes 8 to 11. */
static int scale_q3_k(const uint8_t *scales, int sub)
{
    int low = sub < 8 ? scales[sub] & 15 : scales[sub - 8] >> 4;
    int high = scales[8 + sub % 4] >> (2 * (sub / 4)) & 3;
    return (low | high << 4) - 32;
}

static void decode_q3_k(const uint8_t *b, float *out)
{
    const uint8_t *high = b, *qs = b + 32, *scales = b + 96;
    float d = lb_f16_read(b + 108);
    for (int sub = 0; sub < 16; sub++) {
        float scale = d * (float)scale_q3_k(scales, sub);
        for (int e = 16 * sub; e < 16 * sub + 16; e++) {
            int third = (high[e % 32] >> (e / 32) & 1) << 2;
            out[e] = scale * (float)((two_bits(qs, e) | third) - 4);
        }
    }
}

/* The eight six-bit scales and minima that Q4_K and Q5_K share. Sub-blocks 0 to 3 have theirs in the
 * low six bits of bytes 0 to 3 and 4 to 7; 4 to 7 have low nibbles in bytes 8 to 11 and their two high
 * bits above those of the first four. */
static void scale_and_minimum(const uint8_t *s, int sub, int *scale, int *minimum)
{
    if (sub < 4) {
        *scale = s[sub] & 63;
        *minimum = s[sub + 4] & 63;
    } else {
        *scale = (s[sub + 4] & 15) | s[sub - 4] >> 6 << 4;
        *minimum = s[sub + 4] >> 4 | s[sub] >> 6 << 4;
    }
}

/* Q4_K (high = NULL) and Q5_K: sub-blocks 2p and 2p + 1 are the low and high nibbles of qs[32p ..]; the
 * fifth bit of sub-block s is bit s of high[element]. */
static void decode_nibble_k(const uint8_t *b, const uint8_t *high, const uint8_t *qs, float *out)
{
    float d = lb_f16_read(b), dmin = lb_f16_read(b + 2);
    for (int sub = 0; sub < 8; sub++) {
        int s, m;
        scale_and_minimum(b + 4, sub, &s, &m);
        float scale = d * (float)s, minimum = dmin * (float)m;
        for (int i = 0; i < 32; i++) {
            int q = qs[sub / 2 * 32 + i] >> (4 * (sub % 2)) & 15;
            if (high)
                q |= (high[i] >> sub & 1) << 4;
            out[32 * sub + i] = scale * (float)q - minimum;
        }
    }
}

static void decode_q4_k(const uint8_t *b, float *out)
{
    decode_nibble_k(b, NULL, b + 16, out);
}

static void decode_q5_k(const uint8_t *b, float *out)
{
    decode_nibble_k(b, b + 16, b + 48, out);
}

/* In each half of 128 elements, quarter j (32 elements): low nibbles in low[32 (j % 2) ..], shifted by
 * four for j >= 2; the two high bits in high[.. 32) at bit 2j. */
static void decode_q6_k(const uint8_t *b, float *out)
{
    const uint8_t *low = b, *high = b + 128, *scales = b + 192;
    float d = lb_f16_read(b + 208);
    for (int e = 0; e < SUPER; e++) {
        int half = e / 128, quarter = e / 32 % 4, i = e % 32;
        int q = low[64 * half + 32 * (quarter % 2) + i] >> (4 * (quarter / 2)) & 15;
        q |= (high[32 * half + i] >> (2 * quarter) & 3) << 4;
        float scale = d * (float)signed_byte(scales[e / 16]);
        out[e] = scale * (float)(q - 32);
    }
}

void lb_tensor_blocks_decode(lb_dtype dtype, const uint8_t *blocks, size_t count, float *out)
{
    static void (*const decoders[LB_DTYPE_COUNT])(const uint8_t *, float *) = {
        [LB_DTYPE_Q4_0] = decode_q4_0, [LB_DTYPE_Q4_1] = decode_q4_1, [LB_DTYPE_Q5_0] = decode_q5_0,
        [LB_DTYPE_Q5_1] = decode_q5_1, [LB_DTYPE_Q8_0] = decode_q8_0, [LB_DTYPE_Q2_K] = decode_q2_k,
        [LB_DTYPE_Q3_K] = decode_q3_k, [LB_DTYPE_Q4_K] = decode_q4_k, [LB_DTYPE_Q5_K] = decode_q5_k,
        [LB_DTYPE_Q6_K] = decode_q6_k, [LB_DTYPE_MXFP4] = decode_mxfp4, [LB_DTYPE_NVFP4] = decode_nvfp4,
    };
    size_t elems = lb_dtype_block_elems(dtype), bytes = lb_dtype_block_bytes(dtype);
    for (size_t i = 0; i < count; i++)
        decoders[dtype](blocks + i * bytes, out + i * elems);
}
