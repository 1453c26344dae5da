/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#define PCRE2_CODE_UNIT_WIDTH 8
#include "io/regex.h"

#include <pcre2.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/text.h"
#include "io/utf8.h"

/* One start position may backtrack this often; one search tries START_WINDOW start positions, and the
 * clock is looked at after every CLOCK_EVERY searches. */
enum { MATCH_LIMIT = 4000000, DEPTH_LIMIT = 250000, HEAP_LIMIT_KIB = 65536 };
enum { START_WINDOW = 128, CLOCK_EVERY = 16 };
enum { JIT_STACK_START = 32 * 1024, JIT_STACK_MAX = 4 * 1024 * 1024 };
/* Ordinary patterns take under 0.1 s a megabyte. */
static const double SECONDS_AT_LEAST = 5.0, SECONDS_PER_MEGABYTE = 5.0;

enum { MAX_PATTERN_BYTES = 65536 };

typedef enum pattern_kind { KIND_LITERAL, KIND_REGEX, KIND_DIGIT } pattern_kind;

struct lb_pattern {
    pattern_kind kind;
    char *literal;
    size_t literal_length;
    pcre2_general_context *memory;
    pcre2_code *code;
};

struct lb_searcher {
    pcre2_general_context *memory;
    pcre2_match_context *match_context;
    pcre2_match_data *match_data;
    pcre2_jit_stack *jit_stack;
    double deadline;
    unsigned searches;
};

static void *pcre_alloc(size_t bytes, void *unused)
{
    (void)unused;
    return lb_alloc(bytes, 1);
}

static void pcre_free(void *block, void *unused)
{
    (void)unused;
    lb_free(block);
}

/* White_Space as the inside of a character class. */
#define SPACE_CLASS \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}" \
    "\\x{205f}\\x{3000}"

/* Oniguruma's \w: Alphabetic (letters, and some symbols: the circled letters), marks, decimal digits,
 * connectors, and from its table of Latin-1 the superscripts and fractions. */
#define WORD_CLASS \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}\\x{24b6}-\\x{24e9}" \
    "\\x{1f130}-\\x{1f149}\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}"

/* Writes what \s, \w or \h (a hexadecimal digit), and outside a class \S, \W and \H, stand for. False for
 * every other letter. A negated one inside a class cannot be spelled out: it stays PCRE2's own. */
static bool put_class(char letter, bool in_class, lb_text *out)
{
    bool negated = letter == 'S' || letter == 'W' || letter == 'H';
    char plain = negated ? (char)(letter - 'A' + 'a') : letter;
    const char *inside = plain == 's'   ? SPACE_CLASS
                         : plain == 'w' ? WORD_CLASS
                         : plain == 'h' ? "0-9a-fA-F"
                                        : NULL;
    if (!inside || (negated && in_class))
        return false;
    lb_text_add_string(out, in_class ? "" : negated ? "[^" : "[");
    lb_text_add_string(out, inside);
    lb_text_add_string(out, in_class ? "" : "]");
    return true;
}

enum { MAX_SCRIPT_NAME = 40 };

/* Whether PCRE2 knows a script of that name: asked by compiling a pattern of it. */
static bool is_script(const char *name, size_t length)
{
    char pattern[MAX_SCRIPT_NAME + 16];
    int code;
    PCRE2_SIZE at;
    if (length < 3 || length > MAX_SCRIPT_NAME) /* shorter ones are general categories */
        return false;
    int used = snprintf(pattern, sizeof pattern, "\\p{sc:%.*s}", (int)length, name);
    pcre2_code *compiled = pcre2_compile((PCRE2_SPTR)pattern, (PCRE2_SIZE)used, PCRE2_UTF, &code, &at, NULL);
    pcre2_code_free(compiled);
    return compiled != NULL;
}

/* \p{Han} means the Script property, where PCRE2 takes the wider Script_Extensions. Writes such a
 * property, which begins at pattern[0], and returns its length; 0 when this is something else. */
static size_t put_script(const char *pattern, size_t length, lb_text *out)
{
    if (length < 4 || (pattern[1] != 'p' && pattern[1] != 'P') || pattern[2] != '{')
        return 0;
    const char *name = pattern + 3, *end = memchr(name, '}', length - 3);
    if (!end || !is_script(name, (size_t)(end - name)))
        return 0;
    lb_text_add(out, pattern, 3);
    lb_text_add_string(out, "sc:");
    lb_text_add(out, name, (size_t)(end - name) + 1);
    return (size_t)(end - pattern) + 1;
}

/* Copies the pattern with those letters spelled out. */
static void translate(const char *pattern, size_t length, lb_text *out)
{
    bool in_class = false;
    for (size_t i = 0; i < length; i++) {
        char c = pattern[i];
        if (c == '\\' && i + 1 < length) {
            size_t script = put_script(pattern + i, length - i, out);
            if (script > 0) {
                i += script - 1;
                continue;
            }
            i++;
            if (!put_class(pattern[i], in_class, out))
                lb_text_add(out, pattern + i - 1, 2);
            continue;
        }
        if (c == '[' && !in_class) {
            in_class = true;
            lb_text_add(out, &c, 1);
            if (i + 1 < length && pattern[i + 1] == '^')
                lb_text_add(out, &pattern[++i], 1);
            if (i + 1 < length && pattern[i + 1] == ']')
                lb_text_add(out, &pattern[++i], 1);
            continue;
        }
        if (c == ']')
            in_class = false;
        lb_text_add(out, &c, 1);
    }
}

static lb_status compile(lb_pattern *pattern, const char *text, size_t length, const char *where,
                         lb_error *err)
{
    const uint32_t options =
        PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C | PCRE2_USE_OFFSET_LIMIT;
    lb_status st = LB_OK;
    lb_text translated = {0};
    pcre2_compile_context *context = pcre2_compile_context_create(pattern->memory);
    translate(text, length, &translated);
    if (!context || translated.failed) {
        st = lb_fail(err, LB_ENOMEM, "%s: no memory for a pattern", where);
        goto done;
    }
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    pcre2_set_parens_nest_limit(context, 64);
    int code;
    PCRE2_SIZE at;
    pattern->code =
        pcre2_compile((PCRE2_SPTR)translated.data, translated.length, options, &code, &at, context);
    if (!pattern->code) {
        if (code == PCRE2_ERROR_HEAP_FAILED) {
            st = lb_fail(err, LB_ENOMEM, "%s: no memory for a pattern", where);
            goto done;
        }
        char reason[160] = "";
        pcre2_get_error_message(code, (PCRE2_UCHAR *)reason, sizeof reason);
        st = lb_fail(err, LB_EUNSUPPORTED, "%s: the pattern \"%.*s\" is not understood: %s", where,
                     length > 120 ? 120 : (int)length, text, reason);
        goto done;
    }
    (void)pcre2_jit_compile(pattern->code, PCRE2_JIT_COMPLETE); /* without it matching is slower */
done:
    pcre2_compile_context_free(context);
    lb_text_free(&translated);
    return st;
}

/* NULL when there is no memory. */
static lb_pattern *make(pattern_kind kind)
{
    lb_pattern *pattern = lb_alloc_zero(1, sizeof *pattern);
    if (pattern)
        pattern->kind = kind;
    return pattern;
}

lb_status lb_pattern_regex(const char *text, size_t length, const char *where, lb_pattern **out,
                           lb_error *err)
{
    if (length == 0 || length > MAX_PATTERN_BYTES)
        return lb_fail(err, LB_EFORMAT, "%s: a pattern of %zu bytes, wanted 1 to %d", where, length,
                       MAX_PATTERN_BYTES);
    lb_pattern *pattern = make(KIND_REGEX);
    if (!pattern)
        return lb_fail(err, LB_ENOMEM, "%s: no memory for a pattern", where);
    pattern->memory = pcre2_general_context_create(pcre_alloc, pcre_free, NULL);
    lb_status st = pattern->memory ? compile(pattern, text, length, where, err)
                                   : lb_fail(err, LB_ENOMEM, "%s: no memory for a pattern", where);
    if (st == LB_OK)
        *out = pattern;
    else
        lb_pattern_free(pattern);
    return st;
}

lb_status lb_pattern_literal(const char *text, size_t length, lb_pattern **out, lb_error *err)
{
    lb_pattern *pattern = make(KIND_LITERAL);
    if (pattern) {
        pattern->literal = lb_strndup(text, length);
        pattern->literal_length = length;
    }
    if (!pattern || !pattern->literal) {
        lb_pattern_free(pattern);
        return lb_fail(err, LB_ENOMEM, "no memory for a tokenizer's pattern");
    }
    *out = pattern;
    return LB_OK;
}

lb_status lb_pattern_digit(lb_pattern **out, lb_error *err)
{
    *out = make(KIND_DIGIT);
    return *out ? LB_OK : lb_fail(err, LB_ENOMEM, "no memory for a tokenizer's pattern");
}

void lb_pattern_free(lb_pattern *pattern)
{
    if (!pattern)
        return;
    lb_free(pattern->literal);
    pcre2_code_free(pattern->code);
    pcre2_general_context_free(pattern->memory);
    lb_free(pattern);
}

lb_status lb_searcher_create(size_t text_bytes, lb_searcher **out, lb_error *err)
{
    lb_searcher *searcher = lb_alloc_zero(1, sizeof *searcher);
    if (!searcher)
        return lb_fail(err, LB_ENOMEM, "no memory to search a text");
    searcher->memory = pcre2_general_context_create(pcre_alloc, pcre_free, NULL);
    if (searcher->memory) {
        searcher->match_context = pcre2_match_context_create(searcher->memory);
        searcher->match_data = pcre2_match_data_create(1, searcher->memory);
        searcher->jit_stack = pcre2_jit_stack_create(JIT_STACK_START, JIT_STACK_MAX, searcher->memory);
    }
    if (!searcher->match_context || !searcher->match_data) {
        lb_searcher_destroy(searcher);
        return lb_fail(err, LB_ENOMEM, "no memory to search a text");
    }
    pcre2_set_match_limit(searcher->match_context, MATCH_LIMIT);
    pcre2_set_depth_limit(searcher->match_context, DEPTH_LIMIT);
    pcre2_set_heap_limit(searcher->match_context, HEAP_LIMIT_KIB);
    if (searcher->jit_stack)
        pcre2_jit_stack_assign(searcher->match_context, NULL, searcher->jit_stack);
    searcher->deadline = lb_now() + SECONDS_AT_LEAST + SECONDS_PER_MEGABYTE * (double)text_bytes / 1e6;
    *out = searcher;
    return LB_OK;
}

void lb_searcher_destroy(lb_searcher *searcher)
{
    if (!searcher)
        return;
    pcre2_match_data_free(searcher->match_data);
    pcre2_match_context_free(searcher->match_context);
    pcre2_jit_stack_free(searcher->jit_stack);
    pcre2_general_context_free(searcher->memory);
    lb_free(searcher);
}

static size_t next_digit(const char *subject, size_t length, size_t from, size_t *end)
{
    for (size_t used; from < length; from += used) {
        uint32_t code = 0;
        (void)lb_utf8_next(subject + from, length - from, &code, &used);
        if (code < 0x80 ? code - '0' > 9
                        : utf8proc_category((utf8proc_int32_t)code) < UTF8PROC_CATEGORY_ND ||
                              utf8proc_category((utf8proc_int32_t)code) > UTF8PROC_CATEGORY_NO)
            continue;
        *end = from + used;
        return from;
    }
    return SIZE_MAX;
}

static lb_status next_regex(const lb_pattern *pattern, lb_searcher *searcher, const char *subject,
                            size_t length, size_t from, size_t *begin, size_t *end, lb_error *err)
{
    for (;;) {
        if (++searcher->searches % CLOCK_EVERY == 0 && lb_now() > searcher->deadline)
            return lb_fail(err, LB_EUNSUPPORTED,
                           "the tokenizer's pattern takes too long on this text, stopped near byte %zu",
                           from);
        size_t limit = from + START_WINDOW < length ? from + START_WINDOW : length;
        while (limit < length && ((unsigned char)subject[limit] & 0xC0) == 0x80)
            limit++; /* the window ends between characters */
        pcre2_set_offset_limit(searcher->match_context, limit);
        uint32_t options = PCRE2_NO_UTF_CHECK;
        int rc = pcre2_match(pattern->code, (PCRE2_SPTR)subject, length, from, options, searcher->match_data,
                             searcher->match_context);
        if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
            rc = pcre2_match(pattern->code, (PCRE2_SPTR)subject, length, from, options | PCRE2_NO_JIT,
                             searcher->match_data, searcher->match_context);
        if (rc >= 0) {
            const PCRE2_SIZE *found = pcre2_get_ovector_pointer(searcher->match_data);
            *begin = found[0];
            *end = found[1] < found[0] ? found[0] : found[1]; /* \K in a lookahead can cross them */
            return LB_OK;
        }
        if (rc != PCRE2_ERROR_NOMATCH)
            return lb_fail(err, rc == PCRE2_ERROR_NOMEMORY ? LB_ENOMEM : LB_EUNSUPPORTED,
                           "the tokenizer's pattern gave up on this text near byte %zu (PCRE2 error %d)",
                           from, rc);
        if (limit == length)
            break;
        from = limit;
    }
    *begin = SIZE_MAX;
    return LB_OK;
}

lb_status lb_pattern_next(const lb_pattern *pattern, lb_searcher *searcher, const char *subject,
                          size_t length, size_t from, size_t *begin, size_t *end, lb_error *err)
{
    if (pattern->kind == KIND_REGEX)
        return next_regex(pattern, searcher, subject, length, from, begin, end, err);
    if (pattern->kind == KIND_DIGIT) {
        *begin = next_digit(subject, length, from, end);
        return LB_OK;
    }
    const char *found = memmem(subject + from, length - from, pattern->literal, pattern->literal_length);
    *begin = found ? (size_t)(found - subject) : SIZE_MAX;
    if (found)
        *end = *begin + pattern->literal_length;
    return LB_OK;
}
