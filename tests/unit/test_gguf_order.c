/* SPDX-License-Identifier: MIT
 * Rows in GGUF's block order: round trips, blocks made by hand, and a decoder written from the byte layout
 * alone, which must find the values that the formats themselves find. */
#include "near.h"

#include <stdlib.h>

#include "base/rng.h"
#include "formats/bits.h"
#include "formats/gguf_order.h"
#include "io/tensor_blocks.h"

enum { MOST = 1024 };

/* E2M1 as its definition says: sign, 2 bits of exponent with bias 1, 1 bit of fraction. */
static double slow_e2m1(unsigned code)
{
    const int exponent = (int)(code >> 1 & 3), fraction = (int)(code & 1);
    const double magnitude = exponent ? ldexp(1.0 + 0.5 * fraction, exponent - 1) : 0.5 * fraction;
    return code & 8 ? -magnitude : magnitude;
}

/* Element i of a row of MXFP4: byte 0 of a block of 17 is its scale's exponent; the low nibbles of the 16
 * others are the first 16 elements, the high ones the last 16. */
static double slow_mxfp4(const uint8_t *blocks, size_t i)
{
    const uint8_t *b = blocks + i / 32 * 17;
    const size_t e = i % 32;
    const unsigned code = e < 16 ? b[1 + e] & 15u : b[1 + e - 16] >> 4;
    return 2.0 * slow_e2m1(code) * ldexp(1.0, b[0] - 128);
}

/* The same of NVFP4: 4 scales (4 bits of exponent with bias 7, 3 of fraction), then 8 bytes for each. */
static double slow_nvfp4(const uint8_t *blocks, size_t i)
{
    const uint8_t *b = blocks + i / 64 * 36;
    const size_t sub = i % 64 / 16, e = i % 16;
    const uint8_t s = b[sub], *qs = b + 4 + 8 * sub;
    const unsigned code = e < 8 ? qs[e] & 15u : qs[e - 8] >> 4;
    double scale = s >> 3 ? ldexp(8 + (s & 7), (s >> 3) - 10) : ldexp(s & 7, -9);
    if (s == 0x7f)
        scale = 0.0;
    return 2.0 * slow_e2m1(code) * (0.5 * scale);
}

static lb_format format_of(const char *name)
{
    lb_format format;
    lb_error err;
    if (lb_format_parse(name, &format, &err) != LB_OK)
        fail_msg("%s", err.msg);
    return format;
}

static void which_formats(void **state)
{
    (void)state;
    static const struct {
        const char *format;
        const lb_gguf_order *order;
    } cases[] = {{"mxfp4", &lb_gguf_mxfp4},
                 {"mxfp4-ocp", &lb_gguf_mxfp4},
                 {"mxfp4-even", &lb_gguf_mxfp4},
                 {"nvfp4", &lb_gguf_nvfp4},
                 {"mxfp4-exact", NULL},
                 {"nvfp4-exact", NULL},
                 {"mxint4", NULL},
                 {"nvint4", NULL},
                 {"mxfp6", NULL},
                 {"int4-g32", NULL},
                 {"bf16", NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const lb_format format = format_of(cases[i].format);
        assert_ptr_equal(lb_gguf_order_of(&format), cases[i].order);
    }
    assert_string_equal(lb_gguf_mxfp4.name, "MXFP4");
    assert_int_equal(lb_gguf_nvfp4.type, 40);
}

/* Bytes that say where they belong: element i has the code i % 16, or those of the second 16 reversed. */
static void by_hand(void **state)
{
    (void)state;
    static const uint8_t ours[16] = {0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe,
                                     0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01};
    static const uint8_t mxfp4[17] = {0x7d, 0xf0, 0xe1, 0xd2, 0xc3, 0xb4, 0xa5, 0x96, 0x87,
                                      0x78, 0x69, 0x5a, 0x4b, 0x3c, 0x2d, 0x1e, 0x0f};
    static const uint8_t nvfp4[36] = {0x38, 0x01, 0x00, 0x7e, 0x80, 0x91, 0xa2, 0xb3, 0xc4, 0xd5, 0xe6, 0xf7,
                                      0x7f, 0x6e, 0x5d, 0x4c, 0x3b, 0x2a, 0x19, 0x08, 0x80, 0x91, 0xa2, 0xb3,
                                      0xc4, 0xd5, 0xe6, 0xf7, 0x7f, 0x6e, 0x5d, 0x4c, 0x3b, 0x2a, 0x19, 0x08};
    static const uint8_t exponent[1] = {0x7d}, factors[4] = {0x38, 0x01, 0x00, 0x7e};
    uint8_t twice[32], blocks[36], codes[32], scales[4];
    lb_error err;
    memcpy(twice, ours, 16);
    memcpy(twice + 16, ours, 16);
    assert_int_equal(
        lb_gguf_order_pack(&lb_gguf_mxfp4, (const uint8_t *const[]){ours, exponent}, 32, blocks, &err),
        LB_OK);
    assert_memory_equal(blocks, mxfp4, sizeof mxfp4);
    assert_int_equal(
        lb_gguf_order_pack(&lb_gguf_nvfp4, (const uint8_t *const[]){twice, factors}, 64, blocks, &err),
        LB_OK);
    assert_memory_equal(blocks, nvfp4, sizeof nvfp4);
    uint8_t *const parts[] = {codes, scales};
    assert_int_equal(lb_gguf_order_unpack(&lb_gguf_nvfp4, nvfp4, 64, parts, &err), LB_OK);
    assert_memory_equal(codes, twice, 32);
    assert_memory_equal(scales, factors, 4);
    assert_int_equal(lb_gguf_order_unpack(&lb_gguf_mxfp4, mxfp4, 32, parts, &err), LB_OK);
    assert_memory_equal(codes, ours, 16);
    assert_int_equal(scales[0], 0x7d);
}

/* Every byte of a row's codes and scales comes back, from buffers of exactly the right size. */
static void random_round_trips(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 17);
    for (int round = 0; round < 200; round++) {
        const lb_gguf_order *order = round % 2 ? &lb_gguf_nvfp4 : &lb_gguf_mxfp4;
        const size_t count = lb_rng_below(&rng, 9), cols = count * order->elems, groups = cols / order->group;
        uint8_t *codes = malloc(cols / 2 + 1), *scales = malloc(groups + 1);
        uint8_t *blocks = malloc(count * order->bytes + 1), *back = malloc(cols / 2 + 1);
        uint8_t *back_scales = malloc(groups + 1);
        assert_true(codes && scales && blocks && back && back_scales);
        for (size_t i = 0; i < cols / 2; i++)
            codes[i] = (uint8_t)lb_rng_below(&rng, 256);
        for (size_t i = 0; i < groups; i++)
            scales[i] = (uint8_t)lb_rng_below(&rng, round % 2 ? 0x7f : 256);
        blocks[count * order->bytes] = back[cols / 2] = back_scales[groups] = 0xa5;
        const uint8_t *const from[] = {codes, scales};
        uint8_t *const to[] = {back, back_scales};
        assert_int_equal(lb_gguf_order_pack(order, from, cols, blocks, NULL), LB_OK);
        assert_int_equal(lb_gguf_order_unpack(order, blocks, cols, to, NULL), LB_OK);
        assert_memory_equal(back, codes, cols / 2);
        assert_memory_equal(back_scales, scales, groups);
        assert_int_equal(blocks[count * order->bytes] & back[cols / 2] & back_scales[groups], 0xa5);
        free(codes);
        free(scales);
        free(blocks);
        free(back);
        free(back_scales);
    }
}

/* Gaussian rows through the format, its packing, GGUF's order and the slow decoder: the same numbers as the
 * format's own, and as those of the reader of GGUF files. */
static void same_values(void **state)
{
    (void)state;
    static const char *const names[] = {"mxfp4", "mxfp4-ocp", "nvfp4"};
    lb_rng rng;
    lb_rng_seed(&rng, 18);
    for (size_t c = 0; c < 3; c++) {
        lb_format format = format_of(names[c]);
        const bool nv = c == 2;
        const lb_gguf_order *order = lb_gguf_order_of(&format);
        float w[MOST], own[MOST], params[MOST / 16 * 2];
        double slow[MOST];
        uint8_t codes[MOST], packed[MOST / 2], scales[MOST / 16], blocks[MOST / 64 * 36];
        for (size_t i = 0; i < MOST; i++)
            w[i] = (float)(lb_rng_normal(&rng) * exp2((double)(i / 64) - 8.0));
        lb_format_bind(&format, w, MOST);
        lb_format_encode_row(&format, w, NULL, MOST, LB_FIT_RANGE, codes, params);
        lb_format_decode_row(&format, codes, params, MOST, own);
        format.ops->pack(&format, codes, params, MOST, (uint8_t *const[]){packed, scales});
        assert_int_equal(
            lb_gguf_order_pack(order, (const uint8_t *const[]){packed, scales}, MOST, blocks, NULL), LB_OK);
        for (size_t i = 0; i < MOST; i++)
            slow[i] = nv ? slow_nvfp4(blocks, i) : slow_mxfp4(blocks, i);
        lb_tensor_blocks_decode(nv ? LB_DTYPE_NVFP4 : LB_DTYPE_MXFP4, blocks, MOST / order->elems, w);
        same_array(w, slow, MOST);
        if (!nv)
            same_array(own, slow, MOST);
        /* Two roundings there, the scale's and the product's; one here, and the elements are exact. */
        for (size_t i = 0; nv && i < MOST; i++)
            slow[i] *= (double)format.tensor_scale;
        for (size_t i = 0; nv && i < MOST; i++)
            near_array(&own[i], &slow[i], 1, 2.1 * U24 * fabs(slow[i]));
    }
}

static void refusals(void **state)
{
    (void)state;
    lb_error err;
    uint8_t codes[64] = {0}, scales[4] = {0}, blocks[72] = {0};
    uint8_t *const parts[] = {codes, scales};
    const uint8_t *const from[] = {codes, scales};
    assert_int_equal(lb_gguf_order_pack(&lb_gguf_mxfp4, from, 48, blocks, &err), LB_EINVAL);
    assert_string_equal(err.msg,
                        "a row of 48 elements, not a multiple of the 32 that a block of GGUF's MXFP4 holds");
    assert_int_equal(lb_gguf_order_unpack(&lb_gguf_nvfp4, blocks, 96, parts, &err), LB_EINVAL);
    assert_non_null(strstr(err.msg, "64 that a block of GGUF's NVFP4"));
    /* A block that is NaN would become zeros, and a negative scale positive. */
    scales[2] = 0x7f;
    assert_int_equal(lb_gguf_order_pack(&lb_gguf_nvfp4, from, 64, blocks, &err), LB_EFORMAT);
    assert_string_equal(err.msg, "the scale of block 2 is 0x7f, GGUF's NVFP4 has 0x00 to 0x7e");
    scales[2] = 0x81;
    assert_int_equal(lb_gguf_order_pack(&lb_gguf_nvfp4, from, 64, blocks, &err), LB_EFORMAT);
    memset(blocks, 0, sizeof blocks);
    blocks[1] = 0x7f; /* zeros, to ggml */
    blocks[3] = 0x7e;
    assert_int_equal(lb_gguf_order_unpack(&lb_gguf_nvfp4, blocks, 64, parts, &err), LB_OK);
    assert_int_equal(scales[1], 0);
    assert_int_equal(scales[3], 0x7e);
    blocks[36 + 2] = 0x80;
    uint8_t more[8];
    assert_int_equal(lb_gguf_order_unpack(&lb_gguf_nvfp4, blocks, 128, (uint8_t *const[]){codes, more}, &err),
                     LB_EFORMAT);
    assert_string_equal(err.msg, "the scale of block 6 is 0x80, an unsigned E4M3 has 0x00 to 0x7f");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(which_formats), cmocka_unit_test(by_hand),  cmocka_unit_test(random_round_trips),
        cmocka_unit_test(same_values),   cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
