/* SPDX-License-Identifier: MIT
 * The folder that is being made: interrupted anywhere it can be resumed to the same bytes, whatever goes
 * wrong nothing has the final name, and a folder of somebody else's is left alone. */
#define _GNU_SOURCE
#include "quantize_case.h"

#include <signal.h>
#include <sys/resource.h>

#include "base/alloc.h"
#include "base/file.h"
#include "base/thread.h"

static const tiny_model_options three_blocks = {
    .seed = 21, .hidden = 48, .ffn = 40, .layers = 3, .heads = 2, .kv_heads = 1, .tokenizer = TINY_BYTES};
static const tiny_model_options one_block = {
    .seed = 22, .hidden = 32, .ffn = 24, .layers = 1, .heads = 2, .kv_heads = 1, .tokenizer = TINY_BYTES};

static lb_quantize_options case_options(const char *output)
{
    lb_quantize_options o = small_options(tiny_in_work("three", &three_blocks), output);
    o.iters = 2;
    o.batch = 2;
    return o;
}

/* The unbroken runs that everything is compared with, one for each method, and their reports. */
static const char *const methods[] = {"gptq", "rtn", "signround"};
enum { METHODS = sizeof methods / sizeof *methods };
static lb_quantize_result reports[METHODS];

static lb_quantize_result *report_of(const char *method)
{
    size_t i = 0;
    while (strcmp(method, methods[i]) != 0)
        i++;
    return &reports[i];
}

static const char *unbroken(const char *method)
{
    const char *output = in_work(method);
    if (!scratch_exists(output)) {
        lb_quantize_options o = case_options(output);
        o.method = method;
        must_quantize(&o, report_of(method));
    }
    return output;
}

static int drop_reports(void **state)
{
    for (size_t i = 0; i < METHODS; i++)
        lb_quantize_result_free(&reports[i]);
    return drop_work(state);
}

/* What was measured before the interruption is told after it. */
static void same_report(const lb_quantize_result *got, const lb_quantize_result *want)
{
    assert_int_equal(got->layer_count, want->layer_count);
    assert_int_equal(got->block_count, want->block_count);
    for (size_t i = 0; i < want->layer_count; i++) {
        assert_string_equal(got->layers[i].name, want->layers[i].name);
        assert_true(want->layers[i].relative_error > 0);
        assert_true(got->layers[i].relative_error == want->layers[i].relative_error);
    }
    same_array(got->block_errors, want->block_errors, want->block_count);
    assert_int_equal(got->file_bytes, want->file_bytes);
}

static void resume_to_the_same_bytes(lb_quantize_options o, size_t finished)
{
    lb_quantize_result result;
    o.progress = (lb_progress){0};
    o.resume = true;
    must_quantize(&o, &result);
    assert_int_equal(result.resumed_blocks, finished);
    scratch_same(o.output, unbroken(o.method));
    same_report(&result, report_of(o.method));
    lb_quantize_result_free(&result);
    scratch_remove(o.output);
}

/* Stops at the n-th question; counts how often it was asked, and the blocks that were done by then. */
typedef struct stopper {
    size_t stop_at, asked, blocks_done;
} stopper;

static int stop_sometime(void *user, const char *stage, size_t done, size_t total)
{
    stopper *s = user;
    (void)stage;
    if (total > 0)
        s->blocks_done = done;
    return ++s->asked == s->stop_at;
}

/* Stops at the first question after `stop_at` blocks are done. */
static int stop_after_blocks(void *user, const char *stage, size_t done, size_t total)
{
    stopper *s = user;
    (void)stage;
    if (total > 0)
        s->blocks_done = done;
    return s->blocks_done >= s->stop_at;
}

static void every_interruption_can_be_resumed(void **state)
{
    (void)state;
    const char *output = in_work("stopped"), *partial = in_work("stopped.partial");
    for (size_t i = 0; i < METHODS; i++) {
        lb_quantize_options o = case_options(output);
        o.method = methods[i];
        for (size_t n = 1;; n++) {
            stopper s = {.stop_at = n};
            lb_quantize_result result;
            lb_error err;
            o.progress = (lb_progress){stop_sometime, &s};
            if (lb_quantize(&o, &result, &err) == LB_OK) {
                assert_true(s.asked < n); /* it was never stopped: all interruptions were tried */
                lb_quantize_result_free(&result);
                scratch_remove(output);
                break;
            }
            assert_int_equal(err.status, LB_ECANCELED);
            assert_false(scratch_exists(output));
            assert_true(scratch_exists(partial) == (s.blocks_done > 0));
            resume_to_the_same_bytes(o, s.blocks_done);
        }
    }
}

/* Factors of channels are found again, not stored: those of a block that was finished too. */
static void rescaled_runs_can_be_resumed(void **state)
{
    (void)state;
    static const char *const transforms[] = {"smooth", "smooth+hadamard", "awq+hadamard", "awq"};
    for (size_t i = 0; i < sizeof transforms / sizeof *transforms; i++) {
        const char *whole = in_work("rescaled"), *output = in_work("rescaled_stopped");
        lb_quantize_options o = case_options(whole);
        lb_quantize_result want, got;
        lb_error err;
        o.transform = transforms[i];
        o.act = i == 3 ? "sq8/4-b8-s0.75" : "int8-row";
        o.method = i == 0 ? "gptq" : i == 1 ? "signround" : "rtn";
        o.fit = i == 2 ? "range" : "search";
        must_quantize(&o, &want);
        o.output = output;
        for (size_t blocks = 1; blocks <= 2; blocks++) {
            stopper s = {.stop_at = blocks};
            o.progress = (lb_progress){stop_after_blocks, &s};
            assert_int_equal(lb_quantize(&o, &got, &err), LB_ECANCELED);
            o.resume = true;
        }
        o.progress = (lb_progress){0};
        must_quantize(&o, &got);
        assert_int_equal(got.resumed_blocks, 2);
        scratch_same(output, whole);
        same_report(&got, &want);
        lb_quantize_result_free(&got);
        lb_quantize_result_free(&want);
        scratch_remove(output);
        scratch_remove(whole);
    }
}

/* A run can be interrupted, resumed, and interrupted again. */
static void resumed_runs_can_be_interrupted(void **state)
{
    (void)state;
    lb_quantize_options o = case_options(in_work("again"));
    lb_quantize_result result;
    lb_error err;
    o.resume = true; /* with nothing to resume it simply begins */
    for (size_t blocks = 1; blocks <= 3; blocks++) {
        stopper s = {0};
        o.progress = (lb_progress){stop_sometime, &s};
        while (s.blocks_done < blocks) { /* a question later each time, until one more block is finished */
            const size_t next = s.asked + 1;
            s = (stopper){.stop_at = next};
            assert_int_equal(lb_quantize(&o, &result, &err), LB_ECANCELED);
        }
    }
    resume_to_the_same_bytes(o, 3);
}

/* Leaves an OUT.partial with one finished block. */
static void interrupt_after_one(lb_quantize_options o)
{
    for (size_t n = 1;; n++) {
        stopper s = {.stop_at = n};
        lb_quantize_result result;
        lb_error err;
        o.progress = (lb_progress){stop_sometime, &s};
        assert_int_equal(lb_quantize(&o, &result, &err), LB_ECANCELED);
        if (s.blocks_done == 1)
            return;
    }
}

static void what_a_killed_write_leaves_behind_is_overwritten(void **state)
{
    (void)state;
    static const char *const leftovers[] = {".model-00002-of-00004.safetensors.lowbit-a1b2c3",
                                            "lowbit-errors-00002.json",
                                            ".lowbit-errors-00002.json.lowbit-a1b2c3",
                                            "model-00004-of-00004.safetensors",
                                            "config.json",
                                            ".config.json.lowbit-a1b2c3",
                                            ".model.safetensors.index.json.lowbit-a1b2c3",
                                            ".tokenizer.json.lowbit-a1b2c3"};
    lb_quantize_options o = case_options(in_work("killed"));
    interrupt_after_one(o);
    for (size_t i = 0; i < sizeof leftovers / sizeof *leftovers; i++) {
        char path[SCRATCH_PATH_BYTES];
        snprintf(path, sizeof path, "%s/%s", in_work("killed.partial"), leftovers[i]);
        scratch_write(path, "{half", 5);
    }
    resume_to_the_same_bytes(o, 1);
}

static void another_run_is_not_resumed(void **state)
{
    (void)state;
    const tiny_model_options other_weights = {
        .seed = 99, .hidden = 48, .ffn = 40, .layers = 3, .heads = 2, .kv_heads = 1, .tokenizer = TINY_BYTES};
    static const char *const rule[] = {"lm_head=int8-g32"};
    const lb_quantize_options good = case_options(in_work("other"));
    interrupt_after_one(good);
    const size_t files = scratch_count(in_work("other.partial"));
    lb_quantize_options o = good;
    must_refuse(&o, LB_EEXIST, "other.partial exists: an unfinished run; add --resume");
    o.resume = true;
    o.format = "int4-g64";
    must_refuse(&o, LB_EINVAL, "it was made with another recipe (format)");
    o.format = good.format;
    o.method = "rtn";
    must_refuse(&o, LB_EINVAL, "made with another recipe (");
    o.method = good.method;
    o.fit = "range";
    must_refuse(&o, LB_EINVAL, "recipe (fit)");
    o.fit = good.fit;
    o.order = "act";
    must_refuse(&o, LB_EINVAL, "recipe (order)");
    o.order = good.order;
    o.damp = 0.02;
    must_refuse(&o, LB_EINVAL, "recipe (damp)");
    o.damp = good.damp;
    o.compensate = 0.25;
    must_refuse(&o, LB_EINVAL, "recipe (compensate)");
    o.compensate = good.compensate;
    o.seed = 7;
    must_refuse(&o, LB_EINVAL, "recipe (seed)");
    o.seed = good.seed;
    o.samples = 5;
    must_refuse(&o, LB_EINVAL, "recipe (samples)");
    o.samples = good.samples;
    o.layer_rules = rule;
    o.layer_rule_count = 1;
    must_refuse(&o, LB_EINVAL, "recipe (layer_rules)");
    o.layer_rule_count = 0;
    o.calibration = "examples/text/evaluation.txt";
    must_refuse(&o, LB_EINVAL, "another calibration text");
    o.calibration = NULL;
    o.model = tiny_in_work("other_weights", &other_weights);
    must_refuse(&o, LB_EINVAL, "another model");
    assert_int_equal(scratch_count(in_work("other.partial")), files);
    resume_to_the_same_bytes(good, 1);
}

static void a_damaged_partial_is_refused_and_kept(void **state)
{
    (void)state;
    lb_quantize_options o = case_options(in_work("damaged"));
    size_t size;
    interrupt_after_one(o);
    o.resume = true;
    const char *shard = in_work("damaged.partial/model-00001-of-00004.safetensors");
    char *bytes = scratch_read(shard, &size);
    scratch_write(shard, bytes, size - 1);
    must_refuse(&o, LB_EFORMAT, "model-00001-of-00004.safetensors: ");
    scratch_write(shard, bytes, size);
    free(bytes);
    const char *record = in_work("damaged.partial/lowbit-run.json");
    bytes = scratch_read(record, &size);
    scratch_write(record, bytes, size / 2);
    must_refuse(&o, LB_EFORMAT, "cannot resume");
    scratch_write(record, bytes, size);
    free(bytes);
    resume_to_the_same_bytes(o, 1);
}

/* When all is learned and committed, and only the end is missing. */
static int stop_at_the_end(void *user, const char *stage, size_t done, size_t total)
{
    (void)user;
    (void)stage;
    return total > 0 && done == total;
}

/* What was learned lies in files of its own until the end: of their params only what was learned counts, and nothing
 * that storage cannot hold. */
static void a_damaged_file_of_what_was_learned(void **state)
{
    (void)state;
    static const struct {
        size_t at; /* in the first layer's params: scale, zero, scale, ... */
        float value;
        lb_status wanted;
    } cases[] = {
        {0, NAN, LB_EFORMAT}, {2, 1e30f, LB_EFORMAT}, {1, NAN, LB_OK}, {3, -1e30f, LB_OK}, {0, 0.0f, LB_OK}};
    const char *whole = in_work("learned_whole"), *output = in_work("learned"),
               *file = in_work("learned.partial/lowbit-learned-00002.safetensors");
    lb_quantize_result result;
    lb_error err;
    lb_quantize_options o = case_options(whole);
    o.method = "rtn";
    o.format = "int3-g32-asym";
    o.polish_steps = 2;
    must_quantize(&o, &result);
    assert_true(result.kl_before_polish > 0.0 && result.kl_after_polish <= result.kl_before_polish);
    lb_quantize_result_free(&result);
    o.output = output;
    o.progress = (lb_progress){stop_at_the_end, NULL};
    assert_int_equal(lb_quantize(&o, &result, &err), LB_ECANCELED);
    o.progress = (lb_progress){0};
    o.resume = true;
    size_t size;
    uint64_t header;
    char *bytes = scratch_read(file, &size);
    assert_non_null(bytes);
    memcpy(&header, bytes, sizeof header);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *spoilt = malloc(size);
        assert_non_null(spoilt);
        memcpy(spoilt, bytes, size);
        memcpy(spoilt + sizeof header + header + 4 * cases[i].at, &cases[i].value, sizeof(float));
        scratch_write(file, spoilt, size);
        free(spoilt);
        if (cases[i].wanted == LB_OK) {
            o.progress = (lb_progress){stop_at_the_end, NULL};
            assert_int_equal(lb_quantize(&o, &result, &err), LB_ECANCELED);
            o.progress = (lb_progress){0};
        } else {
            must_refuse(&o, cases[i].wanted, "lowbit-learned-00002.safetensors: model.layers.1.self_attn.");
        }
    }
    scratch_write(file, bytes, size / 2);
    must_refuse(&o, LB_EFORMAT, "lowbit-learned-00002.safetensors");
    scratch_write(file, bytes, size);
    free(bytes);
    must_quantize(&o, &result);
    assert_true(isnan(result.kl_before_polish) && isnan(result.kl_after_polish));
    assert_int_equal(result.resumed_blocks, 3);
    lb_quantize_result_free(&result);
    scratch_same(whole, output);
}

static void a_folder_of_somebody_else_is_left_alone(void **state)
{
    (void)state;
    lb_quantize_options o = case_options(in_work("mine"));
    lb_quantize_result result;
    int lock;
    mkdir(in_work("mine.partial"), 0777);
    scratch_write(in_work("mine.partial/thesis.txt"), "years", 5);
    must_refuse(&o, LB_EEXIST, "mine.partial exists");
    o.resume = true;
    must_refuse(&o, LB_EIO, "cannot resume");
    assert_int_equal(scratch_count(in_work("mine.partial")), 1);
    scratch_remove(in_work("mine.partial/thesis.txt"));
    must_quantize(&o, &result); /* an empty one is what a kill at the very start leaves */
    lb_quantize_result_free(&result);
    scratch_same(in_work("mine"), unbroken("gptq"));
    /* Another process at work in it. */
    o.output = in_work("busy");
    interrupt_after_one(o);
    assert_int_equal(lb_lock_directory(in_work("busy.partial"), &lock, NULL), LB_OK);
    must_refuse(&o, LB_EEXIST, "in use by another lowbit process");
    lb_unlock_directory(lock);
    resume_to_the_same_bytes(o, 1);
    scratch_write(in_work("file.partial"), "x", 1);
    o.output = in_work("file");
    must_refuse(&o, LB_EIO, "file.partial");
}

/* ---- Outputs that cannot be ---------------------------------------------------------------------------- */

static void outputs_that_cannot_be_made_are_refused_at_once(void **state)
{
    (void)state;
    lb_quantize_options o = case_options(NULL);
    must_refuse(&o, LB_EINVAL, "no output was named");
    o.output = "";
    must_refuse(&o, LB_EINVAL, "no output was named");
    o.output = work_folder;
    must_refuse(&o, LB_EEXIST, "exists already; choose another name or delete it");
    scratch_write(in_work("plain"), "x", 1);
    o.output = in_work("plain");
    must_refuse(&o, LB_EEXIST, "exists already");
    o.output = in_work("plain/below");
    must_refuse(&o, LB_EIO, "there is no folder");
    o.output = in_work("no/such/parent");
    must_refuse(&o, LB_EIO, "there is no folder");
    assert_int_equal(symlink("nowhere", in_work("dangling")), 0);
    o.output = in_work("dangling");
    must_refuse(&o, LB_EEXIST, "exists already");
    o.dry_run = true;
    must_refuse(&o, LB_EEXIST, "exists already");
    o.dry_run = false;
    if (geteuid() != 0) { /* root may write anything */
        mkdir(in_work("locked"), 0555);
        o.output = in_work("locked/out");
        must_refuse(&o, LB_EIO, "is not writable");
    }
    lb_quantize_result result;
    char slashes[SCRATCH_PATH_BYTES];
    snprintf(slashes, sizeof slashes, "%s//", in_work("slashes"));
    o.output = slashes;
    must_quantize(&o, &result);
    lb_quantize_result_free(&result);
    scratch_same(in_work("slashes"), unbroken("gptq"));
}

static int make_output(void *user, const char *stage, size_t done, size_t total)
{
    (void)done;
    (void)total;
    if (strncmp(stage, "block", 5) == 0) /* the work has begun */
        mkdir(user, 0777);
    return 0;
}

static void an_output_that_appears_meanwhile_is_not_replaced(void **state)
{
    (void)state;
    const char *output = in_work("late");
    char path[SCRATCH_PATH_BYTES];
    lb_quantize_options o = case_options(output);
    lb_quantize_result result;
    lb_error err;
    snprintf(path, sizeof path, "%s", output);
    o.progress = (lb_progress){make_output, path};
    assert_int_equal(lb_quantize(&o, &result, &err), LB_EEXIST);
    assert_non_null(strstr(err.msg, "has appeared meanwhile; the result is in"));
    assert_int_equal(scratch_count(output), 0);
    scratch_remove(output);
    resume_to_the_same_bytes(o, 3);
}

/* A disk that fills up, here as a limit on the size of files, at every stage of the work. */
static void a_full_disk_loses_nothing(void **state)
{
    (void)state;
    struct rlimit old, limit;
    lb_quantize_options o = case_options(in_work("full"));
    void (*before)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    static const rlim_t limits[] = {0, 40, 100, 700, 5000, 30000};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        limit = old;
        limit.rlim_cur = limits[i];
        setrlimit(RLIMIT_FSIZE, &limit);
        lb_quantize_result result;
        lb_error err;
        lb_status st = lb_quantize(&o, &result, &err);
        setrlimit(RLIMIT_FSIZE, &old);
        assert_int_equal(st, LB_EIO);
        assert_non_null(strstr(err.msg, "File too large"));
        assert_false(scratch_exists(o.output));
        o.resume = false;
        if (scratch_exists(in_work("full.partial")))
            resume_to_the_same_bytes(
                o, scratch_exists(in_work("full.partial/model-00003-of-00004.safetensors")) ? 3 : 0);
    }
    signal(SIGXFSZ, before);
}

/* ---- Weights that are no numbers ----------------------------------------------------------------------- */

static void save_with(const char *folder, const tiny_model_options *options, const char *tensor, size_t at,
                      float value)
{
    tiny_model *m = tiny_model_make(options);
    bool found = false;
    for (size_t i = 0; i < m->count; i++) {
        if (strcmp(m->tensors[i].name, tensor) == 0) {
            m->tensors[i].values[at] = value;
            found = true;
        }
    }
    assert_true(found);
    assert_int_equal(tiny_model_save(folder, m), 0);
    tiny_model_free(m);
}

static void values_that_are_no_numbers_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *tensor;
        size_t at;
        float value;
        const char *words;
    } cases[] = {
        {"model.layers.1.mlp.up_proj.weight", 3 * 48 + 5, NAN,
         "model.layers.1.mlp.up_proj.weight: the value at row 3, column 5 is nan"},
        {"model.layers.0.self_attn.o_proj.weight", 0, -INFINITY,
         "model.layers.0.self_attn.o_proj.weight: the value at row 0, column 0 is -inf"},
        {"model.layers.2.self_attn.k_proj.bias", 7, INFINITY,
         "k_proj.bias: the value at row 0, column 7 is inf"},
        {"model.layers.1.input_layernorm.weight", 1, NAN, "input_layernorm.weight"},
        {"model.embed_tokens.weight", 100 * 48 + 2, NAN,
         "embed_tokens.weight: the value at row 100, column 2"},
        {"lm_head.weight", 287 * 48 + 47, NAN, "lm_head.weight: the value at row 287, column 47"},
        {"model.norm.weight", 4, INFINITY, "model.norm.weight: the value at row 0, column 4 is inf"},
    };
    static const lb_dtype types[] = {LB_DTYPE_F32, LB_DTYPE_F16, LB_DTYPE_BF16};
    tiny_model_options options = three_blocks;
    options.architecture = "Qwen2ForCausalLM";
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (size_t k = 0; k < 6; k++) {
            options.dtype = types[k % 3];
            save_with(in_work("nan"), &options, cases[i].tensor, cases[i].at, cases[i].value);
            lb_quantize_options o = small_options(in_work("nan"), in_work("from_nan"));
            o.method = k < 3 ? "rtn" : "gptq";
            must_refuse(&o, LB_EFORMAT, cases[i].words);
            /* Before any work: nothing is left. */
            assert_false(scratch_exists(in_work("from_nan.partial")));
        }
    }
}

/* ---- Memory that runs out ------------------------------------------------------------------------------ */

static void every_allocation_may_fail(void **state)
{
    (void)state;
    static const char *const rule[] = {"lm_head=int8-g32-asym"};
    const char *output = in_work("starved"), *partial = in_work("starved.partial"), *fed = in_work("fed");
    lb_quantize_options o = small_options(tiny_in_work("one", &one_block), fed);
    lb_quantize_result result;
    lb_error err;
    const unsigned usual = lb_thread_count();
    o.layer_rules = rule;
    o.layer_rule_count = 1;
    o.samples = 2;
    must_quantize(&o, &result);
    lb_quantize_result_free(&result);
    o.output = output;
    lb_thread_set_count(1); /* the same allocation is the k-th each time */
    size_t k = 0, failures = 0, fine = 0;
    while (fine < 20) { /* so many in a row: past the last one */
        lb_alloc_fail_at(++k);
        lb_status st = lb_quantize(&o, &result, &err);
        lb_alloc_fail_at(0);
        if (st == LB_OK) { /* a hint, a report's number or a leftover file may go without */
            fine++;
            lb_quantize_result_free(&result);
            scratch_remove(in_work("starved/lowbit-run.json"));
            scratch_remove(in_work("starved/lowbit-errors-00001.json"));
            scratch_same(output, fed);
            scratch_remove(output);
            continue;
        }
        fine = 0;
        failures++;
        if (st != LB_ENOMEM || err.status != LB_ENOMEM)
            fail_msg("allocation %zu: status %d, \"%s\"", k, (int)st, err.msg);
        assert_false(scratch_exists(output));
        if (k % 25 == 0) {
            o.resume = true;
            must_quantize(&o, &result);
            lb_quantize_result_free(&result);
            scratch_same(output, fed);
            scratch_remove(output);
            o.resume = false;
        }
        scratch_remove(partial);
    }
    assert_true(failures > 200);
    lb_thread_set_count(usual);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_interruption_can_be_resumed),
        cmocka_unit_test(rescaled_runs_can_be_resumed),
        cmocka_unit_test(resumed_runs_can_be_interrupted),
        cmocka_unit_test(what_a_killed_write_leaves_behind_is_overwritten),
        cmocka_unit_test(another_run_is_not_resumed),
        cmocka_unit_test(a_damaged_partial_is_refused_and_kept),
        cmocka_unit_test(a_damaged_file_of_what_was_learned),
        cmocka_unit_test(a_folder_of_somebody_else_is_left_alone),
        cmocka_unit_test(outputs_that_cannot_be_made_are_refused_at_once),
        cmocka_unit_test(an_output_that_appears_meanwhile_is_not_replaced),
        cmocka_unit_test(a_full_disk_loses_nothing),
        cmocka_unit_test(values_that_are_no_numbers_are_named),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, make_work, drop_reports);
}
