/* SPDX-License-Identifier: MIT
 * Patterns of a tokenizer.json: a literal string, a regular expression (PCRE2 with UTF), or "any
 * digit". Hugging Face runs them on Oniguruma with Ruby's syntax; lb_pattern_compile irons out the
 * differences that such patterns can meet: \s and \S are White_Space, ^ and $ hold at every line.
 *
 * Patterns come from files, so their work is bounded: a match that backtracks without end, or a text
 * that keeps a pattern busy far beyond what its length explains, is an error. */
#ifndef LB_IO_REGEX_H
#define LB_IO_REGEX_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

typedef struct lb_pattern lb_pattern;

/* pattern [length] is valid UTF-8 and not empty. lb_pattern_free the result. */
lb_status lb_pattern_regex(const char *pattern, size_t length, const char *where, lb_pattern **out,
                           lb_error *err);
lb_status lb_pattern_literal(const char *text, size_t length, lb_pattern **out, lb_error *err);
/* One character with the Unicode property N (number). */
lb_status lb_pattern_digit(lb_pattern **out, lb_error *err);
void lb_pattern_free(lb_pattern *pattern); /* NULL is allowed */

/* What one thread needs while it searches; the patterns themselves are shared and constant. */
typedef struct lb_searcher lb_searcher;
/* text_bytes: how much text will be searched, which is what the time limit is measured by. */
lb_status lb_searcher_create(size_t text_bytes, lb_searcher **out, lb_error *err);
void lb_searcher_destroy(lb_searcher *searcher); /* NULL is allowed */

/* The first match in subject [length] (valid UTF-8) that begins at or after `from`: *begin and *end.
 * *begin = SIZE_MAX when there is none. Lookbehind sees what lies before `from`. */
lb_status lb_pattern_next(const lb_pattern *pattern, lb_searcher *searcher, const char *subject,
                          size_t length, size_t from, size_t *begin, size_t *end, lb_error *err);

#endif
