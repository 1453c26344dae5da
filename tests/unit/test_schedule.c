/* SPDX-License-Identifier: MIT
 * Learning rates by step: values by hand, and what must hold of any schedule. */
#include "near.h"

#include "train/schedule.h"

static lb_schedule make(const char *kind, const char *shape)
{
    lb_error err;
    lb_schedule s = {.peak = 0.5, .final = 0.1, .steps = 100, .warmup = 10, .decay = 19};
    assert_int_equal(lb_schedule_parse(kind, shape, &s, &err), LB_OK);
    return s;
}

static void is(const lb_schedule *s, uint64_t step, double want)
{
    const double got = lb_schedule_rate(s, step);
    if (!(fabs(got - want) <= 1e-15))
        fail_msg("step %d: %.17g, wanted %.17g", (int)step, got, want);
}

static void rates_are_those_of_the_formulas(void **state)
{
    (void)state;
    const lb_schedule constant = make("constant", "linear"), cosine = make("cosine", "linear"),
                      linear = make("wsd", "linear"), root = make("wsd", "sqrt");
    const lb_schedule *const all[] = {&constant, &cosine, &linear, &root};
    for (size_t i = 0; i < 4; i++) {
        is(all[i], 1, 0.05);
        is(all[i], 5, 0.25);
        is(all[i], 10, 0.5);
    }
    is(&constant, 100, 0.5);
    is(&constant, 1000, 0.5);
    is(&linear, 81, 0.5); /* the last stable one */
    is(&linear, 86, 0.5 - 0.4 * 5.0 / 20.0);
    is(&linear, 100, 0.5 - 0.4 * 19.0 / 20.0);
    is(&root, 81, 0.5);
    is(&root, 86, 0.5 - 0.4 * 0.5);
    is(&cosine, 11, 0.1 + 0.2 * (1.0 + cos(acos(-1.0) / 91.0)));
    is(&cosine, 100, 0.1 + 0.2 * (1.0 + cos(acos(-1.0) * 90.0 / 91.0)));
}

/* A longer run has the past of a shorter one up to its decay, which is what resuming counts on. */
static void longer_runs_begin_alike(void **state)
{
    (void)state;
    const lb_schedule s = make("wsd", "linear");
    lb_schedule longer = s;
    longer.steps = 1000;
    for (uint64_t step = 1; step <= 81; step++)
        assert_true(lb_schedule_rate(&s, step) == lb_schedule_rate(&longer, step));
    assert_true(lb_schedule_rate(&s, 82) < lb_schedule_rate(&longer, 82));
}

/* Runs shorter than their warm-up and their decay still have rates between 0 and the peak. */
static void short_runs_work(void **state)
{
    (void)state;
    static const char *const kinds[] = {"constant", "cosine", "wsd"};
    for (size_t k = 0; k < 3; k++) {
        for (uint64_t steps = 1; steps < 12; steps++) {
            lb_schedule s = make(kinds[k], "linear");
            s.steps = steps;
            for (uint64_t step = 1; step <= steps; step++)
                assert_true(lb_schedule_rate(&s, step) > 0.0 && lb_schedule_rate(&s, step) <= s.peak);
        }
    }
}

static void names_are_checked(void **state)
{
    (void)state;
    lb_error err;
    lb_schedule s;
    assert_int_equal(lb_schedule_parse("linear", "linear", &s, &err), LB_EINVAL);
    assert_string_equal(err.msg, "schedule linear is not known; there are constant, cosine, wsd");
    assert_int_equal(lb_schedule_parse("wsd", "cubic", &s, &err), LB_EINVAL);
    assert_string_equal(err.msg, "decay cubic is not known; there are linear, sqrt");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rates_are_those_of_the_formulas),
        cmocka_unit_test(longer_runs_begin_alike),
        cmocka_unit_test(short_runs_work),
        cmocka_unit_test(names_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
