/* SPDX-License-Identifier: MIT
 * Numbers in answers: what the harness' two expressions find. */
#include "near.h"

#include <string.h>

#include "eval/answer.h"

static void numbers_are_found(void **state)
{
    (void)state;
    static const struct {
        const char *text, *marked, *last; /* NULL: nothing is found */
    } cases[] = {
        {"It is 12.\n#### 12", "12", "12"},
        {"#### -3 and #### 4", "-3", "4"},
        {"#### $5", NULL, "$5"},
        {"####5", NULL, "5"},
        {"#### 1,234.50.", "1,234.50.", "1,234.50."},
        {"so 3 - 1 = 2", NULL, "2"},
        {"a 7b-8", NULL, "-8"},
        {"a 7. Then", NULL, "7."},
        {"pay $18", NULL, "$18"},
        {"nothing", NULL, NULL},
        {"#### none", NULL, NULL},
        {"#### x #### 9", "9", "9"},
        {"", NULL, NULL},
        {"end. Then ...", NULL, "..."},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char got[LB_ANSWER_BYTES];
        const bool marked = lb_answer_marked(cases[i].text, got);
        assert_int_equal(marked, cases[i].marked != NULL);
        if (marked)
            assert_string_equal(got, cases[i].marked);
        const bool last = lb_answer_last(cases[i].text, got);
        assert_int_equal(last, cases[i].last != NULL);
        if (last)
            assert_string_equal(got, cases[i].last);
    }
    char far[300] = "#### ", got[LB_ANSWER_BYTES]; /* longer than any number */
    memset(far + 5, '1', sizeof far - 6);
    assert_false(lb_answer_marked(far, got));
    assert_false(lb_answer_last(far, got));
}

static void numbers_are_compared(void **state)
{
    (void)state;
    assert_true(lb_answers_agree("1,234", "1234"));
    assert_true(lb_answers_agree("$18", "18."));
    assert_true(lb_answers_agree("-3", "-3"));
    assert_false(lb_answers_agree("-3", "3"));
    assert_false(lb_answers_agree("1.5", "15"));
    assert_false(lb_answers_agree("12", "123"));
    assert_true(lb_answers_agree("", ""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(numbers_are_found),
                                       cmocka_unit_test(numbers_are_compared)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
