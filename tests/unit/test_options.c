/* SPDX-License-Identifier: MIT
 * Option structs of callers that were built against another version. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/options.h"

typedef struct two_fields {
    size_t struct_size;
    int old, newer;
} two_fields;

static void an_older_caller_keeps_the_new_fields_default(void **state)
{
    (void)state;
    struct {
        size_t struct_size;
        int old;
        int not_part_of_it;
    } given = {offsetof(two_fields, newer), 7, 99};
    two_fields known = {sizeof known, 1, 2};
    assert_int_equal(lb_options_adopt(&known, sizeof known, &given, "two_fields", NULL), LB_OK);
    assert_int_equal(known.old, 7);
    assert_int_equal(known.newer, 2);
    assert_int_equal(known.struct_size, sizeof known);
}

static void a_newer_caller_is_cut(void **state)
{
    (void)state;
    struct {
        two_fields known;
        int unheard_of[3];
    } given = {{sizeof given, 7, 8}, {1, 2, 3}};
    two_fields known = {sizeof known, 1, 2};
    assert_int_equal(lb_options_adopt(&known, sizeof known, &given, "two_fields", NULL), LB_OK);
    assert_int_equal(known.old, 7);
    assert_int_equal(known.newer, 8);
    assert_int_equal(known.struct_size, sizeof known);
}

static void no_options_are_the_defaults_and_garbage_is_refused(void **state)
{
    (void)state;
    two_fields known = {sizeof known, 1, 2}, given = {3, 7, 8};
    lb_error err;
    assert_int_equal(lb_options_adopt(&known, sizeof known, NULL, "two_fields", &err), LB_OK);
    assert_int_equal(known.newer, 2);
    assert_int_equal(lb_options_adopt(&known, sizeof known, &given, "two_fields", &err), LB_EINVAL);
    given.struct_size = SIZE_MAX;
    assert_int_equal(lb_options_adopt(&known, sizeof known, &given, "two_fields", &err), LB_EINVAL);
    assert_non_null(strstr(err.msg, "two_fields_init"));
    assert_int_equal(known.old, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_older_caller_keeps_the_new_fields_default),
        cmocka_unit_test(a_newer_caller_is_cut),
        cmocka_unit_test(no_options_are_the_defaults_and_garbage_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
