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
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
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

/* ---- Writers -------------------------------------------------------------------------------------------- */

/* ".BASE.lowbit-XXXXXX" beside BASE; of a long name only the beginning, so that there is room for the rest. */
enum { TAG_BYTES = 8, UNIQUE_BYTES = 6, MOST_OF_BASE = 100, MOST_TRIES = 100 };
static const char tag[TAG_BYTES + 1] = ".lowbit-";

static bool is_temporary_of(const char *name, const char *base, size_t base_length)
{
    return name[0] == '.' && strncmp(name + 1, base, base_length) == 0 &&
           strncmp(name + 1 + base_length, tag, TAG_BYTES) == 0 &&
           strlen(name + 1 + base_length + TAG_BYTES) == UNIQUE_BYTES;
}

/* A writer holds a lock on its file for as long as it has that name, so one that can be locked is of a process that
 * was killed. */
static void remove_if_dead(int folder, const char *name)
{
    struct stat info;
    const int fd = openat(folder, name, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return;
    if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && flock(fd, LOCK_EX | LOCK_NB) == 0)
        (void)unlinkat(folder, name, 0);
    close(fd);
}

static void remove_dead_ones(const char *parent, const char *base, size_t base_length)
{
    struct dirent *entry;
    DIR *dir = opendir(parent);
    while (dir && (entry = readdir(dir)) != NULL)
        if (is_temporary_of(entry->d_name, base, base_length))
            remove_if_dead(dirfd(dir), entry->d_name);
    if (dir)
        closedir(dir);
}

/* Six letters or digits that nobody else has; where chance is not to be had, the process and the time will do. */
static void make_unique(char out[UNIQUE_BYTES])
{
    static const char signs[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    struct timespec now;
    uint64_t number;
    if (getrandom(&number, sizeof number, GRND_NONBLOCK) != (ssize_t)sizeof number) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        number =
            (uint64_t)now.tv_nsec * 0x9E3779B97F4A7C15u ^ (uint64_t)getpid() << 32 ^ (uint64_t)now.tv_sec;
    }
    for (size_t i = 0; i < UNIQUE_BYTES; i++, number /= sizeof signs - 1)
        out[i] = signs[number % (sizeof signs - 1)];
}

/* Whether the file still has its name: another process may have taken it for a dead one's before it was locked. */
static bool hold(int fd)
{
    struct stat info;
    int locked;
    do
        locked = flock(fd, LOCK_EX);
    while (locked != 0 && errno == EINTR);
    return fstat(fd, &info) != 0 || info.st_nlink > 0; /* where there are no locks nobody removes it either */
}

static lb_status create_temporary(lb_writer *w, lb_error *err)
{
    char *unique = w->temporary + strlen(w->temporary) - UNIQUE_BYTES;
    for (unsigned tries = 0; tries < MOST_TRIES; tries++) {
        make_unique(unique);
        /* With O_EXCL whatever is there already is left alone: files, links, pipes. */
        w->fd = open(w->temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
        if (w->fd >= 0 && hold(w->fd))
            return LB_OK;
        if (w->fd < 0 && errno != EEXIST)
            return fail_errno(err, "create", w->path);
        if (w->fd >= 0)
            close(w->fd);
        w->fd = -1;
    }
    return lb_fail(err, LB_EIO, "cannot create %s: every name for it is taken meanwhile", w->path);
}

static lb_status open_beside(const char *parent, lb_writer *w, lb_error *err)
{
    const char *base = lb_path_base(w->path);
    const size_t folder = (size_t)(base - w->path), length = strlen(base),
                 kept = length < MOST_OF_BASE ? length : MOST_OF_BASE;
    char *name = lb_alloc(folder + 1 + kept + TAG_BYTES + UNIQUE_BYTES + 1, 1);
    if (!name)
        return lb_fail(err, LB_ENOMEM, "%s: no memory for its name", w->path);
    memcpy(name, w->path, folder);
    name[folder] = '.';
    memcpy(name + folder + 1, base, kept);
    memcpy(name + folder + 1 + kept, tag, TAG_BYTES);
    memset(name + folder + 1 + kept + TAG_BYTES, 'X', UNIQUE_BYTES);
    name[folder + 1 + kept + TAG_BYTES + UNIQUE_BYTES] = '\0';
    w->temporary = name;
    remove_dead_ones(parent, base, kept);
    return create_temporary(w, err);
}

lb_status lb_writer_open(const char *path, lb_writer *out, lb_error *err)
{
    lb_writer w = {.fd = -1};
    struct stat info;
    if (!*lb_path_base(path))
        return lb_fail(err, LB_EINVAL, "cannot create \"%s\": that is no file's name", path);
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode)) /* a device, say, would become a file */
        return lb_fail(err, LB_EEXIST, "cannot write %s: it is no ordinary file", path);
    char *parent = lb_path_parent(path);
    w.path = lb_strdup(path);
    lb_status st = parent && w.path ? open_beside(parent, &w, err)
                                    : lb_fail(err, LB_ENOMEM, "%s: no memory for its name", path);
    lb_free(parent);
    if (st == LB_OK)
        *out = w;
    else {
        if (w.fd < 0) { /* nothing was made that would have to be removed */
            lb_free(w.temporary);
            w.temporary = NULL;
        }
        lb_writer_abandon(&w);
    }
    return st;
}

lb_status lb_writer_put(lb_writer *writer, const void *data, size_t bytes, lb_error *err)
{
    const uint8_t *from = data;
    while (bytes > 0) {
        ssize_t put = write(writer->fd, from, bytes);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return fail_errno(err, "write", writer->path);
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

lb_status lb_writer_commit(lb_writer *writer, lb_error *err)
{
    char *parent = lb_path_parent(writer->path); /* before the rename: afterwards only the disk may fail */
    lb_status st =
        parent ? LB_OK : lb_fail(err, LB_ENOMEM, "%s: no memory for its folder's name", writer->path);
    if (st == LB_OK && fsync(writer->fd) != 0)
        st = fail_errno(err, "sync", writer->path);
    if (st == LB_OK && rename(writer->temporary, writer->path) != 0)
        st = fail_errno(err, "rename to", writer->path);
    if (st == LB_OK) {
        lb_free(writer->temporary);
        writer->temporary = NULL;
        close(writer->fd); /* not sooner: the lock goes with it. What closing could say, fsync has said. */
        writer->fd = -1;
        st = sync_directory(parent, err);
    }
    lb_free(parent);
    lb_writer_abandon(writer);
    return st;
}

void lb_writer_abandon(lb_writer *writer)
{
    if (writer->temporary)
        unlink(writer->temporary);
    if (writer->fd >= 0)
        close(writer->fd);
    lb_free(writer->temporary);
    lb_free(writer->path);
    *writer = (lb_writer){.fd = -1};
}

lb_status lb_file_replace(const char *path, const void *data, size_t bytes, lb_error *err)
{
    lb_writer w;
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

char *lb_path_absolute(const char *path)
{
    char *real = realpath(path, NULL), *copy = real ? lb_strdup(real) : NULL;
    free(real);
    return copy;
}

/* The folder where a file really is, to be given to free; NULL where there is none. */
static char *real_folder(const char *path)
{
    char *real = realpath(path, NULL), *slash = real ? strrchr(real, '/') : NULL;
    if (slash)
        slash[slash == real] = '\0';
    return real;
}

bool lb_path_belongs(const char *path, const char *anchor)
{
    struct stat info;
    if (lstat(path, &info) == 0 && S_ISREG(info.st_mode))
        return true;
    if (stat(path, &info) != 0 || !S_ISREG(info.st_mode))
        return false;
    char *parent = lb_path_parent(path), *holds = parent ? realpath(parent, NULL) : NULL;
    char *target = real_folder(path), *beside = real_folder(anchor);
    const bool belongs =
        target && ((holds && strcmp(target, holds) == 0) || (beside && strcmp(target, beside) == 0));
    free(holds);
    free(target);
    free(beside);
    lb_free(parent);
    return belongs;
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

lb_status lb_directory_is_empty(const char *path, bool *empty, lb_error *err)
{
    DIR *dir = opendir(path);
    if (!dir)
        return fail_errno(err, "open folder", path);
    struct dirent *entry;
    *empty = true;
    while (*empty && (entry = readdir(dir)) != NULL)
        *empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
    closedir(dir);
    return LB_OK;
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

/* Takes over fd. */
static lb_status lock_folder(const char *path, int fd, int *lock, lb_error *err)
{
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

lb_status lb_lock_directory(const char *path, int *lock, lb_error *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? fail_errno(err, "open folder", path) : lock_folder(path, fd, lock, err);
}

lb_status lb_hold_directory(const char *path, int *lock, bool *made, lb_error *err)
{
    struct stat held, named;
    for (unsigned tries = 0; tries < MOST_TRIES; tries++) {
        *made = mkdir(path, 0777) == 0;
        if (!*made && errno != EEXIST)
            return fail_errno(err, "create folder", path);
        const int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 && errno == ENOENT) /* removed, or renamed, by whoever had it */
            continue;
        if (fd < 0)
            return fail_errno(err, "open folder", path);
        LB_TRY(lock_folder(path, fd, lock, err));
        if (fstat(*lock, &held) == 0 && lstat(path, &named) == 0 && held.st_dev == named.st_dev &&
            held.st_ino == named.st_ino)
            return LB_OK;
        lb_unlock_directory(*lock); /* it was locked when it had another name, or none */
    }
    return lb_fail(err, LB_EEXIST, "%s is in use by other lowbit processes", path);
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
