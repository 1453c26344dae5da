/* SPDX-License-Identifier: MIT */
#include "formats/act_format.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LEAST_BANK = 2, MOST_BANK = 4096 };

static lb_status not_known(const char *name, lb_error *err)
{
    return lb_fail(
        err, LB_EINVAL,
        "activation format \"%.40s\" is not of the form sqH/L-bB-sS[-dynamic]: H and L from 2 to 8 "
        "bits, H more than L, banks of B = %d to %d channels, a share S of low ones between 0 and 1",
        name, LEAST_BANK, MOST_BANK);
}

/* "sqH/L-bB-sS", with or without "-dynamic". */
static lb_status parse_banks(const char *name, lb_act *out, lb_error *err)
{
    unsigned high, low;
    char *end, plain[16];
    int used = 0;
    lb_act a = {0};
    if (sscanf(name, "sq%1u/%1u-b%4zu-s%n", &high, &low, &a.bank, &used) != 3 || used == 0 || high < 2 ||
        high > 8 || low < 2 || low >= high || a.bank < LEAST_BANK || a.bank > MOST_BANK)
        return not_known(name, err);
    const double share = name[used] >= '0' && name[used] <= '9' ? strtod(name + used, &end) : NAN;
    if (!(share > 0.0 && share < 1.0))
        return not_known(name, err);
    a.dynamic = strcmp(end, "-dynamic") == 0;
    if (!a.dynamic && *end)
        return not_known(name, err);
    const double count = (1.0 - share) * (double)a.bank;
    if (count < 1.0 || count != floor(count))
        return lb_fail(
            err, LB_EINVAL,
            "activation format \"%.40s\": of a bank of %zu channels (1 - %g) * %zu = %g are high, want "
            "a whole number from 1 on",
            name, a.bank, share, a.bank, count);
    a.high_per_bank = (size_t)count;
    snprintf(plain, sizeof plain, "int%u-row", high);
    LB_TRY(lb_format_parse(plain, &a.high, err));
    snprintf(plain, sizeof plain, "int%u-row", low);
    LB_TRY(lb_format_parse(plain, &a.format, err));
    snprintf(a.name, sizeof a.name, "sq%u/%u-b%zu-s%g%s", high, low, a.bank, share,
             a.dynamic ? "-dynamic" : "");
    if (strncmp(name, a.name, (size_t)used) != 0) /* as with all formats: spelled as it is printed */
        return not_known(name, err);
    *out = a;
    return LB_OK;
}

lb_status lb_act_parse(const char *name, lb_act *out, lb_error *err)
{
    if (strncmp(name, "sq", 2) == 0)
        return parse_banks(name, out, err);
    lb_act a = {0};
    LB_TRY(lb_format_parse(name, &a.format, err));
    memcpy(a.name, a.format.name, sizeof a.name);
    *out = a;
    return LB_OK;
}

bool lb_act_keeps(const lb_act *act)
{
    return act->bank == 0 && lb_format_keeps(&act->format);
}

bool lb_act_masks(const lb_act *act)
{
    return act->bank > 0 && !act->dynamic;
}

size_t lb_act_high_channels(const lb_act *act, size_t cols)
{
    return act->bank ? cols / act->bank * act->high_per_bank : 0;
}
