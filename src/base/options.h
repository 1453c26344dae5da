/* SPDX-License-Identifier: MIT
 * Public option structs begin with their own size, so that a caller built against another version of
 * this library still works. */
#ifndef LB_BASE_OPTIONS_H
#define LB_BASE_OPTIONS_H

#include "base/error.h"

/* What an options struct's init function does: `given`, of given_bytes (what the caller's version of the struct has),
 * becomes the defaults [known_bytes] as far as both know them, and zero beyond; its first field is its size. */
void lb_options_fill(void *given, size_t given_bytes, const void *defaults, size_t known_bytes);

/* Copies what the caller knows over `known` [known_bytes], which holds the defaults: fields that the
 * caller's version did not have keep theirs. `given` begins with its size (NULL: all defaults). A size
 * that cannot be is LB_EINVAL: the struct was never initialised. */
lb_status lb_options_adopt(void *known, size_t known_bytes, const void *given, const char *name,
                           lb_error *err);

#endif
