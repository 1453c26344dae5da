/* SPDX-License-Identifier: MIT
 * Files: mapped and whole reads, writes that are complete or absent, paths, folders. */
#define _GNU_SOURCE
#include "near.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
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

/* What writers have left in the folder, whatever it is called. */
static size_t temporaries(void)
{
    size_t count = 0;
    struct dirent *entry;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL)
        count += strstr(entry->d_name, ".lowbit-") != NULL;
    closedir(dir);
    return count;
}

static void must_be(const char *path, const char *want)
{
    char *text;
    size_t size;
    assert_int_equal(lb_file_read(path, 1000, &text, &size, NULL), LB_OK);
    assert_string_equal(text, want);
    lb_free(text);
}

static void an_abandoned_write_leaves_the_old_file(void **state)
{
    (void)state;
    lb_error err;
    lb_writer writer;
    char *path = lb_path_join(folder, "kept");
    assert_int_equal(lb_file_replace(path, "old", 3, &err), LB_OK);
    assert_int_equal(lb_writer_open(path, &writer, &err), LB_OK);
    assert_int_equal(lb_writer_put(&writer, "new", 3, &err), LB_OK);
    assert_int_equal(writer.written, 3);
    assert_int_equal(temporaries(), 1);
    lb_writer_abandon(&writer);
    lb_writer_abandon(&writer);
    assert_int_equal(temporaries(), 0);
    must_be(path, "old");
    lb_free(path);
}

/* As another program does it. */
static void put(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_true(f && fputs(text, f) >= 0 && fclose(f) == 0);
}

/* Names that another program might have chosen for its own files are left alone: whole, and unread. */
static void neighbours_are_left_alone(void **state)
{
    (void)state;
    lb_error err;
    struct stat info;
    char *path = lb_path_join(folder, "out"), *plain = lb_path_join(folder, "out.tmp"),
         *hidden = lb_path_join(folder, ".out.lowbit-thesis.txt"), *victim = lb_path_join(folder, "victim"),
         *link = lb_path_join(folder, ".out.lowbit-link00"),
         *fifo = lb_path_join(folder, ".out.lowbit-fifo00");
    put(plain, "years");
    put(hidden, "of work");
    put(victim, "precious");
    assert_int_equal(symlink("victim", link), 0);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    const mode_t mask = umask(027);
    alarm(20);
    assert_int_equal(lb_file_replace(path, "new", 3, &err), LB_OK);
    alarm(0);
    umask(mask);
    must_be(path, "new");
    must_be(plain, "years");
    must_be(hidden, "of work");
    must_be(victim, "precious");
    assert_true(lstat(path, &info) == 0 && S_ISREG(info.st_mode));
    assert_int_equal(info.st_mode & 0777, 0640); /* as the umask gives */
    assert_true(lstat(link, &info) == 0 && S_ISLNK(info.st_mode));
    assert_true(lstat(fifo, &info) == 0 && S_ISFIFO(info.st_mode));
    char *const all[] = {path, plain, hidden, victim, link, fifo};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        unlink(all[i]);
        lb_free(all[i]);
    }
}

/* Two at work on one name: each is whole, and the later stays. */
static void writers_of_one_name_do_not_meet(void **state)
{
    (void)state;
    lb_error err;
    lb_writer a, b;
    char *path = lb_path_join(folder, "both");
    assert_int_equal(lb_writer_open(path, &a, &err), LB_OK);
    assert_int_equal(lb_writer_put(&a, "first ", 6, &err), LB_OK);
    assert_int_equal(lb_writer_open(path, &b, &err), LB_OK); /* which takes a's file for nobody's dead one */
    assert_int_equal(temporaries(), 2);
    assert_int_equal(lb_writer_put(&b, "second", 6, &err), LB_OK);
    assert_int_equal(lb_writer_put(&a, "writer", 6, &err), LB_OK);
    assert_int_equal(lb_writer_commit(&a, &err), LB_OK);
    must_be(path, "first writer");
    assert_int_equal(lb_writer_commit(&b, &err), LB_OK);
    must_be(path, "second");
    assert_int_equal(temporaries(), 0);
    lb_free(path);
}

static void what_a_killed_writer_left_is_removed(void **state)
{
    (void)state;
    lb_error err;
    lb_writer w;
    int status;
    char *path = lb_path_join(folder, "killed"), *other = lb_path_join(folder, "other");
    const pid_t child = fork();
    if (child == 0) {
        if (lb_writer_open(path, &w, NULL) != LB_OK || lb_writer_put(&w, "half", 4, NULL) != LB_OK)
            _exit(1);
        raise(SIGKILL);
    }
    assert_true(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
    assert_int_equal(temporaries(), 1);
    assert_int_equal(lb_file_replace(other, "x", 1, &err), LB_OK); /* of another name: none of its business */
    assert_int_equal(temporaries(), 1);
    assert_int_equal(lb_file_replace(path, "whole", 5, &err), LB_OK);
    assert_int_equal(temporaries(), 0);
    must_be(path, "whole");
    unlink(other);
    lb_free(other);
    lb_free(path);
}

/* Names of 255 bytes leave no room for more. */
static void a_long_name_is_written(void **state)
{
    (void)state;
    char name[256];
    lb_error err;
    memset(name, 'n', 255);
    name[255] = '\0';
    char *path = lb_path_join(folder, name);
    assert_int_equal(lb_file_replace(path, "x", 1, &err), LB_OK);
    must_be(path, "x");
    lb_free(path);
    assert_int_equal(lb_file_replace("", "x", 1, &err), LB_EINVAL);
    assert_int_equal(lb_file_replace("folder/", "x", 1, &err), LB_EINVAL);
}

static void a_write_that_does_not_fit_leaves_the_old_file(void **state)
{
    (void)state;
    lb_error err;
    struct rlimit old, tiny;
    static char block[100000];
    char *path = lb_path_join(folder, "full");
    assert_int_equal(lb_file_replace(path, "old", 3, &err), LB_OK);
    getrlimit(RLIMIT_FSIZE, &old);
    tiny = (struct rlimit){.rlim_cur = 50000, .rlim_max = old.rlim_max};
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &tiny);
    lb_status st = lb_file_replace(path, block, sizeof block, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, handler);
    assert_int_equal(st, LB_EIO);
    assert_non_null(strstr(err.msg, "/full: "));
    assert_int_equal(temporaries(), 0);
    must_be(path, "old");
    lb_free(path);
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
    assert_non_null(strstr(err.msg, "cannot create /nonexistent/folder/x: "));
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
        cmocka_unit_test(neighbours_are_left_alone),
        cmocka_unit_test(writers_of_one_name_do_not_meet),
        cmocka_unit_test(what_a_killed_writer_left_is_removed),
        cmocka_unit_test(a_long_name_is_written),
        cmocka_unit_test(a_write_that_does_not_fit_leaves_the_old_file),
        cmocka_unit_test(a_full_device_is_no_space),
        cmocka_unit_test(writing_into_a_missing_folder_says_so),
        cmocka_unit_test(paths),
        cmocka_unit_test(folders_are_made_renamed_and_removed),
        cmocka_unit_test(no_memory_is_a_sentence),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
