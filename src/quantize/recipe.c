/* SPDX-License-Identifier: MIT */
#include "quantize/recipe.h"

#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

#include "quantize/method.h"

static const char *const order_names[] = {
    [LB_ORDER_GROUP] = "group", [LB_ORDER_ACT] = "act", [LB_ORDER_NONE] = "none"};

static const char *const saliency_names[] = {[LB_SALIENCY_OBS] = "obs",
                                             [LB_SALIENCY_PAPER] = "paper",
                                             [LB_SALIENCY_CHOL] = "chol",
                                             [LB_SALIENCY_MAGNITUDE] = "magnitude"};

static const char *const best_names[] = {
    [LB_BEST_HELD_ASIDE] = "held-aside", [LB_BEST_BATCH] = "batch", [LB_BEST_LAST] = "last"};

static const char *const init_names[] = {
    [LB_INIT_SEARCH] = "search", [LB_INIT_RANGE] = "range", [LB_INIT_BITS] = "bits"};

static const char *const mask_names[] = {
    [LB_MASK_NORM] = "norm", [LB_MASK_ABSOLUTE] = "absolute", [LB_MASK_SIGNED] = "signed"};

static const char *const allocate_names[] = {[LB_ALLOCATE_NONE] = "one for all",
                                             [LB_ALLOCATE_FISHER] = "fisher",
                                             [LB_ALLOCATE_DELTALOSS] = "deltaloss",
                                             [LB_ALLOCATE_HEAD] = "head",
                                             [LB_ALLOCATE_TAIL] = "tail"};

static const lb_method *const methods[] = {&lb_method_rtn, &lb_method_gptq, &lb_method_signround,
                                           &lb_method_bpdq};

const lb_method *lb_method_at(size_t index)
{
    return index < sizeof methods / sizeof *methods ? methods[index] : NULL;
}

lb_status lb_method_find(const char *name, const lb_method **out, lb_error *err)
{
    char known[128] = "";
    for (size_t i = 0; lb_method_at(i); i++) {
        if (strcmp(name, methods[i]->name) == 0) {
            *out = methods[i];
            return LB_OK;
        }
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", methods[i]->name);
    }
    return lb_fail(err, LB_EINVAL, "method \"%.40s\" is not known: there are %s", name, known);
}

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* The place of `name`; `count` where it is none of them. */
static size_t find_name(const char *const *names, size_t count, const char *name)
{
    size_t i = 0;
    while (i < count && strcmp(name, names[i]) != 0)
        i++;
    return i;
}

lb_status lb_order_parse(const char *name, lb_order *out, lb_error *err)
{
    const size_t i = find_name(order_names, COUNT(order_names), name);
    if (i < COUNT(order_names)) {
        *out = (lb_order)i;
        return LB_OK;
    }
    return lb_fail(err, LB_EINVAL, "column order \"%.40s\" is not known: there are group, act, none", name);
}

lb_status lb_saliency_parse(const char *name, lb_saliency *out, lb_error *err)
{
    const size_t i = find_name(saliency_names, COUNT(saliency_names), name);
    if (i < COUNT(saliency_names)) {
        *out = (lb_saliency)i;
        return LB_OK;
    }
    return lb_fail(err, LB_EINVAL, "saliency \"%.40s\" is not known: there are obs, paper, chol, magnitude",
                   name);
}

lb_status lb_mask_score_parse(const char *name, lb_mask_score *out, lb_error *err)
{
    const size_t i = find_name(mask_names, COUNT(mask_names), name);
    if (i < COUNT(mask_names)) {
        *out = (lb_mask_score)i;
        return LB_OK;
    }
    return lb_fail(err, LB_EINVAL, "a mask's score \"%.40s\" is not known: there are norm, absolute, signed",
                   name);
}

lb_status lb_init_parse(const char *name, lb_init *out, lb_error *err)
{
    const size_t i = find_name(init_names, COUNT(init_names), name);
    if (i < COUNT(init_names)) {
        *out = (lb_init)i;
        return LB_OK;
    }
    return lb_fail(err, LB_EINVAL, "\"%.40s\" is no way to begin: there are search, range, bits", name);
}

lb_status lb_best_parse(const char *name, lb_best *out, lb_error *err)
{
    const size_t i = find_name(best_names, COUNT(best_names), name);
    if (i < COUNT(best_names)) {
        *out = (lb_best)i;
        return LB_OK;
    }
    return lb_fail(err, LB_EINVAL,
                   "\"%.40s\" is no way to choose the best: there are held-aside, batch, last", name);
}

lb_status lb_allocate_parse(const char *name, lb_allocate *out, lb_error *err)
{
    const size_t i = find_name(allocate_names, COUNT(allocate_names), name);
    if (i != LB_ALLOCATE_NONE && i < COUNT(allocate_names)) {
        *out = (lb_allocate)i;
        return LB_OK;
    }
    return lb_fail(err, LB_EINVAL,
                   "\"%.40s\" is no way to allocate bits: there are fisher, deltaloss, head, tail", name);
}

static lb_status add_candidate(const char *name, size_t length, lb_allocation *out, lb_error *err)
{
    char copy[2 * LB_FORMAT_NAME_BYTES];
    if (length >= sizeof copy)
        return lb_fail(err, LB_EINVAL, "candidate \"%.40s...\" is no format", name);
    memcpy(copy, name, length);
    copy[length] = '\0';
    if (out->candidate_count == LB_MAX_CANDIDATES)
        return lb_fail(err, LB_EINVAL, "more than %d candidates", LB_MAX_CANDIDATES);
    lb_format *format = &out->candidates[out->candidate_count];
    LB_TRY(lb_format_parse(copy, format, err));
    for (size_t i = 0; i < out->candidate_count; i++)
        if (strcmp(out->candidates[i].name, format->name) == 0)
            return lb_fail(err, LB_EINVAL, "candidate %s is named twice", format->name);
    out->candidate_count++;
    return LB_OK;
}

lb_status lb_candidates_parse(const char *names, lb_allocation *out, lb_error *err)
{
    lb_allocation a = *out;
    a.candidate_count = 0;
    for (;;) {
        const size_t length = strcspn(names, ",");
        LB_TRY(add_candidate(names, length, &a, err));
        if (names[length] == '\0')
            break;
        names += length + 1;
    }
    if (a.candidate_count < 2)
        return lb_fail(err, LB_EINVAL, "an allocation wants at least 2 candidates, got %s alone",
                       a.candidates[0].name);
    *out = a;
    return LB_OK;
}

void lb_recipe_default(lb_recipe *out)
{
    *out = (lb_recipe){.method = &lb_method_gptq,
                       .fit = LB_FIT_SEARCH,
                       .order = LB_ORDER_GROUP,
                       .damp = 0.01,
                       .compensate = 0.5,
                       .refine = 10,
                       .tuning = {.iters = 200, .batch = 8, .multiplier = true, .filter = true},
                       .alternation = {.iters = 10},
                       .polish = {.batch = 2, .lr = 0.005},
                       .allocation = {.samples = 32, .seqlen = 256},
                       .samples = 128,
                       .seqlen = 512,
                       .seed = 42};
    (void)lb_format_parse("int4-g128", &out->format, NULL);
    (void)lb_act_parse("f32", &out->act, NULL);
}

/* Layer names are ASCII, and JSON could not hold other bytes that are not UTF-8. */
static bool is_plain(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (text[i] < 0x20 || text[i] > 0x7e)
            return false;
    }
    return true;
}

lb_status lb_recipe_add_rule(lb_recipe *recipe, const char *text, lb_error *err)
{
    const char *equals = strchr(text, '=');
    if (!equals || equals == text)
        return lb_fail(err, LB_EINVAL, "layer rule \"%.60s\" is not of the form PATTERN=FORMAT", text);
    if (recipe->rule_count == LB_RECIPE_MAX_RULES)
        return lb_fail(err, LB_EINVAL, "more than %d layer rules", LB_RECIPE_MAX_RULES);
    lb_layer_rule *rule = &recipe->rules[recipe->rule_count];
    const size_t length = (size_t)(equals - text);
    if (length >= sizeof rule->pattern)
        return lb_fail(err, LB_EINVAL, "the pattern of layer rule \"%.60s...\" is too long", text);
    LB_TRY(lb_format_parse(equals + 1, &rule->format, err));
    if (!is_plain(text, length))
        return lb_fail(err, LB_EINVAL, "layer rule \"%.60s\": a pattern consists of ASCII characters", text);
    memcpy(rule->pattern, text, length);
    rule->pattern[length] = '\0';
    recipe->rule_count++;
    return LB_OK;
}

const lb_format *lb_recipe_format(const lb_recipe *recipe, const char *layer, const lb_format *otherwise,
                                  size_t *rule)
{
    for (size_t i = recipe->rule_count; i-- > 0;) {
        if (fnmatch(recipe->rules[i].pattern, layer, 0) == 0) {
            if (rule)
                *rule = i;
            return &recipe->rules[i].format;
        }
    }
    if (rule)
        *rule = SIZE_MAX;
    return otherwise;
}

static bool has_kinds(const lb_format *format)
{
    return format->ops && format->ops->kinds;
}

bool lb_recipe_has_kinds(const lb_recipe *recipe)
{
    bool any = recipe->allocation.how == LB_ALLOCATE_NONE && has_kinds(&recipe->format);
    for (size_t i = 0; i < recipe->allocation.candidate_count; i++)
        any = any || has_kinds(&recipe->allocation.candidates[i]);
    for (size_t i = 0; i < recipe->rule_count; i++)
        any = any || has_kinds(&recipe->rules[i].format);
    return any;
}

const lb_format *lb_recipe_layer(const lb_recipe *recipe, size_t block, unsigned which)
{
    char name[128];
    lb_linear_name(block, which, name, sizeof name);
    return lb_recipe_format(
        recipe, name, recipe->plan ? &recipe->plan[block * LB_BLOCK_LINEARS + which] : &recipe->format, NULL);
}

static json_t *allocation_json(const lb_allocation *a)
{
    json_t *candidates = json_array();
    int failed = candidates == NULL;
    for (size_t i = 0; i < a->candidate_count; i++)
        failed |= json_array_append_new(candidates, json_string(a->candidates[i].name));
    json_t *json = json_pack("{s:s, s:f, s:b, s:o}", "by", allocate_names[a->how], "target_bits",
                             a->target_bits, "tied", !a->untied, "candidates", candidates);
    failed |= json == NULL;
    if (a->samples > 0) {
        failed |= json_object_set_new(json, "samples", json_integer((json_int_t)a->samples));
        failed |= json_object_set_new(json, "seqlen", json_integer((json_int_t)a->seqlen));
    }
    if (!failed)
        return json;
    json_decref(json);
    return NULL;
}

json_t *lb_recipe_json(const lb_recipe *recipe)
{
    json_t *json = json_pack(
        "{s:s, s:s, s:s, s:I, s:I, s:I}", "format", recipe->allocation.how ? "mixed" : recipe->format.name,
        "method", recipe->method->name, "fit", recipe->fit == LB_FIT_SEARCH ? "search" : "range", "samples",
        (json_int_t)recipe->samples, "seqlen", (json_int_t)recipe->seqlen, "seed", (json_int_t)recipe->seed);
    int failed = json == NULL;
    if (recipe->method->needs_hessian) {
        failed |= json_object_set_new(json, "order", json_string(order_names[recipe->order]));
        failed |= json_object_set_new(json, "damp", json_real(recipe->damp));
        failed |= json_object_set_new(json, "compensate", json_real(recipe->compensate));
        failed |= json_object_set_new(json, "refine", json_integer((json_int_t)recipe->refine));
    }
    if (lb_recipe_has_kinds(recipe) && recipe->samples > 0) { /* otherwise all go by magnitude */
        failed |= json_object_set_new(json, "saliency", json_string(saliency_names[recipe->saliency]));
        failed |= json_object_set_new(json, "damp", json_real(recipe->damp));
    }
    if (recipe->method->alternates) {
        failed |= json_object_set_new(json, "iters", json_integer((json_int_t)recipe->alternation.iters));
        failed |= json_object_set_new(json, "init", json_string(init_names[recipe->alternation.init]));
        failed |= json_object_set_new(json, "faithful", json_boolean(recipe->alternation.faithful));
    }
    if (recipe->method->reconstruct) {
        const lb_tuning *t = &recipe->tuning;
        failed |= json_object_set_new(json, "iters", json_integer((json_int_t)t->iters));
        failed |= json_object_set_new(json, "batch", json_integer((json_int_t)t->batch));
        failed |= json_object_set_new(json, "lr", t->lr > 0.0 ? json_real(t->lr) : json_string("auto"));
        failed |= json_object_set_new(json, "multiplier", json_boolean(t->multiplier));
        failed |= json_object_set_new(json, "filter", json_boolean(t->filter));
        failed |= json_object_set_new(json, "best", json_string(best_names[t->best]));
    }
    if (recipe->polish.steps > 0)
        failed |= json_object_set_new(json, "polish",
                                      json_pack("{s:I, s:I, s:f}", "steps", (json_int_t)recipe->polish.steps,
                                                "batch", (json_int_t)recipe->polish.batch, "lr",
                                                recipe->polish.lr));
    if (!lb_act_keeps(&recipe->act))
        failed |= json_object_set_new(json, "act", json_string(recipe->act.name));
    if (lb_act_masks(&recipe->act))
        failed |= json_object_set_new(json, "act_mask", json_string(mask_names[recipe->mask_score]));
    if (recipe->transform.kind != LB_TRANSFORM_NONE || recipe->transform.rescale) {
        char name[LB_TRANSFORM_NAME_BYTES];
        lb_transform_name(&recipe->transform, name);
        failed |= json_object_set_new(json, "transform", json_string(name));
    }
    if (recipe->transform.rescale == LB_RESCALE_SMOOTH)
        failed |= json_object_set_new(json, "smooth", json_real(recipe->transform.strength));
    if (recipe->transform.rescale == LB_RESCALE_AWQ)
        failed |= json_object_set_new(json, "clip", json_boolean(recipe->transform.clip));
    if (recipe->allocation.how != LB_ALLOCATE_NONE)
        failed |= json_object_set_new(json, "allocation", allocation_json(&recipe->allocation));
    if (recipe->rule_count) {
        json_t *rules = json_array();
        for (size_t i = 0; i < recipe->rule_count; i++)
            failed |= json_array_append_new(
                rules, json_sprintf("%s=%s", recipe->rules[i].pattern, recipe->rules[i].format.name));
        failed |= json_object_set_new(json, "layer_rules", rules);
    }
    if (!failed)
        return json;
    json_decref(json);
    return NULL;
}
