/* SPDX-License-Identifier: MIT
 * "Did you mean": the name that a mistyped word was probably meant to be. */
#ifndef LB_CLI_SUGGEST_H
#define LB_CLI_SUGGEST_H

#include <stddef.h>

/* Letters to insert, delete, replace or swap with a neighbour to turn a into b (optimal string
 * alignment); words longer than 63 bytes count as far from everything. */
size_t lb_word_distance(const char *a, const char *b);

/* The closer of `best` (may be NULL) and `candidate`, if it is near enough to `word` to be worth
 * saying. Fold it over a list, starting with NULL. */
const char *lb_suggest(const char *word, const char *best, const char *candidate);

#endif
