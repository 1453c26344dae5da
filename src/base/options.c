/* SPDX-License-Identifier: MIT */
#include "base/options.h"

#include <string.h>

void lb_options_fill(void *given, size_t given_bytes, const void *defaults, size_t known_bytes)
{
    memset(given, 0, given_bytes);
    memcpy(given, defaults, given_bytes < known_bytes ? given_bytes : known_bytes);
    if (given_bytes >= sizeof given_bytes)
        memcpy(given, &given_bytes, sizeof given_bytes);
}

lb_status lb_options_adopt(void *known, size_t known_bytes, const void *given, const char *name,
                           lb_error *err)
{
    enum { LARGEST = 1 << 16 };
    size_t given_bytes;
    if (!given)
        return LB_OK;
    memcpy(&given_bytes, given, sizeof given_bytes);
    if (given_bytes < sizeof given_bytes || given_bytes > LARGEST)
        return lb_fail(err, LB_EINVAL, "%s says that it has %zu bytes; initialise it with %s_init", name,
                       given_bytes, name);
    memcpy(known, given, given_bytes < known_bytes ? given_bytes : known_bytes);
    memcpy(known, &known_bytes, sizeof known_bytes);
    return LB_OK;
}
