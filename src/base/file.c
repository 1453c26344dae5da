/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/alloc.h"

static lb_status fail_errno(lb_error *err, const char *verb, const char *path)
{
    int reason = errno;
    lb_status status = reason == ENOSPC || reason == EDQUOT ? LB_ENOSPC : LB_EIO;
    return lb_fail(err, status, "cannot %s %s: %s", verb, path, strerror(reason));
}

static lb_status open_regular(const char *path, int *fd, size_t *size, lb_error *err)
{
    struct stat info;
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* else a FIFO without a writer waits for ever */
    if (*fd < 0)
        return fail_errno(err, "open", path);
    if (fstat(*fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        close(*fd);
        return lb_fail(err, LB_EIO, "cannot read %s: it is not a regular file", path);
    }
    *size = (size_t)info.st_size;
    return LB_OK;
}

lb_status lb_map_open(const char *path, lb_mapping *out, lb_error *err)
{
    static const uint8_t nothing[1];
    int fd;
    size_t size;
    LB_TRY(open_regular(path, &fd, &size, err));
    if (size == 0) {
        close(fd);
        *out = (lb_mapping){.data = nothing, .size = 0};
        return LB_OK;
    }
    void *data = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    lb_status st = data == MAP_FAILED ? fail_errno(err, "map", path) : LB_OK;
    close(fd);
    if (st == LB_OK)
        *out = (lb_mapping){.data = data, .size = size};
    return st;
}

void lb_map_close(lb_mapping *mapping)
{
    if (mapping->size)
        munmap((void *)(uintptr_t)mapping->data, mapping->size);
    *mapping = (lb_mapping){0};
}

void lb_map_forget(const lb_mapping *mapping, size_t begin, size_t length)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t first = (begin + page - 1) / page * page;
    size_t last = (begin + length) / page * page;
    if (mapping->size && first < last && last <= mapping->size)
        (void)madvise((void *)(uintptr_t)(mapping->data + first), last - first, MADV_DONTNEED);
}

lb_status lb_file_read(const char *path, size_t max_bytes, char **out, size_t *out_size, lb_error *err)
{
    int fd;
    size_t size, have = 0;
    char *data = NULL;
    LB_TRY(open_regular(path, &fd, &size, err));
    lb_status st = LB_OK;
    if (size > max_bytes) {
        st = lb_fail(err, LB_EFORMAT, "%s: %zu bytes, more than the %zu that such a file may have", path,
                     size, max_bytes);
        goto done;
    }
    LB_GO(lb_alloc_array(&data, size + 1, 1, path, err));
    while (have < size) {
        ssize_t got = read(fd, data + have, size - have);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            st = fail_errno(err, "read", path);
            goto done;
        }
        if (got == 0)
            break; /* it shrank meanwhile: what is there is what it is */
        have += (size_t)got;
    }
    data[have] = '\0';
    *out = data;
    *out_size = have;
    data = NULL;
done:
    close(fd);
    lb_free(data);
    return st;
}

lb_status lb_file_read_text(const char *path, size_t max_bytes, char **out, size_t *out_size, lb_error *err)
{
    char *text;
    size_t bytes;
    LB_TRY(lb_file_read(path, max_bytes, &text, &bytes, err));
    const char *zero = memchr(text, 0, bytes);
    if (zero) {
        const size_t at = (size_t)(zero - text);
        lb_free(text);
        return lb_fail(err, LB_EFORMAT, "%s: byte %zu is 0, so that this is no text in UTF-8", path, at + 1);
    }
    *out = text;
    *out_size = bytes;
    return LB_OK;
}

lb_status lb_writer_open(const char *path, lb_writer *out, lb_error *err)
{
    lb_writer w = {.fd = -1};
    size_t length = strlen(path);
    w.path = lb_strdup(path);
    w.temporary = lb_alloc(length + 5, 1);
    if (!w.path || !w.temporary) {
        lb_writer_abandon(&w);
        return lb_fail(err, LB_ENOMEM, "%s: no memory for its name", path);
    }
    memcpy(w.temporary, path, length);
    memcpy(w.temporary + length, ".tmp", 5);
    w.fd = open(w.temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (w.fd < 0) {
        lb_status st = fail_errno(err, "create", w.temporary);
        lb_writer_abandon(&w);
        return st;
    }
    *out = w;
    return LB_OK;
}

lb_status lb_writer_put(lb_writer *writer, const void *data, size_t bytes, lb_error *err)
{
    const uint8_t *from = data;
    while (bytes > 0) {
        ssize_t put = write(writer->fd, from, bytes);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return fail_errno(err, "write", writer->temporary);
        from += put;
        bytes -= (size_t)put;
        writer->written += (uint64_t)put;
    }
    return LB_OK;
}

static lb_status sync_directory(const char *path, lb_error *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return fail_errno(err, "open", path);
    lb_status st = fsync(fd) == 0 || errno == EINVAL ? LB_OK : fail_errno(err, "sync", path);
    close(fd);
    return st;
}

static lb_status sync_parent(const char *path, lb_error *err)
{
    char *parent = lb_path_parent(path);
    if (!parent)
        return lb_fail(err, LB_ENOMEM, "%s: no memory for its folder's name", path);
    lb_status st = sync_directory(parent, err);
    lb_free(parent);
    return st;
}

lb_status lb_writer_commit(lb_writer *writer, lb_error *err)
{
    lb_status st = LB_OK;
    if (fsync(writer->fd) != 0)
        st = fail_errno(err, "sync", writer->temporary);
    if (close(writer->fd) != 0 && st == LB_OK)
        st = fail_errno(err, "close", writer->temporary);
    writer->fd = -1;
    if (st == LB_OK && rename(writer->temporary, writer->path) != 0)
        st = fail_errno(err, "rename to", writer->path);
    if (st == LB_OK) {
        st = sync_parent(writer->path, err);
        lb_free(writer->temporary);
        writer->temporary = NULL;
    }
    lb_writer_abandon(writer);
    return st;
}

void lb_writer_abandon(lb_writer *writer)
{
    if (writer->fd >= 0)
        close(writer->fd);
    if (writer->temporary)
        unlink(writer->temporary);
    lb_free(writer->temporary);
    lb_free(writer->path);
    *writer = (lb_writer){.fd = -1};
}

lb_status lb_file_replace(const char *path, const void *data, size_t bytes, lb_error *err)
{
    lb_writer w;
    struct stat info;
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode)) /* a device, say, would become a file */
        return lb_fail(err, LB_EEXIST, "cannot write %s: it is no ordinary file", path);
    LB_TRY(lb_writer_open(path, &w, err));
    lb_status st = lb_writer_put(&w, data, bytes, err);
    if (st == LB_OK)
        st = lb_writer_commit(&w, err);
    lb_writer_abandon(&w);
    return st;
}

lb_status lb_file_copy(const char *from, const char *to, lb_error *err)
{
    lb_mapping source;
    LB_TRY(lb_map_open(from, &source, err));
    lb_status st = lb_file_replace(to, source.data, source.size, err);
    lb_map_close(&source);
    return st;
}

bool lb_path_exists(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0;
}

bool lb_path_is_directory(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

bool lb_path_same(const char *a, const char *b)
{
    struct stat first, second;
    return stat(a, &first) == 0 && stat(b, &second) == 0 && first.st_dev == second.st_dev &&
           first.st_ino == second.st_ino;
}

char *lb_path_join(const char *folder, const char *name)
{
    size_t a = strlen(folder), b = strlen(name);
    while (a > 0 && folder[a - 1] == '/')
        a--;
    char *path = lb_alloc(a + b + 2, 1);
    if (path) {
        memcpy(path, folder, a);
        path[a] = '/';
        memcpy(path + a + 1, name, b + 1);
    }
    return path;
}

char *lb_path_parent(const char *path)
{
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/')
        end--;
    while (end > 0 && path[end - 1] != '/')
        end--;
    while (end > 1 && path[end - 1] == '/')
        end--;
    return end == 0 ? lb_strdup(".") : lb_strndup(path, end);
}

const char *lb_path_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

lb_status lb_make_directory(const char *path, lb_error *err)
{
    return mkdir(path, 0777) == 0 ? LB_OK : fail_errno(err, "create folder", path);
}

lb_status lb_rename_directory(const char *from, const char *to, lb_error *err)
{
    char *parent = lb_path_parent(to); /* before the rename: afterwards only the disk may fail */
    if (!parent)
        return lb_fail(err, LB_ENOMEM, "%s: no memory for its folder's name", to);
    lb_status st = sync_directory(from, err);
    if (st == LB_OK && rename(from, to) != 0)
        st = fail_errno(err, "rename to", to);
    if (st == LB_OK)
        st = sync_directory(parent, err);
    lb_free(parent);
    return st;
}

lb_status lb_remove_directory(const char *path, lb_error *err)
{
    DIR *dir = opendir(path);
    if (!dir)
        return fail_errno(err, "open folder", path);
    lb_status st = LB_OK;
    struct dirent *entry;
    while (st == LB_OK && (entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (unlinkat(dirfd(dir), entry->d_name, 0) != 0)
            st = fail_errno(err, "remove a file of", path);
    }
    closedir(dir);
    if (st == LB_OK && rmdir(path) != 0)
        st = fail_errno(err, "remove folder", path);
    return st;
}

lb_status lb_directory_bytes(const char *path, uint64_t *bytes, lb_error *err)
{
    DIR *dir = opendir(path);
    if (!dir)
        return fail_errno(err, "open folder", path);
    struct dirent *entry;
    struct stat info;
    *bytes = 0;
    while ((entry = readdir(dir)) != NULL) {
        if (fstatat(dirfd(dir), entry->d_name, &info, 0) == 0 && S_ISREG(info.st_mode))
            *bytes += (uint64_t)info.st_size;
    }
    closedir(dir);
    return LB_OK;
}

lb_status lb_lock_directory(const char *path, int *lock, lb_error *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return fail_errno(err, "open folder", path);
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        lb_status st = errno == EWOULDBLOCK
                           ? lb_fail(err, LB_EEXIST, "%s is in use by another lowbit process", path)
                           : fail_errno(err, "lock", path);
        close(fd);
        return st;
    }
    *lock = fd;
    return LB_OK;
}

void lb_unlock_directory(int lock)
{
    if (lock >= 0)
        close(lock); /* which drops the lock */
}

lb_status lb_free_space(const char *path, uint64_t *bytes, lb_error *err)
{
    struct statvfs info;
    if (statvfs(path, &info) != 0)
        return fail_errno(err, "look up the free space of", path);
    *bytes = (uint64_t)info.f_bavail * info.f_frsize;
    return LB_OK;
}

lb_status lb_make_unique_directory(const char *prefix, char **path, lb_error *err)
{
    size_t length = strlen(prefix);
    char *name = lb_alloc(length + 8, 1);
    if (!name)
        return lb_fail(err, LB_ENOMEM, "%s: no memory for its name", prefix);
    memcpy(name, prefix, length);
    memcpy(name + length, ".XXXXXX", 8);
    if (!mkdtemp(name)) {
        lb_status st = fail_errno(err, "create folder", name);
        lb_free(name);
        return st;
    }
    *path = name;
    return LB_OK;
}
