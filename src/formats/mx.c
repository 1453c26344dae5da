/* SPDX-License-Identifier: MIT */
#include "formats/mx.h"

#include <stdio.h>
#include <string.h>

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

const lb_format_ops lb_mx_format = {
    .family = "mx",
    .syntax =
        "mxfp8-e4m3, mxfp8-e5m2, mxfp6-e2m3, mxfp6-e3m2, mxfp4, mxint8, mxint6, mxint4 with an optional "
        "-ocp, -even, -round, -floor or -exact and, for integers, -asym",
    .parse = parse_mx,
    .fit = lb_block_fit,
    .round = lb_block_round,
    .value = lb_block_value,
    .parts = lb_block_parts,
    .pack = lb_block_pack,
    .unpack = lb_block_unpack,
    .tune = &lb_tune_block,
};
