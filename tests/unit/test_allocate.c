/* SPDX-License-Identifier: MIT
 * Allocations of bits against all plans that there are, counted with what formats take up by hand. */
#define _GNU_SOURCE
#include "near.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "quantize/allocate.h"

enum { BLOCKS = 2, LAYERS = BLOCKS * LB_BLOCK_LINEARS, MOST = 3 };

/* No two stages have layers of one size. */
static const lb_config shape = {
    .hidden = 96, .ffn = 160, .layers = BLOCKS, .heads = 3, .kv_heads = 1, .head_dim = 32};

static const char *const stages = "qqqogud"; /* of q k v o gate up down, as one letter a fused group */

typedef struct allocate_case {
    lb_recipe recipe;
    double scores[MOST * LAYERS];
    uint64_t bytes[MOST][LB_BLOCK_LINEARS];
    bool ruled[LAYERS];
} allocate_case;

static void ok(lb_status st, const lb_error *err)
{
    if (st != LB_OK)
        fail_msg("%s", err->msg);
}

static void layer_shape(unsigned which, size_t *rows, size_t *cols)
{
    static const size_t shapes[LB_BLOCK_LINEARS][2] = {{96, 96},  {32, 96},  {32, 96}, {96, 96},
                                                       {160, 96}, {160, 96}, {96, 160}};
    *rows = shapes[which][0];
    *cols = shapes[which][1];
}

/* As docs say: codes one after the other, two bytes for the scale of a group, one for that of a block. */
static uint64_t row_bytes(const char *name, size_t cols)
{
    unsigned bits = 0, group = 0;
    if (strcmp(name, "bf16") == 0)
        return cols * 2;
    if (strcmp(name, "f32") == 0)
        return cols * 4;
    if (strcmp(name, "mxfp4") == 0)
        return cols / 2 + cols / 32;
    assert_int_equal(sscanf(name, "int%u-g%u", &bits, &group), 2);
    return cols * bits / 8 + (cols + group - 1) / group * 2;
}

static void make(allocate_case *c, const char *candidates, double target, uint64_t seed)
{
    lb_rng rng;
    lb_error err;
    *c = (allocate_case){0};
    lb_recipe_default(&c->recipe);
    lb_allocation *a = &c->recipe.allocation;
    a->how = LB_ALLOCATE_FISHER;
    a->target_bits = target;
    ok(lb_candidates_parse(candidates, a, &err), &err);
    assert_true(a->candidate_count <= MOST);
    for (size_t k = 0; k < a->candidate_count; k++)
        for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
            size_t rows, cols;
            layer_shape(which, &rows, &cols);
            c->bytes[k][which] = rows * row_bytes(a->candidates[k].name, cols);
        }
    lb_rng_seed(&rng, seed);
    for (size_t i = 0; i < MOST * LAYERS; i++)
        c->scores[i] = exp(2.0 * lb_rng_normal(&rng)) * pow(0.2, (double)(i / LAYERS));
}

static void add_rule(allocate_case *c, const char *rule)
{
    assert_int_equal(lb_recipe_add_rule(&c->recipe, rule, NULL), LB_OK);
    for (size_t i = 0; i < LAYERS; i++) {
        char name[128];
        lb_linear_name(i / LB_BLOCK_LINEARS, (unsigned)(i % LB_BLOCK_LINEARS), name, sizeof name);
        c->ruled[i] = lb_recipe_format(&c->recipe, name, NULL, NULL) != NULL;
    }
}

/* Whether a layer must get what the one before it gets. */
static bool is_tied(const allocate_case *c, size_t layer)
{
    static const bool follows[LB_BLOCK_LINEARS] = {
        [LB_LINEAR_K] = true, [LB_LINEAR_V] = true, [LB_LINEAR_UP] = true};
    return !c->recipe.allocation.untied && follows[layer % LB_BLOCK_LINEARS] && !c->ruled[layer - 1];
}

static uint64_t weights_of(const allocate_case *c)
{
    uint64_t weights = 0;
    for (size_t i = 0; i < LAYERS; i++) {
        size_t rows, cols;
        layer_shape((unsigned)(i % LB_BLOCK_LINEARS), &rows, &cols);
        weights += c->ruled[i] ? 0 : rows * cols;
    }
    return weights;
}

/* The target is kept to the byte. */
static bool fits(const allocate_case *c, uint64_t bytes)
{
    return 8.0 * (double)bytes <= c->recipe.allocation.target_bits * (double)weights_of(c) + 4.0;
}

typedef struct plan {
    size_t of[LAYERS]; /* candidate */
    uint64_t bytes;
    double loss;
} plan;

/* Bytes and loss of a plan of the library, which must keep to the rules and to the ties. */
static plan read_plan(const allocate_case *c, const lb_format *formats)
{
    const lb_allocation *a = &c->recipe.allocation;
    plan p = {.loss = 0.0};
    for (size_t i = 0; i < LAYERS; i++) {
        p.of[i] = SIZE_MAX;
        if (c->ruled[i])
            continue;
        for (size_t k = 0; k < a->candidate_count; k++)
            if (strcmp(formats[i].name, a->candidates[k].name) == 0)
                p.of[i] = k;
        assert_true(p.of[i] != SIZE_MAX);
        assert_memory_equal(&formats[i], &a->candidates[p.of[i]], sizeof *formats);
        if (is_tied(c, i))
            assert_int_equal(p.of[i], p.of[i - 1]);
        p.bytes += c->bytes[p.of[i]][i % LB_BLOCK_LINEARS];
        p.loss += c->scores[p.of[i] * LAYERS + i];
    }
    assert_true(fits(c, p.bytes));
    return p;
}

static plan must_plan(const allocate_case *c)
{
    lb_format formats[LAYERS];
    lb_error err;
    ok(lb_allocate_plan(&shape, &c->recipe, c->scores, formats, &err), &err);
    return read_plan(c, formats);
}

/* The least loss of all plans for the layers from `layer` on, `bytes` spent and `previous` chosen before it. */
static double try_all(const allocate_case *c, size_t layer, size_t previous, uint64_t bytes, double loss)
{
    double best = HUGE_VAL;
    if (layer == LAYERS)
        return fits(c, bytes) ? loss : HUGE_VAL;
    if (c->ruled[layer])
        return try_all(c, layer + 1, SIZE_MAX, bytes, loss);
    for (size_t k = 0; k < c->recipe.allocation.candidate_count; k++) {
        if (is_tied(c, layer) && k != previous)
            continue;
        best = fmin(best, try_all(c, layer + 1, k, bytes + c->bytes[k][layer % LB_BLOCK_LINEARS],
                                  loss + c->scores[k * LAYERS + layer]));
    }
    return best;
}

static void check_best(const allocate_case *c, const char *what)
{
    const plan p = must_plan(c);
    const double want = try_all(c, 0, SIZE_MAX, 0, 0.0);
    if (!(fabs(p.loss - want) <= 1e-9 * want))
        fail_msg("%s, %g bits: a loss of %.12g, best is %.12g", what, c->recipe.allocation.target_bits,
                 p.loss, want);
}

static void plans_are_the_best_of_all(void **state)
{
    (void)state;
    static const char *const lists[] = {"int2-g32,int4-g32,int3-g32", "int2-g64,mxfp4,bf16",
                                        "int2-g64,int3-g32,int4-g128"};
    static const double targets[] = {2.8, 3.1, 3.9, 4.1};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        for (size_t t = 0; t < sizeof targets / sizeof *targets; t++)
            for (int how = LB_ALLOCATE_FISHER; how <= LB_ALLOCATE_DELTALOSS; how++) {
                allocate_case c;
                make(&c, lists[i], targets[t], 10 * i + t);
                c.recipe.allocation.how = (lb_allocate)how;
                check_best(&c, lists[i]);
            }
}

/* Scores without a trend with bits: more bits may be worse. */
static void untied_plans_are_the_best_of_all(void **state)
{
    (void)state;
    allocate_case c;
    make(&c, "int2-g32,int4-g32", 3.4, 51);
    c.recipe.allocation.untied = true;
    check_best(&c, "untied");
    const double free_loss = must_plan(&c).loss;
    c.recipe.allocation.untied = false;
    assert_true(must_plan(&c).loss > free_loss); /* what ties cost */
    make(&c, "int2-g64,int3-g64,int4-g64", 3.0, 52);
    c.recipe.allocation.untied = true;
    check_best(&c, "three untied"); /* 3^14 plans */
    add_rule(&c, "model.layers.1.mlp.*=int8-row");
    for (size_t i = 0; i < MOST * LAYERS; i++)
        c.scores[i] = i % 5 == 0 ? 0.0 : c.scores[i * 7 % (MOST * LAYERS)];
    check_best(&c, "untied with rules");
}

/* Each layer of a group would have something else if it could. */
static void fused_layers_get_one_format(void **state)
{
    (void)state;
    allocate_case c;
    make(&c, "int2-g32,int3-g32,int4-g32", 3.5, 53);
    for (size_t k = 0; k < MOST; k++)
        for (size_t i = 0; i < LAYERS; i++)
            c.scores[k * LAYERS + i] = k == i % 3 ? 0.0 : 1.0;
    c.recipe.allocation.untied = true;
    plan p = must_plan(&c);
    for (size_t i = 0; i < LAYERS; i++)
        assert_int_equal(p.of[i], i % 3);
    c.recipe.allocation.untied = false;
    p = must_plan(&c);
    for (size_t i = 1; i < LAYERS; i++)
        if (stages[i % LB_BLOCK_LINEARS] == stages[(i - 1) % LB_BLOCK_LINEARS])
            assert_int_equal(p.of[i], p.of[i - 1]);
    assert_int_equal(p.of[LB_LINEAR_GATE], p.of[LB_LINEAR_UP]);
    check_best(&c, "tied");
}

/* What a rule decides on costs nothing and brings nothing, whatever its scores are. */
static void ruled_layers_do_not_count(void **state)
{
    (void)state;
    static const char *const rules[] = {"*.q_proj=bf16", "model.layers.0.mlp.down_proj=int8-row",
                                        "*.up_proj=f32", "model.layers.1.*=int8-g32"};
    for (size_t n = 1; n <= 4; n++) {
        allocate_case c;
        make(&c, "int2-g32,int3-g32,int4-g32", 3.2, 54 + n);
        for (size_t i = 0; i < n; i++)
            add_rule(&c, rules[i]);
        check_best(&c, rules[n - 1]);
        const plan before = must_plan(&c);
        for (size_t i = 0; i < MOST * LAYERS; i++)
            c.scores[i] = c.ruled[i % LAYERS] ? 1e9 * (double)(i + 1) : c.scores[i];
        const plan after = must_plan(&c);
        assert_memory_equal(after.of, before.of, sizeof after.of);
    }
}

static void nothing_left_to_decide_is_refused(void **state)
{
    (void)state;
    allocate_case c;
    lb_format formats[LAYERS];
    lb_error err;
    make(&c, "int2-g32,int4-g32", 3.0, 1);
    add_rule(&c, "*_proj=bf16");
    for (int how = LB_ALLOCATE_FISHER; how <= LB_ALLOCATE_TAIL; how++) {
        c.recipe.allocation.how = (lb_allocate)how;
        err.msg[0] = '\0';
        assert_int_equal(lb_allocate_plan(&shape, &c.recipe, NULL, formats, &err), LB_EINVAL);
        assert_string_equal(err.msg, "rules decide on every layer: there is nothing to allocate bits to");
        assert_int_equal(lb_allocate_plan(&shape, &c.recipe, c.scores, formats, &err), LB_EINVAL);
    }
}

/* A rule for k leaves q and v tied. */
static void rules_do_not_cut_ties(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 20; seed++) {
        allocate_case c;
        lb_format formats[LAYERS];
        lb_error err;
        make(&c, "int2-g32,int3-g32,int4-g32", 3.0, seed);
        add_rule(&c, "*.k_proj=bf16");
        ok(lb_allocate_plan(&shape, &c.recipe, c.scores, formats, &err), &err);
        for (size_t b = 0; b < LAYERS; b += LB_BLOCK_LINEARS)
            assert_string_equal(formats[b + LB_LINEAR_Q].name, formats[b + LB_LINEAR_V].name);
    }
}

static void candidates_of_one_size_have_no_range(void **state)
{
    (void)state;
    allocate_case c;
    lb_format formats[LAYERS];
    lb_error err;
    make(&c, "int2-g32,int4-g32", 3.0, 5);
    ok(lb_candidates_parse("mxfp4,mxint4", &c.recipe.allocation, &err), &err);
    assert_int_equal(lb_allocate_plan(&shape, &c.recipe, c.scores, formats, &err), LB_EINVAL);
    assert_non_null(strstr(err.msg, "these candidates all take 4."));
}

/* ---- What can be reached ----------------------------------------------------------------------------- */

static void out_of_reach(allocate_case *c, double target, const char *sentence)
{
    lb_format formats[LAYERS];
    lb_error err = {LB_OK, ""};
    c->recipe.allocation.target_bits = target;
    assert_int_equal(lb_allocate_plan(&shape, &c->recipe, NULL, formats, &err), LB_EINVAL);
    assert_string_equal(err.msg, sentence);
    err.msg[0] = '\0';
    assert_int_equal(lb_allocate_plan(&shape, &c->recipe, c->scores, formats, &err), LB_EINVAL);
    assert_string_equal(err.msg, sentence);
}

/* Both ends of the range that a sentence names can be asked for, and only just. */
static void check_range(const char *candidates, const char *rule, const char *low, const char *high)
{
    allocate_case c;
    char sentence[200];
    const double bounds[] = {strtod(low, NULL), strtod(high, NULL)};
    make(&c, candidates, 1.0, 61);
    if (rule)
        add_rule(&c, rule);
    snprintf(sentence, sizeof sentence,
             "a target of 1 bits per weight is out of reach: these candidates can average %s to %s", low,
             high);
    out_of_reach(&c, 1.0, sentence);
    for (int end = 0; end < 2; end++) {
        const double beyond = bounds[end] + (end ? 3e-4 : -3e-4);
        c.recipe.allocation.target_bits = bounds[end];
        const plan p = must_plan(&c);
        for (size_t i = 0; i < LAYERS; i++) /* the candidates are named from small to large */
            if (!c.ruled[i] && end == 0)
                assert_int_equal(p.of[i], 0);
        snprintf(sentence, sizeof sentence,
                 "a target of %g bits per weight is out of reach: these candidates can average %s to %s",
                 beyond, low, high);
        out_of_reach(&c, beyond, sentence);
    }
}

static void the_range_is_told_and_can_be_asked_for(void **state)
{
    (void)state;
    check_range("int2-g32,int3-g32,int4-g32", NULL, "2.5000", "4.5000");
    check_range("int2-g32,bf16", NULL, "2.5000", "16.0000"); /* a float is 16 bits, and */
    check_range("int2-g32,f32", NULL, "2.5000", "32.0000"); /* 32 */
    /* 96 inputs are 2 groups of 64, and 160 are 3: 2 + 32/96 and 2 + 48/160 bits. */
    check_range("int2-g64,int4-g64", NULL, "2.3261", "4.3260");
    check_range("int2-g64,int4-g64", "*.down_proj=bf16", "2.3334", "4.3333");
    check_range("int3-g128,mxfp4", NULL, "3.1740", "4.2500");
    check_range("int2-g64,int4-g64", "*[!n]_proj=bf16", "2.3000", "4.3000");
    check_range("int2-g32,int3-g64", "*.[kv]_proj=f32", "2.5000", "3.3253");
}

/* 2.5 and 4.5 times this model's weights are whole numbers of bytes, though one through it is no finite fraction. */
static void bounds_of_few_digits_are_told_exactly(void **state)
{
    (void)state;
    const lb_config other = {
        .hidden = 96, .ffn = 192, .layers = 3, .heads = 3, .kv_heads = 1, .head_dim = 32};
    allocate_case c;
    lb_format formats[3 * LB_BLOCK_LINEARS];
    lb_error err;
    make(&c, "int2-g32,int4-g32", 5.0, 62);
    assert_int_equal(lb_allocate_plan(&other, &c.recipe, NULL, formats, &err), LB_EINVAL);
    assert_string_equal(err.msg,
                        "a target of 5 bits per weight is out of reach: these candidates can average "
                        "2.5000 to 4.5000");
}

/* ---- Baselines --------------------------------------------------------------------------------------- */

/* The dearest candidate for group after group such that the cheapest is still there for all that come later. */
static void check_end(const char *candidates, double target, bool head, bool untied, const char *rule)
{
    allocate_case c;
    lb_error err;
    lb_format formats[LAYERS];
    size_t group_of[LAYERS], groups = 0, chosen[LAYERS];
    make(&c, candidates, target, 71);
    c.recipe.allocation.how = head ? LB_ALLOCATE_HEAD : LB_ALLOCATE_TAIL;
    c.recipe.allocation.untied = untied;
    if (rule)
        add_rule(&c, rule);
    for (size_t i = 0; i < LAYERS; i++)
        group_of[i] = c.ruled[i] ? SIZE_MAX : is_tied(&c, i) ? groups - 1 : groups++;
    memset(chosen, 0, sizeof chosen);
    for (size_t n = 0; n < groups; n++) {
        const size_t g = head ? n : groups - 1 - n;
        for (size_t k = c.recipe.allocation.candidate_count;
             k-- > 0;) { /* from small to large in `candidates` */
            uint64_t bytes = 0;
            chosen[g] = k;
            for (size_t i = 0; i < LAYERS; i++)
                bytes += group_of[i] == SIZE_MAX ? 0 : c.bytes[chosen[group_of[i]]][i % LB_BLOCK_LINEARS];
            if (fits(&c, bytes))
                break;
        }
    }
    for (int with_scores = 0; with_scores < 2; with_scores++) { /* which change nothing */
        ok(lb_allocate_plan(&shape, &c.recipe, with_scores ? c.scores : NULL, formats, &err), &err);
        const plan p = read_plan(&c, formats);
        for (size_t i = 0; i < LAYERS; i++)
            assert_true(p.of[i] == (group_of[i] == SIZE_MAX ? SIZE_MAX : chosen[group_of[i]]));
    }
}

static void baselines_fill_from_their_end(void **state)
{
    (void)state;
    static const double targets[] = {2.5, 2.7, 3.0, 3.5, 4.1, 4.5};
    for (size_t t = 0; t < sizeof targets / sizeof *targets; t++)
        for (int k = 0; k < 8; k++)
            check_end("int2-g32,int3-g32,int4-g32", targets[t], k & 1, k & 2, k & 4 ? "*.o_proj=f32" : NULL);
    /* Half of the bytes between 2 and 4 bits: one of the two blocks. */
    for (int head = 0; head < 2; head++) {
        allocate_case c;
        lb_format formats[LAYERS];
        lb_error err;
        make(&c, "int4-g32,int2-g32", 3.5, 72); /* in any order */
        c.recipe.allocation.how = head ? LB_ALLOCATE_HEAD : LB_ALLOCATE_TAIL;
        ok(lb_allocate_plan(&shape, &c.recipe, NULL, formats, &err), &err);
        for (size_t i = 0; i < LAYERS; i++)
            assert_string_equal(formats[i].name, (i < LB_BLOCK_LINEARS) == head ? "int4-g32" : "int2-g32");
    }
}

/* Before there are sensitivities there is a plan within the budget all the same, to count with. */
static void a_plan_without_scores(void **state)
{
    (void)state;
    allocate_case c;
    lb_format formats[LAYERS];
    lb_error err;
    make(&c, "int2-g32,int4-g32", 3.0, 73);
    for (int how = LB_ALLOCATE_FISHER; how <= LB_ALLOCATE_DELTALOSS; how++) {
        c.recipe.allocation.how = (lb_allocate)how;
        ok(lb_allocate_plan(&shape, &c.recipe, NULL, formats, &err), &err);
        (void)read_plan(&c, formats);
    }
    assert_true(lb_allocate_needs_scores(LB_ALLOCATE_FISHER) &&
                lb_allocate_needs_scores(LB_ALLOCATE_DELTALOSS));
    assert_false(lb_allocate_needs_scores(LB_ALLOCATE_HEAD) || lb_allocate_needs_scores(LB_ALLOCATE_TAIL));
    assert_false(lb_allocate_needs_scores(LB_ALLOCATE_NONE));
}

/* Finite each, but not together. */
static void losses_that_cannot_be_added_are_refused(void **state)
{
    (void)state;
    allocate_case c;
    lb_format formats[LAYERS];
    lb_error err;
    make(&c, "int2-g32,int4-g32", 3.0, 75);
    for (size_t i = 0; i < MOST * LAYERS; i++)
        c.scores[i] = 1e308;
    assert_int_equal(lb_allocate_plan(&shape, &c.recipe, c.scores, formats, &err), LB_EINVAL);
    assert_string_equal(err.msg, "allocation of bits: losses are too large to be added up");
}

static void lack_of_memory(void **state)
{
    (void)state;
    allocate_case c;
    lb_format formats[LAYERS];
    lb_error err;
    lb_status st = LB_ENOMEM;
    make(&c, "int2-g32,int3-g32,int4-g32", 3.3, 74);
    for (size_t k = 1; st != LB_OK; k++) {
        lb_alloc_fail_at(k);
        st = lb_allocate_plan(&shape, &c.recipe, c.scores, formats, &err);
        lb_alloc_fail_at(0);
        assert_true(st == LB_OK ? k > 20 : st == LB_ENOMEM && err.status == LB_ENOMEM);
    }
    (void)read_plan(&c, formats);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules_do_not_cut_ties),
        cmocka_unit_test(candidates_of_one_size_have_no_range),
        cmocka_unit_test(plans_are_the_best_of_all),
        cmocka_unit_test(untied_plans_are_the_best_of_all),
        cmocka_unit_test(fused_layers_get_one_format),
        cmocka_unit_test(ruled_layers_do_not_count),
        cmocka_unit_test(nothing_left_to_decide_is_refused),
        cmocka_unit_test(the_range_is_told_and_can_be_asked_for),
        cmocka_unit_test(bounds_of_few_digits_are_told_exactly),
        cmocka_unit_test(baselines_fill_from_their_end),
        cmocka_unit_test(a_plan_without_scores),
        cmocka_unit_test(losses_that_cannot_be_added_are_refused),
        cmocka_unit_test(lack_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
