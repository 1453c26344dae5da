/* SPDX-License-Identifier: MIT
 * Folders that appear when they are whole: what is in the way, who is at work, what was left by the dead. */
#define _GNU_SOURCE
#include "near.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/file.h"
#include "base/partial.h"
#include "base/text.h"
#include "scratch.h"

static char out[SCRATCH_PATH_BYTES], partial[SCRATCH_PATH_BYTES];

/* OUT/name and OUT.partial/name. */
static const char *inside(const char *folder, const char *name)
{
    static char path[2 * SCRATCH_PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static int make_names(void **state)
{
    char prefix[] = "/lb_partial", *made = NULL, where[SCRATCH_PATH_BYTES];
    const char *tmp = getenv("TMPDIR");
    snprintf(where, sizeof where, "%s%s", tmp ? tmp : "/tmp", prefix);
    if (lb_make_unique_directory(where, &made, NULL) != LB_OK)
        return -1;
    *state = made;
    snprintf(out, sizeof out, "%s/out", made);
    snprintf(partial, sizeof partial, "%s.partial", out);
    return 0;
}

static int drop_names(void **state)
{
    char *made = *state;
    const char *const folders[] = {out, partial};
    for (size_t i = 0; i < 2; i++)
        if (lb_path_is_directory(folders[i]) && lb_remove_directory(folders[i], NULL) != LB_OK)
            return -1;
    const lb_status st = lb_remove_directory(made, NULL);
    lb_free(made);
    return st == LB_OK ? 0 : -1;
}

static void put(const lb_partial *p, const char *name, const char *text)
{
    assert_int_equal(lb_file_replace(inside(p->path, name), text, strlen(text), NULL), LB_OK);
}

static void it_appears_when_it_is_whole(void **state)
{
    (void)state;
    lb_error err;
    lb_partial p;
    char slashes[SCRATCH_PATH_BYTES + 4];
    snprintf(slashes, sizeof slashes, "%s//", out);
    assert_int_equal(lb_partial_begin(slashes, &p, &err), LB_OK);
    assert_string_equal(p.path, partial);
    put(&p, "a", "x");
    assert_false(lb_path_exists(out));
    assert_int_equal(lb_partial_commit(&p, &err), LB_OK);
    lb_partial_abandon(&p);
    assert_false(lb_path_exists(partial));
    assert_int_equal(scratch_count(out), 1); /* what marks it is gone */
    assert_int_equal(lb_partial_begin(out, &p, &err), LB_EEXIST);
    assert_non_null(strstr(err.msg, "out exists already; choose another name"));
    lb_partial_abandon(&p);
    assert_false(lb_path_exists(partial));
    assert_int_equal(lb_partial_begin("", &p, &err), LB_EINVAL);
    assert_int_equal(lb_partial_begin("/", &p, &err), LB_EINVAL);
}

static void abandoned_it_leaves_nothing(void **state)
{
    (void)state;
    lb_error err;
    lb_partial p, none = {0};
    assert_int_equal(lb_partial_begin(out, &p, &err), LB_OK);
    put(&p, "a", "x");
    lb_partial_abandon(&p);
    lb_partial_abandon(&p);
    lb_partial_abandon(&none);
    assert_false(lb_path_exists(partial));
    assert_false(lb_path_exists(out));
}

static void one_at_a_time(void **state)
{
    (void)state;
    lb_error err;
    lb_partial first, second;
    assert_int_equal(lb_partial_begin(out, &first, &err), LB_OK);
    put(&first, "a", "x");
    assert_int_equal(lb_partial_begin(out, &second, &err), LB_EEXIST);
    assert_non_null(strstr(err.msg, "out.partial is in use by another lowbit process"));
    lb_partial_abandon(&second);
    assert_true(lb_path_exists(inside(first.path, "a")));
    assert_int_equal(mkdir(out, 0777), 0); /* an empty folder, which rename would replace */
    assert_int_equal(lb_partial_commit(&first, &err), LB_EEXIST);
    assert_non_null(strstr(err.msg, "has appeared meanwhile"));
    lb_partial_abandon(&first);
    assert_false(lb_path_exists(partial));
}

static void what_the_dead_left_is_removed(void **state)
{
    (void)state;
    lb_error err;
    lb_partial p;
    int status;
    const pid_t child = fork();
    if (child == 0) {
        if (lb_partial_begin(out, &p, NULL) != LB_OK ||
            lb_file_replace(inside(p.path, "half"), "x", 1, NULL) != LB_OK)
            _exit(1);
        raise(SIGKILL);
    }
    assert_true(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
    assert_true(lb_path_exists(inside(partial, "half")));
    assert_int_equal(lb_partial_begin(out, &p, &err), LB_OK);
    assert_false(lb_path_exists(inside(partial, "half")));
    put(&p, "whole", "x");
    assert_int_equal(lb_partial_commit(&p, &err), LB_OK);
    assert_int_equal(scratch_count(out), 1);
}

/* Killed between making the folder and marking it: an empty one is nobody's. */
static void an_empty_one_is_taken(void **state)
{
    (void)state;
    lb_error err;
    lb_partial p;
    assert_int_equal(mkdir(partial, 0777), 0);
    assert_int_equal(lb_partial_begin(out, &p, &err), LB_OK);
    assert_int_equal(lb_partial_commit(&p, &err), LB_OK);
    assert_int_equal(scratch_count(out), 0);
}

static void what_is_somebody_elses_stays(void **state)
{
    (void)state;
    lb_error err;
    lb_partial p;
    assert_int_equal(mkdir(partial, 0777), 0);
    scratch_write(inside(partial, "thesis"), "years", 5);
    assert_int_equal(lb_partial_begin(out, &p, &err), LB_EEXIST);
    assert_non_null(strstr(err.msg, "out.partial exists already"));
    assert_int_equal(scratch_count(partial), 1);
    scratch_remove(inside(partial, "thesis"));
    assert_int_equal(rmdir(partial), 0);
    assert_int_equal(symlink("/", partial), 0); /* a link is not followed */
    assert_int_equal(lb_partial_begin(out, &p, &err), LB_EIO);
    assert_non_null(strstr(err.msg, "out.partial"));
    assert_int_equal(unlink(partial), 0);
    scratch_write(partial, "file", 4);
    assert_int_equal(lb_partial_begin(out, &p, &err), LB_EIO);
    assert_true(lb_path_exists(partial));
    assert_int_equal(unlink(partial), 0);
}

static void no_memory_is_a_sentence(void **state)
{
    (void)state;
    lb_error err;
    size_t failures = 0;
    for (size_t k = 1; k < 40; k++) {
        lb_partial p;
        lb_alloc_fail_at(k);
        lb_status st = lb_partial_begin(out, &p, &err);
        if (st == LB_OK)
            st = lb_partial_commit(&p, &err);
        lb_alloc_fail_at(0);
        lb_partial_abandon(&p);
        assert_false(lb_path_exists(partial));
        if (st == LB_OK)
            break;
        assert_int_equal(st, LB_ENOMEM);
        failures++;
    }
    assert_true(failures >= 3);
    assert_true(lb_path_exists(out));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_appears_when_it_is_whole, make_names, drop_names),
        cmocka_unit_test_setup_teardown(abandoned_it_leaves_nothing, make_names, drop_names),
        cmocka_unit_test_setup_teardown(one_at_a_time, make_names, drop_names),
        cmocka_unit_test_setup_teardown(what_the_dead_left_is_removed, make_names, drop_names),
        cmocka_unit_test_setup_teardown(an_empty_one_is_taken, make_names, drop_names),
        cmocka_unit_test_setup_teardown(what_is_somebody_elses_stays, make_names, drop_names),
        cmocka_unit_test_setup_teardown(no_memory_is_a_sentence, make_names, drop_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
