/* SPDX-License-Identifier: MIT
 * The dense bit stream against its definition, bit by bit. */
#include "near.h"

#include <stdlib.h>

#include "base/rng.h"
#include "formats/bits.h"

enum { MOST = 300 };

/* Bit b of code i is bit i * width + b of the stream. */
static unsigned slow_code(const uint8_t *bytes, size_t i, unsigned width)
{
    unsigned code = 0;
    for (unsigned b = 0; b < width; b++) {
        size_t at = i * width + b;
        code |= ((unsigned)bytes[at / 8] >> (at % 8) & 1u) << b;
    }
    return code;
}

static void fill_random(lb_rng *rng, unsigned width, uint8_t *codes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        codes[i] = (uint8_t)lb_rng_below(rng, 1u << width);
}

/* Buffers of exactly the promised size, so that a sanitizer sees every byte read or written beyond. */
static void check(unsigned width, size_t count, const uint8_t *codes)
{
    const size_t bytes = lb_bits_bytes(count, width);
    assert_true(bytes * 8 >= count * width && bytes * 8 < count * width + 8);
    uint8_t *packed = malloc(bytes + 1), *back = malloc(count + 1);
    assert_true(packed && back);
    memset(packed, 0xa5, bytes + 1);
    memset(back, 0x5a, count + 1);
    lb_bits_pack(codes, count, width, packed);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(slow_code(packed, i, width), codes[i]);
    for (size_t bit = count * width; bit < bytes * 8; bit++)
        assert_int_equal(packed[bit / 8] >> (bit % 8) & 1, 0);
    assert_int_equal(packed[bytes], 0xa5);
    uint8_t *exact = malloc(bytes ? bytes : 1);
    assert_non_null(exact);
    memcpy(exact, packed, bytes);
    lb_bits_unpack(exact, count, width, back);
    assert_memory_equal(back, codes, count);
    assert_int_equal(back[count], 0x5a);
    free(exact);
    free(packed);
    free(back);
}

static void every_width_and_length(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 1);
    uint8_t codes[MOST];
    for (unsigned width = 1; width <= 8; width++) {
        for (size_t count = 0; count <= 70; count++) {
            fill_random(&rng, width, codes, count);
            check(width, count, codes);
        }
        fill_random(&rng, width, codes, MOST);
        check(width, MOST, codes);
        memset(codes, (1 << width) - 1, MOST);
        check(width, MOST - 1, codes);
        memset(codes, 0, MOST);
        check(width, MOST - 3, codes);
    }
}

static void junk_in_unused_bits_is_ignored(void **state)
{
    (void)state;
    const uint8_t codes[3] = {5, 2, 7};
    uint8_t packed[2], back[3];
    lb_bits_pack(codes, 3, 3, packed);
    packed[1] |= 0xfe;
    lb_bits_unpack(packed, 3, 3, back);
    assert_memory_equal(back, codes, 3);
}

static void a_layout_worked_out_by_hand(void **state)
{
    (void)state;
    const uint8_t codes[8] = {1, 2, 3, 4, 5, 6, 7, 0}; /* 001 010 011 100 101 110 111 000, lowest bit first */
    uint8_t packed[3];
    const uint8_t want[3] = {0xd1, 0x58, 0x1f};
    lb_bits_pack(codes, 8, 3, packed);
    assert_memory_equal(packed, want, 3);
    uint8_t nibbles[4];
    lb_bits_pack(codes, 8, 4, nibbles);
    assert_memory_equal(nibbles, ((const uint8_t[4]){0x21, 0x43, 0x65, 0x07}), 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_width_and_length),
        cmocka_unit_test(junk_in_unused_bits_is_ignored),
        cmocka_unit_test(a_layout_worked_out_by_hand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
