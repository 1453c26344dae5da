/* SPDX-License-Identifier: MIT */
#include "io/normalize.h"

#include <string.h>
#include <utf8proc.h>

#include "base/alloc.h"
#include "base/json.h"
#include "io/unicode_form.h"
#include "io/utf8.h"

enum { MAX_STEPS = 64, MAX_NESTING = 8 };

typedef enum step_kind { STEP_FORM, STEP_LOWERCASE, STEP_REPLACE, STEP_STRIP, STEP_PREPEND } step_kind;

typedef struct step {
    step_kind kind;
    lb_unicode_form form;
    lb_pattern *pattern;
    char *content; /* what Replace puts in, or Prepend puts before */
    size_t content_length;
    bool left, right; /* of Strip */
} step;

struct lb_normalizer {
    step steps[MAX_STEPS];
    size_t count;
};

lb_status lb_pattern_from_json(const json_t *spec, const char *where, lb_pattern **out, lb_error *err)
{
    const json_t *literal = json_object_get(spec, "String"), *regex = json_object_get(spec, "Regex");
    if (json_is_string(literal)) {
        if (json_string_length(literal) == 0)
            return lb_fail(err, LB_EFORMAT, "%s: an empty pattern", where);
        return lb_pattern_literal(json_string_value(literal), json_string_length(literal), out, err);
    }
    if (json_is_string(regex))
        return lb_pattern_regex(json_string_value(regex), json_string_length(regex), where, out, err);
    return lb_fail(err, LB_EFORMAT,
                   "%s: a \"pattern\" that is neither {\"String\": text} nor {\"Regex\": text}", where);
}

static lb_status copy_text(const json_t *spec, const char *key, step *to, const char *where, lb_error *err)
{
    const json_t *value = json_object_get(spec, key);
    if (!json_is_string(value))
        return lb_fail(err, LB_EFORMAT, "%s: a normalizer has no text under \"%s\"", where, key);
    to->content_length = json_string_length(value);
    to->content = lb_strndup(json_string_value(value), to->content_length);
    return to->content ? LB_OK : lb_fail(err, LB_ENOMEM, "%s: no memory for a normalizer", where);
}

static bool form_by_name(const char *type, lb_unicode_form *form)
{
    static const char *const names[] = {
        [LB_FORM_NFC] = "NFC", [LB_FORM_NFD] = "NFD", [LB_FORM_NFKC] = "NFKC", [LB_FORM_NFKD] = "NFKD"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(type, names[i]) == 0) {
            *form = (lb_unicode_form)i;
            return true;
        }
    return false;
}

static lb_status add_step(lb_normalizer *normalizer, const json_t *spec, const char *type, const char *where,
                          lb_error *err)
{
    if (normalizer->count == MAX_STEPS)
        return lb_fail(err, LB_EUNSUPPORTED, "%s: more than %d normalizers", where, MAX_STEPS);
    step *next = &normalizer->steps[normalizer->count++];
    if (form_by_name(type, &next->form)) {
        next->kind = STEP_FORM;
        return LB_OK;
    }
    if (strcmp(type, "Lowercase") == 0) {
        next->kind = STEP_LOWERCASE;
        return LB_OK;
    }
    if (strcmp(type, "Strip") == 0) {
        next->kind = STEP_STRIP;
        LB_TRY(lb_json_bool(spec, "strip_left", true, where, &next->left, err));
        return lb_json_bool(spec, "strip_right", true, where, &next->right, err);
    }
    if (strcmp(type, "Prepend") == 0) {
        next->kind = STEP_PREPEND;
        return copy_text(spec, "prepend", next, where, err);
    }
    if (strcmp(type, "Replace") == 0) {
        next->kind = STEP_REPLACE;
        LB_TRY(lb_pattern_from_json(json_object_get(spec, "pattern"), where, &next->pattern, err));
        return copy_text(spec, "content", next, where, err);
    }
    return lb_fail(err, LB_EUNSUPPORTED,
                   "%s: the normalizer \"%s\" is not supported; known are NFC, NFD, NFKC, NFKD, Lowercase, "
                   "Replace, Strip, Prepend and Sequence",
                   where, type);
}

static lb_status add(lb_normalizer *normalizer, const json_t *spec, unsigned depth, const char *where,
                     lb_error *err)
{
    if (!spec || json_is_null(spec))
        return LB_OK;
    const char *type;
    LB_TRY(lb_json_string(spec, "type", NULL, where, &type, err));
    if (!type || depth > MAX_NESTING)
        return lb_fail(err, LB_EFORMAT, "%s: a normalizer %s", where,
                       type ? "nested too deeply" : "without a \"type\"");
    if (strcmp(type, "Sequence") != 0)
        return add_step(normalizer, spec, type, where, err);
    const json_t *list = json_object_get(spec, "normalizers");
    if (!json_is_array(list))
        return lb_fail(err, LB_EFORMAT, "%s: a normalizer Sequence without a list \"normalizers\"", where);
    for (size_t i = 0; i < json_array_size(list); i++)
        LB_TRY(add(normalizer, json_array_get(list, i), depth + 1, where, err));
    return LB_OK;
}

lb_status lb_normalizer_create(const json_t *spec, const char *where, lb_normalizer **out, lb_error *err)
{
    lb_normalizer *normalizer = lb_alloc_zero(1, sizeof *normalizer);
    if (!normalizer)
        return lb_fail(err, LB_ENOMEM, "%s: no memory for a normalizer", where);
    lb_status st = add(normalizer, spec, 0, where, err);
    if (st == LB_OK)
        *out = normalizer;
    else
        lb_normalizer_destroy(normalizer);
    return st;
}

void lb_normalizer_destroy(lb_normalizer *normalizer)
{
    if (!normalizer)
        return;
    for (size_t i = 0; i < normalizer->count; i++) {
        lb_pattern_free(normalizer->steps[i].pattern);
        lb_free(normalizer->steps[i].content);
    }
    lb_free(normalizer);
}

bool lb_normalizer_is_empty(const lb_normalizer *normalizer)
{
    return normalizer->count == 0;
}

/* Lower case, one character at a time as Rust's char::to_lowercase does it: U+0130 is the one
 * character whose lower case is two. */
static void lowercase(const char *text, size_t length, lb_text *out)
{
    for (size_t used; length > 0; text += used, length -= used) {
        uint32_t code = 0;
        char bytes[4];
        (void)lb_utf8_next(text, length, &code, &used);
        if (code == 0x130)
            lb_text_add_string(out, "i\xCC\x87");
        else
            lb_text_add(out, bytes, lb_utf8_put((uint32_t)utf8proc_tolower((utf8proc_int32_t)code), bytes));
    }
}

static void strip(const step *how, const char *text, size_t length, lb_text *out)
{
    size_t begin = 0, end = length, used;
    uint32_t code = 0;
    while (how->left && begin < end) {
        (void)lb_utf8_next(text + begin, end - begin, &code, &used);
        if (!lb_is_space(code))
            break;
        begin += used;
    }
    while (how->right && end > begin) {
        size_t last = end - 1;
        while (((unsigned char)text[last] & 0xC0) == 0x80)
            last--;
        (void)lb_utf8_next(text + last, end - last, &code, &used);
        if (!lb_is_space(code))
            break;
        end = last;
    }
    lb_text_add(out, text + begin, end - begin);
}

static lb_status replace(const step *how, lb_searcher *searcher, const char *text, size_t length,
                         lb_text *out, lb_error *err)
{
    size_t copied = 0, from = 0, last_end = SIZE_MAX;
    while (from <= length) {
        size_t begin, end;
        LB_TRY(lb_pattern_next(how->pattern, searcher, text, length, from, &begin, &end, err));
        if (begin == SIZE_MAX)
            break;
        if (!(begin == end && begin == last_end)) { /* an empty match right after a match is none */
            lb_text_add(out, text + copied, begin - copied);
            lb_text_add(out, how->content, how->content_length);
            copied = last_end = end;
        }
        from = end > begin ? end : begin < length ? begin + lb_utf8_length(text + begin) : length + 1;
    }
    lb_text_add(out, text + copied, length - copied);
    return LB_OK;
}

static lb_status run_step(const step *how, lb_searcher *searcher, const char *text, size_t length,
                          lb_text *out, lb_error *err)
{
    switch (how->kind) {
    case STEP_FORM:
        return lb_unicode_normalize(how->form, text, length, out, err);
    case STEP_LOWERCASE:
        lowercase(text, length, out);
        break;
    case STEP_REPLACE:
        return replace(how, searcher, text, length, out, err);
    case STEP_STRIP:
        strip(how, text, length, out);
        break;
    case STEP_PREPEND:
        if (length > 0)
            lb_text_add(out, how->content, how->content_length);
        lb_text_add(out, text, length);
        break;
    }
    return LB_OK;
}

/* A hostile file can make a text grow with every step. */
static lb_status check_size(const lb_text *text, size_t original, lb_error *err)
{
    if (text->failed)
        return lb_fail(err, LB_ENOMEM, "no memory to normalize a text of %zu bytes", original);
    if (text->length > 64 * original + 65536)
        return lb_fail(err, LB_EUNSUPPORTED, "the tokenizer's normalizer makes %zu bytes of a text of %zu",
                       text->length, original);
    return LB_OK;
}

lb_status lb_normalizer_run(const lb_normalizer *normalizer, lb_searcher *searcher, const char *text,
                            size_t length, lb_text *out, lb_error *err)
{
    lb_status st = LB_OK;
    lb_text other = {0};
    out->length = 0;
    lb_text_add(out, text, normalizer->count == 0 ? length : 0);
    for (size_t i = 0; i < normalizer->count; i++) {
        other.length = 0;
        LB_GO(run_step(&normalizer->steps[i], searcher, i == 0 ? text : out->data,
                       i == 0 ? length : out->length, &other, err));
        lb_text_add(&other, "", 0); /* data is never NULL */
        LB_GO(check_size(&other, length, err));
        lb_text swap = *out;
        *out = other;
        other = swap;
    }
    LB_GO(check_size(out, length, err));
done:
    lb_text_free(&other);
    return st;
}
