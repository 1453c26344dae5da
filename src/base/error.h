/* SPDX-License-Identifier: MIT
 * Filling in lb_error: the only way that lowbit reports a failure. */
#ifndef LB_BASE_ERROR_H
#define LB_BASE_ERROR_H

#include "lowbit/status.h"

/* Writes the sentence into *err (when err is not NULL) and returns `status`, so that a failing
 * function can end with `return lb_fail(err, ...)`. Control characters that came in from a file
 * are replaced by '?', so that a message never breaks a terminal or a log line. */
lb_status lb_fail(lb_error *err, lb_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " before the sentence already in *err: adds where to a what. Returns err's status. */
lb_status lb_fail_at(lb_error *err, lb_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Passes a failure up: LB_TRY(lb_open(..., err)); */
#define LB_TRY(call) \
    do { \
        lb_status lb_try_status = (call); \
        if (lb_try_status != LB_OK) \
            return lb_try_status; \
    } while (0)

/* The same inside a function that cleans up under the label `done`, with a variable `st`. */
#define LB_GO(call) \
    do { \
        st = (call); \
        if (st != LB_OK) \
            goto done; \
    } while (0)

/* Reports progress; LB_ECANCELED (with a sentence) when the callback asks to stop. */
lb_status lb_progress_tell(const lb_progress *progress, const char *stage, size_t done, size_t total,
                           lb_error *err);

#endif
