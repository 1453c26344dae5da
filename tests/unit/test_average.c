/* SPDX-License-Identifier: MIT
 * Means of checkpoints against sums written out: uniform, weighted, moving; what stands for what; what is refused. */
#define _GNU_SOURCE
#include "scratch.h"

#include "io/safetensors.h"
#include "lowbit/train.h"
#include "tiny_model.h"

enum { MODELS = 4 };

typedef struct work {
    char *folder;
    char paths[MODELS][SCRATCH_PATH_BYTES], run[SCRATCH_PATH_BYTES], out[SCRATCH_PATH_BYTES];
    const char *names[MODELS];
    tiny_model *made[MODELS];
    lb_average_options o;
} work;

/* Models of different weights; a run's folder that holds the first three at steps 10, 20, 30. */
static void open_work(work *w)
{
    *w = (work){.folder = scratch_make("lb_average")};
    snprintf(w->run, sizeof w->run, "%.300s/run", w->folder);
    snprintf(w->out, sizeof w->out, "%.300s/out", w->folder);
    assert_int_equal(mkdir(w->run, 0777), 0);
    char record[SCRATCH_PATH_BYTES];
    snprintf(record, sizeof record, "%.400s/run.json", w->run);
    scratch_write(record, "{}", 2);
    for (size_t i = 0; i < MODELS; i++) {
        const tiny_model_options options = {.seed = i + 1, .tokenizer = TINY_BYTES};
        if (i < 3)
            snprintf(w->paths[i], sizeof w->paths[i], "%.400s/step-000000%zu0", w->run, i + 1);
        else
            snprintf(w->paths[i], sizeof w->paths[i], "%.400s/other", w->folder);
        assert_int_equal(mkdir(w->paths[i], 0777), 0);
        w->made[i] = tiny_model_make(&options);
        assert_non_null(w->made[i]);
        assert_int_equal(tiny_model_save(w->paths[i], w->made[i]), 0);
        w->names[i] = w->paths[i];
    }
    lb_average_options_init(&w->o);
    w->o.models = w->names;
    w->o.model_count = MODELS;
    w->o.output = w->out;
    w->o.dtype = "f32";
}

static void close_work(work *w)
{
    for (size_t i = 0; i < MODELS; i++)
        tiny_model_free(w->made[i]);
    scratch_remove(w->folder);
    free(w->folder);
}

/* The output is sum shares[i] * model i, in float32 to half a unit of the last place and a little. */
static void check(work *w, size_t count, const double shares[MODELS])
{
    lb_error err;
    size_t got_count = 0;
    lb_tensor_set set;
    char path[SCRATCH_PATH_BYTES];
    const char *const paths[] = {path};
    scratch_remove(w->out);
    if (lb_average(&w->o, &got_count, &err) != LB_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(got_count, count);
    snprintf(path, sizeof path, "%.400s/model.safetensors", w->out);
    assert_int_equal(lb_safetensors_open(paths, 1, &set, &err), LB_OK);
    assert_int_equal(set.count, w->made[0]->count);
    for (size_t i = 0; i < set.count; i++) {
        const tiny_tensor *t = &w->made[0]->tensors[i];
        const size_t n = (t->rows ? t->rows : 1) * t->cols;
        const lb_tensor *got = lb_tensor_find(&set, t->name);
        assert_non_null(got);
        assert_int_equal(got->dtype, LB_DTYPE_F32);
        for (size_t k = 0; k < n; k++) {
            double want = 0.0, size = 0.0;
            float value;
            for (size_t m = 0; m < MODELS; m++) {
                want += shares[m] * (double)w->made[m]->tensors[i].values[k];
                size += fabs(shares[m] * (double)w->made[m]->tensors[i].values[k]);
            }
            memcpy(&value, got->data + k * sizeof value, sizeof value);
            assert_true(fabs((double)value - want) <= U24 * fabs(want) + 1e-14 * size);
        }
    }
    lb_tensor_set_free(&set);
    snprintf(path, sizeof path, "%.400s/tokenizer.json", w->out);
    assert_true(scratch_exists(path));
    snprintf(path, sizeof path, "%.400s/config.json", w->out);
    assert_true(scratch_exists(path));
}

static void means_are_sums_of_shares(void **state)
{
    (void)state;
    work w;
    open_work(&w);
    check(&w, 4, (double[]){0.25, 0.25, 0.25, 0.25});
    const double shares[] = {1, 0, 2, 5};
    w.o.shares = shares;
    w.o.share_count = 4;
    check(&w, 4, (double[]){0.125, 0, 0.25, 0.625});
    w.o.shares = NULL;
    w.o.share_count = 0;
    w.o.latest = 3;
    check(&w, 3, (double[]){0, 1 / 3.0, 1 / 3.0, 1 / 3.0});
    w.o.kind = LB_AVERAGE_EMA;
    w.o.decay = 0.5;
    w.o.latest = 0;
    check(&w, 4, (double[]){0.125, 0.125, 0.25, 0.5});
    w.o.decay = 0.9;
    check(&w, 4, (double[]){0.729, 0.081, 0.09, 0.1});
    close_work(&w);
}

static void runs_stand_for_their_checkpoints(void **state)
{
    (void)state;
    work w;
    open_work(&w);
    const char *both[] = {w.run, w.paths[3]}, *alone[] = {w.run};
    w.o.models = both;
    w.o.model_count = 2;
    check(&w, 4, (double[]){0.25, 0.25, 0.25, 0.25});
    w.o.models = alone;
    w.o.model_count = 1;
    w.o.until = 29;
    check(&w, 2, (double[]){0.5, 0.5, 0, 0});
    w.o.until = 0;
    w.o.spacing = 20;
    check(&w, 2, (double[]){0.5, 0, 0.5, 0});
    w.o.latest = 1;
    check(&w, 1, (double[]){0, 0, 1, 0});
    close_work(&w);
}

static void refused(work *w, const char *part)
{
    lb_error err = {0};
    assert_int_not_equal(lb_average(&w->o, NULL, &err), LB_OK);
    if (!strstr(err.msg, part))
        fail_msg("\"%s\" does not say \"%s\"", err.msg, part);
    assert_false(scratch_exists(w->out));
}

static void what_makes_no_mean_is_refused(void **state)
{
    (void)state;
    work w;
    char other[SCRATCH_PATH_BYTES];
    open_work(&w);
    const tiny_model_options wider = {.seed = 1, .ffn = 80};
    tiny_model *made = tiny_model_make(&wider);
    const double shares[] = {1, -1, 2, -2};
    snprintf(other, sizeof other, "%.300s/wider", w.folder);
    assert_int_equal(mkdir(other, 0777), 0);
    assert_non_null(made);
    assert_int_equal(tiny_model_save(other, made), 0);
    tiny_model_free(made);
    const lb_average_options good = w.o;
    w.o.shares = shares;
    w.o.share_count = 4;
    refused(&w, "sum is 0");
    w.o.share_count = 3;
    refused(&w, "3 weights for 4 checkpoints");
    w.o = good;
    w.o.kind = LB_AVERAGE_EMA;
    w.o.decay = 1.0;
    refused(&w, "EMA");
    w.o = good;
    w.o.latest = 5;
    refused(&w, "the latest 5 of 4");
    w.o = good;
    w.o.model_count = 0;
    refused(&w, "of no checkpoint");
    w.o = good;
    w.names[1] = other;
    refused(&w, "the models differ");
    w.names[1] = "/nowhere";
    refused(&w, "/nowhere");
    close_work(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(means_are_sums_of_shares),
        cmocka_unit_test(runs_stand_for_their_checkpoints),
        cmocka_unit_test(what_makes_no_mean_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
