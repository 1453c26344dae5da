/* SPDX-License-Identifier: MIT
 * The harness' expressions are "#### (\-?[0-9\.\,]+)", the first match, and "(-?[$0-9.,]{2,})|(-?[0-9]+)", the last. */
#include "eval/answer.h"

#include <string.h>

static bool store(const char *begin, size_t length, char out[LB_ANSWER_BYTES])
{
    if (length >= LB_ANSWER_BYTES)
        return false;
    memcpy(out, begin, length);
    out[length] = '\0';
    return true;
}

bool lb_answer_marked(const char *text, char out[LB_ANSWER_BYTES])
{
    for (const char *at = text; (at = strstr(at, "#### ")) != NULL; at++) {
        const size_t sign = at[5] == '-', digits = strspn(at + 5 + sign, "0123456789.,");
        if (digits > 0)
            return store(at + 5, sign + digits, out);
    }
    return false;
}

/* The length of a match that begins here, or 0. */
static size_t match(const char *at)
{
    const size_t sign = *at == '-';
    const size_t any = strspn(at + sign, "$0123456789.,"), digits = strspn(at + sign, "0123456789");
    return any >= 2 ? sign + any : digits > 0 ? sign + digits : 0;
}

bool lb_answer_last(const char *text, char out[LB_ANSWER_BYTES])
{
    bool found = false;
    for (size_t length; *text; text += length ? length : 1) {
        length = match(text);
        if (length > 0)
            found = store(text, length, out) || found;
    }
    return found;
}

static const char *next_digit(const char *at)
{
    while (*at == ',' || *at == '$' || (*at == '.' && at[1] == '\0'))
        at++;
    return at;
}

bool lb_answers_agree(const char *a, const char *b)
{
    for (;; a++, b++) {
        a = next_digit(a);
        b = next_digit(b);
        if (*a != *b)
            return false;
        if (*a == '\0')
            return true;
    }
}
