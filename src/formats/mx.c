/* SPDX-License-Identifier: MIT */
#include "formats/mx.h"

#include <stdio.h>
#include <string.h>

#include "formats/bits.h"
#include "formats/block_format.h"
#include "formats/tune.h"

static const struct {
    const char *name, *alias;
    const lb_element *element;
} members[] = {
    {"mxfp8-e4m3", "mxfp8", &lb_e4m3}, {"mxfp8-e5m2", NULL, &lb_e5m2}, {"mxfp6-e2m3", "mxfp6", &lb_e2m3},
    {"mxfp6-e3m2", NULL, &lb_e3m2},    {"mxfp4", NULL, &lb_e2m1},      {"mxint8", NULL, &lb_int8},
    {"mxint6", NULL, &lb_int6},        {"mxint4", NULL, &lb_int4},
};

static const char *const rule_suffixes[] = {
    [LB_SCALE_CEIL] = "",        [LB_SCALE_OCP] = "-ocp",     [LB_SCALE_EVEN] = "-even",
    [LB_SCALE_ROUND] = "-round", [LB_SCALE_FLOOR] = "-floor", [LB_SCALE_EXACT] = "-exact"};

/* name = base + rule + range, spelled exactly so. */
static bool is_spelled(const char *name, const char *base, const char *rule, const char *range)
{
    const size_t lengths[] = {strlen(base), strlen(rule), strlen(range)};
    return strlen(name) == lengths[0] + lengths[1] + lengths[2] && strncmp(name, base, lengths[0]) == 0 &&
           strncmp(name + lengths[0], rule, lengths[1]) == 0 &&
           strcmp(name + lengths[0] + lengths[1], range) == 0;
}

static bool parse_member(const char *name, size_t member, lb_format *out)
{
    const lb_element *e = members[member].element;
    const char *const bases[] = {members[member].name, members[member].alias};
    for (size_t rule = 0; rule < sizeof rule_suffixes / sizeof *rule_suffixes; rule++) {
        for (int asymmetric = 0; asymmetric <= (e->twos_complement ? 1 : 0); asymmetric++) {
            const char *range = asymmetric ? "-asym" : "";
            for (size_t b = 0; b < 2 && bases[b]; b++) {
                if (!is_spelled(name, bases[b], rule_suffixes[rule], range))
                    continue;
                *out = (lb_format){.ops = &lb_mx_format,
                                   .bits = e->bits,
                                   .group = LB_MX_BLOCK,
                                   .symmetric = !asymmetric,
                                   .params = 1,
                                   .element = e,
                                   .rule = (lb_scale_rule)rule,
                                   .tensor_scale = 1.0f};
                snprintf(out->name, sizeof out->name, "%s%s%s", bases[0], rule_suffixes[rule], range);
                return true;
            }
        }
    }
    return false;
}

static bool parse_mx(const char *name, lb_format *out)
{
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        if (parse_member(name, i, out))
            return true;
    }
    return false;
}

enum { PART_CODES, PART_SCALES };

static unsigned parts_of_row(const lb_format *format, size_t cols, lb_format_part out[LB_FORMAT_MAX_PARTS])
{
    const unsigned scale_bytes = format->rule == LB_SCALE_EXACT ? 4 : 1;
    out[PART_CODES] = (lb_format_part){"codes", 1, lb_bits_bytes(cols, format->bits)};
    out[PART_SCALES] = (lb_format_part){"scales", scale_bytes, lb_format_groups(format, cols) * scale_bytes};
    return 2;
}

/* 2^k -> k + 127, whose float has the exponent k + 127 (0 for the subnormal 2^-127). NaN -> 255. */
static void pack_mx(const lb_format *format, const uint8_t *codes, const float *params, size_t cols,
                    uint8_t *const *parts)
{
    const size_t groups = lb_format_groups(format, cols);
    lb_bits_pack(codes, cols, format->bits, parts[PART_CODES]);
    if (format->rule == LB_SCALE_EXACT) {
        lb_block_pack_floats(format, params, groups, parts[PART_SCALES]);
        return;
    }
    for (size_t g = 0; g < groups; g++)
        parts[PART_SCALES][g] = (uint8_t)(lb_float_bits(params[g]) >> 23);
}

static lb_status unpack_mx(const lb_format *format, const uint8_t *const *parts, size_t cols, uint8_t *codes,
                           float *params, lb_error *err)
{
    const size_t groups = lb_format_groups(format, cols);
    lb_bits_unpack(parts[PART_CODES], cols, format->bits, codes);
    LB_TRY(lb_block_check_codes(format, codes, cols, err));
    if (format->rule == LB_SCALE_EXACT)
        return lb_block_unpack_floats(format, parts[PART_SCALES], groups, params, err);
    for (size_t g = 0; g < groups; g++) {
        const int code = parts[PART_SCALES][g];
        if (code == 255)
            return lb_fail(err, LB_EFORMAT, "the scale of block %zu is NaN (E8M0 code 255)", g);
        params[g] = lb_power_of_two(code - 127);
    }
    return LB_OK;
}

const lb_format_ops lb_mx_format = {
    .family = "mx",
    .syntax =
        "mxfp8-e4m3, mxfp8-e5m2, mxfp6-e2m3, mxfp6-e3m2, mxfp4, mxint8, mxint6, mxint4 with an optional "
        "-ocp, -even, -round, -floor or -exact and, for integers, -asym",
    .parse = parse_mx,
    .fit = lb_block_fit,
    .round = lb_block_round,
    .value = lb_block_value,
    .parts = parts_of_row,
    .pack = pack_mx,
    .unpack = unpack_mx,
    .tune = &lb_tune_block,
};
