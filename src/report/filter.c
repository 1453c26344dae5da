/* SPDX-License-Identifier: MIT
 * See filter.h. The child's standard input is a socket, since a write to a pipe without a reader raises a
 * signal that a library has no business to change. */
#define _GNU_SOURCE
#include "report/filter.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

extern char **environ;

enum { STREAMS = 3, MAX_COMPLAINT = 4096 };

typedef struct child {
    const lb_filter *filter;
    pid_t pid; /* 0: not running */
    int ours[STREAMS], theirs[STREAMS]; /* ends of stdin, stdout, stderr; -1: closed */
    const char *input;
    size_t input_left;
    lb_text *output, complaint;
    double deadline;
} child;

static void close_end(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* Clear of 0, 1 and 2, which the child's streams are moved to one after the other. */
static bool move_up(int *fd)
{
    if (*fd > 2)
        return true;
    const int moved = fcntl(*fd, F_DUPFD_CLOEXEC, 3);
    if (moved < 0)
        return false;
    close(*fd);
    *fd = moved;
    return true;
}

static lb_status make_streams(child *c, lb_error *err)
{
    for (int i = 0; i < STREAMS; i++) {
        int ends[2]; /* to read from, to write to */
        const bool made = i == 0 ? socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0
                                 : pipe2(ends, O_CLOEXEC) == 0;
        if (made) {
            c->theirs[i] = ends[i == 0 ? 0 : 1];
            c->ours[i] = ends[i == 0 ? 1 : 0];
        }
        if (!made || !move_up(&c->theirs[i]) || !move_up(&c->ours[i]) ||
            fcntl(c->ours[i], F_SETFL, O_NONBLOCK) != 0)
            return lb_fail(err, LB_EIO, "%s: cannot make a pipe: %s", c->filter->argv[0], strerror(errno));
    }
    return LB_OK;
}

/* 0, or an errno. */
static int spawn(child *c)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t defaults;
    int problem = posix_spawn_file_actions_init(&actions);
    if (problem)
        return problem;
    problem = posix_spawnattr_init(&attributes);
    if (problem) {
        posix_spawn_file_actions_destroy(&actions);
        return problem;
    }
    for (int i = 0; i < STREAMS && !problem; i++)
        problem = posix_spawn_file_actions_adddup2(&actions, c->theirs[i], i);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE); /* a caller that ignores it means itself */
    if (!problem)
        problem = posix_spawnattr_setsigdefault(&attributes, &defaults);
    if (!problem)
        problem = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    if (!problem)
        problem = posix_spawnp(&c->pid, c->filter->argv[0], &actions, &attributes,
                               (char *const *)(uintptr_t)c->filter->argv, environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return problem;
}

static lb_status start(child *c, lb_error *err)
{
    LB_TRY(make_streams(c, err));
    const int problem = spawn(c);
    for (int i = 0; i < STREAMS; i++)
        close_end(&c->theirs[i]);
    if (problem == 0)
        return LB_OK;
    c->pid = 0;
    if (problem == ENOENT || problem == EACCES || problem == ENOEXEC)
        return lb_fail(err, LB_EUNSUPPORTED, "%s is missing: %s", c->filter->argv[0], c->filter->package);
    return lb_fail(err, LB_EIO, "cannot start %s: %s", c->filter->argv[0], strerror(problem));
}

/* A child that does not read its input may be right all the same: that is no error here. */
static void feed(child *c)
{
    while (c->input_left > 0) {
        const ssize_t sent = send(c->ours[0], c->input, c->input_left, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return;
        if (sent <= 0)
            break;
        c->input += sent;
        c->input_left -= (size_t)sent;
    }
    close_end(&c->ours[0]);
}

/* What there is to read, into `to` up to `most` bytes; what is over is dropped, and false is returned. */
static bool drain(int *fd, lb_text *to, size_t most)
{
    char buffer[16384];
    for (;;) {
        const ssize_t got = read(*fd, buffer, sizeof buffer);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return true;
        if (got <= 0) {
            close_end(fd);
            return true;
        }
        const size_t room = to->length < most ? most - to->length : 0;
        lb_text_add(to, buffer, (size_t)got < room ? (size_t)got : room);
        if ((size_t)got > room)
            return false;
    }
}

static lb_status converse(child *c, lb_error *err)
{
    const char *program = c->filter->argv[0];
    const size_t most = c->output->length + c->filter->max_output;
    while (c->ours[1] >= 0 || c->ours[2] >= 0) {
        struct pollfd polled[STREAMS];
        for (int i = 0; i < STREAMS; i++) /* a negative fd is not looked at */
            polled[i] = (struct pollfd){.fd = c->ours[i], .events = i == 0 ? POLLOUT : POLLIN};
        const double left = c->deadline - lb_now();
        if (left <= 0.0)
            return lb_fail(err, LB_EIO, "%s did not finish within %g seconds", program,
                           c->filter->max_seconds);
        const int ready = poll(polled, STREAMS, (int)(left < 1000.0 ? left * 1000.0 : 1e6) + 1);
        if (ready < 0 && errno != EINTR)
            return lb_fail(err, LB_EIO, "cannot wait for %s: %s", program, strerror(errno));
        if (ready <= 0)
            continue;
        if (polled[0].revents)
            feed(c);
        if (polled[1].revents && !drain(&c->ours[1], c->output, most))
            return lb_fail(err, LB_EFORMAT, "%s wrote more than %zu bytes", program, c->filter->max_output);
        if (polled[2].revents)
            drain(&c->ours[2], &c->complaint, MAX_COMPLAINT);
    }
    return LB_OK;
}

/* The process is gone afterwards: killed at once, or when its time is over. *status is 0 where nobody can say. */
static void reap(child *c, bool kill_it, int *status)
{
    const struct timespec pause = {.tv_nsec = 2000000};
    *status = 0;
    while (c->pid != 0) {
        kill_it = kill_it || lb_now() > c->deadline;
        if (kill_it)
            kill(c->pid, SIGKILL);
        const pid_t got = waitpid(c->pid, status, kill_it ? 0 : WNOHANG);
        if (got == 0) { /* its streams are closed, so it will not be long */
            nanosleep(&pause, NULL);
            continue;
        }
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) /* ECHILD: the caller ignores SIGCHLD */
            *status = 0;
        c->pid = 0;
    }
}

static lb_status judge(const child *c, int status, lb_error *err)
{
    const char *program = c->filter->argv[0], *said = c->complaint.data ? c->complaint.data : "";
    said += strspn(said, " \t\r\n");
    if (c->output->failed || c->complaint.failed)
        return lb_fail(err, LB_ENOMEM, "%s: no memory for what it wrote", program);
    if (WIFSIGNALED(status))
        return lb_fail(err, LB_EIO, "%s was killed by signal %d", program, WTERMSIG(status));
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
        return lb_fail(err, LB_EIO, "%s failed with status %d%s%.*s", program, WEXITSTATUS(status),
                       *said ? ": " : "", (int)strcspn(said, "\r\n"), said);
    return LB_OK;
}

lb_status lb_filter_run(const lb_filter *filter, const char *input, size_t input_bytes, lb_text *output,
                        lb_error *err)
{
    child c = {.filter = filter,
               .ours = {-1, -1, -1},
               .theirs = {-1, -1, -1},
               .input = input,
               .input_left = input_bytes,
               .output = output,
               .deadline = lb_now() + filter->max_seconds};
    int status;
    lb_status st = start(&c, err);
    if (st == LB_OK)
        st = converse(&c, err);
    for (int i = 0; i < STREAMS; i++) {
        close_end(&c.ours[i]);
        close_end(&c.theirs[i]);
    }
    reap(&c, st != LB_OK, &status);
    if (st == LB_OK)
        st = judge(&c, status, err);
    lb_text_free(&c.complaint);
    return st;
}
