/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "base/partial.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/file.h"
#include "base/text.h"

/* An empty file that is made first and removed last: nothing without it is ours to empty. */
static const char mark[] = ".lowbit-partial";

static lb_status no_memory(const char *output, lb_error *err)
{
    return lb_fail(err, LB_ENOMEM, "%s: no memory for its name", output);
}

static lb_status set_mark(const char *path, lb_error *err)
{
    char *name = lb_path_join(path, mark);
    if (!name)
        return no_memory(path, err);
    const int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    const lb_status st =
        fd >= 0 ? LB_OK : lb_fail(err, LB_EIO, "cannot create %s: %s", name, strerror(errno));
    if (fd >= 0)
        close(fd);
    lb_free(name);
    return st;
}

static bool has_mark(const char *path)
{
    char *name = lb_path_join(path, mark);
    const bool there = name && lb_path_exists(name);
    lb_free(name);
    return there;
}

/* What is there goes; the mark stays, so that this too may be killed. */
static lb_status empty_folder(const char *path, lb_error *err)
{
    struct dirent *entry;
    lb_status st = LB_OK;
    DIR *dir = opendir(path);
    if (!dir)
        return lb_fail(err, LB_EIO, "cannot open folder %s: %s", path, strerror(errno));
    while (st == LB_OK && (entry = readdir(dir)) != NULL) {
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, mark) == 0)
            continue;
        if (unlinkat(dirfd(dir), name, 0) != 0)
            st = lb_fail(err, LB_EIO, "cannot remove %s/%s, which an unfinished run left: %s", path, name,
                         strerror(errno));
    }
    closedir(dir);
    return st;
}

static lb_status take_over(const lb_partial *p, bool made, lb_error *err)
{
    bool empty;
    LB_TRY(lb_directory_is_empty(p->path, &empty, err));
    const bool marked = !empty && has_mark(p->path);
    if (!marked && !empty)
        return lb_fail(err, LB_EEXIST, "%s exists already; choose another output, or delete it", p->path);
    if (lb_path_exists(p->output)) /* appeared between the first look and the lock */
        return lb_fail(err, LB_EEXIST, "the output %s exists already; choose another name or delete it",
                       p->output);
    if (!made)
        LB_TRY(empty_folder(p->path, err));
    return marked ? LB_OK : set_mark(p->path, err);
}

static void forget(lb_partial *p)
{
    lb_unlock_directory(p->lock);
    lb_free(p->output);
    lb_free(p->path);
    *p = (lb_partial){.lock = -1};
}

lb_status lb_partial_begin(const char *output, lb_partial *out, lb_error *err)
{
    lb_partial p = {.lock = -1};
    lb_text name = {0};
    bool made = false;
    size_t length = strlen(output);
    lb_status st = LB_OK;
    *out = p;
    while (length > 1 && output[length - 1] == '/')
        length--;
    if (length == 0 || output[length - 1] == '/')
        return lb_fail(err, LB_EINVAL, "the output \"%s\" is no name for a folder", output);
    lb_text_add(&name, output, length);
    lb_text_add_string(&name, ".partial");
    p.output = lb_strndup(output, length);
    p.path = name.failed ? NULL : lb_strdup(name.data);
    lb_text_free(&name);
    if (!p.output || !p.path)
        LB_GO(no_memory(output, err));
    if (lb_path_exists(p.output))
        LB_GO(lb_fail(err, LB_EEXIST, "the output %s exists already; choose another name or delete it",
                      p.output));
    LB_GO(lb_hold_directory(p.path, &p.lock, &made, err));
    LB_GO(take_over(&p, made, err));
    *out = p;
done:
    if (st != LB_OK) {
        if (made && p.lock >= 0)
            (void)lb_remove_directory(p.path, NULL);
        forget(&p);
    }
    return st;
}

lb_status lb_partial_commit(lb_partial *p, lb_error *err)
{
    char *left = lb_path_join(p->output, mark);
    lb_status st = left ? LB_OK : no_memory(p->output, err);
    if (st == LB_OK && lb_path_exists(p->output)) /* rename would replace an empty folder without a word */
        st = lb_fail(err, LB_EEXIST, "the output %s has appeared meanwhile; nothing was written", p->output);
    if (st == LB_OK)
        st = lb_rename_directory(p->path, p->output, err);
    /* Afterwards, because without it an OUT.partial would be somebody's; where this is killed in between, what is left
     * does no harm. */
    if (st == LB_OK) {
        (void)unlink(left);
        forget(p);
    }
    lb_free(left);
    return st;
}

void lb_partial_abandon(lb_partial *p)
{
    if (!p->path)
        return;
    if (empty_folder(p->path, NULL) == LB_OK)
        (void)lb_remove_directory(p->path, NULL);
    forget(p);
}
