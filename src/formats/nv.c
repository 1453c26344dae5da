/* SPDX-License-Identifier: MIT */
#include "formats/nv.h"

#include <float.h>
#include <string.h>

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

const lb_format_ops lb_nv_format = {
    .family = "nv",
    .syntax = "nvfp4, nvint4 with an optional -exact and, for nvint4, -asym",
    .parse = parse_nv,
    .tensor_scale = tensor_scale,
    .fit = lb_block_fit,
    .round = lb_block_round,
    .value = lb_block_value,
    .parts = lb_block_parts,
    .pack = lb_block_pack,
    .unpack = lb_block_unpack,
    .tune = &lb_tune_block,
};
