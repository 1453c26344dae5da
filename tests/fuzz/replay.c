/* SPDX-License-Identifier: MIT
 * The main of a fuzz target where there is no libFuzzer: runs it once over every file of the folders
 * given, and over the empty input. A crash, or a sanitizer's report, is the failure. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    uint8_t *data = NULL;
    long size = -1;
    if (f && fseek(f, 0, SEEK_END) == 0)
        size = ftell(f);
    if (size >= 0 && fseek(f, 0, SEEK_SET) == 0)
        data = malloc(size ? (size_t)size : 1); /* exactly as long, so that ASan sees one byte beyond */
    int ok = data && fread(data, 1, (size_t)size, f) == (size_t)size;
    if (ok)
        LLVMFuzzerTestOneInput(data, (size_t)size);
    else
        fprintf(stderr, "cannot read %s: %s\n", path, strerror(errno));
    free(data);
    if (f)
        fclose(f);
    return ok;
}

static int not_hidden(const struct dirent *entry)
{
    return entry->d_name[0] != '.' && strcmp(entry->d_name, "README.md") != 0;
}

int main(int argc, char **argv)
{
    size_t files = 0;
    LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    for (int i = 1; i < argc; i++) {
        struct dirent **entries;
        int count = scandir(argv[i], &entries, not_hidden, alphasort);
        if (count <= 0) {
            fprintf(stderr, "no inputs in %s\n", argv[i]);
            return 1;
        }
        for (int k = 0; k < count; k++) {
            char path[4096];
            snprintf(path, sizeof path, "%s/%s", argv[i], entries[k]->d_name);
            fprintf(stderr, "%s\n", path); /* the last line before a crash names the input */
            if (!replay_file(path))
                return 1;
            free(entries[k]);
            files++;
        }
        free(entries);
    }
    printf("%zu inputs replayed\n", files);
    return 0;
}
