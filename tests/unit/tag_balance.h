/* SPDX-License-Identifier: MIT
 * A tiny reader of HTML that fails the test where tags do not balance, attributes are not quoted, a character
 * reference is unknown, or text has a bare '<'. It also counts what it sees. */
#ifndef LB_TESTS_TAG_BALANCE_H
#define LB_TESTS_TAG_BALANCE_H

#include "near.h"

#include <ctype.h>
#include <stdlib.h>

typedef struct tag_counts {
    size_t tags, text_bytes;
} tag_counts;

static inline bool tag_is_void(const char *name)
{
    return strcmp(name, "meta") == 0 || strcmp(name, "br") == 0 || strcmp(name, "!doctype") == 0;
}

/* The character reference at `at`: its length, or 0. */
static inline size_t reference_length(const char *at)
{
    static const char *const known[] = {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;", "&apos;"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strncmp(at, known[i], strlen(known[i])) == 0)
            return strlen(known[i]);
    return 0;
}

/* What a tag has after its name: spaces, name="value" ..., up to ">" or "/>". Returns what follows. */
static inline const char *read_attributes(const char *at, bool *closed)
{
    *closed = false;
    for (;;) {
        const char *before = at;
        at += strspn(at, " \t\r\n");
        if (*at == '>')
            return at + 1;
        if (strncmp(at, "/>", 2) == 0) {
            *closed = true;
            return at + 2;
        }
        if (at == before)
            fail_msg("no space before an attribute: %.40s", at);
        at += strcspn(at, "=<> \t\r\n");
        if (*at != '=')
            continue; /* <!doctype html> */
        char quote = at[1];
        if (quote != '"' && quote != '\'')
            fail_msg("no quotes: %.40s", at);
        const char *end = strchr(at + 2, quote);
        assert_non_null(end);
        at = end + 1;
    }
}

static inline tag_counts check_balance(const char *html)
{
    enum { DEEPEST = 64 };
    tag_counts seen = {0};
    char open[DEEPEST][24], name[24];
    size_t depth = 0;
    for (const char *at = html; *at;) {
        if (*at == '&') {
            size_t length = reference_length(at);
            if (!length)
                fail_msg("unknown character reference: %.40s", at);
            at += length;
            seen.text_bytes++;
            continue;
        }
        if (*at != '<') {
            seen.text_bytes++;
            at++;
            continue;
        }
        bool end = at[1] == '/', closed;
        at += end ? 2 : 1;
        size_t length = strcspn(at, " \t\r\n/>");
        if (length == 0 || length >= sizeof name || !(isalpha((unsigned char)*at) || *at == '!'))
            fail_msg("not a tag: <%.40s", at);
        for (size_t i = 0; i < length; i++)
            name[i] = (char)tolower((unsigned char)at[i]);
        name[length] = '\0';
        at = read_attributes(at + length, &closed);
        seen.tags++;
        if (end) {
            if (depth == 0 || strcmp(open[depth - 1], name) != 0)
                fail_msg("</%s> closes <%s>", name, depth ? open[depth - 1] : "nothing");
            depth--;
        } else if (!closed && !tag_is_void(name)) {
            assert_true(depth < DEEPEST);
            strcpy(open[depth++], name);
            if (strcmp(name, "style") == 0) {
                at = strstr(at, "</style>");
                assert_non_null(at);
            }
        }
    }
    if (depth)
        fail_msg("<%s> is never closed", open[depth - 1]);
    return seen;
}

#endif
