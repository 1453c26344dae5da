/* SPDX-License-Identifier: MIT
 *
 * Decomposition and composition are utf8proc's, character by character. Only the canonical ordering
 * of combining marks is done here: utf8proc's own insertion sort takes quadratic time on a long run
 * of marks, which a text from outside may well hold. */
#include "io/unicode_form.h"

#include <string.h>
#include <utf8proc.h>

#include "base/alloc.h"
#include "io/utf8.h"

enum { CLASSES = 256, INSERTION_SORT_MAX = 32, MAX_DECOMPOSITION = 64 };

typedef struct code_points {
    utf8proc_int32_t *data;
    size_t count, capacity;
} code_points;

static unsigned combining_class(utf8proc_int32_t code)
{
    return (unsigned)utf8proc_get_property(code)->combining_class & 0xFF;
}

/* Sorts a run of marks by combining class, equal ones in their order: a counting sort. */
static lb_status sort_long_run(utf8proc_int32_t *run, size_t count, lb_error *err)
{
    utf8proc_int32_t *copy;
    LB_TRY(lb_alloc_array(&copy, count, sizeof *copy, "normalization", err));
    memcpy(copy, run, count * sizeof *copy);
    size_t starts[CLASSES + 1] = {0};
    for (size_t i = 0; i < count; i++)
        starts[combining_class(copy[i]) + 1]++;
    for (size_t c = 0; c < CLASSES; c++)
        starts[c + 1] += starts[c];
    for (size_t i = 0; i < count; i++)
        run[starts[combining_class(copy[i])]++] = copy[i];
    lb_free(copy);
    return LB_OK;
}

static void sort_short_run(utf8proc_int32_t *run, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        utf8proc_int32_t code = run[i];
        size_t at = i;
        for (; at > 0 && combining_class(run[at - 1]) > combining_class(code); at--)
            run[at] = run[at - 1];
        run[at] = code;
    }
}

static lb_status order_marks(code_points *points, lb_error *err)
{
    for (size_t i = 0; i < points->count;) {
        if (combining_class(points->data[i]) == 0) {
            i++;
            continue;
        }
        size_t begin = i;
        while (i < points->count && combining_class(points->data[i]) != 0)
            i++;
        if (i - begin > INSERTION_SORT_MAX)
            LB_TRY(sort_long_run(points->data + begin, i - begin, err));
        else
            sort_short_run(points->data + begin, i - begin);
    }
    return LB_OK;
}

static lb_status decompose(const char *text, size_t length, utf8proc_option_t options, code_points *points,
                           lb_error *err)
{
    int boundary = 0;
    for (size_t used; length > 0; text += used, length -= used) {
        uint32_t code = 0;
        (void)lb_utf8_next(text, length, &code, &used);
        if (points->capacity - points->count < MAX_DECOMPOSITION) {
            size_t capacity = points->capacity + points->capacity / 2 + length + MAX_DECOMPOSITION;
            utf8proc_int32_t *bigger = lb_grow(points->data, points->count, capacity, sizeof *points->data);
            if (!bigger)
                return lb_fail(err, LB_ENOMEM, "no memory to normalize a text");
            points->data = bigger;
            points->capacity = capacity;
        }
        utf8proc_ssize_t made = utf8proc_decompose_char((utf8proc_int32_t)code, points->data + points->count,
                                                        MAX_DECOMPOSITION, options, &boundary);
        if (made < 0 || made > MAX_DECOMPOSITION)
            return lb_fail(err, LB_EINVAL, "the character U+%04X cannot be decomposed", (unsigned)code);
        points->count += (size_t)made;
    }
    return LB_OK;
}

/* Below U+0300 everything is its own NFC; ASCII is its own in every form. */
static bool is_normal_already(lb_unicode_form form, const char *text, size_t length)
{
    unsigned char limit = form == LB_FORM_NFC ? 0xCC : 0x80; /* 0xCC 0x80 is U+0300 */
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)text[i] >= limit)
            return false;
    return true;
}

lb_status lb_unicode_normalize(lb_unicode_form form, const char *text, size_t length, lb_text *out,
                               lb_error *err)
{
    if (is_normal_already(form, text, length)) {
        lb_text_add(out, text, length);
        return LB_OK;
    }
    bool composes = form == LB_FORM_NFC || form == LB_FORM_NFKC;
    unsigned options = UTF8PROC_STABLE | (composes ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE);
    if (form == LB_FORM_NFKC || form == LB_FORM_NFKD)
        options |= UTF8PROC_COMPAT;
    code_points points = {0};
    lb_status st;
    LB_GO(decompose(text, length, (utf8proc_option_t)options, &points, err));
    LB_GO(order_marks(&points, err));
    utf8proc_ssize_t count = (utf8proc_ssize_t)points.count;
    if (composes)
        count = utf8proc_normalize_utf32(points.data, count, (utf8proc_option_t)options);
    for (utf8proc_ssize_t i = 0; i < count; i++) {
        char bytes[4];
        lb_text_add(out, bytes, lb_utf8_put((uint32_t)points.data[i], bytes));
    }
done:
    lb_free(points.data);
    return st;
}
