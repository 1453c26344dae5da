/* SPDX-License-Identifier: MIT
 * The block kernels of a table against the formats' own operations, bit for bit, on random, extreme,
 * misaligned and odd-sized rows. For programs of one file: everything is static inline. */
#ifndef LB_TESTS_KERNELS_BLOCK_CODEC_CASES_H
#define LB_TESTS_KERNELS_BLOCK_CODEC_CASES_H

#include "near.h"
#include "slow_formats.h"

#include "base/half.h"
#include "base/rng.h"
#include "formats/bits.h"
#include "formats/block_format.h"
#include "kernels/kernels.h"

enum { CODEC_MOST = 1100, CODEC_GUARD = 64 };

typedef enum codec_data {
    DATA_NORMAL,
    DATA_TIES, /* multiples of half the grid's step, or a quarter */
    DATA_WIDE, /* any finite float */
    DATA_BINADES, /* a size for each block */
    DATA_TINY, /* about the least scales */
    DATA_HUGE,
    DATA_ZEROS, /* of both signs, and few others */
    DATA_NOT_FINITE, /* a few NaNs and infinities */
    DATA_KINDS
} codec_data;

static inline float codec_value(lb_rng *rng, codec_data kind, double size)
{
    const double normal = lb_rng_normal(rng);
    const uint32_t any = (uint32_t)lb_rng_u64(rng);
    switch (kind) {
    case DATA_TIES:
        return (float)((double)((int)(any % 65) - 32) * 0.25);
    case DATA_WIDE:
        return lb_float_from_bits((any & 0x7f800000u) == 0x7f800000u ? any ^ 0x01000000u : any);
    case DATA_BINADES:
        return (float)(normal * size);
    case DATA_TINY:
        return (float)(normal * 0x1p-127);
    case DATA_HUGE:
        return (float)fmax(-(double)FLT_MAX, fmin((double)FLT_MAX, normal * 0x1p127));
    case DATA_ZEROS:
        return any % 16 ? (any % 2 ? -0.0f : 0.0f) : (float)normal;
    case DATA_NOT_FINITE:
        return any % 128 ? (float)normal : lb_float_from_bits(any | 0x7f800000u);
    default:
        return (float)normal;
    }
}

static inline void codec_fill(lb_rng *rng, codec_data kind, float *x, size_t n)
{
    double size = 1.0;
    for (size_t i = 0; i < n; i++) {
        if (i % 16 == 0)
            size = ldexp(1.0, (int)lb_rng_below(rng, 60) - 40);
        x[i] = codec_value(rng, kind, size);
    }
}

static inline bool codec_same(float a, float b)
{
    return (isnan(a) && isnan(b)) || lb_float_bits(a) == lb_float_bits(b);
}

static inline void codec_same_floats(const char *what, const lb_format *f, const float *got,
                                     const float *want, const float *from, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!codec_same(got[i], want[i]))
            fail_msg("%s, %s, element %zu of %zu (%a): got %a, wanted %a", what, f->name, i, n,
                     from ? (double)from[i] : 0.0, (double)got[i], (double)want[i]);
    }
}

/* x [n] through all three kernels; nothing beyond their ends is touched. */
static inline void codec_check(const lb_kernels *kernels, const lb_format *f, const float *x, size_t n)
{
    uint8_t raw[CODEC_MOST], want_codes[CODEC_MOST], want_scales[CODEC_MOST / 4 + 4];
    uint8_t codes[CODEC_MOST + CODEC_GUARD], scales[CODEC_MOST / 4 + 4 + CODEC_GUARD];
    float params[2 * (CODEC_MOST / 16 + 1)], want[CODEC_MOST], values[CODEC_MOST + CODEC_GUARD];
    lb_format_part parts[LB_FORMAT_MAX_PARTS];
    (void)f->ops->parts(f, n, parts);
    lb_format_encode_row(f, x, NULL, n, LB_FIT_RANGE, raw, params);
    f->ops->pack(f, raw, params, n, (uint8_t *const[]){want_codes, want_scales});
    lb_format_decode_row(f, raw, params, n, want);

    memset(codes, 0xa5, sizeof codes);
    memset(scales, 0xa5, sizeof scales);
    kernels->block_encode(f, x, n, codes, scales);
    for (size_t i = 0; i < parts[1].row_bytes; i++)
        if (scales[i] != want_scales[i])
            fail_msg("%s: byte %zu of the scales of %zu elements is 0x%02x, wanted 0x%02x", f->name, i, n,
                     scales[i], want_scales[i]);
    for (size_t i = 0; i < parts[0].row_bytes; i++)
        if (codes[i] != want_codes[i])
            fail_msg("%s: byte %zu of the codes of %zu elements is 0x%02x, wanted 0x%02x", f->name, i, n,
                     codes[i], want_codes[i]);
    for (size_t i = 0; i < CODEC_GUARD; i++)
        assert_true(codes[parts[0].row_bytes + i] == 0xa5 && scales[parts[1].row_bytes + i] == 0xa5);

    for (size_t i = 0; i < CODEC_GUARD; i++)
        values[n + i] = -3.0f;
    kernels->block_decode(f, want_codes, want_scales, n, values);
    codec_same_floats("decode", f, values, want, x, n);
    memcpy(values, x, n * sizeof *x);
    kernels->block_cast(f, values, n);
    codec_same_floats("cast", f, values, want, x, n);
    for (size_t i = 0; i < CODEC_GUARD; i++)
        assert_true(values[n + i] == -3.0f);
}

/* Any bytes are codes and scales. */
static inline void codec_check_bytes(const lb_kernels *kernels, const lb_format *f, lb_rng *rng, size_t n)
{
    uint8_t codes[CODEC_MOST], scales[CODEC_MOST / 4 + 4], raw[CODEC_MOST];
    float want[CODEC_MOST], values[CODEC_MOST];
    const slow_element *e = NULL;
    for (int i = 0; i < SLOW_ELEMENTS; i++)
        if (strcmp(slow_elements[i].name, f->element->name) == 0)
            e = &slow_elements[i];
    assert_non_null(e);
    for (size_t i = 0; i < sizeof codes; i++)
        codes[i] = (uint8_t)lb_rng_u64(rng);
    for (size_t i = 0; i < sizeof scales; i++)
        scales[i] = (uint8_t)lb_rng_u64(rng);
    lb_bits_unpack(codes, n, f->bits, raw);
    for (size_t i = 0; i < n; i++) {
        const size_t g = i / f->group;
        double scale = ldexp(1.0, scales[g] - 127);
        if (f->rule == LB_SCALE_EXACT)
            scale = (double)lb_float_from_bits((uint32_t)scales[4 * g] | (uint32_t)scales[4 * g + 1] << 8 |
                                               (uint32_t)scales[4 * g + 2] << 16 |
                                               (uint32_t)scales[4 * g + 3] << 24);
        else if (f->rule == LB_SCALE_TWO_LEVEL)
            scale =
                (double)(float)(slow_decode(&slow_elements[SLOW_E4M3], scales[g]) * (double)f->tensor_scale);
        else if (scales[g] == 255)
            scale = (double)NAN;
        want[i] = (float)(scale * slow_decode(e, raw[i]));
    }
    kernels->block_decode(f, codes, scales, n, values);
    codec_same_floats("decode of any bytes", f, values, want, NULL, n);
}

/* Every format, kind of data and length up to 100 and some longer; 0 <= misaligned < 8 floats. `sparse`: a
 * fraction of the lengths, for emulated kernels. */
static inline void codec_check_all(const lb_kernels *kernels, bool sparse)
{
    static slow_format formats[SLOW_MOST_FORMATS];
    static const size_t longer[] = {160, 255, 256, 257, 512, 513, 527, 576, 1024, 1056, 1090};
    const size_t count = slow_list_formats(formats);
    static float x[CODEC_MOST + 8];
    lb_rng rng;
    lb_rng_seed(&rng, 17);
    for (size_t k = 0; k < count; k++) {
        lb_format f;
        assert_int_equal(lb_format_parse(formats[k].name, &f, NULL), LB_OK);
        for (int kind = 0; kind < DATA_KINDS; kind++) {
            for (size_t i = 0; i < 101 + sizeof longer / sizeof *longer; i++) {
                const size_t n = i <= 100 ? i : longer[i - 101];
                if (sparse && (i + k) % 3 != 0)
                    continue;
                float *at = x + (i + k) % 8;
                codec_fill(&rng, (codec_data)kind, at, n);
                f.tensor_scale = 1.0f;
                if (i % 4) /* otherwise a scale that does not suit */
                    lb_format_bind(&f, at, n);
                codec_check(kernels, &f, at, n);
                codec_check_bytes(kernels, &f, &rng, n);
            }
        }
    }
}

#endif
