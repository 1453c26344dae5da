/* SPDX-License-Identifier: MIT */
#include "pack/run_record.h"

#include <stdint.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/file.h"
#include "base/json.h"

/* "model", or of an object the first of its keys that differs: "recipe (format)". */
static void name_difference(const char *key, const json_t *wanted, const json_t *found, char *out,
                            size_t bytes)
{
    const json_t *sides[2] = {wanted, found}, *value;
    const char *inner;
    snprintf(out, bytes, "%s", key);
    for (int i = 0; i < 2; i++) {
        json_object_foreach((json_t *)(uintptr_t)sides[i], inner, value)
        {
            if (!json_equal(value, json_object_get(sides[1 - i], inner))) {
                snprintf(out, bytes, "%s (%s)", key, inner);
                return;
            }
        }
    }
}

/* The record is compared key by key, so that the message can say what is different. */
lb_status lb_run_record_check(const char *partial, const json_t *record, lb_error *err)
{
    char difference[96];
    json_t *found;
    char *path = lb_path_join(partial, LB_RUN_RECORD_NAME);
    if (!path)
        return lb_fail(err, LB_ENOMEM, "quantized checkpoint: no memory for a name");
    lb_status st = lb_json_load(path, 1 << 20, &found, err);
    lb_free(path);
    if (st != LB_OK)
        return lb_fail_at(err, st, "cannot resume %s", partial);
    const char *key;
    const json_t *value;
    json_object_foreach((json_t *)(uintptr_t)record, key, value)
    {
        const json_t *before = json_object_get(found, key);
        if (st != LB_OK || json_equal(value, before))
            continue;
        name_difference(key, value, before, difference, sizeof difference);
        st = lb_fail(err, LB_EINVAL,
                     "cannot resume %s: it was made with another %s; use the same arguments, or "
                     "delete it to start anew",
                     partial, difference);
    }
    json_decref(found);
    return st;
}
