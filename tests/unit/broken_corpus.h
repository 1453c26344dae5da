/* SPDX-License-Identifier: MIT
 * Walks tests/fuzz/corpus/expected.txt: the files that we broke, and what must be said about each. */
#ifndef LB_TESTS_BROKEN_CORPUS_H
#define LB_TESTS_BROKEN_CORPUS_H

#include "near.h"

#include <stdlib.h>

#include "base/error.h"

/* Opens the file and closes it again; the status and sentence of what went wrong. */
typedef lb_status (*corpus_open)(const char *path, lb_error *err);

/* Every file of `kind` (a folder of the corpus). Returns how many there were. */
static inline size_t walk_corpus(const char *kind, corpus_open open_file)
{
    FILE *list = fopen("tests/fuzz/corpus/expected.txt", "r");
    char line[512], path[600];
    size_t count = 0;
    assert_non_null(list);
    while (fgets(line, sizeof line, list)) {
        char *tab = strchr(line, '\t');
        if (!tab || strncmp(line, kind, strlen(kind)) != 0 || line[strlen(kind)] != '/')
            continue;
        *tab = '\0';
        const char *wanted = tab + 1;
        tab[1 + strcspn(wanted, "\n")] = '\0';
        snprintf(path, sizeof path, "tests/fuzz/corpus/%s", line);
        lb_error err = {LB_OK, ""};
        lb_status st = open_file(path, &err);
        bool good = strcmp(wanted, "OK") == 0;
        if (good ? st != LB_OK : st == LB_OK || st != err.status || !strstr(err.msg, wanted))
            fail_msg("%s: status %d, \"%s\"; wanted \"%s\"", path, (int)st, err.msg, wanted);
        if (!good && !strstr(err.msg, path))
            fail_msg("%s: the sentence does not name the file: \"%s\"", path, err.msg);
        count++;
    }
    fclose(list);
    return count;
}

/* A file's bytes in a block of exactly its size, so that a sanitizer sees one byte beyond. */
static inline uint8_t *read_bytes(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    uint8_t *data = malloc(1 << 20);
    assert_non_null(data);
    *size = fread(data, 1, 1 << 20, f);
    fclose(f);
    return data;
}

#endif
