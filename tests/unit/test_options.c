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

/* The library's defaults, and not a byte beyond what the caller made room for; zero where the library is the older. */
static void defaults_fit_into_the_callers_struct(void **state)
{
    (void)state;
    const two_fields defaults = {sizeof defaults, 1, 2};
    struct {
        size_t struct_size;
        int old;
        int not_part_of_it;
    } older = {99, 99, 99};
    struct {
        two_fields known;
        int unheard_of[3];
    } later = {{99, 99, 99}, {99, 99, 99}};
    lb_options_fill(&older, offsetof(two_fields, newer), &defaults, sizeof defaults);
    assert_int_equal(older.struct_size, offsetof(two_fields, newer));
    assert_int_equal(older.old, 1);
    assert_int_equal(older.not_part_of_it, 99);
    lb_options_fill(&later, sizeof later, &defaults, sizeof defaults);
    assert_int_equal(later.known.struct_size, sizeof later);
    assert_int_equal(later.known.newer, 2);
    assert_int_equal(later.unheard_of[0] | later.unheard_of[2], 0);
}

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
        cmocka_unit_test(defaults_fit_into_the_callers_struct),
        cmocka_unit_test(an_older_caller_keeps_the_new_fields_default),
        cmocka_unit_test(a_newer_caller_is_cut),
        cmocka_unit_test(no_options_are_the_defaults_and_garbage_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
