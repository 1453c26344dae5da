/* SPDX-License-Identifier: MIT
 * UTF-8, one character at a time, with the rules of Unicode chapter 3 (table 3-7): no surrogates, no
 * overlong forms, nothing beyond U+10FFFF. */
#ifndef LB_IO_UTF8_H
#define LB_IO_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum lb_utf8_kind {
    LB_UTF8_VALID,
    LB_UTF8_INVALID, /* *used bytes can never become a character: one U+FFFD stands for them */
    LB_UTF8_INCOMPLETE /* the text ends inside a character that is right so far */
} lb_utf8_kind;

#define LB_UTF8_REPLACEMENT "\xEF\xBF\xBD"

/* Looks at text [left > 0]: *used bytes (always at least 1) hold one character or one mistake. */
static inline lb_utf8_kind lb_utf8_next(const char *text, size_t left, uint32_t *code, size_t *used)
{
    const unsigned char *byte = (const unsigned char *)text;
    if (byte[0] < 0x80) {
        *code = byte[0];
        *used = 1;
        return LB_UTF8_VALID;
    }
    size_t need = byte[0] >= 0xF0 ? 4 : byte[0] >= 0xE0 ? 3 : 2;
    unsigned low = byte[0] == 0xE0 ? 0xA0 : byte[0] == 0xF0 ? 0x90 : 0x80;
    unsigned high = byte[0] == 0xED ? 0x9F : byte[0] == 0xF4 ? 0x8F : 0xBF;
    *used = 1;
    if (byte[0] < 0xC2 || byte[0] > 0xF4)
        return LB_UTF8_INVALID;
    uint32_t value = byte[0] & (0xFFu >> (need + 1));
    for (size_t i = 1; i < need; i++) {
        *used = i;
        if (i == left)
            return LB_UTF8_INCOMPLETE;
        if (byte[i] < low || byte[i] > high)
            return LB_UTF8_INVALID;
        value = value << 6 | (byte[i] & 0x3F);
        low = 0x80;
        high = 0xBF;
    }
    *code = value;
    *used = need;
    return LB_UTF8_VALID;
}

/* The bytes of the character that begins at `text`, which is known to be valid. */
static inline size_t lb_utf8_length(const char *text)
{
    unsigned char first = (unsigned char)*text;
    return first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
}

/* Writes a scalar value (1 to 4 bytes) and returns how many bytes that took. */
static inline size_t lb_utf8_put(uint32_t code, char out[4])
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    size_t length = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = length - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (code & 0x3F));
        code >>= 6;
    }
    out[0] = (char)((0xF00u >> length & 0xF0) | code);
    return length;
}

/* The White_Space property: what Rust and Oniguruma call space (PCRE2's \s has U+180E on top). */
static inline bool lb_is_space(uint32_t code)
{
    return (code >= 9 && code <= 13) || code == 0x20 || code == 0x85 || code == 0xA0 || code == 0x1680 ||
           (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 || code == 0x202F ||
           code == 0x205F || code == 0x3000;
}

#endif
