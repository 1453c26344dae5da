/* SPDX-License-Identifier: MIT
 * Channels of activations in two precisions: exactly as many high ones in each bank as the format says, those of the
 * highest score; a checkpoint of them is read back as it was made, generates in integers what it scores in floats, and
 * is refused where its masks are not what its format says. */
#define _GNU_SOURCE
#include "eval_case.h"
#include "rescale_case.h"

#include "eval/forward.h"
#include "infer/session.h"
#include "model/input_order.h"
#include "quantize/act_masks.h"

static const tiny_model_options model = {.seed = 7,
                                         .hidden = 48,
                                         .ffn = 40,
                                         .layers = 2,
                                         .heads = 4,
                                         .kv_heads = 2,
                                         .context = 64,
                                         .tokenizer = TINY_BYTES};

static const char *const sentence =
    "Of every bank a few channels are held in eight bits and the others in four; "
    "which they are is known before the model runs.";

static int make_text(void **state)
{
    make_work(state);
    scratch_write(in_work("text"), sentence, strlen(sentence));
    return 0;
}

/* ---- Names ---------------------------------------------------------------------------------------------------- */

static void names_say_what_they_mean(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        size_t bank, high;
        unsigned bits[2];
        bool dynamic;
    } good[] = {{"sq8/4-b64-s0.875", 64, 8, {8, 4}, false},
                {"sq8/2-b16-s0.9375", 16, 1, {8, 2}, false},
                {"sq4/2-b32-s0.5-dynamic", 32, 16, {4, 2}, true}};
    static const struct {
        const char *name, *words;
    } bad[] = {
        {"sq8/4-b16-s0.9", "(1 - 0.9) * 16 = 1.6"}, {"sq8/4-b16-s0.99", "want a whole number from 1 on"},
        {"sq4/8-b16-s0.5", "is not of the form"},   {"sq9/4-b16-s0.5", "is not of the form"},
        {"sq8/1-b16-s0.5", "is not of the form"},   {"sq8/4-b0-s0.5", "is not of the form"},
        {"sq8/4-b16-s1", "is not of the form"},     {"sq8/4-b16-s0", "is not of the form"},
        {"sq8/4-b16-s0.5x", "is not of the form"},  {"sq8/4-b016-s0.5", "is not of the form"},
        {"sq8/4-b16-snan", "is not of the form"},   {"sq", "is not of the form"},
        {"square", "is not of the form"},           {"int9-row", "is not known"}};
    lb_act a;
    lb_error err;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        ok(lb_act_parse(good[i].name, &a, &err), &err);
        assert_string_equal(a.name, good[i].name);
        assert_true(a.bank == good[i].bank && a.high_per_bank == good[i].high &&
                    a.dynamic == good[i].dynamic);
        assert_true(a.high.bits == good[i].bits[0] && a.format.bits == good[i].bits[1]);
        assert_true(lb_act_masks(&a) == !a.dynamic && !lb_act_keeps(&a));
        assert_int_equal(lb_act_high_channels(&a, 10 * a.bank), 10 * a.high_per_bank);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(lb_act_parse(bad[i].name, &a, &err), LB_EINVAL);
        if (!strstr(err.msg, bad[i].words))
            fail_msg("%s: %s", bad[i].name, err.msg);
    }
    ok(lb_act_parse("f32", &a, &err), &err);
    assert_true(lb_act_keeps(&a) && !lb_act_masks(&a));
}

/* ---- Choice --------------------------------------------------------------------------------------------------- */

static void banks_have_exactly_so_many(void **state)
{
    (void)state;
    enum { WIDTH = 96 };
    static const char *const names[] = {"sq8/4-b16-s0.75", "sq8/4-b32-s0.96875", "sq8/4-b2-s0.5",
                                        "sq8/3-b96-s0.5"};
    lb_rng rng;
    lb_rng_seed(&rng, 3);
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        lb_act a;
        lb_error err;
        double score[WIDTH];
        uint32_t order[WIDTH];
        bool seen[WIDTH] = {false};
        ok(lb_act_parse(names[k], &a, &err), &err);
        for (size_t i = 0; i < WIDTH; i++)
            score[i] = (double)lb_rng_below(&rng, 9); /* many are equal */
        lb_order_by_score(&a, score, WIDTH, order);
        const size_t high = lb_act_high_channels(&a, WIDTH);
        for (size_t i = 0; i < WIDTH; i++) {
            assert_true(order[i] < WIDTH && !seen[order[i]]);
            seen[order[i]] = true;
            assert_true(i == 0 || i == high || order[i] > order[i - 1]);
            /* Its place in its bank is what it is in the order. */
            assert_int_equal((i < high ? i : i - high) /
                                 (i < high ? a.high_per_bank : a.bank - a.high_per_bank),
                             order[i] / a.bank);
            for (size_t low = high; i < high && low < WIDTH; low++)
                if (order[low] / a.bank == order[i] / a.bank)
                    assert_true(score[order[i]] >= score[order[low]]);
        }
    }
}

/* Scores by their formulas, in the order in which the paper writes them. */
static double slow_score(const lb_block *block, const lb_block_trace *trace, lb_stage stage,
                         lb_mask_score how, size_t channel, size_t width)
{
    double mean = 0.0, sum = 0.0, squares = 0.0;
    for (size_t t = 0; t < TOKENS; t++)
        mean += fabs((double)trace->inputs[stage][t * width + channel]) / TOKENS;
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        const lb_linear *l = &block->linear[which];
        for (size_t r = 0; lb_block_linears[which].stage == stage && r < l->rows; r++) {
            const double w = (double)((float *)l->dense)[r * width + channel];
            sum += w;
            squares += w * w;
        }
    }
    return how == LB_MASK_SIGNED ? fabs(mean * sum) : how == LB_MASK_ABSOLUTE ? mean : mean * sqrt(squares);
}

static void the_highest_scores_are_chosen(void **state)
{
    (void)state;
    static const char *const hows[] = {"norm", "absolute", "signed"};
    for (unsigned how = 0; how < 3; how++) {
        whole w;
        lb_error err;
        lb_block block;
        lb_block_trace trace;
        lb_recipe recipe;
        lb_channel_orders got;
        open_whole(&w, &model);
        lb_recipe_default(&recipe);
        ok(lb_act_parse("sq8/4-b8-s0.75", &recipe.act, &err), &err);
        ok(lb_mask_score_parse(hows[how], &recipe.mask_score, &err), &err);
        float *x = lb_alloc(TOKENS * w.config->hidden, sizeof *x);
        feed(&w, x);
        ok(lb_block_load(w.weights, 0, LB_LOAD_FLOAT, &block, &err), &err);
        const lb_channel_scaler job = scaler_for(&w, &recipe, &block, NULL, x);
        ok(lb_act_masks_choose(&job, &got, &err), &err);
        ok(lb_block_trace_create(w.config, TOKENS, LENGTH, &trace, &err), &err);
        const lb_stage_context c = {
            .kernels = job.kernels, .config = w.config, .rope = &w.rope, .block = &block};
        ok(lb_block_forward_traced(&c, x, SEQUENCES, LENGTH, &trace, x, &err), &err);
        for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++) {
            const size_t width = lb_stage_width(w.config, (lb_stage)stage), high = width / 8 * 2;
            double score[48];
            for (size_t i = 0; i < width; i++)
                score[i] = slow_score(&block, &trace, (lb_stage)stage, (lb_mask_score)how, i, width);
            for (size_t i = 0; i < high; i++)
                for (size_t k = high; k < width; k++) {
                    const uint32_t a = got.order[stage][i], b = got.order[stage][k];
                    if (a / 8 == b / 8)
                        assert_true(score[a] >= score[b] * (1.0 - 1e-5));
                }
        }
        lb_channel_orders_free(&got);
        lb_block_trace_free(&trace);
        lb_block_free(&block);
        lb_free(x);
        close_whole(&w);
    }
}

/* ---- Checkpoints ---------------------------------------------------------------------------------------------- */

static lb_quantize_options masked_options(const char *output)
{
    lb_quantize_options q = small_options(tiny_in_work("plain", &model), output);
    q.method = "rtn";
    q.fit = "range";
    q.format = "int4-g32";
    q.act = "sq8/4-b8-s0.75";
    return q;
}

/* What a session says of all tokens, and what the forward pass of evaluation says. */
static void compare_ways(const char *folder, size_t step)
{
    enum { N = 24 };
    lb_resident resident;
    lb_session *session;
    lb_forward forward;
    lb_way way;
    lb_error err;
    uint32_t ids[N];
    float *logits;
    const lb_kernels *kernels = lb_kernels_get(LB_CPU_BEST);
    for (uint32_t i = 0; i < N; i++)
        ids[i] = 40 + 7 * i % 60;
    ok(lb_resident_load(folder, NULL, &resident, &err), &err);
    ok(lb_session_create(kernels, &resident, N, 0, &session, &err), &err);
    for (size_t at = 0; at < N; at += step)
        ok(lb_session_feed(session, ids + at, step, NULL, &logits, &err), &err);
    ok(lb_forward_open(folder, N, kernels, &forward, &err), &err);
    const lb_cast as_it_is = {0};
    ok(lb_way_create(&forward, &as_it_is, 42, &way, &err), &err);
    const size_t hidden = resident.config.hidden, vocab = resident.config.vocab;
    float *x = lb_alloc(N * hidden, sizeof *x), *scratch = lb_alloc(hidden, sizeof *x);
    float *want = lb_alloc(vocab, sizeof *x);
    const lb_progress silent = {0};
    ok(lb_forward_run(&forward, &way, ids, 1, x, &silent, "", &err), &err);
    ok(lb_embedding_logits(kernels, &forward.embedding, x + (N - 1) * hidden, 1, scratch, want, &err), &err);
    double size = 0.0;
    for (size_t i = 0; i < vocab; i++)
        size = fmax(size, fabs((double)want[i]));
    /* A last bit in a sum moves one value in many thousands to its other neighbour. */
    near_array(logits, want, vocab, 0.02 * size);
    lb_way_free(&way);
    lb_forward_close(&forward);
    lb_session_destroy(session);
    lb_resident_free(&resident);
    lb_free(x);
    lb_free(scratch);
    lb_free(want);
}

static void integers_generate_what_floats_score(void **state)
{
    (void)state;
    static const char *const scores[] = {"norm", "absolute", "signed"};
    for (size_t i = 0; i < 3; i++) {
        lb_quantize_options q = masked_options(in_work("masked"));
        lb_quantize_result result;
        q.act_mask = scores[i];
        q.method = i ? "rtn" : "gptq";
        must_quantize(&q, &result);
        assert_non_null(strstr(result.recipe, scores[i]));
        lb_quantize_result_free(&result);
        compare_ways(q.output, 1);
        compare_ways(q.output, 24);
        lb_eval_options o = options_for(q.output);
        o.against = q.model;
        const lb_eval_result masked = must_evaluate(&o);
        o.cast.act = "f32"; /* the same weights, whose order of columns changes nothing */
        const lb_eval_result floats = must_evaluate(&o);
        assert_true(isfinite(masked.kl_mean) && masked.kl_mean > floats.kl_mean);
        scratch_remove(q.output);
    }
}

/* Float layers of a masked checkpoint compute, without rounding, what the model does. */
static void orders_change_nothing(void **state)
{
    (void)state;
    static const char *const rules[] = {"model.layers.*=f32"};
    lb_quantize_options q = masked_options(in_work("ordered"));
    lb_quantize_result result;
    q.layer_rules = rules;
    q.layer_rule_count = 1;
    q.transform = "smooth";
    must_quantize(&q, &result);
    lb_quantize_result_free(&result);
    lb_eval_options o = options_for(q.output);
    o.against = q.model;
    o.cast.act = "f32";
    assert_true(must_evaluate(&o).kl_mean < 1e-9);
}

static void what_does_not_fit_is_refused(void **state)
{
    (void)state;
    lb_quantize_options q = masked_options(in_work("refused"));
    q.act = "sq8/4-b32-s0.75";
    must_refuse(&q, LB_EINVAL, "banks of 32 do not divide the 48 inputs of q_proj");
    q.act = "sq8/4-b8-s0.75";
    q.transform = "hadamard";
    must_refuse(&q, LB_EINVAL, "chooses channels, which a rotation mixes");
    q.transform = "none";
    q.method = "signround";
    must_refuse(&q, LB_EINVAL, "that learned rounding does not know");
    q.method = "rtn";
    q.target_bits = 4;
    must_refuse(&q, LB_EINVAL, "that an allocation does not know");
    q.target_bits = 0;
    q.act_mask = "best";
    must_refuse(&q, LB_EINVAL, "score \"best\" is not known");
    lb_eval_options o = options_for(q.model);
    o.cast.act = "sq8/4-b8-s0.75";
    must_refuse_eval(&o, LB_EINVAL, "wants calibration, which a direct cast has none of");
    o.cast.act = "sq8/4-b16-s0.75-dynamic";
    must_refuse_eval(&o, LB_EINVAL, "banks of 16 do not divide the 40 inputs of down_proj");
    o.cast.act = "sq8/4-b8-s0.75-dynamic";
    assert_true(must_evaluate(&o).kl_mean > 0.0);
}

/* The checkpoint's configuration with one word replaced. */
static void reword(const char *folder, const char *from, const char *to)
{
    char path[SCRATCH_PATH_BYTES], *text, *at;
    size_t bytes;
    lb_error err;
    snprintf(path, sizeof path, "%s/config.json", folder);
    ok(lb_file_read_text(path, 1 << 20, &text, &bytes, &err), &err);
    assert_non_null(at = strstr(strstr(text, "\"inputs\""), from));
    assert_int_equal(strlen(from), strlen(to));
    memcpy(at, to, strlen(to));
    scratch_write(path, text, bytes);
    lb_free(text);
}

static void wrong_masks_are_refused(void **state)
{
    (void)state;
    lb_quantize_options q = masked_options(in_work("wrong"));
    lb_quantize_result result;
    lb_weights *weights;
    lb_error err;
    must_quantize(&q, &result);
    lb_quantize_result_free(&result);
    ok(lb_weights_open(q.output, &weights, &err), &err);
    uint32_t order[48];
    uint8_t mask[6];
    ok(lb_input_order_read(weights, 1, LB_STAGE_GATE_UP, order, &err), &err);
    lb_input_mask_of(order, 12, 48, mask);
    assert_memory_equal(
        mask, lb_tensor_find(&weights->checkpoint.tensors, "model.layers.1.mlp.gate_up_input_mask")->data, 6);
    lb_weights_close(weights);
    reword(q.output, "sq8/4-b8-s0.75", "sq8/4-b8-s0.25");
    assert_int_equal(lb_weights_open(q.output, &weights, &err), LB_EFORMAT);
    assert_non_null(strstr(err.msg, "qkv_input_mask has 2 high channels in bank 0, want 6"));
    reword(q.output, "\"sq8/4-b8-s0.25\"", "\"int8-row\"      ");
    assert_int_equal(lb_weights_open(q.output, &weights, &err), LB_EFORMAT);
    assert_non_null(strstr(err.msg, "_input_mask is none that"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_say_what_they_mean),
        cmocka_unit_test(banks_have_exactly_so_many),
        cmocka_unit_test(the_highest_scores_are_chosen),
        cmocka_unit_test(integers_generate_what_floats_score),
        cmocka_unit_test(orders_change_nothing),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(wrong_masks_are_refused),
    };
    return cmocka_run_group_tests(tests, make_text, drop_work);
}
