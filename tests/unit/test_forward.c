/* SPDX-License-Identifier: MIT
 * Ways of running a model: a direct cast is what a stored checkpoint of the same recipe computes, which in turn
 * is what a second reader sees in its files; rotations alone change nothing. */
#define _GNU_SOURCE
#include "checkpoint_reader.h"
#include "eval_case.h"

#include "base/alloc.h"
#include "model/inputs.h"

/* Inputs of 48 and 40 numbers: no block size divides both, and both have Hadamard matrices. */
static const tiny_model_options model = {.seed = 7,
                                         .hidden = 48,
                                         .ffn = 40,
                                         .layers = 2,
                                         .heads = 4,
                                         .kv_heads = 2,
                                         .context = 64,
                                         .tokenizer = TINY_BYTES};

/* Inputs of 64 and 96: whole banks of 16 and 32. */
static const tiny_model_options whole_banks = {.seed = 8,
                                               .hidden = 64,
                                               .ffn = 96,
                                               .layers = 2,
                                               .heads = 4,
                                               .kv_heads = 2,
                                               .context = 64,
                                               .tokenizer = TINY_BYTES};

static const char *const sentence =
    "Weights and inputs are cast to small numbers, block by block, and what comes of "
    "it is compared with what a checkpoint of such weights gives: the same bits.";

static int make_text(void **state)
{
    make_work(state);
    scratch_write(in_work("text"), sentence, strlen(sentence));
    return 0;
}

/* Every packed weight as the library reads it and as the second reader does. */
static void check_stored(const char *folder, const char *format)
{
    lb_weights *weights;
    lb_error err;
    reader *r = reader_open(folder, model.layers);
    assert_int_equal(lb_weights_open(folder, &weights, &err), LB_OK);
    for (size_t i = 0; i < model.layers * LB_BLOCK_LINEARS; i++) {
        char layer[96], name[128];
        size_t rows, cols;
        lb_weight w;
        lb_linear_name(i / LB_BLOCK_LINEARS, (unsigned)(i % LB_BLOCK_LINEARS), layer, sizeof layer);
        lb_linear_shape(&weights->config, (unsigned)(i % LB_BLOCK_LINEARS), &rows, &cols);
        snprintf(name, sizeof name, "%s.weight", layer);
        assert_int_equal(lb_weights_find(weights, name, rows, cols, &w, &err), LB_OK);
        assert_string_equal(w.format.name, format);
        float *values = lb_alloc(rows * cols, sizeof *values);
        assert_int_equal(lb_weight_read(&w, 0, rows, values, &err), LB_OK);
        double *want = reader_weight(r, layer, rows, cols);
        for (size_t k = 0; k < rows * cols; k++)
            assert_true((double)values[k] == want[k]);
        free(want);
        lb_free(values);
    }
    reader_close(r);
    lb_weights_close(weights);
}

static void check_cast_of(const char *source, const char *weights, const char *act, const char *transform)
{
    lb_quantize_options q = small_options(source, in_work("cast"));
    lb_quantize_result result;
    q.method = "rtn";
    q.fit = "range";
    q.format = weights;
    q.act = act;
    q.transform = transform;
    must_quantize(&q, &result);
    lb_quantize_result_free(&result);
    check_stored(q.output, weights);
    lb_eval_options stored = options_for(q.output), cast = options_for(source);
    stored.against = source;
    cast.cast = (lb_cast){.weights = weights, .act = act, .transform = transform};
    const lb_eval_result a = must_evaluate(&stored), b = must_evaluate(&cast);
    if (a.model.nll_mean != b.model.nll_mean || a.kl_mean != b.kl_mean || a.kl_top25_mean != b.kl_top25_mean)
        fail_msg("%s, %s, %s: %.17g stored, %.17g cast", weights, act ? act : "-", transform,
                 a.model.nll_mean, b.model.nll_mean);
    assert_true(a.compares && a.kl_mean > 0.0 && a.reference.nll_mean == b.reference.nll_mean);
    scratch_remove(q.output);
}

static void check_cast(const char *weights, const char *act, const char *transform)
{
    check_cast_of(tiny_in_work("plain", &model), weights, act, transform);
}

static void a_checkpoint_is_its_direct_cast(void **state)
{
    (void)state;
    static const char *const formats[] = {
        "mxfp8-e4m3",  "mxfp8-e5m2",  "mxfp6-e2m3",  "mxfp6-e3m2",  "mxfp4",      "mxint8",
        "mxint6",      "mxint4",      "nvfp4",       "nvint4",      "mxint4-ocp", "mxfp4-even",
        "mxint8-asym", "mxfp4-exact", "nvint4-asym", "nvfp4-exact", "int4-g32",   "mxfp6-e2m3-ocp"};
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        check_cast(formats[i], NULL, "none");
    check_cast("mxint8", "mxint8", "none");
    check_cast("nvfp4", "nvfp4", "hadamard");
    check_cast("mxint4", "mxfp8-e4m3", "hadamard");
    check_cast("int3-g32", "int8-row", "hadamard-full");
    check_cast("nvint4", NULL, "hadamard-4");
    const char *source = tiny_in_work("whole", &whole_banks);
    check_cast_of(source, "sq8/4-b32-s0.875", NULL, "none");
    check_cast_of(source, "sq8/3-b16-s0.5", "mxint8", "none"); /* with a mask */
    check_cast_of(source, "sq6/2-b32-s0.9375", "int8-row", "hadamard");
}

static void a_rotation_alone_changes_nothing(void **state)
{
    (void)state;
    static const char *const transforms[] = {"hadamard", "hadamard-4", "hadamard-8", "hadamard-full"};
    lb_eval_options o = options_for(tiny_in_work("plain", &model));
    for (size_t i = 0; i < sizeof transforms / sizeof *transforms; i++) {
        o.cast = (lb_cast){.transform = transforms[i]};
        const lb_eval_result r = must_evaluate(&o);
        /* Logits differ by rounding errors e of float sums, and divergence by about e^2 / 2. */
        assert_true(r.compares && r.kl_mean < 1e-9 && r.top1_agreement == 100.0);
        assert_true(fabs(r.model.nll_mean - r.reference.nll_mean) < 1e-5);
    }
    o.cast = (lb_cast){.weights = "mxint4", .transform = "hadamard"};
    const double first = must_evaluate(&o).model.nll_mean;
    assert_true(must_evaluate(&o).model.nll_mean == first);
    o.seed = 43;
    assert_true(must_evaluate(&o).model.nll_mean != first);
}

/* GPTQ on rotated layers and rounded inputs: better than rounding to nearest on what it was calibrated with. */
static void methods_work_on_rotated_layers(void **state)
{
    (void)state;
    double errors[2] = {0, 0};
    for (int gptq = 0; gptq < 2; gptq++) {
        lb_quantize_options q =
            small_options(tiny_in_work("plain", &model), in_work(gptq ? "by_gptq" : "by_rtn"));
        lb_quantize_result result;
        q.method = gptq ? "gptq" : "rtn";
        q.format = "nvfp4";
        q.act = "mxint8";
        q.transform = "hadamard";
        q.calibration = in_work("text");
        q.samples = 4;
        q.seqlen = CTX;
        must_quantize(&q, &result);
        for (size_t i = 0; i < result.layer_count; i++)
            errors[gptq] += result.layers[i].relative_error;
        assert_non_null(strstr(result.recipe, "\"transform\":\"hadamard-16\""));
        assert_non_null(strstr(result.recipe, "\"act\":\"mxint8\""));
        lb_quantize_result_free(&result);
        lb_eval_options o = options_for(q.output);
        o.against = q.model;
        assert_true(must_evaluate(&o).kl_mean < 1.0);
    }
    assert_true(errors[1] < errors[0]);
}

/* Layers that a rule leaves in float are rotated too, as their inputs are. */
static void float_layers_are_stored_rotated(void **state)
{
    (void)state;
    static const char *const rules[] = {"model.layers.*=f32"};
    lb_quantize_options q = small_options(tiny_in_work("plain", &model), in_work("floats"));
    lb_quantize_result result;
    q.method = "rtn";
    q.transform = "hadamard-full";
    q.layer_rules = rules;
    q.layer_rule_count = 1;
    must_quantize(&q, &result);
    lb_quantize_result_free(&result);
    lb_eval_options o = options_for(q.output);
    o.against = q.model;
    assert_true(must_evaluate(&o).kl_mean < 1e-9);
}

/* Rescaled channels leave nothing to do at run time: a checkpoint of float layers is the model, whatever reads it. */
static void rescaled_checkpoints_are_the_model(void **state)
{
    (void)state;
    static const char *const rules[] = {"model.layers.*=f32"};
    static const char *const transforms[] = {"smooth", "smooth+hadamard"};
    for (size_t i = 0; i < sizeof transforms / sizeof *transforms; i++) {
        lb_quantize_options q = small_options(tiny_in_work("plain", &model), in_work("rescaled"));
        lb_quantize_result result;
        q.method = "rtn";
        q.transform = transforms[i];
        q.smooth = 0.7;
        q.layer_rules = rules;
        q.layer_rule_count = 1;
        must_quantize(&q, &result);
        assert_non_null(strstr(result.recipe, "\"smooth\":0.7"));
        assert_non_null(strstr(result.recipe, i ? "\"smooth+hadamard-32\"" : "\"transform\":\"smooth\""));
        lb_quantize_result_free(&result);
        lb_eval_options o = options_for(q.output);
        o.against = q.model;
        assert_true(must_evaluate(&o).kl_mean < 1e-9);
        scratch_remove(q.output);
    }
    /* Clipping goes with ranges, and not with methods that learn it. */
    for (int i = 0; i < 4; i++) {
        lb_quantize_options q = small_options(tiny_in_work("plain", &model), NULL);
        lb_quantize_result result;
        q.transform = "awq";
        q.dry_run = true;
        q.method = i == 1 ? "signround" : "rtn";
        q.fit = i == 2 ? "search" : "range";
        q.clip = i != 3;
        must_quantize(&q, &result);
        assert_non_null(strstr(result.recipe, i == 0 ? "\"clip\":true" : "\"clip\":false"));
        lb_quantize_result_free(&result);
    }
    lb_eval_options o = options_for(tiny_in_work("plain", &model));
    o.cast = (lb_cast){.weights = "int4-g32", .transform = "smooth"};
    must_refuse_eval(&o, LB_EINVAL, "transform smooth wants calibration");
    lb_quantize_options q = small_options(o.model, in_work("refused"));
    q.transform = "smooth";
    q.smooth = 1.5;
    must_refuse(&q, LB_EINVAL, "smoothing strength 1.5 is outside 0 to 1");
}

static void several_casts_are_as_each_alone(void **state)
{
    (void)state;
    static const lb_cast casts[] = {{.weights = "mxint4", .act = "mxint4"},
                                    {.weights = "nvfp4", .act = "nvfp4", .transform = "hadamard"},
                                    {.weights = "mxfp8-e4m3"},
                                    {0}};
    enum { COUNT = sizeof casts / sizeof *casts };
    lb_eval_options o = options_for(tiny_in_work("plain", &model));
    lb_eval_result together[COUNT];
    lb_error err;
    assert_int_equal(lb_evaluate_casts(&o, casts, COUNT, together, &err), LB_OK);
    for (size_t k = 0; k < COUNT; k++) {
        o.cast = casts[k];
        o.against = o.model;
        const lb_eval_result alone = must_evaluate(&o);
        assert_true(alone.model.nll_mean == together[k].model.nll_mean);
        assert_true(alone.kl_mean == together[k].kl_mean && alone.kl_p99 == together[k].kl_p99);
        assert_true(alone.kl_top25_mean == together[k].kl_top25_mean);
        assert_true(alone.top1_agreement == together[k].top1_agreement);
    }
    assert_true(together[COUNT - 1].kl_mean == 0.0);
    o.cast = casts[0]; /* either one or a list */
    assert_int_equal(lb_evaluate_casts(&o, casts, COUNT, together, &err), LB_EINVAL);
    o.cast = (lb_cast){0};
    assert_int_equal(lb_evaluate_casts(&o, casts, 0, together, &err), LB_EINVAL);
}

static void rotations_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *transform, *words;
    } cases[] = {
        {"fourier", "\"fourier\" is not known"},
        {"hadamard-", "\"hadamard-\" is not known"},
        {"hadamard-0", "\"hadamard-0\" is not known"},
        {"hadamard-08", "\"hadamard-08\" is not known"},
        {"hadamard-8x", "\"hadamard-8x\" is not known"},
        {"hadamard--8", "\"hadamard--8\" is not known"},
        {"hadamard-32", "32 does not divide the 48 inputs of q_proj"},
        {"hadamard-16", "16 does not divide the 40 inputs of down_proj"},
        {"hadamard-99999999999999999999", "is not known"},
    };
    lb_eval_options o = options_for(tiny_in_work("plain", &model));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        o.cast.transform = cases[i].transform;
        must_refuse_eval(&o, LB_EINVAL, cases[i].words);
    }
    tiny_model_options odd = model;
    odd.ffn = 44;
    o = options_for(tiny_in_work("odd", &odd));
    o.cast.transform = "hadamard-full";
    must_refuse_eval(&o, LB_EINVAL, "no Hadamard matrix of order 44");
    o.cast.fit = "guess";
    must_refuse_eval(&o, LB_EINVAL, "fit \"guess\" is not known");
}

/* An infinity or a NaN inside the model makes its block NaN, and the score is refused, not made up. */
static void activations_that_are_no_numbers_are_noticed(void **state)
{
    (void)state;
    tiny_model *m = tiny_model_make(&model);
    for (size_t i = 0; i < m->count; i++) {
        if (strstr(m->tensors[i].name, "layers.1.mlp.up_proj"))
            for (size_t k = 0; k < m->tensors[i].rows * m->tensors[i].cols; k++)
                m->tensors[i].values[k] = 3e38f;
    }
    assert_int_equal(tiny_model_save(in_work("huge"), m), 0);
    tiny_model_free(m);
    lb_eval_options o = options_for(in_work("huge"));
    lb_eval_result r;
    lb_error err;
    o.cast.act = "mxfp8-e4m3";
    assert_int_equal(lb_evaluate(&o, &r, &err), LB_EFORMAT);
    assert_non_null(strstr(err.msg, "not finite"));
}

/* Finite weights whose rounded values are not: refused by name, not stored. */
static void weights_that_round_to_infinity_are_refused(void **state)
{
    (void)state;
    tiny_model *m = tiny_model_make(&model);
    for (size_t i = 0; i < m->count; i++) {
        if (strstr(m->tensors[i].name, "layers.0.self_attn.o_proj"))
            m->tensors[i].values[5] = 3.4e38f;
    }
    assert_int_equal(tiny_model_save(in_work("edge"), m), 0);
    tiny_model_free(m);
    lb_quantize_options q = small_options(in_work("edge"), in_work("edge_out"));
    q.method = "rtn";
    q.fit = "range";
    q.format = "mxfp4";
    must_refuse(&q, LB_EINVAL,
                "layers.0.self_attn.o_proj: its weights are so large that mxfp4 rounds some to");
    q.seed = (uint64_t)INT64_MAX + 1;
    must_refuse(&q, LB_EINVAL, "is more than the 9223372036854775807");
}

/* bf16 and f16 are formats to cast to as well. */
static void casts_to_sixteen_bits_round(void **state)
{
    (void)state;
    lb_eval_options o = options_for(tiny_in_work("plain", &model));
    const char *const names[] = {"f32", "f16", "bf16"};
    double kl[3];
    for (size_t i = 0; i < 3; i++) {
        o.cast = (lb_cast){.weights = names[i], .act = names[i]};
        kl[i] = must_evaluate(&o).kl_mean;
    }
    assert_true(kl[0] == 0.0 && kl[1] > 0.0 &&
                kl[2] > 8.0 * kl[1]); /* three bits less: 64 times, in the mean */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_checkpoint_is_its_direct_cast),
        cmocka_unit_test(a_rotation_alone_changes_nothing),
        cmocka_unit_test(methods_work_on_rotated_layers),
        cmocka_unit_test(float_layers_are_stored_rotated),
        cmocka_unit_test(rescaled_checkpoints_are_the_model),
        cmocka_unit_test(several_casts_are_as_each_alone),
        cmocka_unit_test(rotations_that_do_not_fit_are_refused),
        cmocka_unit_test(activations_that_are_no_numbers_are_noticed),
        cmocka_unit_test(weights_that_round_to_infinity_are_refused),
        cmocka_unit_test(casts_to_sixteen_bits_round),
    };
    return cmocka_run_group_tests(tests, make_text, drop_work);
}
