/* SPDX-License-Identifier: MIT */
#include "infer/stop_text.h"

#include <string.h>

#include "base/alloc.h"
#include "lowbit/generate.h"

lb_status lb_stop_text_create(const char *const *stops, size_t count, lb_stop_text *out, lb_error *err)
{
    lb_stop_text s = {0};
    lb_status st = LB_OK;
    if (count > LB_GENERATE_MOST_STOPS)
        return lb_fail(err, LB_EINVAL, "%zu stop texts, wanted at most %d", count, LB_GENERATE_MOST_STOPS);
    s.stops = lb_alloc_zero(count, sizeof *s.stops);
    if (!s.stops)
        return lb_fail(err, LB_ENOMEM, "no memory for %zu stop texts", count);
    for (; s.count < count; s.count++) {
        const size_t length = strlen(stops[s.count]);
        if (length == 0 || length > LB_GENERATE_MOST_STOP_BYTES) {
            st = lb_fail(err, LB_EINVAL, "stop text %zu has %zu bytes, wanted 1 to %d", s.count + 1, length,
                         LB_GENERATE_MOST_STOP_BYTES);
            goto done;
        }
        s.stops[s.count] = lb_strdup(stops[s.count]);
        if (!s.stops[s.count]) {
            st = lb_fail(err, LB_ENOMEM, "no memory for a stop text");
            goto done;
        }
    }
    *out = s;
    s = (lb_stop_text){0};
done:
    lb_stop_text_free(&s);
    return st;
}

void lb_stop_text_free(lb_stop_text *s)
{
    for (size_t i = 0; i < s->count; i++)
        lb_free(s->stops[i]);
    lb_free(s->stops);
    lb_text_free(&s->held);
    *s = (lb_stop_text){0};
}

/* Whether a stop begins at text [length], whole or, at the text's end, in part. */
static bool begins(const lb_stop_text *s, const char *text, size_t length, bool *whole)
{
    bool part = false;
    *whole = false;
    for (size_t i = 0; i < s->count; i++) {
        const size_t wanted = strlen(s->stops[i]), n = wanted < length ? wanted : length;
        if (memcmp(text, s->stops[i], n) != 0)
            continue;
        part = true;
        *whole = *whole || n == wanted;
    }
    return part;
}

static void drop_given(lb_stop_text *s)
{
    if (s->given > 0)
        memmove(s->held.data, s->held.data + s->given, s->held.length - s->given);
    s->held.length -= s->given;
    s->given = 0;
}

bool lb_stop_text_put(lb_stop_text *s, const char *text, size_t length, const char **out, size_t *out_length)
{
    bool whole = false;
    if (s->count == 0) {
        *out = text;
        *out_length = length;
        return false;
    }
    drop_given(s);
    lb_text_add(&s->held, text, length);
    size_t at = 0;
    while (at < s->held.length && !begins(s, s->held.data + at, s->held.length - at, &whole))
        at++;
    s->given = at;
    *out = s->held.data;
    *out_length = at;
    return whole;
}

void lb_stop_text_rest(lb_stop_text *s, const char **out, size_t *out_length)
{
    drop_given(s);
    *out = s->held.data ? s->held.data : "";
    *out_length = s->held.length;
    s->given = s->held.length;
}
