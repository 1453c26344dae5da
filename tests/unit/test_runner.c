/* SPDX-License-Identifier: MIT
 * Several sequences in one pass: each gets the bits that it gets alone, whoever is beside it, in every
 * format; and copying and rewinding a sequence leave what a fresh one would hold. */
#define _GNU_SOURCE
#include "near.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/thread.h"
#include "infer/session.h"
#include "tiny_model.h"

enum { SEQUENCES = 11, STEPS = 5, LONGEST = 30, ROOM = 40 };

typedef struct story {
    uint32_t ids[LONGEST + STEPS];
    size_t prompt; /* 1, or some */
} story;

typedef struct fixture {
    lb_resident model, whole;
    lb_kv_type kv;
    bool is_rounded;
    story stories[SEQUENCES];
    float *want; /* [SEQUENCES, STEPS, vocab] */
} fixture;

static void tell_stories(fixture *f)
{
    lb_rng rng;
    lb_rng_seed(&rng, 7);
    for (size_t i = 0; i < SEQUENCES; i++) {
        f->stories[i].prompt = i == 3 ? 1 : 1 + lb_rng_below(&rng, LONGEST - 1);
        for (size_t t = 0; t < LONGEST + STEPS; t++)
            f->stories[i].ids[t] = (uint32_t)lb_rng_below(&rng, f->model.config.vocab);
    }
}

/* weights and inputs name formats, or are NULL. */
static void load(fixture *f, const tiny_model_options *options, const char *weights, const char *inputs)
{
    char folder[64];
    lb_error err = {0};
    *f = (fixture){.is_rounded = weights != NULL};
    snprintf(folder, sizeof folder, "/tmp/lowbit_test_runner_%ld", (long)getpid());
    assert_int_equal(tiny_model_write(folder, options), 0);
    assert_int_equal(lb_resident_load(folder, NULL, &f->whole, &err), LB_OK);
    tiny_model_remove(folder);
    f->model = f->whole;
    if (weights) {
        lb_format format, head;
        assert_int_equal(lb_format_parse(weights, &format, &err), LB_OK);
        assert_int_equal(lb_format_parse("int8-g32", &head, &err), LB_OK);
        assert_int_equal(lb_resident_round(&f->whole, &format, inputs ? NULL : &head, &f->model, &err),
                         LB_OK);
    }
    if (inputs) {
        lb_act act;
        const lb_transform none = {0};
        assert_int_equal(lb_act_parse(inputs, &act, &err), LB_OK);
        lb_inputs_free(&f->model.inputs);
        assert_int_equal(lb_inputs_create(&f->model.config, &none, &act, &f->model.inputs, &err), LB_OK);
    }
    tell_stories(f);
}

static void unload(fixture *f)
{
    if (f->is_rounded)
        lb_resident_free(&f->model);
    else
        f->whole = f->model;
    lb_resident_free(&f->whole);
    free(f->want);
}

/* Each story alone, token by token after its prompt. */
static void run_alone(fixture *f, const lb_kernels *kernels)
{
    const size_t vocab = f->model.config.vocab;
    lb_error err = {0};
    f->want = malloc(SEQUENCES * STEPS * vocab * sizeof *f->want);
    for (size_t i = 0; i < SEQUENCES; i++) {
        const story *s = &f->stories[i];
        lb_session *session;
        float *logits;
        assert_int_equal(lb_session_create_kv(kernels, &f->model, f->kv, ROOM, 0, &session, &err), LB_OK);
        assert_int_equal(lb_session_feed(session, s->ids, s->prompt, NULL, &logits, &err), LB_OK);
        for (size_t step = 0; step < STEPS; step++) {
            assert_int_equal(lb_session_feed(session, s->ids + s->prompt + step, 1, NULL, &logits, &err),
                             LB_OK);
            memcpy(f->want + (i * STEPS + step) * vocab, logits, vocab * sizeof *logits);
        }
        lb_session_destroy(session);
    }
}

/* All together; story i joins at round i / 3 and leaves after its STEPS, so that groups of every size occur.
 * */
static void run_together(const fixture *f, const lb_kernels *kernels)
{
    const size_t vocab = f->model.config.vocab;
    lb_sequence *sequences[SEQUENCES];
    lb_runner *runner;
    lb_error err = {0};
    assert_int_equal(lb_runner_create(kernels, &f->model, ROOM, 0, SEQUENCES, &runner, &err), LB_OK);
    for (size_t i = 0; i < SEQUENCES; i++)
        assert_int_equal(lb_sequence_create(&f->model.config, f->kv, ROOM, &sequences[i], &err), LB_OK);
    for (size_t round = 0; round < STEPS + SEQUENCES / 3 + 1; round++) {
        lb_sequence *active[SEQUENCES];
        size_t who[SEQUENCES], count = 0;
        uint32_t ids[SEQUENCES];
        float *logits;
        for (size_t i = 0; i < SEQUENCES; i++) {
            const story *s = &f->stories[i];
            if (round == i / 3)
                assert_int_equal(lb_runner_feed(runner, sequences[i], s->ids, s->prompt, NULL, NULL, &err),
                                 LB_OK);
            if (round < i / 3 || round >= i / 3 + STEPS)
                continue;
            active[count] = sequences[i];
            who[count] = i;
            ids[count++] = s->ids[sequences[i]->past];
        }
        if (count == 0)
            continue;
        assert_int_equal(lb_runner_step(runner, active, ids, count, &logits, &err), LB_OK);
        for (size_t k = 0; k < count; k++)
            assert_memory_equal(logits + k * vocab, f->want + (who[k] * STEPS + round - who[k] / 3) * vocab,
                                vocab * sizeof *logits);
    }
    for (size_t i = 0; i < SEQUENCES; i++)
        lb_sequence_destroy(sequences[i]);
    lb_runner_destroy(runner);
}

static void check(const tiny_model_options *options, const char *weights, const char *inputs)
{
    static const lb_cpu_level levels[] = {LB_CPU_BEST, LB_CPU_REF};
    for (size_t level = 0; level < 2; level++) {
        fixture f;
        const lb_kernels *kernels = lb_kernels_get(levels[level]);
        load(&f, options, weights, inputs);
        f.kv = (lb_kv_type)(options->seed % LB_KV_TYPES);
        run_alone(&f, kernels);
        run_together(&f, kernels);
        lb_thread_set_count(1);
        run_together(&f, kernels);
        lb_thread_set_count(0);
        unload(&f);
    }
}

static void a_sequence_does_not_see_its_neighbours(void **state)
{
    (void)state;
    static const char *const formats[] = {
        "int2-g32",   "int3-g64-asym", "int4-g32",         "int8-row",      "mxint6",
        "mxfp6-e2m3", "mxfp4",         "mxfp8-e4m3",       "nvfp4",         "nvint4",
        "bp2-g64",    "bp3-row",       "sq8/4-b32-s0.875", "sq8/3-b16-s0.5"};
    const tiny_model_options options = {.seed = 3, .hidden = 96, .ffn = 160};
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        check(&options, formats[i], NULL);
}

static void unquantized_layers_neither(void **state)
{
    (void)state;
    const tiny_model_options kinds[] = {
        {.seed = 1, .tied = true},
        {.seed = 2, .heads = 6, .kv_heads = 3, .head_dim = 10, .hidden = 50, .ffn = 77},
        {.seed = 4, .architecture = "Qwen3ForCausalLM", .head_dim = 24, .tied = true},
        {.seed = 5, .architecture = "MistralForCausalLM", .window = 9, .heads = 8, .kv_heads = 1},
        {.seed = 6, .dtype = LB_DTYPE_F16},
        {.seed = 7, .dtype = LB_DTYPE_BF16, .architecture = "Qwen2ForCausalLM"},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        check(&kinds[i], NULL, NULL);
}

/* Codes that integer layers take, rows of integers, and layers that must multiply rounded floats. */
static void rounded_inputs_neither(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {{"mxint8", "mxint8"},     {"nvint4", "nvint4"},
                                           {"bp4-g64", "mxint8"},    {"int4-g32", "int8-row"},
                                           {"bp3-row", "int8-row"},  {"int4-g32", "mxfp8-e4m3"},
                                           {"mxfp8-e4m3", "mxint6"}, {"int4-row", "nvfp4"}};
    const tiny_model_options options = {.seed = 9, .hidden = 96, .ffn = 160};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        check(&options, pairs[i][0], pairs[i][1]);
}

/* Proposals: several tokens of one sequence in a step, beside another sequence's, are what they are one by
 * one; and what is taken back leaves no trace. */
static void several_tokens_of_one_are_as_one_by_one(void **state)
{
    (void)state;
    enum { AHEAD = 10, PAST = 17 };
    for (unsigned kv = 0; kv < LB_KV_TYPES; kv++) {
        fixture f;
        lb_sequence *one, *other, *items[AHEAD + 2];
        lb_runner *runner;
        lb_error err = {0};
        float *logits, *want;
        uint32_t ids[AHEAD + 2];
        const tiny_model_options options = {.seed = 13, .head_dim = 40};
        load(&f, &options, kv % 2 ? "int4-g32" : "bp2-g64", NULL);
        const size_t vocab = f.model.config.vocab;
        const uint32_t *told = f.stories[0].ids;
        want = malloc((AHEAD + 1) * vocab * sizeof *want);
        assert_int_equal(
            lb_runner_create(lb_kernels_get(LB_CPU_BEST), &f.model, ROOM, 0, AHEAD + 2, &runner, &err),
            LB_OK);
        assert_int_equal(lb_sequence_create(&f.model.config, (lb_kv_type)kv, ROOM, &one, &err), LB_OK);
        assert_int_equal(lb_sequence_create(&f.model.config, (lb_kv_type)kv, ROOM, &other, &err), LB_OK);
        assert_int_equal(lb_runner_feed(runner, one, told, PAST, NULL, NULL, &err), LB_OK);
        for (size_t i = 0; i <= AHEAD; i++) {
            assert_int_equal(lb_runner_feed(runner, one, told + PAST + i, 1, NULL, &logits, &err), LB_OK);
            memcpy(want + i * vocab, logits, vocab * sizeof *want);
        }
        for (size_t wrong = 0; wrong <= AHEAD;
             wrong += 5) { /* from there on, tokens that will be taken back */
            one->past = PAST;
            other->past = 0;
            for (size_t i = 0; i < AHEAD + 2; i++) {
                items[i] = i == 4 ? other : one;
                const size_t at = i > 4 ? i - 1 : i;
                ids[i] = i == 4 ? 7 : at > wrong ? told[at] : told[PAST + at];
            }
            assert_int_equal(lb_runner_step(runner, items, ids, AHEAD + 2, &logits, &err), LB_OK);
            assert_int_equal(one->past, PAST + AHEAD + 1);
            assert_int_equal(other->past, 1);
            for (size_t i = 0; i < AHEAD + 2; i++)
                if (i != 4 && (i > 4 ? i - 1 : i) <= wrong)
                    assert_memory_equal(logits + i * vocab, want + (i > 4 ? i - 1 : i) * vocab,
                                        vocab * sizeof *want);
            one->past = PAST + wrong;
            assert_int_equal(lb_runner_feed(runner, one, told + PAST + wrong, 1, NULL, &logits, &err), LB_OK);
            assert_memory_equal(logits, want + wrong * vocab, vocab * sizeof *want);
        }
        one->past = ROOM - 2; /* the third does not fit, and nothing is done */
        assert_int_equal(lb_runner_step(runner, items, ids, 3, &logits, &err), LB_EINVAL);
        assert_int_equal(one->past, ROOM - 2);
        lb_sequence_destroy(one);
        lb_sequence_destroy(other);
        lb_runner_destroy(runner);
        unload(&f);
        free(want);
    }
}

static void a_copied_prefix_is_the_prefix(void **state)
{
    (void)state;
    fixture f;
    lb_sequence *from, *to;
    lb_runner *runner;
    lb_error err = {0};
    float *logits, want[512];
    const tiny_model_options options = {.seed = 12};
    load(&f, &options, "int4-g32", NULL);
    const size_t vocab = f.model.config.vocab;
    const uint32_t *ids = f.stories[0].ids;
    assert_true(vocab <= 512);
    assert_int_equal(lb_sequence_create(&f.model.config, LB_KV_INT8, ROOM, &from, &err), LB_OK);
    assert_int_equal(lb_sequence_create(&f.model.config, LB_KV_INT8, ROOM - 7, &to, &err), LB_OK);
    assert_int_equal(lb_runner_create(lb_kernels_get(LB_CPU_BEST), &f.model, ROOM, 0, 2, &runner, &err),
                     LB_OK);
    assert_int_equal(lb_runner_feed(runner, from, ids, 20, NULL, NULL, &err), LB_OK);
    lb_sequence_copy(from, 13, to);
    assert_int_equal(to->past, 13);
    from->past = 13;
    assert_int_equal(lb_runner_feed(runner, from, ids + 20, 1, NULL, &logits, &err), LB_OK);
    memcpy(want, logits, vocab * sizeof *want);
    assert_int_equal(lb_runner_feed(runner, to, ids + 20, 1, NULL, &logits, &err), LB_OK);
    assert_memory_equal(logits, want, vocab * sizeof *want);
    /* A full sequence stops a step before anything is computed. */
    assert_int_equal(lb_runner_feed(runner, to, ids, to->context - to->past, NULL, NULL, &err), LB_OK);
    lb_sequence *const both[] = {from, to};
    const uint32_t next[] = {1, 2};
    assert_int_equal(lb_runner_step(runner, both, next, 2, &logits, &err), LB_EINVAL);
    assert_int_equal(from->past, 14);
    lb_sequence_destroy(from);
    lb_sequence_destroy(to);
    lb_runner_destroy(runner);
    unload(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sequence_does_not_see_its_neighbours),
        cmocka_unit_test(unquantized_layers_neither),
        cmocka_unit_test(rounded_inputs_neither),
        cmocka_unit_test(several_tokens_of_one_are_as_one_by_one),
        cmocka_unit_test(a_copied_prefix_is_the_prefix),
    };
    return cmocka_run_group_tests_name("runner", tests, NULL, NULL);
}
