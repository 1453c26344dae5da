/* SPDX-License-Identifier: MIT
 * Error sentences: status and text, prefixes, control characters, lengths, and progress that cancels. */
#include "near.h"

#include "base/error.h"

static void a_failure_has_status_and_sentence(void **state)
{
    (void)state;
    lb_error err;
    assert_int_equal(lb_fail(&err, LB_EFORMAT, "%s: got %d, wanted %d", "file", 3, 4), LB_EFORMAT);
    assert_int_equal(err.status, LB_EFORMAT);
    assert_string_equal(err.msg, "file: got 3, wanted 4");
    assert_int_equal(lb_fail(NULL, LB_EIO, "nobody listens"), LB_EIO);
}

static void control_characters_never_come_through(void **state)
{
    (void)state;
    lb_error err;
    lb_fail(&err, LB_EFORMAT, "name \"%s\"", "a\x1b[2J\nb\t\x7f\xc3\xa9");
    assert_string_equal(err.msg, "name \"a?[2J?b??\xc3\xa9\"");
}

static void long_sentences_are_cut(void **state)
{
    (void)state;
    lb_error err;
    char text[2000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    lb_fail(&err, LB_EINVAL, "%s", text);
    assert_int_equal(strlen(err.msg), sizeof err.msg - 1);
    lb_fail_at(&err, LB_EINVAL, "%s", text);
    assert_true(strlen(err.msg) < sizeof err.msg);
    assert_non_null(strstr(err.msg, "x: x")); /* both halves are still there */
}

static void where_comes_before_what(void **state)
{
    (void)state;
    lb_error err;
    lb_fail(&err, LB_EFORMAT, "rank 9");
    assert_int_equal(lb_fail_at(&err, LB_EUNSUPPORTED, "tensor %s", "w"), LB_EUNSUPPORTED);
    assert_string_equal(err.msg, "tensor w: rank 9");
    assert_int_equal(err.status, LB_EUNSUPPORTED);
    assert_int_equal(lb_fail_at(NULL, LB_EIO, "x"), LB_EIO);
}

static lb_status tries(lb_status inner, int *after)
{
    LB_TRY(inner);
    *after = 1;
    return LB_OK;
}

static lb_status goes(lb_status inner, int *cleaned, int *after)
{
    lb_status st = LB_OK;
    LB_GO(inner);
    *after = 1;
done:
    *cleaned = 1;
    return st;
}

static void failures_are_passed_up(void **state)
{
    (void)state;
    int after = 0, cleaned = 0;
    assert_int_equal(tries(LB_EIO, &after), LB_EIO);
    assert_int_equal(after, 0);
    assert_int_equal(tries(LB_OK, &after), LB_OK);
    assert_int_equal(after, 1);
    after = 0;
    assert_int_equal(goes(LB_ENOMEM, &cleaned, &after), LB_ENOMEM);
    assert_int_equal(cleaned, 1);
    assert_int_equal(after, 0);
}

typedef struct heard {
    const char *stage;
    size_t done, total;
    int answer;
} heard;

static int listen(void *user, const char *stage, size_t done, size_t total)
{
    heard *h = user;
    *h = (heard){stage, done, total, h->answer};
    return h->answer;
}

static void progress_tells_and_cancels(void **state)
{
    (void)state;
    heard h = {.answer = 0};
    lb_progress progress = {.fn = listen, .user = &h};
    lb_error err;
    assert_int_equal(lb_progress_tell(NULL, "x", 0, 1, &err), LB_OK);
    assert_int_equal(lb_progress_tell(&(lb_progress){0}, "x", 0, 1, &err), LB_OK);
    assert_int_equal(lb_progress_tell(&progress, "block 2/5", 1, 5, &err), LB_OK);
    assert_string_equal(h.stage, "block 2/5");
    assert_int_equal(h.done, 1);
    assert_int_equal(h.total, 5);
    h.answer = 1;
    assert_int_equal(lb_progress_tell(&progress, "block 3/5", 2, 5, &err), LB_ECANCELED);
    assert_string_equal(err.msg, "interrupted at block 3/5");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failure_has_status_and_sentence),
        cmocka_unit_test(control_characters_never_come_through),
        cmocka_unit_test(long_sentences_are_cut),
        cmocka_unit_test(where_comes_before_what),
        cmocka_unit_test(failures_are_passed_up),
        cmocka_unit_test(progress_tells_and_cancels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
