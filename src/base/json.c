/* SPDX-License-Identifier: MIT */
#include "base/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/file.h"

lb_status lb_json_parse(const char *text, size_t size, const char *where, json_t **out, lb_error *err)
{
    json_error_t problem;
    json_t *value = json_loadb(text, size, JSON_REJECT_DUPLICATES, &problem);
    if (!value)
        return lb_fail(err, LB_EFORMAT, "%s: not valid JSON, line %d column %d: %s", where, problem.line,
                       problem.column, problem.text);
    if (!json_is_object(value)) {
        json_decref(value);
        return lb_fail(err, LB_EFORMAT, "%s: its JSON is not an object", where);
    }
    *out = value;
    return LB_OK;
}

lb_status lb_json_load(const char *path, size_t max_bytes, json_t **out, lb_error *err)
{
    char *text;
    size_t size;
    LB_TRY(lb_file_read(path, max_bytes, &text, &size, err));
    lb_status st = lb_json_parse(text, size, path, out, err);
    lb_free(text);
    return st;
}

static const json_t *find(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return value && !json_is_null(value) ? value : NULL;
}

lb_status lb_json_size(const json_t *object, const char *key, size_t low, size_t high, size_t fallback,
                       const char *where, size_t *out, lb_error *err)
{
    const json_t *value = find(object, key);
    if (!value) {
        *out = fallback;
        return LB_OK;
    }
    if (!json_is_integer(value))
        return lb_fail(err, LB_EFORMAT, "%s: \"%s\" is not an integer", where, key);
    json_int_t n = json_integer_value(value);
    if (n < 0 || (unsigned long long)n < low || (unsigned long long)n > high)
        return lb_fail(err, LB_EFORMAT, "%s: \"%s\" is %lld, outside %zu to %zu", where, key, (long long)n,
                       low, high);
    *out = (size_t)n;
    return LB_OK;
}

lb_status lb_json_double(const json_t *object, const char *key, double fallback, const char *where,
                         double *out, lb_error *err)
{
    const json_t *value = find(object, key);
    if (!value) {
        *out = fallback;
        return LB_OK;
    }
    if (!json_is_number(value) || !isfinite(json_number_value(value)))
        return lb_fail(err, LB_EFORMAT, "%s: \"%s\" is not a finite number", where, key);
    *out = json_number_value(value);
    return LB_OK;
}

lb_status lb_json_bool(const json_t *object, const char *key, bool fallback, const char *where, bool *out,
                       lb_error *err)
{
    const json_t *value = find(object, key);
    if (value && !json_is_boolean(value))
        return lb_fail(err, LB_EFORMAT, "%s: \"%s\" is neither true nor false", where, key);
    *out = value ? json_is_true(value) : fallback;
    return LB_OK;
}

lb_status lb_json_string(const json_t *object, const char *key, const char *fallback, const char *where,
                         const char **out, lb_error *err)
{
    const json_t *value = find(object, key);
    if (value && !json_is_string(value))
        return lb_fail(err, LB_EFORMAT, "%s: \"%s\" is not a string", where, key);
    *out = value ? json_string_value(value) : fallback;
    return LB_OK;
}

lb_status lb_json_save(const char *path, const json_t *object, lb_error *err)
{
    char *text = json_dumps(object, JSON_INDENT(1) | JSON_SORT_KEYS | JSON_REAL_PRECISION(17));
    if (!text)
        return lb_fail(err, LB_ENOMEM, "%s: no memory for its JSON", path);
    size_t length = strlen(text);
    text[length] = '\n'; /* takes the place of the terminator: only `length + 1` bytes are written */
    lb_status st = lb_file_replace(path, text, length + 1, err);
    free(text); /* jansson's own allocation */
    return st;
}
