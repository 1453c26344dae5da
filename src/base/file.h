/* SPDX-License-Identifier: MIT
 * Files: mapped reads, writes that are complete or absent, folders, free space.
 * Paths are ordinary C strings; every message names the path and the system's reason. */
#ifndef LB_BASE_FILE_H
#define LB_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* A whole file, mapped read-only. An empty file has data != NULL and size 0. */
typedef struct lb_mapping {
    const uint8_t *data;
    size_t size;
} lb_mapping;

lb_status lb_map_open(const char *path, lb_mapping *out, lb_error *err);
void lb_map_close(lb_mapping *mapping);

/* Tells the kernel that bytes [begin, begin + length) will not be read again soon. */
void lb_map_forget(const lb_mapping *mapping, size_t begin, size_t length);

/* Reads a whole file of at most max_bytes into *out (lb_free; NUL-terminated one past the end). */
lb_status lb_file_read(const char *path, size_t max_bytes, char **out, size_t *out_size, lb_error *err);

/* The same of a text: LB_EFORMAT where it has a byte of 0, which no text has, but UTF-16 and most binary files do. */
lb_status lb_file_read_text(const char *path, size_t max_bytes, char **out, size_t *out_size, lb_error *err);

/* A file that appears under its name only when it is complete and synced: bytes go to a file of the writer's own
 * beside it, ".NAME.lowbit-XXXXXX", which lb_writer_commit syncs and renames. Of two that write the same name at once
 * each is whole, and the later is what stays. What a killed process left of this name is removed by the next writer. */
typedef struct lb_writer {
    int fd;
    char *path, *temporary;
    uint64_t written;
} lb_writer;

/* LB_EEXIST where the path is a device, a pipe or a folder: it would become a file. */
lb_status lb_writer_open(const char *path, lb_writer *out, lb_error *err);
lb_status lb_writer_put(lb_writer *writer, const void *data, size_t bytes, lb_error *err);
lb_status lb_writer_commit(lb_writer *writer, lb_error *err);
/* Removes the temporary file; does nothing after a commit. */
void lb_writer_abandon(lb_writer *writer);

/* lb_writer in one call. */
lb_status lb_file_replace(const char *path, const void *data, size_t bytes, lb_error *err);

/* Copies a file through lb_writer. */
lb_status lb_file_copy(const char *from, const char *to, lb_error *err);

bool lb_path_exists(const char *path);
bool lb_path_is_directory(const char *path);
/* Whether both exist and are one file or folder, whatever they are called. */
bool lb_path_same(const char *a, const char *b);

/* Whether `path` is an ordinary file that belongs where it is: no link, or one to a file directly in the folder that
 * holds the link, or in the folder where the file `anchor` really is. */
bool lb_path_belongs(const char *path, const char *anchor);

/* "folder/name" in new memory (lb_free); NULL when there is none left. */
/* The path from the root, links followed; NULL where nothing is there, or without memory. */
char *lb_path_absolute(const char *path);
char *lb_path_join(const char *folder, const char *name);
/* The folder that holds `path` ("." where it has no slash); lb_free. Trailing slashes are ignored. */
char *lb_path_parent(const char *path);
/* The last component of path, inside path; after a trailing slash that is "". */
const char *lb_path_base(const char *path);

lb_status lb_make_directory(const char *path, lb_error *err);
lb_status lb_rename_directory(const char *from, const char *to, lb_error *err); /* synced */
/* Removes a folder and the plain files directly in it; a sub-folder makes it fail. */
lb_status lb_remove_directory(const char *path, lb_error *err);

/* Whether there is nothing in a folder. */
lb_status lb_directory_is_empty(const char *path, bool *empty, lb_error *err);

/* Bytes of the plain files directly in a folder. */
lb_status lb_directory_bytes(const char *path, uint64_t *bytes, lb_error *err);

/* Holds a folder for this process alone, until lb_unlock_directory or the process's end; LB_EEXIST
 * when another process holds it. */
lb_status lb_lock_directory(const char *path, int *lock, lb_error *err);
void lb_unlock_directory(int lock);

/* Makes the folder where it is not there, and holds it; *made: whether it was not. Whoever was first has it: for all
 * others it is in use. LB_EIO where it is a link or no folder. */
lb_status lb_hold_directory(const char *path, int *lock, bool *made, lb_error *err);

/* Bytes that this user may still write on the device that holds `path`. */
lb_status lb_free_space(const char *path, uint64_t *bytes, lb_error *err);

/* A short path for a file or folder that a test or a run needs for a while: made under $TMPDIR is
 * the caller's business; this only appends a unique suffix to `prefix` and creates the folder. */
lb_status lb_make_unique_directory(const char *prefix, char **path, lb_error *err);

#endif
