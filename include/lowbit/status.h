/* SPDX-License-Identifier: MIT
 *
 * How every lowbit call reports failure: a status code, and one sentence for a person.
 *
 * A fallible function returns lb_status and takes `lb_error *err` as its last argument (NULL is
 * allowed). On failure *err holds one sentence: what failed, where, what was found, what was wanted.
 * On success *err is left alone. Outputs are unchanged on failure unless a function says otherwise.
 *
 * What callers compiled against one version may count on with a later one of the same SONAME: options structs begin
 * with their size, and grow (lb_NAME_options_init hands lb_NAME_options_init_sized the size that the caller was
 * compiled with); other structs that the caller makes room for end in reserved room, which the library leaves zero
 * until it means something; all others stay as they are (docs/library.md). Strings are UTF-8, paths as the system has
 * them; strings and arrays that are given need to live during the call only, unless a function says otherwise.
 *
 * Any function may be called from any number of threads at once, each with objects of its own; an object that is
 * reached through a const pointer may be shared. Callbacks come on the thread of the call unless said otherwise.
 */
#ifndef LOWBIT_STATUS_H
#define LOWBIT_STATUS_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define LB_API __attribute__((visibility("default")))
#else
#define LB_API
#endif

/* Values are part of the ABI: never reused, only added. */
typedef enum lb_status {
    LB_OK = 0,
    LB_EINVAL = 1, /* the caller asked for something that makes no sense */
    LB_EIO = 2, /* the operating system refused: open, read, write, map */
    LB_ENOMEM = 3, /* an allocation failed, or would overflow */
    LB_EFORMAT = 4, /* a file is malformed: truncated, inconsistent, hostile */
    LB_EUNSUPPORTED = 5, /* a file is well formed, but of a kind that lowbit does not handle */
    LB_ECANCELED = 6, /* the progress callback asked to stop; what was done is kept */
    LB_EEXIST = 7, /* the output already exists */
    LB_ENOSPC = 8 /* no room left on the device, or not enough for what will be written */
} lb_status;

typedef struct lb_error {
    lb_status status;
    char msg[640]; /* one sentence, NUL-terminated, no newline */
} lb_error;

/* Called as work advances. `stage` is a short static word ("block 3/30"), done <= total.
 * total 0 reports nothing new and only asks whether to go on.
 * A non-zero return asks the work to stop: it then fails with LB_ECANCELED. */
typedef int (*lb_progress_fn)(void *user, const char *stage, size_t done, size_t total);

/* A progress callback with its argument; fn may be NULL. */
typedef struct lb_progress {
    lb_progress_fn fn;
    void *user;
} lb_progress;

#ifdef __cplusplus
}
#endif
#endif
