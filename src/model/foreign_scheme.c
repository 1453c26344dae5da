/* SPDX-License-Identifier: MIT */
#include "model/foreign_scheme.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "io/regex.h"

/* Whether a pattern of compressed-tensors ("re:...") matches a layer's name from its beginning. */
static lb_status matches(const char *pattern, const char *layer, const char *path, bool *out, lb_error *err)
{
    lb_pattern *regex = NULL;
    lb_searcher *searcher = NULL;
    size_t begin = SIZE_MAX, end;
    lb_status st;
    *out = false;
    if (*pattern == '\0')
        return LB_OK;
    LB_GO(lb_pattern_regex(pattern, strlen(pattern), path, &regex, err));
    LB_GO(lb_searcher_create(strlen(layer), &searcher, err));
    LB_GO(lb_pattern_next(regex, searcher, layer, strlen(layer), 0, &begin, &end, err));
    *out = begin == 0;
done:
    lb_searcher_destroy(searcher);
    lb_pattern_free(regex);
    return st;
}

/* Whether a group is the layer's: by its name, or as one of all linear layers. */
static lb_status targets(const json_t *group, const char *layer, bool by_name, const char *path, bool *out,
                         lb_error *err)
{
    const json_t *list = json_object_get(group, "targets"), *item;
    size_t i;
    *out = false;
    json_array_foreach(list, i, item)
    {
        const char *target = json_string_value(item);
        if (!target || *out)
            continue;
        if (!by_name)
            *out = strcmp(target, "Linear") == 0;
        else if (strncmp(target, "re:", 3) == 0)
            LB_TRY(matches(target + 3, layer, path, out, err));
        else
            *out = strcmp(target, layer) == 0;
    }
    return LB_OK;
}

/* The group of config_groups that a layer is in; NULL: none. */
static lb_status find_group(const json_t *groups, const char *layer, const char *path, const json_t **out,
                            lb_error *err)
{
    *out = NULL;
    for (int by_name = 1; by_name >= 0; by_name--) {
        for (void *at = json_object_iter((json_t *)(uintptr_t)groups); at && !*out;
             at = json_object_iter_next((json_t *)(uintptr_t)groups, at)) {
            const json_t *group = json_object_iter_value(at);
            bool here;
            LB_TRY(targets(group, layer, by_name, path, &here, err));
            *out = here ? group : NULL;
        }
    }
    return LB_OK;
}

static lb_status of_group(const lb_weights *weights, const json_t *config, const char *name, unsigned *bits,
                          lb_error *err)
{
    const char *path = weights->checkpoint.path, *type;
    const json_t *group;
    char layer[sizeof((lb_weight *)NULL)->name];
    size_t number;
    snprintf(layer, sizeof layer, "%.*s", (int)(strlen(name) - strlen(".weight")), name);
    LB_TRY(find_group(json_object_get(config, "config_groups"), layer, path, &group, err));
    const json_t *scheme = json_object_get(group, "weights");
    if (!json_is_object(scheme))
        return LB_OK;
    LB_TRY(lb_json_size(scheme, "num_bits", 2, 8, 0, path, &number, err));
    LB_TRY(lb_json_string(scheme, "type", "int", path, &type, err));
    if (strcmp(type, "int") != 0)
        return lb_fail(err, LB_EFORMAT, "%s: %s consists of integers, and its group's type is \"%.20s\"",
                       path, name, type);
    *bits = (unsigned)number;
    return LB_OK;
}

lb_status lb_foreign_declared_bits(const lb_weights *weights, const char *name, unsigned *bits, lb_error *err)
{
    const json_t *config = json_object_get(weights->checkpoint.config, "quantization_config");
    size_t number;
    *bits = 0;
    if (json_is_object(json_object_get(config, "config_groups")))
        return of_group(weights, config, name, bits, err);
    LB_TRY(lb_json_size(config, "bits", 2, 8, 0, weights->checkpoint.path, &number, err));
    if (json_object_size(json_object_get(config, "dynamic")) == 0 &&
        json_object_size(json_object_get(config, "extra_config")) == 0)
        *bits = (unsigned)number;
    return LB_OK;
}
