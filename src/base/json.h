/* SPDX-License-Identifier: MIT
 * Reading JSON that came from outside: jansson plus the sentences that say what is wrong.
 * `where` in these functions names the file (and the part of it) for messages. */
#ifndef LB_BASE_JSON_H
#define LB_BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/* Parses `size` bytes; the result is an object or LB_EFORMAT. Duplicate keys, embedded NULs and
 * trailing bytes are errors. json_decref the result. */
lb_status lb_json_parse(const char *text, size_t size, const char *where, json_t **out, lb_error *err);

/* lb_json_parse of a whole file of at most max_bytes. */
lb_status lb_json_load(const char *path, size_t max_bytes, json_t **out, lb_error *err);

/* object[key] of the wanted kind. A missing key (or null) gives `fallback` and LB_OK; a key of
 * another kind, or an integer outside [low, high], is LB_EFORMAT. */
lb_status lb_json_size(const json_t *object, const char *key, size_t low, size_t high, size_t fallback,
                       const char *where, size_t *out, lb_error *err);
lb_status lb_json_double(const json_t *object, const char *key, double fallback, const char *where,
                         double *out, lb_error *err);
lb_status lb_json_bool(const json_t *object, const char *key, bool fallback, const char *where, bool *out,
                       lb_error *err);
/* *out points into object. */
lb_status lb_json_string(const json_t *object, const char *key, const char *fallback, const char *where,
                         const char **out, lb_error *err);

/* Writes `object` (sorted keys, indent 1, newline at the end) through lb_file_replace. */
lb_status lb_json_save(const char *path, const json_t *object, lb_error *err);

#endif
