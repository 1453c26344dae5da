/* SPDX-License-Identifier: MIT
 * Learning scales and coefficients end to end, in the loop over blocks that asks for it: steps against differences of
 * the divergence of a transformer in double, what is kept, and what becomes of runs that were interrupted. */
#define _GNU_SOURCE
#include "polish_case.h"

/* ---- Steps --------------------------------------------------------------------------------------------- */

/* A coefficient, what a step of the rate 1 is there, and the derivative times that, by differences. */
typedef struct place {
    size_t layer, row, param;
    double unit, slope;
} place;

static double sum_of_others(const trial *t, const tiny_model *m, size_t held)
{
    double sum = 0.0;
    for (size_t s = 0; s < t->samples.count; s++)
        sum += s == held ? 0.0 : divergence(t, m, s);
    return sum;
}

static void measure(const trial *t, tiny_model *m, size_t held, place *p)
{
    const lb_layer *l = &t->layers[p->layer];
    const stored *from = &t->first[p->layer];
    const size_t width = params_of_row(l), g = p->param / l->format.params;
    const size_t begin = g * l->format.group, size = lb_format_group_size(&l->format, l->cols, g);
    float *params = must(malloc(width * sizeof *params));
    memcpy(params, from->params + p->row * width, width * sizeof *params);
    const float kept = params[p->param], *own = params + g * l->format.params;
    double values = 0.0, squares = 0.0;
    for (size_t k = begin; k < begin + size; k++) {
        const uint8_t code = from->codes[p->row * l->cols + k];
        values += pow(value(&l->format, own, code), 2.0);
        squares += pow(basis(&l->format, own, code, (unsigned)(p->param % l->format.params)), 2.0);
    }
    p->unit = squares > 0.0 ? sqrt(values / squares) : 0.0;
    const float up = kept + (float)(p->unit / 128.0), down = kept - (float)(p->unit / 128.0);
    params[p->param] = up;
    put_row(t, m, p->layer, p->row, from->codes, params);
    p->slope = sum_of_others(t, m, held);
    params[p->param] = down;
    put_row(t, m, p->layer, p->row, from->codes, params);
    p->slope -= sum_of_others(t, m, held);
    p->slope *= p->unit > 0.0 ? p->unit / ((double)up - (double)down) : 0.0;
    params[p->param] = kept;
    put_row(t, m, p->layer, p->row, from->codes, params);
    free(params);
}

/* Adam's first step is as long everywhere: rate times unit, against the sign of the derivative. */
static void check_first_step(const char *format)
{
    enum { PLACES = 150 };
    const double rate = 0.003; /* so little that even a sample held aside must feel it */
    place places[PLACES];
    trial t;
    lb_rng rng;
    size_t checked = 0, last_groups = 0;
    double size = 0.0;
    lb_rng_seed(&rng, 63);
    open_trial(&t, &small, format, 3);
    t.recipe.polish.lr = rate;
    must_run(&t);
    assert_true(t.report.after < t.report.before);
    const size_t held = held_aside(&t);
    tiny_model *m = model_of(&t, t.first);
    for (size_t k = 0; k < PLACES; k++) {
        place *p = &places[k];
        p->layer = k % LAYERS;
        const lb_layer *l = &t.layers[p->layer];
        const size_t g = lb_rng_below(&rng, lb_format_groups(&l->format, l->cols));
        p->row = lb_rng_below(&rng, l->rows);
        p->param = g * l->format.params + lb_rng_below(&rng, coefficients(&l->format));
        measure(&t, m, held, p);
        size += fabs(p->slope) / PLACES;
    }
    for (size_t k = 0; k < PLACES; k++) {
        const place *p = &places[k];
        const lb_layer *l = &t.layers[p->layer];
        const size_t at = p->row * params_of_row(l) + p->param;
        if (fabs(p->slope) < 0.05 * size)
            continue;
        const double kept = (double)t.first[p->layer].params[at], got = (double)t.last[p->layer].params[at],
                     want = kept - rate * p->unit * (p->slope > 0.0 ? 1.0 : -1.0);
        /* half a step of f16 */
        if (!(fabs(got - want) <= 0x1.01p-11 * fabs(want) + 0x1p-24))
            fail_msg("%s, %s: param %zu of row %zu went from %g to %g, wanted %g (slope %g of %g)", format,
                     l->name, p->param, p->row, kept, got, want, p->slope, size);
        checked++;
        last_groups += p->param / l->format.params + 1 == lb_format_groups(&l->format, l->cols);
    }
    assert_true(checked > PLACES / 2 && last_groups > PLACES / 10);
    tiny_model_free(m);
    close_trial(&t);
}

static void first_steps_follow_differences(void **state)
{
    (void)state;
    static const char *const formats[] = {"int2-g32", "int4-g32-asym", "bp2-g64", "bp3-g32", "bp4-g64"};
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        check_first_step(formats[i]);
}

/* ---- What comes of them -------------------------------------------------------------------------------- */

/* Params are floats that storage gives back. */
static void check_storage(const trial *t)
{
    for (size_t i = 0; i < LAYERS; i++) {
        const lb_layer *l = &t->layers[i];
        const size_t width = params_of_row(l);
        lb_format_part parts[LB_FORMAT_MAX_PARTS];
        uint8_t *bytes[LB_FORMAT_MAX_PARTS] = {NULL};
        lb_error err;
        if (lb_format_is_float(&l->format))
            continue;
        const unsigned count = l->format.ops->parts(&l->format, l->cols, parts);
        uint8_t *codes = must(malloc(l->cols));
        float *params = must(malloc(width * sizeof *params));
        for (unsigned k = 0; k < count; k++)
            bytes[k] = must(malloc(parts[k].row_bytes));
        for (size_t row = 0; row < l->rows; row++) {
            const float *own = t->last[i].params + row * width;
            l->format.ops->pack(&l->format, t->last[i].codes + row * l->cols, own, l->cols, bytes);
            ok(l->format.ops->unpack(&l->format, (const uint8_t *const *)bytes, l->cols, codes, params, &err),
               &err);
            assert_memory_equal(codes, t->last[i].codes + row * l->cols, l->cols);
            assert_memory_equal(params, own, width * sizeof *params);
        }
        for (unsigned k = 0; k < count; k++)
            free(bytes[k]);
        free(codes);
        free(params);
    }
}

static void set_polish(trial *t, size_t steps, size_t batch, double lr)
{
    t->recipe.polish = (lb_polish_recipe){.steps = steps, .batch = batch, .lr = lr};
}

static void predictions_come_closer(void **state)
{
    (void)state;
    static const struct {
        const char *format;
        double share; /* of the divergence that may be left */
    } cases[] = {{"int2-g32-asym", 0.5}, {"int3-g32", 0.5}, {"int4-row", 0.5},
                 {"bp1-g32", 0.5},       {"bp2-g64", 0.5},  {"int8-row-asym", 1.0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        trial t;
        open_trial(&t, &small, cases[i].format, 8);
        set_polish(&t, 40, 3, 0.01);
        must_run(&t);
        held_aside(&t); /* what is reported is true */
        if (!(t.report.after <= cases[i].share * t.report.before))
            fail_msg("%s: %g -> %g", cases[i].format, t.report.before, t.report.after);
        assert_true(same_params(&t, t.first, t.last) == (t.report.after == t.report.before));
        check_storage(&t);
        close_trial(&t);
    }
}

/* Steps that only do harm, however far they lead, leave everything as it was. */
static void what_is_worse_is_not_kept(void **state)
{
    (void)state;
    const double rates[] = {1.0, 1e4, 1e30};
    for (size_t i = 0; i < 6; i++) {
        trial t;
        open_trial(&t, &small, i < 3 ? "int4-g32" : "bp3-g32", 4);
        set_polish(&t, 6, 2, rates[i % 3]);
        must_run(&t);
        assert_true(t.report.after == t.report.before && t.report.before > 0.0);
        assert_true(same_params(&t, t.first, t.last));
        close_trial(&t);
    }
}

static void add_rule(trial *t, const char *rule)
{
    lb_error err;
    ok(lb_recipe_add_rule(&t->recipe, rule, &err), &err);
}

static void scale_tensors(trial *t, const char *suffix, float factor)
{
    for (size_t i = 0; i < t->made->count; i++) {
        tiny_tensor *tensor = &t->made->tensors[i];
        for (size_t k = 0;
             strstr(tensor->name, suffix) && k < (tensor->rows ? tensor->rows : 1) * tensor->cols; k++)
            tensor->values[k] *= factor;
    }
}

/* Values within that floats can just hold: the first long step makes them infinite. */
static void a_step_out_of_all_bounds_is_taken_back(void **state)
{
    (void)state;
    trial t;
    open_trial(&t, &small, "int4-g32", 4);
    scale_tensors(&t, "post_attention_layernorm", 1e14f);
    scale_tensors(&t, "down_proj", 1e-28f);
    reopen(&t);
    add_rule(&t, "*.down_proj=f32");
    set_polish(&t, 6, 2, 0.01);
    must_run(&t);
    assert_true(t.report.after < t.report.before);
    forget(&t);
    set_polish(&t, 6, 2, 1e6);
    must_run(&t);
    assert_true(t.report.after == t.report.before && t.report.before > 0.0);
    assert_true(same_params(&t, t.first, t.last));
    close_trial(&t);
}

/* Layers that have nothing to learn, alone in a block, or beside others. */
static void other_formats_are_left_alone(void **state)
{
    (void)state;
    trial t;
    open_trial(&t, &small, "int3-g32", 4);
    add_rule(&t, "*.q_proj=bf16");
    add_rule(&t, "*.up_proj=mxfp4");
    add_rule(&t, "*.gate_proj=nvfp4");
    add_rule(&t, "*.1.*=f32");
    set_polish(&t, 8, 2, 0.01);
    must_run(&t);
    assert_true(t.report.after < t.report.before);
    assert_false(same_params(&t, t.first, t.last)); /* which looks at codes */
    for (size_t i = 0; i < LAYERS; i++) {
        const lb_layer *l = &t.layers[i];
        const bool learns = i < LB_BLOCK_LINEARS && strncmp(l->format.name, "int3", 4) == 0;
        assert_true(learns == (t.learned[i] != NULL));
        assert_true((t.first[i].codes == NULL) == lb_format_is_float(&l->format));
        if (t.first[i].codes && !learns)
            assert_memory_equal(t.first[i].params, t.last[i].params, params_of(l) * sizeof(float));
        if (learns)
            assert_memory_equal(t.learned[i], t.last[i].params, params_of(l) * sizeof(float));
    }
    close_trial(&t);
}

static void the_same_bits_at_any_thread_count(void **state)
{
    (void)state;
    trial t;
    stored one[LAYERS];
    open_trial(&t, &small, "bp2-g32", 8);
    set_polish(&t, 5, 3, 0.01);
    lb_thread_set_count(1);
    must_run(&t);
    const lb_polish_report report = t.report;
    copy_of(&t, one);
    for (unsigned threads = 2; threads <= 3; threads++) {
        lb_thread_set_count(threads);
        forget(&t);
        must_run(&t);
        assert_true(t.report.before == report.before && t.report.after == report.after);
        assert_true(same_params(&t, one, t.last));
    }
    lb_thread_set_count(0);
    assert_false(same_params(&t, t.first, t.last));
    drop(one);
    close_trial(&t);
}

/* Rotated weights, and inputs that are rounded: the model that is polished is the one that will run. */
static void rotated_and_rounded_inputs(void **state)
{
    (void)state;
    static const char *const transforms[] = {"hadamard-4", "none", "hadamard"}, *const acts[] = {"f32",
                                                                                                 "int4-row",
                                                                                                 "int8-row"};
    for (size_t i = 0; i < 3; i++) {
        lb_error err;
        trial t;
        open_trial(&t, &small, "int3-g32-asym", 8);
        ok(lb_transform_parse(transforms[i], &t.recipe.transform, &err), &err);
        ok(lb_transform_resolve(&t.recipe.transform, &t.recipe.format, &t.weights->config, &err), &err);
        ok(lb_act_parse(acts[i], &t.recipe.act, &err), &err);
        set_polish(&t, 24, 3, 0.01);
        must_run(&t);
        if (!(t.report.after < 0.9 * t.report.before))
            fail_msg("%s, %s: %g -> %g", transforms[i], acts[i], t.report.before, t.report.after);
        check_storage(&t);
        close_trial(&t);
    }
}

/* ---- Runs that do not go through ----------------------------------------------------------------------- */

/* All learned files there: they are taken; one missing: all is learned again. Blocks may have been committed anew
 * or not. */
static void interrupted_runs_end_the_same(void **state)
{
    (void)state;
    trial t;
    lb_error err;
    stored whole[LAYERS];
    open_trial(&t, &small, "int3-g32", 4);
    add_rule(&t, "*.down_proj=mxfp4");
    set_polish(&t, 3, 2, 0.01);
    must_run(&t);
    assert_int_equal(t.saves, BLOCKS);
    assert_int_equal(t.commits, 2 * BLOCKS);
    copy_of(&t, whole);
    assert_false(same_params(&t, t.first, whole));

    must_run(&t); /* once more after the last commit */
    assert_int_equal(t.saves, 0);
    assert_int_equal(t.commits, BLOCKS);
    assert_true(isnan(t.report.before) && isnan(t.report.after));
    assert_true(same_params(&t, t.last, whole));

    for (size_t stop = 1; stop <= 2 * BLOCKS; stop++) { /* at every commit */
        forget(&t);
        t.stop_commit = stop;
        assert_int_equal(run(&t, &err), LB_EIO);
        t.stop_commit = 0;
        must_run(&t);
        assert_int_equal(t.saves, stop <= BLOCKS ? BLOCKS : 0);
        assert_true(same_params(&t, t.last, whole));
    }
    forget(&t); /* between the learned ones */
    t.stop_commit = BLOCKS + 1;
    assert_int_equal(run(&t, &err), LB_EIO);
    t.stop_commit = 0;
    t.has_learned[BLOCKS - 1] = false;
    must_run(&t);
    assert_int_equal(t.saves, BLOCKS);
    assert_true(same_params(&t, t.last, whole));
    drop(whole);
    close_trial(&t);
}

/* At every question that is asked, and wherever memory may end. */
static void a_run_can_be_stopped(void **state)
{
    (void)state;
    trial t;
    lb_error err;
    lb_status st = LB_ENOMEM;
    open_trial(&t, &small, "int3-g32", 2);
    add_rule(&t, "*.down_proj=mxfp4");
    set_polish(&t, 1, 2, 0.01);
    lb_thread_set_count(1);
    t.recipe.polish.steps = 0;
    must_run(&t);
    const size_t without = t.asked;
    t.recipe.polish.steps = 1;
    must_run(&t);
    const size_t all = t.asked;
    assert_true(all >=
                without + 16); /* forward thrice, back once: each block when it begins and when it ends */
    for (t.stop_at = without; t.stop_at <= all; t.stop_at++) {
        memset(t.has_learned, 0, sizeof t.has_learned);
        assert_int_equal(run(&t, &err), LB_ECANCELED);
        assert_string_equal(err.msg, t.stop_at == all ? "interrupted at block 2/2" : err.msg);
        assert_int_equal(t.commits, t.stop_at == all ? BLOCKS : 0);
    }
    t.stop_at = 0;
    for (size_t k = 1; st != LB_OK; k++) {
        memset(t.has_learned, 0, sizeof t.has_learned);
        lb_alloc_fail_at(k);
        st = run(&t, &err);
        lb_alloc_fail_at(0);
        assert_true(st == LB_OK ? k > 200 : st == LB_ENOMEM && err.status == LB_ENOMEM);
    }
    lb_thread_set_count(0);
    close_trial(&t);
}

static void must_refuse(trial *t, const char *sentence)
{
    lb_error err = {LB_OK, ""};
    assert_int_equal(run(t, &err), LB_EINVAL);
    assert_string_equal(err.msg, sentence);
    assert_int_equal(t->saves, 0);
}

static void too_little_to_learn_from_is_refused(void **state)
{
    (void)state;
    trial t;
    open_trial(&t, &small, "int3-g32", 2);
    t.samples.count = 1;
    must_refuse(&t, "polishing wants at least 2 calibration samples of 2 tokens, got 1 of 8");
    t.samples = (lb_samples){.ids = t.ids, .count = 6, .length = 1};
    must_refuse(&t, "polishing wants at least 2 calibration samples of 2 tokens, got 6 of 1");
    close_trial(&t);
}

/* ---- Memory -------------------------------------------------------------------------------------------- */

/* What is in use whenever progress is told is no more than was foretold, and not much less. */
static void memory_is_foretold(void **state)
{
    (void)state;
    const tiny_model_options wide = {
        .seed = 64, .hidden = 128, .ffn = 320, .heads = 4, .kv_heads = 2, .vocab = VOCAB, .layers = BLOCKS};
    static const char *const formats[] = {"int2-g32", "bp3-g32", "mxfp4"};
    for (size_t i = 0; i < 3; i++) {
        trial t;
        open_trial(&t, &wide, formats[i], 4);
        if (i == 2)
            add_rule(&t, "*.0.*.q_proj=int4-g32");
        set_polish(&t, 1, 4, 0.01);
        must_run(&t);
        const size_t needed = t.most_memory - t.memory,
                     foretold = lb_polish_bytes(&t.weights->config, &t.recipe, t.samples.count, LENGTH);
        if (t.memory > 0 && !(needed <= foretold && needed >= foretold / 3 * 2))
            fail_msg("%s: %zu bytes, foretold were %zu", formats[i], needed, foretold);
        close_trial(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_steps_follow_differences),
        cmocka_unit_test(predictions_come_closer),
        cmocka_unit_test(what_is_worse_is_not_kept),
        cmocka_unit_test(a_step_out_of_all_bounds_is_taken_back),
        cmocka_unit_test(other_formats_are_left_alone),
        cmocka_unit_test(the_same_bits_at_any_thread_count),
        cmocka_unit_test(rotated_and_rounded_inputs),
        cmocka_unit_test(interrupted_runs_end_the_same),
        cmocka_unit_test(a_run_can_be_stopped),
        cmocka_unit_test(too_little_to_learn_from_is_refused),
        cmocka_unit_test(memory_is_foretold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
