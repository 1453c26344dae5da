/* SPDX-License-Identifier: MIT
 * Files: mapped and whole reads, writes that are complete or absent, paths, folders. */
#define _GNU_SOURCE
#include "near.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <signal.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/file.h"

static char *folder;

static int make_folder(void **state)
{
    (void)state;
    char prefix[4096];
    const char *tmp = getenv("TMPDIR");
    snprintf(prefix, sizeof prefix, "%s/lb_file", tmp ? tmp : "/tmp");
    return lb_make_unique_directory(prefix, &folder, NULL) == LB_OK ? 0 : -1;
}

static int drop_folder(void **state)
{
    (void)state;
    lb_status st = lb_remove_directory(folder, NULL);
    lb_free(folder);
    return st == LB_OK ? 0 : -1;
}

static void a_file_comes_back_as_written(void **state)
{
    (void)state;
    lb_error err;
    uint8_t bytes[10000];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 7);
    char *path = lb_path_join(folder, "a"), *copy = lb_path_join(folder, "b"), *text = NULL;
    size_t size = 0;
    lb_mapping map;
    assert_int_equal(lb_file_replace(path, bytes, sizeof bytes, &err), LB_OK);
    assert_int_equal(lb_file_copy(path, copy, &err), LB_OK);
    assert_int_equal(lb_map_open(copy, &map, &err), LB_OK);
    assert_int_equal(map.size, sizeof bytes);
    assert_memory_equal(map.data, bytes, sizeof bytes);
    lb_map_forget(&map, 0, map.size); /* forgets pages, not content */
    lb_map_forget(&map, 5000, 5000);
    assert_memory_equal(map.data, bytes, sizeof bytes);
    lb_map_close(&map);
    lb_map_close(&map);
    assert_int_equal(lb_file_read(path, sizeof bytes, &text, &size, &err), LB_OK);
    assert_int_equal(size, sizeof bytes);
    assert_int_equal(text[size], '\0');
    lb_free(text);
    text = NULL;
    assert_int_equal(lb_file_read_text(path, sizeof bytes, &text, &size, &err),
                     memchr(bytes, 0, sizeof bytes) ? LB_EFORMAT : LB_OK);
    lb_free(text);
    text = NULL;
    assert_int_equal(lb_file_replace(path, "plain", 5, &err), LB_OK);
    assert_int_equal(lb_file_read_text(path, 5, &text, &size, &err), LB_OK);
    assert_string_equal(text, "plain");
    lb_free(text);
    text = NULL;
    assert_true(lb_path_same(path, path) && !lb_path_same(path, copy) && !lb_path_same(path, "no such file"));
    assert_int_equal(lb_file_replace(path, bytes, sizeof bytes, &err), LB_OK);
    assert_int_equal(lb_file_read(path, sizeof bytes - 1, &text, &size, &err), LB_EFORMAT);
    assert_null(text);
    lb_free(path);
    lb_free(copy);
}

static void an_empty_file_is_a_file(void **state)
{
    (void)state;
    lb_error err;
    lb_mapping map;
    char *path = lb_path_join(folder, "empty"), *text = NULL;
    size_t size = 1;
    assert_int_equal(lb_file_replace(path, "", 0, &err), LB_OK);
    assert_int_equal(lb_map_open(path, &map, &err), LB_OK);
    assert_non_null(map.data);
    assert_int_equal(map.size, 0);
    lb_map_close(&map);
    assert_int_equal(lb_file_read(path, 0, &text, &size, &err), LB_OK);
    assert_int_equal(size, 0);
    assert_string_equal(text, "");
    lb_free(text);
    lb_free(path);
}

static void what_is_not_a_file_is_refused_at_once(void **state)
{
    (void)state;
    lb_error err;
    lb_mapping map;
    char *fifo = lb_path_join(folder, "fifo");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    alarm(20); /* opening a FIFO that nobody writes to must not wait */
    assert_int_equal(lb_map_open(fifo, &map, &err), LB_EIO);
    alarm(0);
    assert_non_null(strstr(err.msg, "not a regular file"));
    struct stat info;
    assert_int_equal(lb_file_replace(fifo, "x", 1, &err), LB_EEXIST);
    assert_non_null(strstr(err.msg, "it is no ordinary file"));
    assert_true(stat(fifo, &info) == 0 && S_ISFIFO(info.st_mode));
    assert_int_equal(lb_map_open(folder, &map, &err), LB_EIO);
    assert_int_equal(lb_map_open("/dev/zero", &map, &err), LB_EIO);
    assert_int_equal(lb_map_open("/nonexistent/file", &map, &err), LB_EIO);
    assert_string_equal(err.msg, "cannot open /nonexistent/file: No such file or directory");
    lb_free(fifo);
}

static void an_abandoned_write_leaves_the_old_file(void **state)
{
    (void)state;
    lb_error err;
    lb_writer writer;
    char *path = lb_path_join(folder, "kept"), *temporary = lb_path_join(folder, "kept.tmp"), *text = NULL;
    size_t size;
    assert_int_equal(lb_file_replace(path, "old", 3, &err), LB_OK);
    assert_int_equal(lb_writer_open(path, &writer, &err), LB_OK);
    assert_int_equal(lb_writer_put(&writer, "new", 3, &err), LB_OK);
    assert_int_equal(writer.written, 3);
    assert_true(lb_path_exists(temporary));
    lb_writer_abandon(&writer);
    lb_writer_abandon(&writer);
    assert_false(lb_path_exists(temporary));
    assert_int_equal(lb_file_read(path, 10, &text, &size, &err), LB_OK);
    assert_string_equal(text, "old");
    lb_free(text);
    lb_free(path);
    lb_free(temporary);
}

static void a_write_that_does_not_fit_leaves_the_old_file(void **state)
{
    (void)state;
    lb_error err;
    struct rlimit old, tiny;
    static char block[100000];
    char *path = lb_path_join(folder, "full"), *temporary = lb_path_join(folder, "full.tmp"), *text = NULL;
    size_t size;
    assert_int_equal(lb_file_replace(path, "old", 3, &err), LB_OK);
    getrlimit(RLIMIT_FSIZE, &old);
    tiny = (struct rlimit){.rlim_cur = 50000, .rlim_max = old.rlim_max};
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &tiny);
    lb_status st = lb_file_replace(path, block, sizeof block, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, handler);
    assert_int_equal(st, LB_EIO);
    assert_non_null(strstr(err.msg, "full.tmp"));
    assert_false(lb_path_exists(temporary));
    assert_int_equal(lb_file_read(path, 10, &text, &size, &err), LB_OK);
    assert_string_equal(text, "old");
    lb_free(text);
    lb_free(path);
    lb_free(temporary);
}

static void a_full_device_is_no_space(void **state)
{
    (void)state;
    lb_error err;
    lb_writer writer = {.fd = open("/dev/full", O_WRONLY),
                        .temporary = lb_strdup("/nonexistent/tmp"),
                        .path = lb_strdup("/nonexistent/x")};
    if (writer.fd < 0) {
        print_message("no /dev/full here\n");
        lb_writer_abandon(&writer);
        skip();
    }
    assert_int_equal(lb_writer_put(&writer, "x", 1, &err), LB_ENOSPC);
    lb_writer_abandon(&writer);
}

static void writing_into_a_missing_folder_says_so(void **state)
{
    (void)state;
    lb_error err;
    assert_int_equal(lb_file_replace("/nonexistent/folder/x", "x", 1, &err), LB_EIO);
    assert_non_null(strstr(err.msg, "/nonexistent/folder/x.tmp"));
}

static void check_path(char *got, const char *want)
{
    assert_string_equal(got, want);
    lb_free(got);
}

static void paths(void **state)
{
    (void)state;
    check_path(lb_path_join("a", "b"), "a/b");
    check_path(lb_path_join("a//", "b"), "a/b");
    check_path(lb_path_join("/", "b"), "/b");
    check_path(lb_path_parent("a/b"), "a");
    check_path(lb_path_parent("a/b///"), "a");
    check_path(lb_path_parent("a//b"), "a");
    check_path(lb_path_parent("b"), ".");
    check_path(lb_path_parent("/b"), "/");
    check_path(lb_path_parent("/"), "/");
    assert_string_equal(lb_path_base("a/b"), "b");
    assert_string_equal(lb_path_base("b"), "b");
    assert_string_equal(lb_path_base("a/"), "");
}

static void folders_are_made_renamed_and_removed(void **state)
{
    (void)state;
    lb_error err;
    char *a = lb_path_join(folder, "one"), *b = lb_path_join(folder, "two");
    assert_int_equal(lb_make_directory(a, &err), LB_OK);
    assert_int_equal(lb_make_directory(a, &err), LB_EIO); /* it is there already */
    assert_true(lb_path_is_directory(a));
    char *file = lb_path_join(a, "f"), *inner = lb_path_join(b, "inner");
    assert_int_equal(lb_file_replace(file, "x", 1, &err), LB_OK);
    assert_int_equal(lb_rename_directory(a, b, &err), LB_OK);
    assert_false(lb_path_exists(a));
    assert_int_equal(lb_make_directory(inner, &err), LB_OK);
    assert_int_equal(lb_remove_directory(b, &err), LB_EIO); /* holds a folder */
    assert_true(lb_path_is_directory(b));
    assert_int_equal(lb_remove_directory(inner, &err), LB_OK);
    assert_int_equal(lb_remove_directory(b, &err), LB_OK);
    assert_false(lb_path_exists(b));
    uint64_t room = 0;
    assert_int_equal(lb_free_space(folder, &room, &err), LB_OK);
    assert_int_equal(lb_free_space("/nonexistent", &room, &err), LB_EIO);
    lb_free(a);
    lb_free(b);
    lb_free(file);
    lb_free(inner);
}

static void no_memory_is_a_sentence(void **state)
{
    (void)state;
    lb_error err;
    char *path = lb_path_join(folder, "m"), *text = NULL;
    size_t size, failures = 0;
    for (size_t k = 1; k < 20; k++) {
        lb_alloc_fail_at(k);
        lb_status st = lb_file_replace(path, "abc", 3, &err);
        if (st == LB_OK)
            st = lb_file_read(path, 10, &text, &size, &err);
        lb_alloc_fail_at(0);
        if (st == LB_OK)
            break;
        assert_int_equal(st, LB_ENOMEM);
        failures++;
    }
    assert_true(failures >= 3);
    assert_string_equal(text, "abc");
    lb_free(text);
    lb_free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_comes_back_as_written),
        cmocka_unit_test(an_empty_file_is_a_file),
        cmocka_unit_test(what_is_not_a_file_is_refused_at_once),
        cmocka_unit_test(an_abandoned_write_leaves_the_old_file),
        cmocka_unit_test(a_write_that_does_not_fit_leaves_the_old_file),
        cmocka_unit_test(a_full_device_is_no_space),
        cmocka_unit_test(writing_into_a_missing_folder_says_so),
        cmocka_unit_test(paths),
        cmocka_unit_test(folders_are_made_renamed_and_removed),
        cmocka_unit_test(no_memory_is_a_sentence),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
