/* SPDX-License-Identifier: MIT */
#include "cli/suggest.h"

#include <string.h>

enum { WORD_MAX = 63, FAR = 1000 };

static size_t min2(size_t a, size_t b)
{
    return a < b ? a : b;
}

size_t lb_word_distance(const char *a, const char *b)
{
    size_t rows = strlen(a), cols = strlen(b);
    size_t table[WORD_MAX + 1][WORD_MAX + 1];
    if (rows > WORD_MAX || cols > WORD_MAX)
        return FAR;
    for (size_t i = 0; i <= rows; i++) {
        for (size_t j = 0; j <= cols; j++) {
            if (i == 0 || j == 0) {
                table[i][j] = i + j;
                continue;
            }
            size_t best = table[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            best = min2(best, min2(table[i - 1][j], table[i][j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                best = min2(best, table[i - 2][j - 2] + 1);
            table[i][j] = best;
        }
    }
    return table[rows][cols];
}

const char *lb_suggest(const char *word, const char *best, const char *candidate)
{
    size_t distance = lb_word_distance(word, candidate);
    size_t limit = 1 + strlen(candidate) / 4;
    if (distance > limit || (best && lb_word_distance(word, best) <= distance))
        return best;
    return candidate;
}
