/* SPDX-License-Identifier: MIT
 * The names that a list of formats shows: what shells complete, and what programs may offer. */
#include "lowbit/formats.h"

#define GROUPS(base) base "-g32", base "-g64", base "-g128", base "-g256", base "-row"
#define ASYMMETRIC(base) \
    base "-g32-asym", base "-g64-asym", base "-g128-asym", base "-g256-asym", base "-row-asym"

static const char *const names[] = {
    "f32",
    "f16",
    "bf16",
    GROUPS("int2"),
    GROUPS("int3"),
    GROUPS("int4"),
    GROUPS("int5"),
    GROUPS("int6"),
    GROUPS("int7"),
    GROUPS("int8"),
    ASYMMETRIC("int2"),
    ASYMMETRIC("int3"),
    ASYMMETRIC("int4"),
    ASYMMETRIC("int5"),
    ASYMMETRIC("int6"),
    ASYMMETRIC("int7"),
    ASYMMETRIC("int8"),
    "mxfp8-e4m3",
    "mxfp8-e5m2",
    "mxfp6-e2m3",
    "mxfp6-e3m2",
    "mxfp4",
    "mxint8",
    "mxint6",
    "mxint4",
    "nvfp4",
    "nvint4",
    "q2_k",
    "q3_k",
    "q4_k",
    "q5_k",
    "q6_k",
    GROUPS("bp1"),
    GROUPS("bp2"),
    GROUPS("bp3"),
    GROUPS("bp4"),
    "sq8/4-b64-s0.875",
    "sq8/4-b32-s0.75",
    "sq4/2-b64-s0.875",
    "sq4/2-b64-s0.75",
};

const char *lb_format_listed(size_t index)
{
    return index < sizeof names / sizeof *names ? names[index] : NULL;
}
