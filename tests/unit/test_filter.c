/* SPDX-License-Identifier: MIT
 * Another program as a filter: its output whole, and every way in which it can fail. */
#define _GNU_SOURCE
#include "scratch.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "report/filter.h"

static lb_status run(const char *const *argv, const char *input, size_t bytes, double seconds, lb_text *out,
                     lb_error *err)
{
    const lb_filter f = {argv, "try apt", 1 << 20, seconds};
    return lb_filter_run(&f, input, bytes, out, err);
}

static lb_status run_shell(const char *script, const char *input, size_t bytes, double seconds, lb_text *out,
                           lb_error *err)
{
    const char *const argv[] = {"sh", "-c", script, NULL};
    return run(argv, input, bytes, seconds, out, err);
}

static size_t open_files(void)
{
    return scratch_count("/proc/self/fd");
}

static void no_child_is_left(void)
{
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

/* More in both directions than a pipe holds. */
static void bytes_go_through(void **state)
{
    (void)state;
    enum { N = 700000 };
    const char *const cat[] = {"cat", NULL};
    char *input = malloc(N);
    for (size_t i = 0; i < N; i++)
        input[i] = (char)(i * 31 % 251);
    const size_t before = open_files();
    lb_text out = {0};
    lb_text_add_string(&out, "before:");
    assert_int_equal(run(cat, input, N, 30.0, &out, NULL), LB_OK);
    assert_int_equal(out.length, N + 7);
    assert_memory_equal(out.data, "before:", 7);
    assert_memory_equal(out.data + 7, input, N);
    lb_text_free(&out);
    assert_int_equal(run(cat, "", 0, 30.0, &out, NULL), LB_OK);
    assert_int_equal(out.length, 0);
    lb_text_free(&out);
    assert_int_equal(open_files(), before);
    no_child_is_left();
    free(input);
}

static void refuse(const char *script, lb_status status, const char *sentence)
{
    lb_text out = {0};
    lb_error err;
    const size_t before = open_files();
    const double start = lb_now();
    const lb_status st = run_shell(script, "hello", 5, 1.0, &out, &err);
    if (st != status || !strstr(err.msg, sentence))
        fail_msg("%s: status %d \"%s\", want %d \"%s\"", script, st, st ? err.msg : "", status, sentence);
    assert_true(lb_now() - start < 20.0);
    assert_int_equal(open_files(), before);
    no_child_is_left();
    lb_text_free(&out);
}

static void failures(void **state)
{
    (void)state;
    refuse("exit 3", LB_EIO, "sh failed with status 3");
    refuse("echo; echo ' bad thing' >&2; echo more >&2; exit 1", LB_EIO,
           "sh failed with status 1: bad thing");
    refuse("kill -9 $$", LB_EIO, "sh was killed by signal 9");
    refuse("exec sleep 60", LB_EIO, "sh did not finish within 1 seconds");
    refuse("exec >&- 2>&-; exec sleep 60", LB_EIO, "sh was killed by signal 9");
    refuse("cat /dev/zero", LB_EFORMAT, "sh wrote more than 1048576 bytes");
    refuse("cat /dev/zero >&2", LB_EIO, "sh did not finish within 1 seconds");
    const char *const none[] = {"no-such-program-here", NULL}, *const folder[] = {"/", NULL};
    lb_text out = {0};
    lb_error err;
    assert_int_equal(run(none, "", 0, 1.0, &out, &err), LB_EUNSUPPORTED);
    assert_string_equal(err.msg, "no-such-program-here is missing: try apt");
    assert_int_equal(run(folder, "", 0, 1.0, &out, &err), LB_EUNSUPPORTED);
    no_child_is_left();
}

/* A program that stops reading is no reason for a signal, nor an error of its own. */
static void input_that_nobody_reads(void **state)
{
    (void)state;
    enum { N = 3 << 20 };
    char *input = calloc(N, 1);
    lb_text out = {0};
    signal(SIGPIPE, SIG_DFL);
    assert_int_equal(run_shell("exec <&-; echo done", input, N, 30.0, &out, NULL), LB_OK);
    assert_string_equal(out.data, "done\n");
    lb_text_free(&out);
    free(input);
}

/* The child has SIGPIPE as it was born with it, whatever the caller ignores; and a caller that ignores its
 * children's ends still gets their output. */
static void signals_of_the_caller(void **state)
{
    (void)state;
    lb_text out = {0};
    signal(SIGPIPE, SIG_IGN);
    assert_int_equal(run_shell("grep SigIgn /proc/self/status", "", 0, 30.0, &out, NULL), LB_OK);
    const unsigned long long ignored = strtoull(out.data + strcspn(out.data, "0123456789abcdef"), NULL, 16);
    assert_int_equal(ignored >> (SIGPIPE - 1) & 1, 0);
    lb_text_free(&out);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGCHLD, SIG_IGN);
    assert_int_equal(run_shell("cat", "abc", 3, 30.0, &out, NULL), LB_OK);
    assert_string_equal(out.data, "abc");
    lb_text_free(&out);
    signal(SIGCHLD, SIG_DFL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_go_through),
        cmocka_unit_test(failures),
        cmocka_unit_test(input_that_nobody_reads),
        cmocka_unit_test(signals_of_the_caller),
    };
    return cmocka_run_group_tests_name("filter", tests, NULL, NULL);
}
