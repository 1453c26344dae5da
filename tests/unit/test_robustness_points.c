/* SPDX-License-Identifier: MIT
 * Which checkpoints of runs are measured, and of which averages of them all parts are there. */
#define _GNU_SOURCE
#include "near_value.h"
#include "scratch.h"

#include "cli/robustness_points.h"

static const char settings[] =
    "{\"settings\": {\"tokens\": 10240, \"batch_tokens\": 256, \"length\": 32, \"warmup\": 10,"
    " \"schedule\": \"wsd\", \"decay\": 0.25, \"lr\": 0.01%s%s%s}}\n";

static void put(const char *folder, const char *name, const char *text)
{
    char path[SCRATCH_PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    scratch_write(path, text, strlen(text));
}

/* A run of 40 steps, warm-up 10, decay 10, with a checkpoint every 5; `from` may be NULL. */
static char *make_run(const char *root, const char *name, unsigned first, const char *from)
{
    char path[SCRATCH_PATH_BYTES], text[2048];
    snprintf(path, sizeof path, "%s/%s", root, name);
    char *run = strdup(path);
    assert_int_equal(mkdir(run, 0777), 0);
    snprintf(text, sizeof text, settings, from ? ", \"from\": \"" : "", from ? from : "", from ? "\"" : "");
    put(run, "run.json", text);
    put(run, "log.csv",
        "step,tokens,learning_rate,loss,grad_norm,weight_norm,valid_loss,tokens_per_second,seconds\n"
        "4,1024,0.004,5.5,1,10,,100,1\n8,2048,0.008,4.5,1,11,4.75,100,2\n");
    for (unsigned step = first; step <= 40; step += 5) {
        snprintf(path, sizeof path, "%s/step-%08u", run, step);
        assert_int_equal(mkdir(path, 0777), 0);
        put(path, "config.json", "{}");
    }
    return run;
}

static size_t list(const char *const *models, size_t count, uint64_t every, const char *average,
                   lb_robust_points *p)
{
    lb_average_named a;
    lb_error err;
    if (average && lb_average_parse(average, &a, &err) != LB_OK)
        fail_msg("%s", err.msg);
    if (lb_robust_points_list(models, count, every, &a, average != NULL, p, &err) != LB_OK)
        fail_msg("%s", err.msg);
    return p->count;
}

static void checkpoints_with_their_rates_and_losses(void **state)
{
    (void)state;
    char *root = scratch_make("points"), *run = make_run(root, "run", 5, NULL);
    const char *models[] = {run};
    lb_robust_points p;
    assert_int_equal(list(models, 1, 0, NULL, &p), 8);
    for (size_t i = 0; i < 8; i++) {
        const double step = 5.0 * (double)(i + 1);
        assert_int_equal(p.points[i].step, 5 * (i + 1));
        assert_int_equal(p.points[i].tokens, 5 * (i + 1) * 256);
        /* up over 10 steps, down over the last 10: at step 30 + k the rate is peak (1 - k / 11) */
        near_value(p.points[i].rate,
                   step < 10    ? 0.01 * step / 10
                   : step <= 30 ? 0.01
                                : 0.01 * (1 - (step - 30) / 11),
                   1e-15);
        near_value(p.points[i].train_loss, step < 8 ? 5.5 : 4.5, 1e-12);
    }
    assert_string_equal(p.runs[0].name, "run");
    lb_robust_points_free(&p);
    assert_int_equal(list(models, 1, 15, NULL, &p), 3); /* 15, 30, and the last */
    assert_int_equal(p.points[0].step, 15);
    assert_int_equal(p.points[2].step, 40);
    lb_robust_points_free(&p);
    scratch_remove(root);
    free(run);
    free(root);
}

static void averages_only_where_they_are_whole(void **state)
{
    (void)state;
    static const struct {
        const char *average;
        uint64_t every;
        size_t first, count; /* the first step with an average, and how many have one */
    } cases[] = {{"latest:3", 0, 15, 6}, {"latest:3:10", 0, 25, 4}, {"latest:2:7", 0, 0, 0},
                 {"ema:0.9", 0, 10, 7},  {"latest:4", 10, 20, 3},   {"latest:9", 0, 0, 0}};
    char *root = scratch_make("points"), *run = make_run(root, "run", 5, NULL);
    const char *models[] = {run};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        lb_robust_points p;
        const size_t plain = cases[c].every ? 4 : 8,
                     n = list(models, 1, cases[c].every, cases[c].average, &p);
        assert_int_equal(n, plain + cases[c].count);
        for (size_t i = 0; i < n; i++)
            assert_true((p.points[i].average != NULL) == (i >= plain));
        if (cases[c].count > 0) {
            assert_string_equal(p.points[plain].average, cases[c].average);
            assert_int_equal(p.points[plain].step, cases[c].first);
        }
        lb_robust_points_free(&p);
    }
    scratch_remove(root);
    free(run);
    free(root);
}

static void branches_know_their_trunk(void **state)
{
    (void)state;
    char from[SCRATCH_PATH_BYTES], inner[SCRATCH_PATH_BYTES];
    char *root = scratch_make("points"), *trunk = make_run(root, "trunk", 5, NULL);
    snprintf(from, sizeof from, "%s/step-00000020/", trunk);
    char *branch = make_run(root, "branch", 25, from);
    snprintf(inner, sizeof inner, "%s/other", root);
    assert_int_equal(mkdir(inner, 0777), 0);
    char *namesake = make_run(inner, "trunk", 5, NULL);
    const char *models[] = {branch, trunk, namesake, inner};
    lb_robust_points p;
    assert_int_equal(list(models, 4, 0, NULL, &p), 4 + 8 + 8 + 1);
    assert_int_equal(p.runs[0].parent, 1);
    assert_int_equal(p.runs[0].parent_step, 20);
    assert_true(p.runs[1].parent == SIZE_MAX);
    assert_string_equal(p.runs[2].name, namesake); /* of two trunks the second goes by its path */
    assert_false(p.runs[3].is_run); /* a model that stands alone */
    assert_int_equal(p.points[20].step, 0);
    assert_true(isnan(p.points[20].rate));
    lb_robust_points_free(&p);
    lb_error err;
    const char *twice[] = {trunk, trunk};
    assert_int_equal(lb_robust_points_list(twice, 2, 0, NULL, 0, &p, &err), LB_EINVAL);
    lb_robust_points_free(&p);
    scratch_remove(root);
    free(trunk);
    free(branch);
    free(namesake);
    free(root);
}

static void averages_are_named(void **state)
{
    (void)state;
    static const char *const bad[] = {"",          "latest",     "latest:",     "latest:0", "latest:-2",
                                      "latest:3:", "latest:3:0", "latest:3:5x", "latest:x", "ema:1",
                                      "ema:",      "ema:-0.1",   "ema:nan",     "mean:3"};
    lb_average_named a;
    lb_error err;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (lb_average_parse(bad[i], &a, &err) == LB_OK)
            fail_msg("\"%s\" was taken", bad[i]);
    assert_int_equal(lb_average_parse("latest:7:30", &a, &err), LB_OK);
    assert_true(a.latest == 7 && a.spacing == 30 && a.keep < 0);
    assert_int_equal(lb_average_parse("ema:0.5", &a, &err), LB_OK);
    assert_true(a.keep == 0.5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(checkpoints_with_their_rates_and_losses),
                                       cmocka_unit_test(averages_only_where_they_are_whole),
                                       cmocka_unit_test(branches_know_their_trunk),
                                       cmocka_unit_test(averages_are_named)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
