/* SPDX-License-Identifier: MIT
 * What is copied beside a model, and what a link in a stranger's model does not fetch. */
#define _GNU_SOURCE
#include "near.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "pack/copy_beside.h"
#include "scratch.h"

static char *work;

static int make_work(void **state)
{
    (void)state;
    work = scratch_make("copy_beside");
    return work ? 0 : -1;
}

static int drop_work(void **state)
{
    (void)state;
    scratch_remove(work);
    free(work);
    return 0;
}

static const char *at(const char *name)
{
    static char paths[8][SCRATCH_PATH_BYTES];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, SCRATCH_PATH_BYTES, "%s/%s", work, name);
    return path;
}

static void make(const char *folder)
{
    assert_int_equal(mkdir(at(folder), 0777), 0);
}

static void put(const char *name, const char *text)
{
    scratch_write(at(name), text, strlen(text));
}

static void lead(const char *name, const char *target)
{
    assert_int_equal(symlink(target, at(name)), 0);
}

static void copied(const char *name, const char *text)
{
    size_t size;
    char *got;
    struct stat info;
    assert_int_equal(lstat(at(name), &info), 0);
    assert_true(S_ISREG(info.st_mode));
    got = scratch_read(at(name), &size);
    assert_int_equal(size, strlen(text));
    assert_memory_equal(got, text, size);
    free(got);
}

static void links_of_a_stranger_are_not_followed(void **state)
{
    (void)state;
    make("home");
    put("home/secret", "password");
    make("model");
    put("model/config.json", "{}");
    put("model/vocab.json", "{\"a\": 0}");
    lead("model/LICENSE", at("home/secret"));
    lead("model/merges.txt", "../home/secret");
    put("model/hop", "");
    unlink(at("model/hop"));
    lead("model/hop", at("home/secret")); /* a link to a link */
    lead("model/special_tokens_map.json", "hop");
    lead("model/added_tokens.json", "nowhere");
    assert_int_equal(mkfifo(at("model/generation_config.json"), 0600), 0);
    put("model/in_house", "jinja");
    lead("model/chat_template.jinja", "in_house");
    put("home/tokenizer.json", "{}"); /* read when the model was opened, as its weights are */
    lead("model/tokenizer.json", "../home/tokenizer.json");
    make("out");
    alarm(20);
    assert_int_equal(lb_copy_beside(at("model"), at("out"), NULL), LB_OK);
    alarm(0);
    copied("out/vocab.json", "{\"a\": 0}");
    copied("out/chat_template.jinja", "jinja");
    copied("out/tokenizer.json", "{}");
    assert_int_equal(scratch_count(at("out")), 3);
}

/* models--org--name/snapshots/REVISION/NAME -> ../../blobs/HASH */
static void a_cache_of_links_is_followed(void **state)
{
    (void)state;
    make("hub");
    make("hub/blobs");
    make("hub/snapshots");
    make("hub/snapshots/rev");
    put("hub/blobs/1", "{}");
    put("hub/blobs/2", "MIT");
    put("hub/blobs/3", "{\"tokens\": 1}");
    lead("hub/snapshots/rev/config.json", "../../blobs/1");
    lead("hub/snapshots/rev/LICENSE", "../../blobs/2");
    lead("hub/snapshots/rev/special_tokens_map.json", "../../blobs/3");
    put("hub/secret", "password");
    lead("hub/blobs/4", "../secret"); /* through the blobs and out again */
    lead("hub/snapshots/rev/vocab.json", "../../blobs/4");
    lead("hub/snapshots/rev/merges.txt", "../../secret");
    make("out");
    assert_int_equal(lb_copy_beside(at("hub/snapshots/rev/"), at("out"), NULL), LB_OK);
    copied("out/LICENSE", "MIT");
    copied("out/special_tokens_map.json", "{\"tokens\": 1}");
    assert_int_equal(scratch_count(at("out")), 2);
    /* The folder itself may be reached by a link. */
    lead("model", "hub/snapshots/rev");
    make("again");
    assert_int_equal(lb_copy_beside(at("model"), at("again"), NULL), LB_OK);
    copied("again/LICENSE", "MIT");
    assert_int_equal(scratch_count(at("again")), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(links_of_a_stranger_are_not_followed, make_work, drop_work),
        cmocka_unit_test_setup_teardown(a_cache_of_links_is_followed, make_work, drop_work),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
