/* SPDX-License-Identifier: MIT
 * Public option structs begin with their own size, so that a caller built against another version of
 * this library still works. */
#ifndef LB_BASE_OPTIONS_H
#define LB_BASE_OPTIONS_H

#include "base/error.h"

/* Copies what the caller knows over `known` [known_bytes], which holds the defaults: fields that the
 * caller's version did not have keep theirs. `given` begins with its size (NULL: all defaults). A size
 * that cannot be is LB_EINVAL: the struct was never initialised. */
lb_status lb_options_adopt(void *known, size_t known_bytes, const void *given, const char *name,
                           lb_error *err);

#endif
