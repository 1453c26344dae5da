/* SPDX-License-Identifier: MIT
 * Folders for tests: made in $TMPDIR, compared file by file, removed with all that is in them. */
#ifndef LB_TESTS_SCRATCH_H
#define LB_TESTS_SCRATCH_H

#include "near.h"

#include <dirent.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SCRATCH_PATH_BYTES = 512 };

/* A new folder: remove it with scratch_remove and free the name. */
static inline char *scratch_make(const char *name)
{
    const char *tmp = getenv("TMPDIR");
    char path[SCRATCH_PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s.XXXXXX", tmp ? tmp : "/tmp", name);
    assert_non_null(mkdtemp(path));
    return strdup(path);
}

static inline bool scratch_exists(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0;
}

/* Removes a file, or a folder with all that is in it; fine when there is nothing. */
static inline void scratch_remove(const char *path)
{
    char inner[SCRATCH_PATH_BYTES];
    struct dirent *entry;
    DIR *dir = opendir(path);
    if (!dir) {
        (void)remove(path);
        return;
    }
    while ((entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name) < (int)sizeof inner)
            scratch_remove(inner);
    }
    closedir(dir);
    (void)rmdir(path);
}

/* A whole file; free it. NULL when it cannot be read. */
static inline char *scratch_read(const char *path, size_t *size)
{
    struct stat info;
    FILE *f = fopen(path, "rb");
    if (!f || fstat(fileno(f), &info) != 0) {
        if (f)
            fclose(f);
        return NULL;
    }
    *size = (size_t)info.st_size;
    char *data = malloc(*size + 1);
    if (data && fread(data, 1, *size, f) != *size) {
        free(data);
        data = NULL;
    }
    if (data)
        data[*size] = '\0';
    fclose(f);
    return data;
}

static inline void scratch_write(const char *path, const void *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    if (!f || (size > 0 && fwrite(data, 1, size, f) != size) || fclose(f) != 0)
        fail_msg("cannot write %s", path);
}

/* How many files are in a folder; 0 when there is none. */
static inline size_t scratch_count(const char *folder)
{
    size_t count = 0;
    struct dirent *entry;
    DIR *dir = opendir(folder);
    while (dir && (entry = readdir(dir)) != NULL)
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    if (dir)
        closedir(dir);
    return count;
}

/* Bytes of all files of a folder. */
static inline size_t scratch_bytes(const char *folder)
{
    size_t bytes = 0;
    char path[SCRATCH_PATH_BYTES];
    struct dirent *entry;
    struct stat info;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL) {
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (stat(path, &info) == 0 && S_ISREG(info.st_mode))
            bytes += (size_t)info.st_size;
    }
    closedir(dir);
    return bytes;
}

/* The same files with the same bytes in both folders. */
static inline void scratch_same(const char *a, const char *b)
{
    char in_a[SCRATCH_PATH_BYTES], in_b[SCRATCH_PATH_BYTES];
    struct dirent *entry;
    DIR *dir = opendir(a);
    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL) {
        size_t size_a = 0, size_b = 0;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        snprintf(in_a, sizeof in_a, "%s/%s", a, entry->d_name);
        snprintf(in_b, sizeof in_b, "%s/%s", b, entry->d_name);
        char *bytes_a = scratch_read(in_a, &size_a), *bytes_b = scratch_read(in_b, &size_b);
        if (!bytes_a || !bytes_b || size_a != size_b || memcmp(bytes_a, bytes_b, size_a) != 0)
            fail_msg("%s and %s differ", in_a, in_b);
        free(bytes_a);
        free(bytes_b);
    }
    closedir(dir);
    assert_int_equal(scratch_count(a), scratch_count(b));
}

#endif
