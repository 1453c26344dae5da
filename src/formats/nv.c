/* SPDX-License-Identifier: MIT */
#include "formats/nv.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "formats/bits.h"
#include "formats/block_format.h"
#include "formats/tune.h"

static const struct {
    const char *name;
    const lb_element *element;
    bool exact, asymmetric;
} members[] = {
    {"nvfp4", &lb_e2m1, false, false},      {"nvfp4-exact", &lb_e2m1, true, false},
    {"nvint4", &lb_int4, false, false},     {"nvint4-exact", &lb_int4, true, false},
    {"nvint4-asym", &lb_int4, false, true}, {"nvint4-exact-asym", &lb_int4, true, true},
};

static bool parse_nv(const char *name, lb_format *out)
{
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        if (strcmp(name, members[i].name) != 0)
            continue;
        *out = (lb_format){.ops = &lb_nv_format,
                           .bits = members[i].element->bits,
                           .group = LB_NV_BLOCK,
                           .symmetric = !members[i].asymmetric,
                           .params = members[i].exact ? 1 : 2,
                           .element = members[i].element,
                           .rule = members[i].exact ? LB_SCALE_EXACT : LB_SCALE_TWO_LEVEL,
                           .tensor_scale = 1.0f};
        memcpy(out->name, members[i].name, strlen(members[i].name) + 1);
        return true;
    }
    return false;
}

/* Values that are not finite do not count: their blocks are NaN anyway, and the others stay useful. */
static float tensor_scale(const lb_format *format, const float *w, size_t n)
{
    uint32_t largest = 0;
    for (size_t i = 0; i < n; i++) {
        const uint32_t magnitude = lb_float_bits(w[i]) & 0x7fffffffu;
        if (magnitude < 0x7f800000u && magnitude > largest)
            largest = magnitude;
    }
    const float scale = lb_float_from_bits(largest) / (format->element->max * lb_e4m3.max);
    if (largest == 0)
        return 1.0f;
    return scale < FLT_MIN ? FLT_MIN : scale;
}

enum { PART_CODES, PART_SCALES };

static unsigned parts_of_row(const lb_format *format, size_t cols, lb_format_part out[LB_FORMAT_MAX_PARTS])
{
    const unsigned scale_bytes = format->rule == LB_SCALE_EXACT ? 4 : 1;
    out[PART_CODES] = (lb_format_part){"codes", 1, lb_bits_bytes(cols, format->bits)};
    out[PART_SCALES] = (lb_format_part){"scales", scale_bytes, lb_format_groups(format, cols) * scale_bytes};
    return 2;
}

static void pack_nv(const lb_format *format, const uint8_t *codes, const float *params, size_t cols,
                    uint8_t *const *parts)
{
    const size_t groups = lb_format_groups(format, cols);
    lb_bits_pack(codes, cols, format->bits, parts[PART_CODES]);
    if (format->rule == LB_SCALE_EXACT) {
        lb_block_pack_floats(format, params, groups, parts[PART_SCALES]);
        return;
    }
    for (size_t g = 0; g < groups; g++) {
        const float factor = params[g * format->params + LB_NV_BLOCK_FACTOR];
        parts[PART_SCALES][g] = isnan(factor) ? 0x7f : lb_element_encode(&lb_e4m3, lb_e4m3.max, factor);
    }
}

static lb_status unpack_nv(const lb_format *format, const uint8_t *const *parts, size_t cols, uint8_t *codes,
                           float *params, lb_error *err)
{
    const size_t groups = lb_format_groups(format, cols);
    lb_bits_unpack(parts[PART_CODES], cols, format->bits, codes);
    LB_TRY(lb_block_check_codes(format, codes, cols, err));
    if (format->rule == LB_SCALE_EXACT)
        return lb_block_unpack_floats(format, parts[PART_SCALES], groups, params, err);
    for (size_t g = 0; g < groups; g++) {
        const uint8_t code = parts[PART_SCALES][g];
        if (code > lb_e4m3.max_code)
            return lb_fail(err, LB_EFORMAT,
                           "the scale of block %zu is the E4M3 code 0x%02x, want 0x00 to 0x7e", g, code);
        const float factor = lb_element_decode(&lb_e4m3, code);
        params[g * format->params + LB_NV_BLOCK_FACTOR] = factor;
        params[g * format->params + LB_BLOCK_SCALE] = factor * format->tensor_scale;
    }
    return LB_OK;
}

const lb_format_ops lb_nv_format = {
    .family = "nv",
    .syntax = "nvfp4, nvint4 with an optional -exact and, for nvint4, -asym",
    .parse = parse_nv,
    .tensor_scale = tensor_scale,
    .fit = lb_block_fit,
    .round = lb_block_round,
    .value = lb_block_value,
    .parts = parts_of_row,
    .pack = pack_nv,
    .unpack = unpack_nv,
    .tune = &lb_tune_block,
};
