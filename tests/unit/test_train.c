/* SPDX-License-Identifier: MIT
 * lb_train as a whole on a tiny model: the golden loss curve, the same bits however it is run (threads, interruptions,
 * longer runs, branches), checkpoints that open, and what is refused. */
#define _GNU_SOURCE
#include "scratch.h"

#include "base/alloc.h"
#include "base/rng.h"
#include "base/text.h"
#include "base/thread.h"
#include "lowbit/eval.h"
#include "lowbit/train.h"

enum { STEPS = 24, BATCH = 64, ROWS = 64 };

typedef struct work {
    char *folder, text[SCRATCH_PATH_BYTES], valid[SCRATCH_PATH_BYTES], run[SCRATCH_PATH_BYTES],
        data[SCRATCH_PATH_BYTES];
    const char *texts[1];
    lb_train_options o;
    double losses[ROWS], valid_losses[ROWS];
    size_t rows;
    size_t stop_at; /* asks to stop at the so-manieth question; 0: never */
    size_t asked;
} work;

static void on_row(void *user, const lb_train_row *row)
{
    work *w = user;
    assert_true(w->rows < ROWS);
    w->losses[w->rows] = row->loss;
    w->valid_losses[w->rows++] = row->valid_loss;
}

static int on_progress(void *user, const char *stage, size_t done, size_t total)
{
    work *w = user;
    (void)done;
    (void)total;
    return strcmp(stage, "training") == 0 && ++w->asked == w->stop_at;
}

/* Sentences that a small model can learn something of. */
static void write_text(const char *path, uint64_t seed, size_t sentences, size_t of_a_document)
{
    static const char *const who[] = {"The cat", "A dog", "My aunt", "The captain"};
    static const char *const does[] = {" saw", " ate", " wanted", " painted"};
    static const char *const what[] = {" the moon", " a fish", " two hats", " nothing at all"};
    lb_text text = {0};
    lb_rng rng;
    lb_rng_seed(&rng, seed);
    for (size_t i = 0; i < sentences; i++) {
        lb_text_add_string(&text, who[lb_rng_below(&rng, 4)]);
        lb_text_add_string(&text, does[lb_rng_below(&rng, 4)]);
        lb_text_add_string(&text, what[lb_rng_below(&rng, 4)]);
        lb_text_add_string(&text, (i + 1) % of_a_document == 0 ? ".\n<|endoftext|>" : ".\n");
    }
    scratch_write(path, text.data, text.length);
    lb_text_free(&text);
}

static void open_work(work *w)
{
    *w = (work){.folder = scratch_make("lb_train")};
    snprintf(w->text, sizeof w->text, "%.400s/text", w->folder);
    snprintf(w->valid, sizeof w->valid, "%.400s/valid", w->folder);
    snprintf(w->run, sizeof w->run, "%.400s/run", w->folder);
    snprintf(w->data, sizeof w->data, "%.400s/data", w->folder);
    write_text(w->text, 1, 400, 9);
    write_text(w->valid, 2, 60, 1000);
    w->texts[0] = w->text;
    lb_train_options_init(&w->o);
    w->o.output = w->run;
    w->o.data = w->data;
    w->o.texts = w->texts;
    w->o.text_count = 1;
    w->o.valid = w->valid;
    w->o.hidden = 32;
    w->o.layers = 2;
    w->o.heads = 2;
    w->o.kv_heads = 1;
    w->o.ffn = 48;
    w->o.vocab = 290;
    w->o.length = 16;
    w->o.batch_tokens = BATCH;
    w->o.micro_tokens = 32;
    w->o.tokens = STEPS * BATCH;
    w->o.lr = 0.02;
    w->o.warmup = 4;
    w->o.save_every = 8;
    w->o.log_every = 4;
    w->o.progress = (lb_progress){on_progress, w};
    w->o.on_row = on_row;
    w->o.on_row_user = w;
}

static void close_work(work *w)
{
    scratch_remove(w->folder);
    free(w->folder);
}

static void train(work *w, lb_status want)
{
    lb_error err = {0};
    w->rows = w->asked = 0;
    const lb_status st = lb_train(&w->o, NULL, &err);
    if (st != want)
        fail_msg("status %d, wanted %d: %s", (int)st, (int)want, err.msg);
}

static void in_run(const work *w, const char *name, char out[SCRATCH_PATH_BYTES])
{
    snprintf(out, SCRATCH_PATH_BYTES, "%.400s/%s", w->run, name);
}

/* A file of one run has the bytes of that of another. */
static void same_file(const work *a, const work *b, const char *name)
{
    char path[2][SCRATCH_PATH_BYTES];
    size_t size[2];
    in_run(a, name, path[0]);
    in_run(b, name, path[1]);
    char *x = scratch_read(path[0], &size[0]), *y = scratch_read(path[1], &size[1]);
    if (!x || !y || size[0] != size[1] || memcmp(x, y, size[0]) != 0)
        fail_msg("%s differs between two runs", name);
    free(x);
    free(y);
}

static void same_run(const work *a, const work *b)
{
    static const char *const names[] = {"step-00000008/model.safetensors", "step-00000016/model.safetensors",
                                        "step-00000024/model.safetensors", "step-00000024/training-state.bin",
                                        "step-00000024/tokenizer.json",    "step-00000024/config.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        same_file(a, b, names[i]);
}

/* Mean losses of four steps each, of this code on 2026-11-21; they move by rounding alone where BLAS differs. */
static void losses_are_the_golden_ones(void **state)
{
    (void)state;
    static const double golden[] = {5.236445, 3.749930, 3.340864, 2.696332, 2.325907, 2.003930};
    work w;
    open_work(&w);
    train(&w, LB_OK);
    assert_int_equal(w.rows, STEPS / 4);
    near_array(w.losses, golden, STEPS / 4, 2e-4);
    assert_true(isnan(w.valid_losses[0]) && !isnan(w.valid_losses[1]));
    assert_true(w.valid_losses[5] < w.valid_losses[1] - 0.5);
    close_work(&w);
}

static void threads_change_no_bit(void **state)
{
    (void)state;
    work one, more;
    open_work(&one);
    open_work(&more);
    lb_thread_set_count(1);
    train(&one, LB_OK);
    lb_thread_set_count(3);
    train(&more, LB_OK);
    lb_thread_set_count(0);
    same_run(&one, &more);
    close_work(&one);
    close_work(&more);
}

/* Stopped at every kind of moment (2 micro-batches and 1 question after each step), again and again. */
static void interrupted_runs_go_on_bit_for_bit(void **state)
{
    (void)state;
    work whole, broken;
    char path[SCRATCH_PATH_BYTES];
    open_work(&whole);
    open_work(&broken);
    train(&whole, LB_OK);
    broken.stop_at = 7; /* inside the third step */
    train(&broken, LB_ECANCELED);
    in_run(&broken, "interrupted/training-state.bin", path);
    assert_true(scratch_exists(path));
    broken.o = (lb_train_options){0};
    lb_train_options_init(&broken.o); /* nothing but where: the rest is the run's own */
    broken.o.output = broken.run;
    broken.o.resume = true;
    broken.o.progress = (lb_progress){on_progress, &broken};
    static const size_t stops[] = {3, 1, 10, 12, 14, 0};
    for (size_t i = 0; i < sizeof stops / sizeof *stops; i++) {
        broken.stop_at = stops[i];
        train(&broken, stops[i] ? LB_ECANCELED : LB_OK);
    }
    same_run(&whole, &broken);
    in_run(&broken, "interrupted", path);
    assert_false(scratch_exists(path)); /* of no use any more */
    in_run(&broken, "step-00000016/training-state.bin", path);
    assert_false(scratch_exists(path)); /* only the last is kept */
    train(&broken, LB_OK); /* finished already: nothing happens */
    same_run(&whole, &broken);
    close_work(&whole);
    close_work(&broken);
}

/* A short run that is made longer before its decay began is the long run. */
static void runs_can_be_made_longer(void **state)
{
    (void)state;
    work whole, grown;
    lb_error err;
    open_work(&whole);
    open_work(&grown);
    whole.o.decay = grown.o.decay = 0.25;
    train(&whole, LB_OK);
    grown.o.schedule = "constant";
    grown.o.tokens = 16 * BATCH;
    train(&grown, LB_OK);
    lb_train_options_init(&grown.o);
    grown.o.output = grown.run;
    grown.o.resume = true;
    grown.o.schedule = "wsd";
    grown.o.tokens = STEPS * BATCH;
    train(&grown, LB_OK);
    same_run(&whole, &grown);
    grown.o.tokens = 2 * STEPS * BATCH; /* the decay has been: too late */
    assert_int_equal(lb_train(&grown.o, NULL, &err), LB_EINVAL);
    assert_non_null(strstr(err.msg, "another learning rate"));
    close_work(&whole);
    close_work(&grown);
}

static void branches_begin_where_they_are_told(void **state)
{
    (void)state;
    work trunk, branch;
    char from[SCRATCH_PATH_BYTES];
    lb_error err;
    open_work(&trunk);
    open_work(&branch);
    trunk.o.keep_states = true;
    trunk.o.decay = 0.0;
    trunk.o.lr = 2e-3;
    train(&trunk, LB_OK);
    in_run(&trunk, "step-00000008", from);
    lb_train_options_init(&branch.o); /* all else is as in the trunk */
    branch.o.output = branch.run;
    branch.o.from = from;
    train(&branch, LB_OK);
    same_file(&trunk, &branch, "step-00000016/model.safetensors");
    same_file(&trunk, &branch, "step-00000024/training-state.bin");
    /* Stopped before its first checkpoint, a branch still begins there. */
    char path[SCRATCH_PATH_BYTES];
    in_run(&branch, "run.json", path);
    assert_true(scratch_exists(path));
    for (size_t i = 0; i < 2; i++) {
        in_run(&branch, i ? "step-00000024" : "step-00000016", path);
        scratch_remove(path);
    }
    lb_train_options_init(&branch.o);
    branch.o.output = branch.run;
    branch.o.resume = true;
    train(&branch, LB_OK);
    same_file(&trunk, &branch, "step-00000024/training-state.bin");
    close_work(&branch);
    /* A branch that has nothing to do says so. */
    in_run(&trunk, "step-00000024", from);
    open_work(&branch);
    lb_train_options_init(&branch.o);
    branch.o.output = branch.run;
    branch.o.from = from;
    assert_int_equal(lb_train(&branch.o, NULL, &err), LB_EINVAL);
    assert_non_null(strstr(err.msg, "nothing is left to train"));
    close_work(&trunk);
    close_work(&branch);
}

/* A checkpoint in f32 scores on the held-out text what training said of it. */
static void checkpoints_open_and_score(void **state)
{
    (void)state;
    work w;
    char model[SCRATCH_PATH_BYTES];
    lb_error err;
    lb_eval_options e;
    lb_eval_result r;
    open_work(&w);
    w.o.dtype = "f32";
    train(&w, LB_OK);
    in_run(&w, "step-00000024", model);
    lb_eval_options_init(&e);
    e.model = model;
    e.text = w.valid;
    e.ctx = 16;
    if (lb_evaluate(&e, &r, &err) != LB_OK)
        fail_msg("%s", err.msg);
    /* Evaluation scores 15 of 16 positions of a window, training all. */
    assert_true(fabs(r.model.nll_mean - w.valid_losses[w.rows - 1]) < 0.1);
    close_work(&w);
}

static void refused(work *w, const char *part)
{
    lb_error err = {0};
    assert_int_not_equal(lb_train(&w->o, NULL, &err), LB_OK);
    if (!strstr(err.msg, part))
        fail_msg("\"%s\" does not say \"%s\"", err.msg, part);
}

static void nonsense_is_refused(void **state)
{
    (void)state;
    work w;
    open_work(&w);
    const lb_train_options good = w.o;
    w.o.tokens = 0;
    refused(&w, "how many tokens");
    w.o = good;
    w.o.batch_tokens = 60;
    refused(&w, "no whole number of sequences of 16");
    w.o = good;
    w.o.schedule = "step";
    refused(&w, "schedule step is not known");
    w.o = good;
    w.o.heads = 3;
    w.o.kv_heads = 2;
    refused(&w, "3 attention heads cannot share");
    w.o = good;
    w.o.dtype = "f16";
    refused(&w, "bf16 and f32");
    w.o = good;
    w.o.text_count = 0;
    refused(&w, "no text is given");
    w.o = good;
    w.o.vocab = 200;
    refused(&w, "needs at least the bytes");
    w.o = good;
    w.o.hidden = 1 << 14;
    w.o.heads = 32;
    w.o.ffn = 1 << 19;
    w.o.layers = 1000;
    refused(&w, "MB can be had");
    w.o = good;
    w.o.resume = true;
    refused(&w, "there is no run.json");
    w.o = good;
    w.o.lr = 1e3;
    w.o.clip = 0;
    w.o.init_std = 10;
    train(&w, LB_EINVAL); /* the loss is not finite, or not for long */
    close_work(&w);
}

/* Memory that runs out anywhere is an answer, and what is left of the run does not keep the next one from starting. */
static void memory_may_run_out(void **state)
{
    (void)state;
    work w;
    lb_error err;
    lb_status st = LB_ENOMEM;
    char path[SCRATCH_PATH_BYTES];
    open_work(&w);
    w.o.tokens = 2 * BATCH;
    lb_thread_set_count(1);
    for (size_t k = 1; st != LB_OK; k += 1 + k / 12) {
        in_run(&w, "run.json", path);
        if (scratch_exists(path)) /* it failed after the run had begun: begin again */
            scratch_remove(w.run);
        lb_alloc_fail_at(k);
        st = lb_train(&w.o, NULL, &err);
        lb_alloc_fail_at(0);
        if (st != LB_OK && st != LB_ENOMEM)
            fail_msg("allocation %zu: %s", k, err.msg);
    }
    lb_thread_set_count(0);
    close_work(&w);
}

static void damaged_runs_are_refused(void **state)
{
    (void)state;
    work w;
    char path[SCRATCH_PATH_BYTES];
    size_t size;
    open_work(&w);
    train(&w, LB_OK);
    refused(&w, "is a run already");
    w.o.resume = true;
    w.o.beta1 = 0.5;
    refused(&w, "with another beta1");
    w.o.beta1 = -1;
    w.o.hidden = 64;
    refused(&w, "with another model");
    w.o.hidden = 32;
    in_run(&w, "step-00000024/training-state.bin", path);
    char *bytes = scratch_read(path, &size);
    for (size_t at = 0; at < size; at += at < 96 ? 5 : size / 5) {
        bytes[at] = (char)(bytes[at] ^ 0x40);
        scratch_write(path, bytes, size);
        train(&w, LB_EFORMAT);
        bytes[at] = (char)(bytes[at] ^ 0x40);
    }
    scratch_write(path, bytes, size - 4);
    refused(&w, "which is not what");
    scratch_write(path, "nothing", 7);
    refused(&w, "is not a training state");
    free(bytes);
    write_text(w.text, 3, 20, 9);
    refused(&w, "was made of other texts");
    w.o.text_count = 0;
    w.o.valid = w.text;
    refused(&w, "was made of other texts");
    w.o.valid = NULL;
    snprintf(path, sizeof path, "%.400s/train-00000.tokens", w.data);
    bytes = scratch_read(path, &size);
    scratch_write(path, bytes, size - 2);
    refused(&w, "corpus.json says");
    scratch_write(path, bytes, size - 1);
    refused(&w, "ends inside an id");
    bytes[12] = 3;
    scratch_write(path, bytes, size);
    refused(&w, "ids of 3 bytes");
    free(bytes);
    close_work(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(losses_are_the_golden_ones),
        cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(interrupted_runs_go_on_bit_for_bit),
        cmocka_unit_test(runs_can_be_made_longer),
        cmocka_unit_test(branches_begin_where_they_are_told),
        cmocka_unit_test(checkpoints_open_and_score),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(memory_may_run_out),
        cmocka_unit_test(damaged_runs_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
