/* SPDX-License-Identifier: MIT */
#include "train/average_named.h"

#include <stdlib.h>
#include <string.h>

lb_status lb_average_parse(const char *text, lb_average_named *out, lb_error *err)
{
    char *end = NULL;
    lb_average_named a = {.text = text, .keep = -1.0};
    bool good = false;
    if (strncmp(text, "latest:", 7) == 0 && text[7] >= '1' && text[7] <= '9') {
        a.latest = strtoull(text + 7, &end, 10);
        if (*end == ':' && end[1] >= '1' && end[1] <= '9')
            a.spacing = strtoull(end + 1, &end, 10);
        good = *end == '\0' && a.latest < 1000000;
    } else if (strncmp(text, "ema:", 4) == 0) {
        a.keep = strtod(text + 4, &end);
        good = end != text + 4 && *end == '\0' && a.keep >= 0.0 && a.keep < 1.0;
    }
    if (!good)
        return lb_fail(err, LB_EINVAL,
                       "an average is latest:K, latest:K:STEPS or ema:KEEP (0 to less than 1), not \"%s\"",
                       text);
    *out = a;
    return LB_OK;
}

void lb_average_choose(const lb_average_named *a, lb_average_options *o)
{
    if (a->keep >= 0.0) {
        o->kind = LB_AVERAGE_EMA;
        o->decay = a->keep;
    } else {
        o->latest = a->latest;
        o->spacing = a->spacing;
    }
}
