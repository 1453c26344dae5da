/* SPDX-License-Identifier: MIT */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void make_printable(char *text)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < 0x20 || c == 0x7f)
            *text = '?';
    }
}

lb_status lb_fail(lb_error *err, lb_status status, const char *format, ...)
{
    if (err) {
        va_list args;
        va_start(args, format);
        err->status = status;
        vsnprintf(err->msg, sizeof err->msg, format, args);
        va_end(args);
        make_printable(err->msg);
    }
    return status;
}

lb_status lb_fail_at(lb_error *err, lb_status status, const char *format, ...)
{
    if (err) {
        char where[sizeof err->msg];
        char what[sizeof err->msg];
        va_list args;
        va_start(args, format);
        vsnprintf(where, sizeof where, format, args);
        va_end(args);
        memcpy(what, err->msg, sizeof what);
        size_t used = strlen(where);
        if (used > sizeof err->msg / 2)
            used = sizeof err->msg / 2;
        err->status = status;
        snprintf(err->msg, sizeof err->msg, "%.*s: %.*s", (int)used, where, (int)(sizeof err->msg - used - 3),
                 what);
        make_printable(err->msg);
    }
    return status;
}

lb_status lb_progress_tell(const lb_progress *progress, const char *stage, size_t done, size_t total,
                           lb_error *err)
{
    if (progress && progress->fn && progress->fn(progress->user, stage, done, total) != 0)
        return lb_fail(err, LB_ECANCELED, "interrupted at %s", stage);
    return LB_OK;
}
