/* SPDX-License-Identifier: MIT
 * Allocated runs from end to end: the plan is that of the parts, which have tests of their own; what an interrupted run
 * has measured is not measured again; a dry run leaves nothing behind. */
#define _GNU_SOURCE
#include "quantize_case.h"

#include "base/alloc.h"
#include "base/thread.h"
#include "calibrate/builtin_text.h"
#include "model/weights.h"
#include "quantize/allocate.h"
#include "quantize/sensitivity.h"

static const tiny_model_options two_blocks = {
    .seed = 61, .hidden = 64, .ffn = 96, .layers = 2, .heads = 2, .kv_heads = 1, .tokenizer = TINY_BYTES};

static const lb_config shape = {
    .hidden = 64, .ffn = 96, .layers = 2, .heads = 2, .kv_heads = 1, .head_dim = 32};

enum { LAYERS = 2 * LB_BLOCK_LINEARS, SAMPLES = 3, SEQLEN = 24, TEXT_BYTES = 3000 };

static const double TARGET = 3.37; /* which cannot be met exactly */

static int make_text(void **state)
{
    make_work(state);
    scratch_write(in_work("text"), lb_builtin_calibration, TEXT_BYTES);
    return 0;
}

/* The quickest way to a result that shows the plan. */
static lb_quantize_options allocated(const char *output, const char *how)
{
    lb_quantize_options o = small_options(tiny_in_work("two", &two_blocks), output);
    o.method = "rtn";
    o.fit = "range";
    o.calibration = in_work("text");
    o.target_bits = TARGET;
    o.candidates = "int2-g32,int3-g32,int4-g32";
    o.allocate = how;
    o.sensitivity_samples = SAMPLES;
    o.sensitivity_seqlen = SEQLEN;
    return o;
}

/* What progress says: which sensitivities were measured, and when to stop. */
typedef struct listener {
    const char *stop_at; /* the first label that begins so */
    size_t stop_after; /* so many questions under that label */
    char heard[512]; /* every new label, followed by a semicolon */
    char last[64];
} listener;

static int listen(void *user, const char *stage, size_t done, size_t total)
{
    listener *l = user;
    assert_true(done <= total || total == 0);
    if (strcmp(stage, l->last) != 0) {
        const size_t used = strlen(l->heard);
        snprintf(l->last, sizeof l->last, "%s", stage);
        snprintf(l->heard + used, sizeof l->heard - used, "%s;", stage);
    }
    return l->stop_at && strncmp(stage, l->stop_at, strlen(l->stop_at)) == 0 && l->stop_after-- == 0;
}

/* Every run looks at all numbers of the model first. */
static const char *after_checks(const char *heard)
{
    static const char checks[] = "checking;";
    assert_int_equal(strncmp(heard, checks, strlen(checks)), 0);
    return heard + strlen(checks);
}

static void must_stop(lb_quantize_options o, listener *l)
{
    lb_quantize_result result;
    lb_error err;
    o.progress = (lb_progress){listen, l};
    assert_int_equal(lb_quantize(&o, &result, &err), LB_ECANCELED);
    assert_false(scratch_exists(o.output));
}

/* The run by which others are judged, once for each way. */
static const char *const ways[] = {"fisher", "deltaloss", "head", "tail"};
enum { WAYS = sizeof ways / sizeof *ways };
static lb_quantize_result reports[WAYS];
static listener heard[WAYS];

static size_t index_of(const char *how)
{
    size_t i = 0;
    while (strcmp(how, ways[i]) != 0)
        i++;
    return i;
}

static const char *unbroken(const char *how)
{
    const char *output = in_work(how);
    if (!scratch_exists(output)) {
        lb_quantize_options o = allocated(output, how);
        o.progress = (lb_progress){listen, &heard[index_of(how)]};
        must_quantize(&o, &reports[index_of(how)]);
    }
    return output;
}

static int drop_reports(void **state)
{
    for (size_t i = 0; i < WAYS; i++)
        lb_quantize_result_free(&reports[i]);
    return drop_work(state);
}

static const lb_quantize_result *report_of(const char *how)
{
    (void)unbroken(how);
    return &reports[index_of(how)];
}

/* ---- The plan ---------------------------------------------------------------------------------------- */

static size_t stage_of(size_t layer)
{
    return layer / LB_BLOCK_LINEARS * LB_STAGE_COUNT + lb_block_linears[layer % LB_BLOCK_LINEARS].stage;
}

/* Average of layers that no rule decides on: those whose format is a candidate. */
static double average_bits(const lb_quantize_result *r)
{
    double bits = 0.0, weights = 0.0;
    for (size_t i = 0; i < r->layer_count; i++) {
        size_t rows, cols;
        lb_linear_shape(&shape, (unsigned)(i % LB_BLOCK_LINEARS), &rows, &cols);
        for (size_t k = 0; k < r->candidate_count; k++) {
            if (strcmp(r->layers[i].format, r->candidates[k].name) != 0)
                continue;
            bits += r->layers[i].bits_per_weight * (double)(rows * cols);
            weights += (double)(rows * cols);
        }
    }
    return bits / weights;
}

/* Formats and sensitivities by the parts, from the same text. */
static void check_parts(const lb_quantize_result *r, const char *how)
{
    lb_weights *weights;
    lb_tokenizer *tokenizer;
    lb_samples samples;
    lb_recipe recipe;
    lb_error err;
    double scores[3 * LAYERS] = {0};
    lb_format plan[LAYERS];
    lb_recipe_default(&recipe);
    assert_int_equal(lb_allocate_parse(how, &recipe.allocation.how, &err), LB_OK);
    assert_int_equal(lb_candidates_parse("int2-g32,int3-g32,int4-g32", &recipe.allocation, &err), LB_OK);
    recipe.allocation.target_bits = TARGET;
    recipe.fit = LB_FIT_RANGE;
    assert_int_equal(lb_weights_open(tiny_in_work("two", &two_blocks), &weights, &err), LB_OK);
    assert_int_equal(lb_weights_tokenizer(weights, &tokenizer, &err), LB_OK);
    assert_int_equal(lb_samples_create(tokenizer, (const char *)lb_builtin_calibration, TEXT_BYTES, SAMPLES,
                                       SEQLEN, 42, &samples, &err),
                     LB_OK);
    const lb_sensitivity job = {
        .kernels = lb_kernels_get(LB_CPU_BEST), .weights = weights, .recipe = &recipe, .samples = &samples};
    assert_int_equal(lb_sensitivity_measure(&job, recipe.allocation.candidates, 3, scores, &err), LB_OK);
    assert_memory_equal(r->sensitivities, scores, sizeof scores);
    assert_int_equal(lb_allocate_plan(&weights->config, &recipe, scores, plan, &err), LB_OK);
    for (size_t i = 0; i < LAYERS; i++)
        assert_string_equal(r->layers[i].format, plan[i].name);
    lb_samples_free(&samples);
    lb_tokenizer_destroy(tokenizer);
    lb_weights_close(weights);
}

static void check_tied(const lb_quantize_result *r)
{
    for (size_t i = 1; i < r->layer_count; i++)
        if (stage_of(i) == stage_of(i - 1))
            assert_string_equal(r->layers[i].format, r->layers[i - 1].format);
}

/* The checkpoint's formats, read by another reader, are those of the report; and its bits what was asked for. */
static void check_checkpoint(const char *output, const lb_quantize_result *r)
{
    reader *read = reader_open(output, 2);
    const json_t *q = json_object_get(read->config, "quantization_config"),
                 *layers = json_object_get(q, "layers");
    const json_t *recipe = json_object_get(q, "recipe");
    assert_int_equal(json_object_size(layers), LAYERS);
    for (size_t i = 0; i < LAYERS; i++) {
        unsigned width;
        size_t group;
        bool asymmetric = false;
        assert_true(reader_format(read, r->layers[i].name, &width, &group, &asymmetric));
        char name[32];
        snprintf(name, sizeof name, "int%u-g%zu", width, group);
        assert_string_equal(name, r->layers[i].format);
        assert_string_equal(json_string_value(json_object_get(layers, r->layers[i].name)), name);
        assert_true(r->layers[i].bits_per_weight == (double)width + 0.5);
        assert_true(r->layers[i].relative_error > 0.0 && r->layers[i].relative_error < 1.0);
    }
    assert_int_equal(r->bytes, read->bytes);
    assert_string_equal(json_string_value(json_object_get(recipe, "format")), "mixed");
    reader_close(read);
}

static void results_follow_the_plan(void **state)
{
    (void)state;
    for (size_t i = 0; i < WAYS; i++) {
        const char *output = unbroken(ways[i]);
        const lb_quantize_result *r = report_of(ways[i]);
        char notes[SCRATCH_PATH_BYTES];
        check_checkpoint(output, r);
        check_tied(r);
        assert_int_equal(r->candidate_count, 3);
        const double bits = average_bits(r);
        /* Within the target, and nearer to it than the smallest group of layers can bring it: o, by one bit. */
        assert_true(bits <= TARGET + 1e-9 && bits > TARGET - 4096.0 / (2 * 30720.0));
        assert_true(fabs(r->quantized_bits_per_weight - bits) < 1e-12);
        assert_true((r->sensitivities != NULL) == (i < 2));
        if (i < 2)
            check_parts(r, ways[i]);
        else
            assert_null(strstr(heard[i].heard, "sensitivity"));
        snprintf(notes, sizeof notes, "%s/lowbit-notes.json", output);
        assert_false(scratch_exists(notes));
    }
    assert_string_equal(after_checks(heard[0].heard), "sensitivity;block 1/2;block 2/2;");
    assert_string_equal(after_checks(heard[1].heard),
                        "sensitivity to int2-g32;sensitivity to int3-g32;sensitivity to int4-g32;"
                        "block 1/2;block 2/2;");
    assert_string_equal(report_of("head")->layers[0].format, "int4-g32");
    assert_string_equal(report_of("head")->layers[LAYERS - 1].format, "int2-g32");
    assert_string_equal(report_of("tail")->layers[0].format, "int2-g32");
    assert_string_equal(report_of("tail")->layers[LAYERS - 1].format, "int4-g32");
}

static void layers_can_be_untied(void **state)
{
    (void)state;
    lb_quantize_options o = allocated(in_work("untied"), "fisher");
    lb_quantize_result r;
    size_t different = 0;
    o.untied = true;
    must_quantize(&o, &r);
    check_checkpoint(o.output, &r);
    assert_memory_equal(r.sensitivities, report_of("fisher")->sensitivities, 3 * LAYERS * sizeof(double));
    for (size_t i = 1; i < LAYERS; i++)
        different +=
            stage_of(i) == stage_of(i - 1) && strcmp(r.layers[i].format, r.layers[i - 1].format) != 0;
    assert_true(different > 0);
    assert_non_null(strstr(r.recipe, "\"tied\":false"));
    lb_quantize_result_free(&r);
}

/* Rules come first: their layers neither take part nor count. */
static void rules_and_allocations_together(void **state)
{
    (void)state;
    static const char *const rules[] = {"*.o_proj=int8-g64", "model.layers.1.mlp.down_proj=bf16",
                                        "lm_head=int8-g32"};
    lb_quantize_options o = allocated(in_work("ruled"), "deltaloss");
    lb_quantize_result r;
    o.layer_rules = rules;
    o.layer_rule_count = 3;
    o.target_bits = 3.0;
    must_quantize(&o, &r);
    for (size_t i = 0; i < LAYERS; i++) {
        const char *rule = i % LB_BLOCK_LINEARS == LB_LINEAR_O ? "int8-g64" : i == LAYERS - 1 ? "bf16" : NULL;
        assert_true((strncmp(r.layers[i].format, "int", 3) == 0 && strstr(r.layers[i].format, "-g32")) ==
                    !rule);
        if (rule)
            assert_string_equal(r.layers[i].format, rule);
    }
    check_tied(&r);
    assert_true(average_bits(&r) <= 3.0 + 1e-9);
    lb_quantize_result_free(&r);
}

/* Other methods, rotated layers, rounded inputs, learned rounding; and no sum depends on the threads. */
static void other_methods_follow_plans_too(void **state)
{
    (void)state;
    const unsigned usual = lb_thread_count();
    for (size_t i = 0; i < 2; i++) {
        lb_quantize_options o = allocated(in_work("one"), i ? "fisher" : "deltaloss");
        lb_quantize_result r;
        o.method = i ? "signround" : "gptq";
        o.fit = "search";
        o.iters = 2;
        o.batch = 2;
        o.candidates = "int3-g32,mxfp4,bf16";
        o.target_bits = 5.0;
        o.act = "mxint8";
        o.transform = "hadamard";
        lb_thread_set_count(1);
        must_quantize(&o, &r);
        assert_non_null(strstr(r.recipe, "\"transform\":\"hadamard-32\"")); /* the first candidate's group */
        lb_quantize_result_free(&r);
        o.output = in_work("three");
        lb_thread_set_count(3);
        must_quantize(&o, &r);
        lb_quantize_result_free(&r);
        lb_thread_set_count(usual);
        scratch_same(in_work("one"), in_work("three"));
        scratch_remove(in_work("one"));
        scratch_remove(in_work("three"));
    }
}

/* ---- Interruptions ----------------------------------------------------------------------------------- */

/* Goes on to the bytes of the run that was not interrupted; hears the labels `wanted`. */
static void resume(lb_quantize_options o, const char *wanted)
{
    listener l = {0};
    lb_quantize_result r;
    o.resume = true;
    o.progress = (lb_progress){listen, &l};
    must_quantize(&o, &r);
    assert_string_equal(after_checks(l.heard), wanted);
    scratch_same(o.output, unbroken(o.allocate));
    const lb_quantize_result *want = report_of(o.allocate);
    assert_memory_equal(r.sensitivities, want->sensitivities, 3 * LAYERS * sizeof(double));
    for (size_t i = 0; i < LAYERS; i++) {
        assert_string_equal(r.layers[i].format, want->layers[i].format);
        assert_true(r.layers[i].relative_error == want->layers[i].relative_error);
    }
    assert_int_equal(r.file_bytes, want->file_bytes);
    lb_quantize_result_free(&r);
    scratch_remove(o.output);
}

static void what_was_measured_is_not_measured_again(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        const lb_quantize_options o = allocated(in_work("stopped"), ways[i]);
        listener l = {.stop_at = "block 1"};
        must_stop(o, &l);
        assert_true(scratch_exists(in_work("stopped.partial/lowbit-notes.json")));
        must_refuse(&o, LB_EEXIST, "stopped.partial exists: an unfinished run");
        resume(o, "block 1/2;block 2/2;");
        l = (listener){.stop_at = "block 2"};
        must_stop(o, &l);
        resume(o, "block 1/2;block 2/2;");
    }
}

static void candidates_are_kept_one_by_one(void **state)
{
    (void)state;
    const lb_quantize_options o = allocated(in_work("between"), "deltaloss");
    listener l = {.stop_at = "sensitivity to int3-g32"};
    must_stop(o, &l);
    resume(o, "sensitivity to int3-g32;sensitivity to int4-g32;block 1/2;block 2/2;");
    l = (listener){.stop_at = "sensitivity to int4-g32", .stop_after = 5};
    must_stop(o, &l);
    lb_quantize_options again = o; /* and once more, with nothing new */
    again.resume = true;
    l = (listener){.stop_at = "sensitivity to int4-g32"};
    must_stop(again, &l);
    assert_string_equal(after_checks(l.heard), "sensitivity to int4-g32;");
    resume(o, "sensitivity to int4-g32;block 1/2;block 2/2;");
    /* Before the first is finished there is nothing to keep. */
    l = (listener){.stop_at = "sensitivity to int2-g32", .stop_after = 3};
    must_stop(o, &l);
    assert_false(scratch_exists(in_work("between.partial")));
}

static void another_allocation_is_not_resumed(void **state)
{
    (void)state;
    const lb_quantize_options good = allocated(in_work("other"), "fisher");
    listener l = {.stop_at = "block 1"};
    must_stop(good, &l);
    lb_quantize_options o = good;
    o.resume = true;
    o.target_bits = 3.25;
    must_refuse(&o, LB_EINVAL, "it was made with another recipe (allocation)");
    o.target_bits = good.target_bits;
    o.allocate = "deltaloss";
    must_refuse(&o, LB_EINVAL, "recipe (allocation)");
    o.allocate = good.allocate;
    o.candidates = "int2-g32,int4-g32,int3-g32";
    must_refuse(&o, LB_EINVAL, "recipe (allocation)");
    o.candidates = good.candidates;
    o.calibration = "examples/text/evaluation.txt";
    must_refuse(&o, LB_EINVAL, "another calibration text");
    resume(good, "block 1/2;block 2/2;");
    /* One letter, which only sensitivities read: calibration has two tokens. */
    o = good;
    size_t size;
    char *text = scratch_read(good.calibration, &size);
    scratch_write(in_work("changed.txt"), text, size);
    o.calibration = in_work("changed.txt");
    o.samples = 1;
    o.seqlen = 2;
    o.sensitivity_samples = 1000;
    l = (listener){.stop_at = "block 1"};
    must_stop(o, &l);
    text[1000] = text[1000] == 'a' ? 'b' : 'a';
    scratch_write(in_work("changed.txt"), text, size);
    free(text);
    o.resume = true;
    must_refuse(&o, LB_EINVAL, "another calibration text");
}

/* What cannot have been written by a run is not believed. */
static void damaged_notes_are_measured_again(void **state)
{
    (void)state;
    const char *notes = in_work("damaged.partial/lowbit-notes.json");
    const lb_quantize_options o = allocated(in_work("damaged"), "deltaloss");
    const char *const all = "sensitivity to int2-g32;sensitivity to int3-g32;sensitivity to int4-g32;"
                            "block 1/2;block 2/2;";
    for (int k = 0; k < 6; k++) {
        listener l = {.stop_at = "block 1"};
        size_t size;
        must_stop(o, &l);
        char *text = scratch_read(notes, &size);
        json_t *json = json_loads(text, 0, NULL), *scores = json_object_get(json, "int3-g32");
        assert_int_equal(json_array_size(scores), LAYERS);
        if (k == 0)
            scratch_write(notes, text, size / 2);
        else if (k == 1)
            scratch_write(notes, "[]", 2);
        else if (k == 2)
            json_array_insert_new(scores, 3, json_real(1.0));
        else if (k == 3)
            json_array_set_new(scores, 3, json_real(-0.5));
        else if (k == 4)
            json_object_set_new(json, "int3-g32", json_object());
        else
            json_object_del(json, "int3-g32");
        if (k >= 2)
            assert_int_equal(json_dump_file(json, notes, 0), 0);
        json_decref(json);
        free(text);
        resume(o, k < 2 ? all : "sensitivity to int3-g32;block 1/2;block 2/2;");
    }
}

/* ---- Dry runs ---------------------------------------------------------------------------------------- */

static void a_dry_run_tells_and_writes_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < WAYS; i++) {
        const lb_quantize_result *want = report_of(ways[i]);
        lb_quantize_options o = allocated(in_work("dry"), ways[i]);
        lb_quantize_result r;
        const size_t files = scratch_count(work_folder);
        o.dry_run = true;
        must_quantize(&o, &r);
        assert_int_equal(scratch_count(work_folder), files);
        assert_int_equal(r.layer_count, LAYERS);
        for (size_t k = 0; k < LAYERS; k++) {
            assert_string_equal(r.layers[k].name, want->layers[k].name);
            assert_string_equal(r.layers[k].format, want->layers[k].format);
            assert_true(r.layers[k].bits_per_weight == want->layers[k].bits_per_weight);
            assert_true(isnan(r.layers[k].relative_error));
        }
        assert_int_equal(r.candidate_count, 3);
        assert_true((r.sensitivities == NULL) == (want->sensitivities == NULL));
        if (r.sensitivities)
            assert_memory_equal(r.sensitivities, want->sensitivities, 3 * LAYERS * sizeof(double));
        assert_int_equal(r.bytes, want->bytes);
        assert_int_equal(r.quantized_bytes, want->quantized_bytes);
        assert_string_equal(r.recipe, want->recipe);
        lb_quantize_result_free(&r);
    }
}

/* ---- What is refused --------------------------------------------------------------------------------- */

static void a_sentence_for_each_mistake(void **state)
{
    (void)state;
    static const char *const rules[] = {"model.layers.*=int8-g32", "model.layrs.*=int8-g32"};
    const lb_quantize_options good = allocated(in_work("never"), "fisher");
    const double targets[] = {2.4, 4.6, 5.0};
    lb_quantize_options o = good;
    for (size_t i = 0; i < 3; i++) {
        o.target_bits = targets[i];
        must_refuse(&o, LB_EINVAL, "is out of reach: these candidates can average 2.5000 to 4.5000");
    }
    const double nonsense[] = {-1.0, 32.5, NAN, INFINITY};
    for (size_t i = 0; i < 4; i++) {
        o.target_bits = nonsense[i];
        must_refuse(&o, LB_EINVAL, "bits per weight is outside 0 to 32");
    }
    o = good;
    o.candidates = "int2-g32,int9-g32";
    must_refuse(&o, LB_EINVAL, "format \"int9-g32\" is not known");
    o.candidates = "int2-g32";
    must_refuse(&o, LB_EINVAL, "an allocation wants at least 2 candidates, got int2-g32 alone");
    o = good;
    o.sensitivity_samples = 0;
    must_refuse(&o, LB_EINVAL, "sensitivities want 1 to 1000000 samples of 2 to 1000000 tokens, got 0 of 24");
    o.sensitivity_samples = 3;
    o.sensitivity_seqlen = 1;
    must_refuse(&o, LB_EINVAL, "got 3 of 1");
    o = good;
    o.layer_rules = &rules[0];
    o.layer_rule_count = 1;
    must_refuse(&o, LB_EINVAL, "rules decide on every layer: there is nothing to allocate bits to");
    o.layer_rules = &rules[1];
    must_refuse(&o, LB_EINVAL, "matches no layer");
    assert_false(scratch_exists(in_work("never.partial")));
}

/* Enough text for calibration is not always enough for sensitivities, nor the other way round. */
static void the_text_must_do(void **state)
{
    (void)state;
    const tiny_model_options mute = {.seed = 3, .layers = 1};
    lb_quantize_options o = allocated(in_work("never"), "deltaloss");
    scratch_write(in_work("short.txt"), "a text of forty characters, no more here", 40);
    scratch_write(in_work("empty.txt"), "", 0);
    o.calibration = in_work("empty.txt");
    must_refuse(&o, LB_EINVAL, "empty.txt: the calibration text has 0 tokens, less than one sample of 32");
    o.calibration = in_work("short.txt");
    o.seqlen = 16;
    o.sensitivity_seqlen = 41;
    must_refuse(&o, LB_EINVAL, "short.txt: the calibration text has 40 tokens, less than one sample of 41");
    o.sensitivity_seqlen = 16;
    o.dry_run = true;
    lb_quantize_result r;
    o.calibration = NULL;
    o.sensitivity_seqlen = 4096; /* more than the model's context */
    must_quantize(&o, &r);
    assert_non_null(strstr(r.recipe, "\"seqlen\":128,"));
    lb_quantize_result_free(&r);
    o.dry_run = false;
    o.model = tiny_in_work("mute", &mute);
    must_refuse(&o, LB_EFORMAT, "has no tokenizer, and calibration needs one");
    o.allocate = "head"; /* which looks at no text */
    o.output = in_work("headed");
    must_quantize(&o, &r);
    assert_int_equal(r.samples, 0);
    lb_quantize_result_free(&r);
}

/* Whatever allocation fails: a sentence, no output, and a run that can be done again. (Opening a model starves in
 * test_quantized_dir.c.) */
static void running_out_of_memory(void **state)
{
    (void)state;
    const tiny_model_options one_block = {
        .seed = 62, .hidden = 32, .ffn = 24, .layers = 1, .heads = 2, .kv_heads = 1, .tokenizer = TINY_BYTES};
    lb_quantize_options o = allocated(in_work("fed"), "fisher");
    lb_quantize_result r;
    lb_error err;
    size_t failures = 0, fine = 0;
    o.model = tiny_in_work("one_block", &one_block);
    o.calibration = in_work("short.txt");
    scratch_write(o.calibration, "a text of forty characters, no more here", 40);
    o.samples = o.sensitivity_samples = 2;
    o.seqlen = o.sensitivity_seqlen = 16;
    must_quantize(&o, &r);
    lb_quantize_result_free(&r);
    o.output = in_work("starved");
    lb_thread_set_count(1);
    for (size_t k = 1; fine < 5; k += k < 80 ? 9 : 1) {
        lb_alloc_fail_at(k);
        const lb_status st = lb_quantize(&o, &r, &err);
        lb_alloc_fail_at(0);
        if (st == LB_OK) { /* a hint, a report's number or a leftover file may go without */
            fine++;
            lb_quantize_result_free(&r);
            scratch_remove(in_work("starved/lowbit-run.json"));
            scratch_remove(in_work("starved/lowbit-notes.json"));
            scratch_remove(in_work("starved/lowbit-errors-00001.json"));
            scratch_same(o.output, in_work("fed"));
            scratch_remove(o.output);
            continue;
        }
        fine = 0;
        failures++;
        if (st != LB_ENOMEM || err.status != LB_ENOMEM || scratch_exists(o.output))
            fail_msg("allocation %zu: status %d, \"%s\"", k, (int)st, err.msg);
        scratch_remove(in_work("starved.partial"));
    }
    lb_thread_set_count(0);
    assert_true(failures > 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_follow_the_plan),
        cmocka_unit_test(layers_can_be_untied),
        cmocka_unit_test(rules_and_allocations_together),
        cmocka_unit_test(other_methods_follow_plans_too),
        cmocka_unit_test(what_was_measured_is_not_measured_again),
        cmocka_unit_test(candidates_are_kept_one_by_one),
        cmocka_unit_test(another_allocation_is_not_resumed),
        cmocka_unit_test(damaged_notes_are_measured_again),
        cmocka_unit_test(a_dry_run_tells_and_writes_nothing),
        cmocka_unit_test(a_sentence_for_each_mistake),
        cmocka_unit_test(the_text_must_do),
        cmocka_unit_test(running_out_of_memory),
    };
    return cmocka_run_group_tests(tests, make_text, drop_reports);
}
