/* SPDX-License-Identifier: MIT
 * Sensitivities against their definitions in double (slow_sensitivity.h), and what else is promised of them. */
#define _GNU_SOURCE
#include "slow_sensitivity.h"

#include "base/alloc.h"
#include "base/thread.h"

static void set_transform(sensitivity_case *c, const char *name)
{
    lb_error err;
    ok(lb_transform_parse(name, &c->recipe.transform, &err), &err);
    c->recipe.transform.seed = 5; /* slow_block's */
    ok(lb_transform_resolve(&c->recipe.transform, &c->candidates[0], &c->weights->config, &err), &err);
}

static void set_act(sensitivity_case *c, const char *name)
{
    lb_error err;
    ok(lb_act_parse(name, &c->recipe.act, &err), &err);
}

/* Eight sequences are a batch, whose gradients are added up before their signs are dropped. */
static void deltaloss_is_its_definition(void **state)
{
    (void)state;
    sensitivity_case c;
    open_case(&c, LB_ALLOCATE_DELTALOSS, "int3-g32,mxfp4,f32,bf16", 3);
    check_delta(&c, 1e-3);
    double scores[MOST * SCORES];
    measure(&c, scores);
    for (size_t i = 0; i < SCORES; i++)
        assert_true(scores[2 * SCORES + i] == 0.0);
    close_case(&c);
    open_case(&c, LB_ALLOCATE_DELTALOSS, "int4-g32", MOST_SEQUENCES);
    check_delta(&c, 1e-3);
    c.recipe.fit = LB_FIT_SEARCH;
    check_delta(&c, 1e-3);
    close_case(&c);
}

static void deltaloss_counts_rounded_inputs(void **state)
{
    (void)state;
    static const char *const acts[] = {"f32", "mxint8", "int4-row"};
    double scores[SCORES], sums[3] = {0};
    for (size_t k = 0; k < 3; k++) {
        sensitivity_case c;
        open_case(&c, LB_ALLOCATE_DELTALOSS, "int4-g32", 3);
        set_act(&c, acts[k]);
        check_delta(&c, k ? 5e-3 : 1e-3);
        measure(&c, scores);
        for (size_t i = 0; i < SCORES; i++)
            sums[k] += scores[i];
        close_case(&c);
    }
    assert_true(sums[2] > 1.2 * sums[1] && sums[1] > sums[0]);
}

static void fisher_is_its_definition(void **state)
{
    (void)state;
    sensitivity_case c;
    open_case(&c, LB_ALLOCATE_FISHER, "int2-g32,f32,nvfp4,bf16", MOST_SEQUENCES);
    check_fisher(&c);
    c.recipe.fit = LB_FIT_SEARCH;
    c.recipe.seed = 7;
    check_fisher(&c);
    /* Of the original model: what inputs are rounded to does not matter. */
    double before[MOST * SCORES], after[MOST * SCORES];
    measure(&c, before);
    set_act(&c, "mxint4");
    measure(&c, after);
    assert_memory_equal(before, after, c.count * SCORES * sizeof *before);
    c.recipe.seed = 8; /* other next tokens */
    measure(&c, after);
    assert_memory_not_equal(before, after, c.count * SCORES * sizeof *before);
    close_case(&c);
}

static void rotated_layers_are_measured_rotated(void **state)
{
    (void)state;
    sensitivity_case c;
    double plain[SCORES], rotated[SCORES];
    open_case(&c, LB_ALLOCATE_FISHER, "int2-g32", 3);
    measure(&c, plain);
    set_transform(&c, "hadamard-4");
    measure(&c, rotated);
    assert_memory_not_equal(plain, rotated, sizeof plain);
    check_fisher(&c);
    c.recipe.allocation.how = LB_ALLOCATE_DELTALOSS;
    check_delta(&c, 1e-3);
    set_act(&c, "mxint8");
    check_delta(&c, 5e-3);
    close_case(&c);
}

/* In DeltaLoss they are rounded as the rule says, whatever the candidate, and so change the others' gradients. */
static void rules_hold(void **state)
{
    (void)state;
    static const char *const rules[] = {"*.o_proj=int2-g32", "model.layers.1.mlp.*=f32"};
    sensitivity_case c;
    double free_scores[MOST * SCORES], ruled[MOST * SCORES];
    open_case(&c, LB_ALLOCATE_DELTALOSS, "int4-g32,f32", 3);
    measure(&c, free_scores);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(lb_recipe_add_rule(&c.recipe, rules[i], NULL), LB_OK);
    measure(&c, ruled);
    assert_true(ruled[LB_LINEAR_Q] != free_scores[LB_LINEAR_Q]);
    double got[MOST * SCORES], want[MOST * SCORES] = {0};
    measure(&c, got);
    for (size_t k = 0; k < c.count; k++)
        add_delta(&c, &c.candidates[k], 0, 3, want + k * SCORES);
    check_scores(&c, got, want, 1e-3);
    c.recipe.allocation.how = LB_ALLOCATE_FISHER;
    measure(&c, ruled);
    c.recipe.rule_count = 0;
    measure(&c, free_scores);
    for (size_t i = 0; i < c.count * SCORES; i++) { /* they change nothing of the original model */
        const unsigned which = (unsigned)(i % LB_BLOCK_LINEARS);
        if (which != LB_LINEAR_O && (i % SCORES < LB_BLOCK_LINEARS || which < LB_LINEAR_O))
            assert_true(ruled[i] == free_scores[i]);
    }
    close_case(&c);
}

/* More bits, less loss; and what one candidate gets does not depend on those beside it. */
static void candidates_are_measured_apart(void **state)
{
    (void)state;
    for (int how = LB_ALLOCATE_FISHER; how <= LB_ALLOCATE_DELTALOSS; how++) {
        sensitivity_case c;
        lb_error err;
        double together[MOST * SCORES], alone[SCORES], sums[3] = {0};
        open_case(&c, (lb_allocate)how, "int2-g32,int4-g32,int8-g32", 4);
        measure(&c, together);
        for (size_t k = 0; k < c.count; k++) {
            ok(lb_sensitivity_measure(&c.job, &c.candidates[k], 1, alone, &err), &err);
            assert_memory_equal(alone, together + k * SCORES, sizeof alone);
            for (size_t i = 0; i < SCORES; i++)
                sums[k] += alone[i];
        }
        assert_true(sums[0] > 3.0 * sums[1] && sums[1] > 3.0 * sums[2]);
        close_case(&c);
    }
}

static void the_same_bits_at_any_thread_count(void **state)
{
    (void)state;
    const unsigned usual = lb_thread_count();
    const tiny_model_options wide = {.seed = 43, .hidden = 96, .ffn = 200, .vocab = 90};
    for (int how = LB_ALLOCATE_FISHER; how <= LB_ALLOCATE_DELTALOSS; how++) {
        sensitivity_case c;
        double one[MOST * SCORES], three[MOST * SCORES];
        open_case(&c, (lb_allocate)how, "int2-g32,mxfp4", 9);
        lb_weights_close(c.weights);
        tiny_model_free(c.made);
        c.made = must(tiny_model_make(&wide));
        save_and_open(&c);
        set_act(&c, "mxint8");
        lb_thread_set_count(1);
        measure(&c, one);
        lb_thread_set_count(3);
        measure(&c, three);
        lb_thread_set_count(usual);
        assert_memory_equal(one, three, c.count * SCORES * sizeof *one);
        close_case(&c);
    }
}

/* ---- What is refused --------------------------------------------------------------------------------- */

static void must_refuse(const sensitivity_case *c, lb_status wanted, const char *sentence)
{
    lb_error err = {LB_OK, ""};
    double scores[MOST * SCORES];
    const lb_status st = lb_sensitivity_measure(&c->job, c->candidates, c->count, scores, &err);
    if (st != wanted || strcmp(err.msg, sentence) != 0)
        fail_msg("status %d, \"%s\"; wanted %d, \"%s\"", (int)st, err.msg, (int)wanted, sentence);
}

/* One value for entries [0, n) of a tensor, or for all. */
static void fill(sensitivity_case *c, const char *name, size_t n, float value)
{
    lb_weights_close(c->weights);
    for (size_t i = 0; i < c->made->count; i++) {
        const tiny_tensor *t = &c->made->tensors[i];
        for (size_t k = 0; strcmp(t->name, name) == 0 && k < (t->rows ? t->rows : 1) * t->cols && k < n; k++)
            t->values[k] = value;
    }
    save_and_open(c);
}

static void what_cannot_be_measured_is_refused(void **state)
{
    (void)state;
    for (int how = LB_ALLOCATE_FISHER; how <= LB_ALLOCATE_DELTALOSS; how++) {
        sensitivity_case c;
        open_case(&c, (lb_allocate)how, "int2-g32,int4-g32", 3);
        c.samples.length = 1;
        must_refuse(&c, LB_EINVAL, "gradients of a model want at least 1 sequence of 2 tokens, got 3 of 1");
        c.samples.count = 0;
        c.samples.length = LENGTH;
        must_refuse(&c, LB_EINVAL, "gradients of a model want at least 1 sequence of 2 tokens, got 0 of 4");
        c.samples.count = 3;
        c.candidates[0] = c.candidates[1] = (lb_format){.name = "f32", .bits = 32};
        fill(&c, "model.layers.1.mlp.up_proj.weight", SIZE_MAX, 3e38f);
        must_refuse(&c, LB_EINVAL,
                    how == LB_ALLOCATE_FISHER ? "sensitivity: the model's loss on the calibration text is "
                                                "nan, so that nothing can be learned "
                                                "from its gradients"
                                              : "sensitivity to f32: the model's loss on the calibration "
                                                "text is nan, so that nothing can be "
                                                "learned from its gradients");
        close_case(&c);
    }
}

/* The loss is finite, for silu(0) times anything is 0, but not what the square of the gate's gradient is. */
static void scores_that_are_no_numbers_are_refused(void **state)
{
    (void)state;
    sensitivity_case c;
    open_case(&c, LB_ALLOCATE_FISHER, "int8-g32,mxfp4", 3);
    fill(&c, "model.layers.0.mlp.gate_proj.weight", SIZE_MAX, 0.0f);
    fill(&c, "model.layers.0.post_attention_layernorm.weight", 1, 1e-3f);
    fill(&c, "model.layers.0.mlp.up_proj.weight", 1, 3e38f);
    must_refuse(&c, LB_EINVAL,
                "model.layers.0.mlp.gate_proj: its sensitivity to int8-g32 is nan, so that bits cannot be "
                "allocated by "
                "it");
    close_case(&c);
}

typedef struct stopper {
    size_t asked, stop_at;
} stopper;

static int stop_sometime(void *user, const char *stage, size_t done, size_t total)
{
    stopper *s = user;
    assert_true(strncmp(stage, "sensitivity", 11) == 0 && done <= total);
    return ++s->asked == s->stop_at;
}

static void a_run_can_be_stopped(void **state)
{
    (void)state;
    for (int how = LB_ALLOCATE_FISHER; how <= LB_ALLOCATE_DELTALOSS; how++) {
        sensitivity_case c;
        stopper s = {0};
        const lb_progress progress = {stop_sometime, &s};
        double scores[MOST * SCORES];
        lb_error err;
        open_case(&c, (lb_allocate)how, "int2-g32,mxfp4", 3);
        set_act(&c, "mxint8");
        c.job.progress = &progress;
        measure(&c, scores);
        const size_t all = s.asked;
        assert_true(all > 8);
        for (size_t n = 1; n <= all; n++) {
            s = (stopper){.stop_at = n};
            assert_int_equal(lb_sensitivity_measure(&c.job, c.candidates, c.count, scores, &err),
                             LB_ECANCELED);
            assert_int_equal(s.asked, n);
        }
        close_case(&c);
    }
}

static void lack_of_memory(void **state)
{
    (void)state;
    lb_thread_set_count(1);
    for (int how = LB_ALLOCATE_FISHER; how <= LB_ALLOCATE_DELTALOSS; how++) {
        sensitivity_case c;
        double scores[MOST * SCORES];
        lb_error err;
        lb_status st = LB_ENOMEM;
        open_case(&c, (lb_allocate)how, "int2-g32", 2);
        set_transform(&c, "hadamard-4");
        set_act(&c, "mxint8");
        c.recipe.fit = LB_FIT_SEARCH;
        for (size_t k = 1; st != LB_OK; k++) {
            lb_alloc_fail_at(k);
            st = lb_sensitivity_measure(&c.job, c.candidates, c.count, scores, &err);
            lb_alloc_fail_at(0);
            assert_true(st == LB_OK ? k > 100 : st == LB_ENOMEM && err.status == LB_ENOMEM);
        }
        assert_true(lb_sensitivity_bytes(&c.weights->config, &c.recipe, 2, LENGTH) > 0);
        close_case(&c);
    }
    lb_thread_set_count(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deltaloss_is_its_definition),
        cmocka_unit_test(deltaloss_counts_rounded_inputs),
        cmocka_unit_test(fisher_is_its_definition),
        cmocka_unit_test(rotated_layers_are_measured_rotated),
        cmocka_unit_test(rules_hold),
        cmocka_unit_test(candidates_are_measured_apart),
        cmocka_unit_test(the_same_bits_at_any_thread_count),
        cmocka_unit_test(what_cannot_be_measured_is_refused),
        cmocka_unit_test(scores_that_are_no_numbers_are_refused),
        cmocka_unit_test(a_run_can_be_stopped),
        cmocka_unit_test(lack_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
