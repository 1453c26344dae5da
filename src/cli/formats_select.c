/* SPDX-License-Identifier: MIT */
#include "cli/formats_select.h"

#include <stdio.h>
#include <string.h>

static const char *const paper_formats[] = {"mxfp8-e4m3", "mxfp8-e5m2", "mxfp6-e2m3", "mxfp6-e3m2", "mxfp4",
                                            "mxint8",     "mxint6",     "mxint4",     "nvfp4",      "nvint4"};

static const struct {
    const char *name, *suffix;
    lb_scale_rule rule;
} rules[] = {
    {"ceil", "", LB_SCALE_CEIL},           {"ocp", "-ocp", LB_SCALE_OCP},
    {"even", "-even", LB_SCALE_EVEN},      {"round", "-round", LB_SCALE_ROUND},
    {"floor", "-floor", LB_SCALE_FLOOR},   {"exact", "-exact", LB_SCALE_EXACT},
    {"two-level", "", LB_SCALE_TWO_LEVEL},
};
enum { RULE_COUNT = sizeof rules / sizeof *rules };

const char *lb_rule_name(const lb_format *format)
{
    for (size_t i = 0; format->element && i < RULE_COUNT; i++) {
        if (rules[i].rule == format->rule)
            return rules[i].name;
    }
    return "-";
}

static lb_status append(lb_format_list *list, const lb_format *format, lb_error *err)
{
    for (size_t i = 0; i < list->count; i++) {
        if (strcmp(list->items[i].name, format->name) == 0)
            return LB_OK;
    }
    if (list->count == sizeof list->items / sizeof *list->items)
        return lb_fail(err, LB_EINVAL, "more than %zu formats are too many at a time", list->count);
    list->items[list->count++] = *format;
    return LB_OK;
}

/* The format with this rule instead of its family's own: the suffix goes before a final -asym. False when there
 * is none, or when the name has a rule already. */
static bool with_rule(const lb_format *base, size_t which, lb_format *out)
{
    static const char range[] = "-asym";
    char name[LB_FORMAT_NAME_BYTES + 16];
    size_t length = strlen(base->name);
    const bool asymmetric =
        length >= sizeof range && strcmp(base->name + length - (sizeof range - 1), range) == 0;
    if (asymmetric)
        length -= sizeof range - 1;
    snprintf(name, sizeof name, "%.*s%s%s", (int)length, base->name, rules[which].suffix,
             asymmetric ? range : "");
    return base->element && lb_format_parse(name, out, NULL) == LB_OK && out->rule == rules[which].rule;
}

static lb_status append_rules(lb_format_list *list, const lb_format *base, const char *rule, bool lenient,
                              lb_error *err)
{
    const bool all = strcmp(rule, "all") == 0;
    bool any = false;
    for (size_t i = 0; i < RULE_COUNT; i++) {
        lb_format format;
        if ((!all && strcmp(rule, rules[i].name) != 0) || !with_rule(base, i, &format))
            continue;
        any = true;
        LB_TRY(append(list, &format, err));
    }
    if (any || lenient)
        return LB_OK;
    if (all) /* a format without rules is what it is */
        return append(list, base, err);
    return lb_fail(err, LB_EINVAL, "format %s has no variant with the rule %s", base->name, rule);
}

static lb_status select_one(lb_format_list *list, const char *name, const char *rule, bool lenient,
                            lb_error *err)
{
    lb_format base;
    LB_TRY(lb_format_parse(name, &base, err));
    return rule ? append_rules(list, &base, rule, lenient, err) : append(list, &base, err);
}

lb_status lb_formats_select(const lb_arg_list *names, const char *rule, lb_format_list *out, lb_error *err)
{
    out->count = 0;
    for (size_t i = 0; names->count == 0 && i < sizeof paper_formats / sizeof *paper_formats; i++)
        LB_TRY(select_one(out, paper_formats[i], rule, true, err));
    for (size_t i = 0; i < names->count; i++) {
        const char *word = names->items[i];
        for (;;) {
            const size_t length = strcspn(word, ",");
            char name[64];
            snprintf(name, sizeof name, "%.*s", (int)(length < 63 ? length : 63), word);
            LB_TRY(select_one(out, name, rule, false, err));
            if (word[length] == '\0')
                break;
            word += length + 1;
        }
    }
    return LB_OK;
}
