/* SPDX-License-Identifier: MIT
 * A walk through a model shows what the slow transformer of tests/reference_model.h feeds its layers; and the
 * study made on the walk finds the noise that casting those numbers in double finds. */
#define _GNU_SOURCE
#include "quantize_case.h"
#include "reference_model.h"

#include "analyze/study.h"
#include "base/alloc.h"

enum { CTX = 20, WINDOWS = 3, LAYERS = 2, TENSORS = LAYERS * (LB_BLOCK_LINEARS + LB_STAGE_COUNT) };

static const tiny_model_options options = {.seed = 12,
                                           .hidden = 48,
                                           .ffn = 40,
                                           .layers = LAYERS,
                                           .heads = 4,
                                           .kv_heads = 2,
                                           .context = 64,
                                           .tokenizer = TINY_BYTES};
static const char *const text = "Sixty-four bytes are three windows of twenty and four left over.";

/* One place of a walk: a stage's inputs over all windows, by the library and by the slow transformer. */
typedef struct seen {
    float *inputs;
    double *want;
    size_t got_count, want_count;
} seen;

static seen stages[LAYERS][LB_STAGE_COUNT];
static const float
    *first_weights[LAYERS][LB_STAGE_COUNT]; /* by which the slow transformer's calls are told apart */
static size_t weights_seen;

static lb_status see_weight(void *self, size_t block, unsigned which, const float *w, size_t rows,
                            size_t cols, lb_error *err)
{
    const tiny_model *m = self;
    char name[96];
    (void)err;
    lb_linear_name(block, which, name, sizeof name - 8);
    memcpy(name + strlen(name), ".weight", 8);
    assert_memory_equal(w, reference_tensor(m, name), rows * cols * sizeof *w);
    assert_int_equal(weights_seen, block * LB_BLOCK_LINEARS + which);
    weights_seen++;
    return LB_OK;
}

static lb_status see_inputs(void *self, size_t block, lb_stage stage, const float *x, size_t tokens,
                            size_t cols, lb_error *err)
{
    seen *s = &stages[block][stage];
    (void)self;
    (void)err;
    s->inputs = realloc(s->inputs, (s->got_count + tokens * cols) * sizeof *x);
    memcpy(s->inputs + s->got_count, x, tokens * cols * sizeof *x);
    s->got_count += tokens * cols;
    return LB_OK;
}

static void note_slow_input(const float *w, const double *x, size_t cols)
{
    for (size_t layer = 0; layer < LAYERS; layer++) {
        for (size_t stage = 0; stage < LB_STAGE_COUNT; stage++) {
            seen *s = &stages[layer][stage];
            if (w != first_weights[layer][stage])
                continue;
            s->want = realloc(s->want, (s->want_count + cols) * sizeof *x);
            memcpy(s->want + s->want_count, x, cols * sizeof *x);
            s->want_count += cols;
        }
    }
}

static lb_weights *open_model(void)
{
    lb_weights *weights;
    lb_error err;
    if (lb_weights_open(tiny_in_work("model", &options), &weights, &err) != LB_OK)
        fail_msg("%s", err.msg);
    return weights;
}

static lb_walk_text read_text(const lb_weights *weights)
{
    lb_walk_text t;
    lb_error err;
    scratch_write(in_work("text"), text, strlen(text));
    if (lb_walk_text_read(weights, in_work("text"), 1000, CTX, &t, &err) != LB_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(t.windows, WINDOWS);
    assert_int_equal(t.ctx, CTX);
    return t;
}

static void a_walk_sees_what_layers_are_fed(void **state)
{
    (void)state;
    static const char *const firsts[] = {"self_attn.q_proj.weight", "self_attn.o_proj.weight",
                                         "mlp.gate_proj.weight", "mlp.down_proj.weight"};
    tiny_model *m = tiny_model_make(&options);
    lb_weights *weights = open_model();
    lb_walk_text t = read_text(weights);
    const lb_walker walker = {.self = m, .weight = see_weight, .inputs = see_inputs};
    double *logits = malloc(CTX * m->options.vocab * sizeof *logits);
    lb_error err;
    assert_int_equal(lb_walk(weights, lb_kernels_get(LB_CPU_BEST), &t, LAYERS, &walker, NULL, &err), LB_OK);
    assert_int_equal(weights_seen, LAYERS * LB_BLOCK_LINEARS);
    for (size_t layer = 0; layer < LAYERS; layer++)
        for (size_t stage = 0; stage < LB_STAGE_COUNT; stage++)
            first_weights[layer][stage] = reference_of_layer(m, layer, firsts[stage]);
    reference_watch = note_slow_input;
    for (size_t w = 0; w < WINDOWS; w++)
        reference_logits(m, t.ids + w * CTX, CTX, logits);
    reference_watch = NULL;
    for (size_t layer = 0; layer < LAYERS; layer++) {
        for (size_t stage = 0; stage < LB_STAGE_COUNT; stage++) {
            seen *s = &stages[layer][stage];
            const size_t width = lb_stage_width(&weights->config, (lb_stage)stage);
            double largest = 0;
            assert_int_equal(s->got_count, WINDOWS * CTX * width);
            assert_int_equal(s->want_count, s->got_count);
            for (size_t i = 0; i < s->want_count; i++)
                largest = fmax(largest, fabs(s->want[i]));
            /* a few hundred float operations deep */
            for (size_t i = 0; i < s->want_count; i++)
                assert_true(fabs((double)s->inputs[i] - s->want[i]) < 2e-5 * (1 + largest));
        }
    }
    free(logits);
    lb_walk_text_free(&t);
    lb_weights_close(weights);
    tiny_model_free(m);
}

/* ---- The study ------------------------------------------------------------------------------------------- */

/* 10 log10(signal / noise) of x [rows, cols] cast by the format's own operations, block by block. */
static double slow_qsnr(const char *name, bool each_row, const float *x, size_t rows, size_t cols,
                        double *crest)
{
    lb_format f;
    double signal = 0, noise = 0, crests = 0;
    size_t blocks = 0;
    assert_int_equal(lb_format_parse(name, &f, NULL), LB_OK);
    lb_format_bind(&f, x, rows * cols);
    for (size_t r = 0; r < rows; r++) {
        if (each_row)
            lb_format_bind(&f, x + r * cols, cols);
        for (size_t at = 0; at < cols; at += f.group) {
            const size_t n = cols - at < f.group ? cols - at : f.group;
            const float *block = x + r * cols + at;
            uint8_t codes[32];
            float values[32], params[LB_FORMAT_MAX_PARAMS];
            double largest = 0, squares = 0;
            f.ops->fit(&f, block, NULL, n, LB_FIT_RANGE, params);
            f.ops->round(&f, params, block, n, codes);
            f.ops->value(&f, params, codes, n, values);
            for (size_t i = 0; i < n; i++) {
                signal += pow((double)block[i], 2);
                noise += pow((double)values[i] - (double)block[i], 2);
                largest = fmax(largest, fabs((double)block[i]));
                squares += pow((double)block[i], 2);
            }
            crests += squares > 0 ? largest / sqrt(squares / (double)n) : 0;
            blocks += squares > 0;
        }
    }
    *crest = crests / (double)blocks;
    return 10 * log10(signal / noise);
}

static void check_tensor(const lb_study_tensor *t, unsigned way, const float *x, size_t rows, size_t cols)
{
    for (unsigned pair = 0; pair < LB_STUDY_PAIRS; pair++) {
        for (unsigned f = 0; f < 2; f++) {
            double crest;
            const double want =
                slow_qsnr(lb_study_pairs[pair].formats[f], t->is_input, x, rows, cols, &crest);
            assert_true(fabs(t->db[pair][way][f] - want) < 1e-9 * want);
            assert_true(fabs(t->crest[pair][way] - crest) < 1e-9);
        }
    }
}

static void a_study_measures_every_tensor(void **state)
{
    (void)state;
    tiny_model *m = tiny_model_make(&options);
    lb_weights *weights = open_model();
    lb_walk_text t = read_text(weights);
    lb_study study;
    lb_error err;
    assert_int_equal(lb_study_run(weights, lb_kernels_get(LB_CPU_BEST), &t, 5, NULL, &study, &err), LB_OK);
    assert_int_equal(study.count, TENSORS);
    for (size_t i = 0; i < study.count; i++) {
        const lb_study_tensor *s = &study.tensors[i];
        const size_t place = i % (LB_BLOCK_LINEARS + LB_STAGE_COUNT);
        assert_int_equal(s->block, i / (LB_BLOCK_LINEARS + LB_STAGE_COUNT));
        assert_int_equal(s->is_input, place >= LB_BLOCK_LINEARS);
        assert_int_equal(s->which, s->is_input ? place - LB_BLOCK_LINEARS : place);
        if (s->is_input) { /* as the walk before has seen it */
            const size_t cols = lb_stage_width(&weights->config, (lb_stage)s->which);
            check_tensor(s, 0, stages[s->block][s->which].inputs, WINDOWS * CTX, cols);
            continue;
        }
        char name[96];
        size_t rows, cols;
        lb_linear_shape(&weights->config, s->which, &rows, &cols);
        lb_linear_name(s->block, s->which, name, sizeof name - 8);
        memcpy(name + strlen(name), ".weight", 8);
        check_tensor(s, 0, reference_tensor(m, name), rows, cols);
    }
    lb_study_free(&study);
    lb_walk_text_free(&t);
    lb_weights_close(weights);
    tiny_model_free(m);
}

/* Rotated tensors: the study's rotation is that of the direct cast. */
static void a_study_rotates_as_a_cast_does(void **state)
{
    (void)state;
    tiny_model *m = tiny_model_make(&options);
    lb_weights *weights = open_model();
    lb_walk_text t = read_text(weights);
    const lb_kernels *kernels = lb_kernels_get(LB_CPU_BEST);
    lb_study study;
    lb_error err;
    assert_int_equal(lb_study_run(weights, kernels, &t, 5, NULL, &study, &err), LB_OK);
    for (unsigned pair = 0; pair < LB_STUDY_PAIRS; pair++) {
        lb_format f;
        lb_transform transform;
        lb_inputs inputs;
        assert_int_equal(lb_format_parse(lb_study_pairs[pair].formats[0], &f, &err), LB_OK);
        assert_int_equal(lb_transform_parse("hadamard", &transform, &err), LB_OK);
        transform.seed = 5;
        assert_int_equal(lb_transform_resolve(&transform, &f, &weights->config, &err), LB_OK);
        assert_int_equal(transform.block, f.group);
        assert_int_equal(lb_inputs_create(&weights->config, &transform, NULL, &inputs, &err), LB_OK);
        const lb_study_tensor *s = &study.tensors[LB_LINEAR_DOWN];
        float w[48 * 40];
        double crest;
        memcpy(w, reference_tensor(m, "model.layers.0.mlp.down_proj.weight"), sizeof w);
        lb_inputs_rotate(kernels, &inputs, LB_STAGE_DOWN, w, 48);
        for (unsigned k = 0; k < 2; k++) {
            const double want = slow_qsnr(lb_study_pairs[pair].formats[k], false, w, 48, 40, &crest);
            assert_true(fabs(s->db[pair][1][k] - want) < 1e-9 * want);
            assert_true(fabs(s->crest[pair][1] - crest) < 1e-9);
        }
        lb_inputs_free(&inputs);
    }
    /* Sums are means over what they name. */
    const lb_study_tally both = lb_study_sum(&study, 2, 0, LB_STUDY_WEIGHTS | LB_STUDY_INPUTS);
    const lb_study_tally w = lb_study_sum(&study, 2, 0, LB_STUDY_WEIGHTS);
    const lb_study_tally x = lb_study_sum(&study, 2, 0, LB_STUDY_INPUTS);
    assert_int_equal(w.tensors, LAYERS * LB_BLOCK_LINEARS);
    assert_int_equal(x.tensors, LAYERS * LB_STAGE_COUNT);
    assert_int_equal(both.tensors, TENSORS);
    assert_int_equal(both.integer_wins, w.integer_wins + x.integer_wins);
    assert_true(fabs(both.db[0] * TENSORS - w.db[0] * (double)w.tensors - x.db[0] * (double)x.tensors) <
                1e-6);
    lb_study_free(&study);
    lb_walk_text_free(&t);
    lb_weights_close(weights);
    tiny_model_free(m);
}

static void texts_are_cut_into_windows(void **state)
{
    (void)state;
    lb_weights *weights = open_model();
    lb_walk_text t;
    lb_error err;
    scratch_write(in_work("text"), text, strlen(text));
    assert_int_equal(lb_walk_text_read(weights, in_work("text"), 45, CTX, &t, &err), LB_OK);
    assert_int_equal(t.windows, 2);
    lb_walk_text_free(&t);
    assert_int_equal(lb_walk_text_read(weights, in_work("text"), 7, CTX, &t, &err), LB_OK);
    assert_int_equal(t.windows, 1);
    assert_int_equal(t.ctx, 7);
    lb_walk_text_free(&t);
    assert_int_equal(lb_walk_text_read(weights, in_work("text"), 1000, 0, &t, &err), LB_OK);
    assert_int_equal(t.ctx, 64); /* the model's maximum */
    lb_walk_text_free(&t);
    assert_int_equal(lb_walk_text_read(weights, in_work("text"), 1000, 65, &t, &err), LB_EINVAL);
    assert_int_equal(lb_walk_text_read(weights, in_work("absent"), 1000, 0, &t, &err), LB_EIO);
    scratch_write(in_work("text"), "", 0);
    assert_int_equal(lb_walk_text_read(weights, in_work("text"), 1000, 0, &t, &err), LB_EINVAL);
    lb_weights_close(weights);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_walk_sees_what_layers_are_fed),
        cmocka_unit_test(a_study_measures_every_tensor),
        cmocka_unit_test(a_study_rotates_as_a_cast_does),
        cmocka_unit_test(texts_are_cut_into_windows),
    };
    return cmocka_run_group_tests(tests, make_work, drop_work);
}
