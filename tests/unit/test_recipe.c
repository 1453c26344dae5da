/* SPDX-License-Identifier: MIT
 * Recipes: defaults, layer rules, allocations, names, and the JSON that identifies a run. */
#define _GNU_SOURCE
#include "near.h"

#include "quantize/method.h"

static void defaults_are_what_the_command_documents(void **state)
{
    (void)state;
    lb_recipe r;
    lb_recipe_default(&r);
    assert_string_equal(r.format.name, "int4-g128");
    assert_ptr_equal(r.method, &lb_method_gptq);
    assert_int_equal(r.fit, LB_FIT_SEARCH);
    assert_int_equal(r.order, LB_ORDER_GROUP);
    assert_true(r.damp > 0.0 && r.damp < 1.0 && r.samples > 0 && r.seqlen > 1 && r.rule_count == 0);
    assert_true(r.alternation.iters == 10 && r.alternation.init == LB_INIT_SEARCH && !r.alternation.faithful);
}

static const char *format_of(const lb_recipe *r, const char *layer, size_t *rule)
{
    return lb_recipe_format(r, layer, &r->format, rule)->name;
}

static void the_last_rule_that_matches_wins(void **state)
{
    (void)state;
    lb_recipe r;
    size_t rule = 7;
    lb_recipe_default(&r);
    assert_string_equal(format_of(&r, "model.layers.0.mlp.down_proj", &rule), "int4-g128");
    assert_true(rule == SIZE_MAX);
    assert_int_equal(lb_recipe_add_rule(&r, "*.down_proj=int8-row", NULL), LB_OK);
    assert_int_equal(lb_recipe_add_rule(&r, "model.layers.0.*=bf16", NULL), LB_OK);
    assert_int_equal(lb_recipe_add_rule(&r, "*.layers.[12].self_attn.?_proj=int2-g32-asym", NULL), LB_OK);
    assert_int_equal(lb_recipe_add_rule(&r, "lm_head=int6-g64-sym", NULL), LB_OK);
    assert_int_equal(r.rule_count, 4);
    static const struct {
        const char *layer, *format;
        size_t rule;
    } wanted[] = {
        {"model.layers.3.mlp.down_proj", "int8-row", 0},
        {"model.layers.0.mlp.down_proj", "bf16", 1},
        {"model.layers.0.self_attn.q_proj", "bf16", 1},
        {"model.layers.1.self_attn.q_proj", "int2-g32-asym", 2},
        {"model.layers.2.self_attn.o_proj", "int2-g32-asym", 2},
        {"model.layers.3.self_attn.o_proj", "int4-g128", SIZE_MAX},
        {"model.layers.10.self_attn.q_proj", "int4-g128", SIZE_MAX},
        {"model.layers.1.mlp.gate_proj", "int4-g128", SIZE_MAX},
        {"lm_head", "int6-g64", 3},
        {"lm_head2", "int4-g128", SIZE_MAX},
        {"model.layers.3.mlp.down_projx", "int4-g128", SIZE_MAX},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        assert_string_equal(format_of(&r, wanted[i].layer, &rule), wanted[i].format);
        assert_true(rule == wanted[i].rule);
        assert_string_equal(format_of(&r, wanted[i].layer, NULL), wanted[i].format);
    }
}

static void bad_rules_leave_the_recipe_alone(void **state)
{
    (void)state;
    char too_long[200];
    memset(too_long, 'x', sizeof too_long);
    snprintf(too_long + 150, 50, "=int4-row");
    const char *const bad[] = {"",
                               "=",
                               "=int4-g128",
                               "*.down_proj",
                               "*=",
                               "*=int4",
                               "*=int4-g100",
                               "*= int4-g32",
                               "*=int4-g32 ",
                               "*==int4-g32",
                               "*=int4-g32=int8-row",
                               too_long,
                               "caf\xc3\xa9*=f16",
                               "\xff=f16",
                               "a\nb=f16",
                               "\x7f=f16"};
    lb_recipe r;
    lb_recipe_default(&r);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        lb_error err;
        err.msg[0] = '\0';
        assert_int_equal(lb_recipe_add_rule(&r, bad[i], &err), LB_EINVAL);
        assert_true(strlen(err.msg) > 10);
        assert_int_equal(r.rule_count, 0);
    }
}

static void patterns_as_long_as_fits_and_rules_as_many(void **state)
{
    (void)state;
    lb_recipe r;
    lb_error err;
    char text[200];
    const size_t most = sizeof r.rules[0].pattern - 1;
    lb_recipe_default(&r);
    memset(text, 'y', sizeof text);
    snprintf(text + most, sizeof text - most, "=f16");
    assert_int_equal(lb_recipe_add_rule(&r, text, &err), LB_OK);
    assert_int_equal(strlen(r.rules[0].pattern), most);
    snprintf(text + most, sizeof text - most, "y=f16");
    assert_int_equal(lb_recipe_add_rule(&r, text, &err), LB_EINVAL);
    while (r.rule_count < LB_RECIPE_MAX_RULES)
        assert_int_equal(lb_recipe_add_rule(&r, "a*=int3-g64", &err), LB_OK);
    assert_int_equal(lb_recipe_add_rule(&r, "a*=int3-g64", &err), LB_EINVAL);
    assert_non_null(strstr(err.msg, "64"));
    assert_int_equal(r.rule_count, LB_RECIPE_MAX_RULES);
}

static void names_of_methods_and_orders(void **state)
{
    (void)state;
    const lb_method *method;
    lb_order order;
    lb_best best;
    lb_error err;
    assert_int_equal(lb_method_find("rtn", &method, &err), LB_OK);
    assert_ptr_equal(method, &lb_method_rtn);
    assert_false(method->needs_hessian);
    assert_int_equal(lb_method_find("gptq", &method, &err), LB_OK);
    assert_ptr_equal(method, &lb_method_gptq);
    assert_true(method->needs_hessian && method->needs_calibration);
    assert_int_equal(lb_method_find("signround", &method, &err), LB_OK);
    assert_true(method->needs_calibration && method->reconstruct && !method->quantize);
    assert_int_equal(lb_method_find("bpdq", &method, &err), LB_OK);
    assert_ptr_equal(method, &lb_method_bpdq);
    assert_true(method->needs_calibration && method->needs_hessian && method->alternates && method->quantize);
    size_t count = 0;
    for (; lb_method_at(count); count++) {
        assert_int_equal(lb_method_find(lb_method_at(count)->name, &method, &err), LB_OK);
        assert_ptr_equal(method, lb_method_at(count));
    }
    assert_int_equal(count, 4);
    assert_int_equal(lb_method_find("GPTQ", &method, &err), LB_EINVAL);
    for (size_t i = 0; i < count; i++)
        assert_non_null(strstr(err.msg, lb_method_at(i)->name));
    assert_int_equal(lb_method_find("", &method, &err), LB_EINVAL);
    assert_int_equal(lb_order_parse("group", &order, &err), LB_OK);
    assert_int_equal(order, LB_ORDER_GROUP);
    assert_int_equal(lb_order_parse("act", &order, &err), LB_OK);
    assert_int_equal(order, LB_ORDER_ACT);
    assert_int_equal(lb_order_parse("none", &order, &err), LB_OK);
    assert_int_equal(order, LB_ORDER_NONE);
    assert_int_equal(lb_best_parse("held-aside", &best, &err), LB_OK);
    assert_int_equal(best, LB_BEST_HELD_ASIDE);
    assert_int_equal(lb_best_parse("batch", &best, &err), LB_OK);
    assert_int_equal(best, LB_BEST_BATCH);
    assert_int_equal(lb_best_parse("last", &best, &err), LB_OK);
    assert_int_equal(best, LB_BEST_LAST);
    assert_int_equal(lb_best_parse("first", &best, &err), LB_EINVAL);
    assert_int_equal(lb_order_parse("groups", &order, &err), LB_EINVAL);
    assert_int_equal(lb_order_parse("", &order, &err), LB_EINVAL);
}

static void names_of_beginnings(void **state)
{
    (void)state;
    static const char *const names[] = {"search", "range", "bits"};
    static const lb_init inits[] = {LB_INIT_SEARCH, LB_INIT_RANGE, LB_INIT_BITS};
    static const char *const bad[] = {"", "Search", "bit", "bits ", "none", "ranges"};
    lb_init init = LB_INIT_BITS;
    lb_error err;
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(lb_init_parse(names[i], &init, &err), LB_OK);
        assert_int_equal(init, inits[i]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(lb_init_parse(bad[i], &init, &err), LB_EINVAL);
        assert_int_equal(init, LB_INIT_BITS);
    }
    assert_string_equal(err.msg, "\"ranges\" is no way to begin: there are search, range, bits");
}

static void names_of_allocations(void **state)
{
    (void)state;
    static const char *const names[] = {"fisher", "deltaloss", "head", "tail"};
    static const lb_allocate ways[] = {LB_ALLOCATE_FISHER, LB_ALLOCATE_DELTALOSS, LB_ALLOCATE_HEAD,
                                       LB_ALLOCATE_TAIL};
    static const char *const bad[] = {"", "one for all", "none", "Fisher", "heads", "fishe"};
    lb_allocate how = LB_ALLOCATE_NONE;
    lb_error err;
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(lb_allocate_parse(names[i], &how, &err), LB_OK);
        assert_int_equal(how, ways[i]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(lb_allocate_parse(bad[i], &how, &err), LB_EINVAL);
        assert_int_equal(how, LB_ALLOCATE_TAIL);
    }
    assert_string_equal(err.msg,
                        "\"fishe\" is no way to allocate bits: there are fisher, deltaloss, head, tail");
}

static void candidates_are_formats(void **state)
{
    (void)state;
    lb_allocation a = {.how = LB_ALLOCATE_HEAD, .target_bits = 3.0};
    lb_error err;
    char many[LB_MAX_CANDIDATES * 12 + 64] = "", endless[200];
    assert_int_equal(lb_candidates_parse("int2-g128,mxfp4,int4-row-sym,bf16,nvfp4", &a, &err), LB_OK);
    assert_int_equal(a.candidate_count, 5);
    assert_string_equal(a.candidates[0].name, "int2-g128");
    assert_int_equal(a.candidates[0].bits, 2);
    assert_string_equal(a.candidates[1].name, "mxfp4");
    assert_string_equal(a.candidates[2].name, "int4-row"); /* canonical */
    assert_true(lb_format_is_float(&a.candidates[3]));
    assert_string_equal(a.candidates[4].name, "nvfp4");
    assert_true(a.how == LB_ALLOCATE_HEAD && a.target_bits == 3.0);
    assert_int_equal(lb_candidates_parse("f32,f16", &a, &err), LB_OK); /* in place of the others */
    assert_int_equal(a.candidate_count, 2);
    for (size_t i = 0; i < LB_MAX_CANDIDATES; i++)
        snprintf(many + strlen(many), sizeof many - strlen(many), "%sint%zu-g%zu", i ? "," : "", 2 + i % 6,
                 (size_t)32 << i / 6);
    assert_int_equal(lb_candidates_parse(many, &a, &err), LB_OK);
    assert_int_equal(a.candidate_count, LB_MAX_CANDIDATES);
    strcat(many, ",bf16");
    memset(endless, 'x', sizeof endless - 1);
    endless[sizeof endless - 1] = '\0';
    const struct {
        const char *names, *words;
    } bad[] = {{"", "a format's name is missing"},
               {"int4-g128,", "a format's name is missing"},
               {",int4-g128", "a format's name is missing"},
               {"int4-g128,,mxfp4", "a format's name is missing"},
               {"int4-g128, mxfp4", "format \" mxfp4\" is not known"},
               {"int4-g128;mxfp4", "format \"int4-g128;mxfp4\" is not known"},
               {"int4-g128,int9-g128", "format \"int9-g128\" is not known"},
               {"int4-g128", "an allocation wants at least 2 candidates, got int4-g128 alone"},
               {"int4-g128,mxfp4,int4-g128-sym", "candidate int4-g128 is named twice"},
               {many, "more than 16 candidates"},
               {endless, "candidate \"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...\" is no format"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        err.msg[0] = '\0';
        assert_int_equal(lb_candidates_parse(bad[i].names, &a, &err), LB_EINVAL);
        if (!strstr(err.msg, bad[i].words))
            fail_msg("\"%s\": %s", bad[i].names, err.msg);
    }
}

/* Of two blocks: the format of all, then a plan's, then rules'. */
static void plans_decide_where_rules_do_not(void **state)
{
    (void)state;
    lb_recipe r;
    lb_format plan[2 * LB_BLOCK_LINEARS];
    lb_recipe_default(&r);
    assert_null(r.plan);
    for (size_t block = 0; block < 2; block++)
        for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++)
            assert_ptr_equal(lb_recipe_layer(&r, block, which), &r.format);
    r.plan = plan;
    for (size_t block = 0; block < 2; block++)
        for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++)
            assert_ptr_equal(lb_recipe_layer(&r, block, which), &plan[block * LB_BLOCK_LINEARS + which]);
    assert_int_equal(lb_recipe_add_rule(&r, "model.layers.1.*=f16", NULL), LB_OK);
    assert_int_equal(lb_recipe_add_rule(&r, "*.up_proj=int8-row", NULL), LB_OK);
    assert_ptr_equal(lb_recipe_layer(&r, 0, LB_LINEAR_Q), &plan[LB_LINEAR_Q]);
    assert_string_equal(lb_recipe_layer(&r, 0, LB_LINEAR_UP)->name, "int8-row");
    assert_string_equal(lb_recipe_layer(&r, 1, LB_LINEAR_UP)->name, "int8-row");
    assert_string_equal(lb_recipe_layer(&r, 1, LB_LINEAR_DOWN)->name, "f16");
}

static void allocate(lb_recipe *r)
{
    lb_error err;
    lb_recipe_default(r);
    r->allocation.how = LB_ALLOCATE_FISHER;
    r->allocation.target_bits = 2.5;
    assert_int_equal(lb_candidates_parse("int2-g128,int4-g128,mxfp4", &r->allocation, &err), LB_OK);
}

/* All that a plan follows from, and not the plan itself: it is made after the run's beginning was recorded. */
static void the_json_tells_allocations_apart(void **state)
{
    (void)state;
    enum { VARIANTS = 10 };
    lb_recipe r[VARIANTS];
    json_t *json[VARIANTS];
    for (size_t i = 0; i < VARIANTS; i++)
        allocate(&r[i]);
    r[1].allocation.how = LB_ALLOCATE_NONE;
    r[2].allocation.how = LB_ALLOCATE_DELTALOSS;
    r[3].allocation.how = LB_ALLOCATE_HEAD;
    r[4].allocation.target_bits = 2.5000001;
    r[5].allocation.untied = true;
    assert_int_equal(lb_candidates_parse("int4-g128,int2-g128,mxfp4", &r[6].allocation, NULL), LB_OK);
    r[7].allocation.samples = 63;
    r[8].allocation.seqlen = 128;
    r[9].allocation.samples = 0; /* of ways that measure nothing */
    for (size_t i = 0; i < VARIANTS; i++) {
        json[i] = lb_recipe_json(&r[i]);
        assert_non_null(json[i]);
        for (size_t k = 0; k < i; k++)
            assert_false(json_equal(json[i], json[k]));
    }
    const json_t *a = json_object_get(json[0], "allocation"), *candidates = json_object_get(a, "candidates");
    assert_string_equal(json_string_value(json_object_get(json[0], "format")), "mixed");
    assert_int_equal(json_object_size(a), 6);
    assert_string_equal(json_string_value(json_object_get(a, "by")), "fisher");
    assert_true(json_real_value(json_object_get(a, "target_bits")) == 2.5);
    assert_true(json_is_true(json_object_get(a, "tied")));
    assert_int_equal(json_array_size(candidates), 3);
    assert_string_equal(json_string_value(json_array_get(candidates, 2)), "mxfp4");
    assert_int_equal(json_integer_value(json_object_get(a, "samples")), 32);
    assert_int_equal(json_integer_value(json_object_get(a, "seqlen")), 256);
    assert_string_equal(json_string_value(json_object_get(json[1], "format")), "int4-g128");
    assert_null(json_object_get(json[1], "allocation"));
    assert_string_equal(json_string_value(json_object_get(json_object_get(json[2], "allocation"), "by")),
                        "deltaloss");
    assert_true(json_is_false(json_object_get(json_object_get(json[5], "allocation"), "tied")));
    assert_int_equal(json_object_size(json_object_get(json[9], "allocation")), 4);
    const lb_format plan[LB_BLOCK_LINEARS] = {{.name = "f32"}};
    r[0].plan = plan;
    json_t *planned = lb_recipe_json(&r[0]);
    assert_true(json_equal(planned, json[0]));
    json_decref(planned);
    for (size_t i = 0; i < VARIANTS; i++)
        json_decref(json[i]);
}

/* Any change that changes the output's bytes changes the JSON; equal recipes give equal JSON. */
static void the_json_tells_recipes_apart(void **state)
{
    (void)state;
    enum { VARIANTS = 20, LEARNED = 13 };
    lb_recipe r[VARIANTS];
    json_t *json[VARIANTS];
    for (size_t i = 0; i < VARIANTS; i++)
        lb_recipe_default(&r[i]);
    assert_int_equal(lb_format_parse("int4-g64", &r[1].format, NULL), LB_OK);
    r[2].method = &lb_method_rtn;
    r[3].fit = LB_FIT_RANGE;
    r[4].order = LB_ORDER_ACT;
    r[5].damp = 0.02;
    r[6].samples = 127;
    r[7].seqlen = 511;
    r[8].seed = 43;
    assert_int_equal(lb_recipe_add_rule(&r[9], "*.q_proj=int8-row", NULL), LB_OK);
    assert_int_equal(lb_recipe_add_rule(&r[10], "*.q_proj=int8-g128", NULL), LB_OK);
    assert_int_equal(lb_recipe_add_rule(&r[11], "*.k_proj=int8-row", NULL), LB_OK);
    r[12].compensate = 0.25;
    for (size_t i = LEARNED; i < VARIANTS; i++)
        r[i].method = &lb_method_signround;
    r[14].tuning.iters = 100;
    r[15].tuning.batch = 4;
    r[16].tuning.lr = 0.005;
    r[17].tuning.multiplier = false;
    r[18].tuning.filter = false;
    r[19].tuning.best = LB_BEST_BATCH;
    for (size_t i = 0; i < VARIANTS; i++) {
        json_t *again = lb_recipe_json(&r[i]);
        json[i] = lb_recipe_json(&r[i]);
        assert_non_null(json[i]);
        assert_true(json_equal(json[i], again));
        json_decref(again);
        for (size_t k = 0; k < i; k++)
            assert_false(json_equal(json[i], json[k]));
    }
    assert_string_equal(json_string_value(json_object_get(json[0], "format")), "int4-g128");
    assert_string_equal(json_string_value(json_object_get(json[0], "method")), "gptq");
    assert_string_equal(json_string_value(json_object_get(json[4], "order")), "act");
    assert_true(json_real_value(json_object_get(json[5], "damp")) == 0.02);
    assert_int_equal(json_integer_value(json_object_get(json[6], "samples")), 127);
    assert_int_equal(json_integer_value(json_object_get(json[8], "seed")), 43);
    assert_null(json_object_get(json[2], "damp")); /* which RTN does not look at */
    assert_null(json_object_get(json[0], "iters"));
    assert_int_equal(json_integer_value(json_object_get(json[LEARNED], "iters")), 200);
    assert_string_equal(json_string_value(json_object_get(json[LEARNED], "lr")), "auto");
    assert_string_equal(json_string_value(json_object_get(json[19], "best")), "batch");
    const json_t *rules = json_object_get(json[9], "layer_rules");
    assert_int_equal(json_array_size(rules), 1);
    assert_string_equal(json_string_value(json_array_get(rules, 0)), "*.q_proj=int8-row");
    for (size_t i = 0; i < VARIANTS; i++)
        json_decref(json[i]);
}

/* Of a method that alternates all that it goes by, of others nothing of it. */
static void the_json_tells_alternations_apart(void **state)
{
    (void)state;
    enum { VARIANTS = 9, OTHERS = 7 };
    lb_recipe r[VARIANTS];
    json_t *json[VARIANTS];
    for (size_t i = 0; i < VARIANTS; i++) {
        lb_recipe_default(&r[i]);
        r[i].method = &lb_method_bpdq;
    }
    r[1].alternation.iters = 0;
    r[2].alternation.iters = 11;
    r[3].alternation.init = LB_INIT_RANGE;
    r[4].alternation.init = LB_INIT_BITS;
    r[5].alternation.faithful = true;
    r[6].damp = 0.05;
    r[7].method = &lb_method_gptq;
    r[8].method = &lb_method_signround;
    for (size_t i = 0; i < VARIANTS; i++) {
        json[i] = lb_recipe_json(&r[i]);
        assert_non_null(json[i]);
        for (size_t k = 0; k < i; k++)
            assert_false(json_equal(json[i], json[k]));
        const bool has = i < OTHERS;
        assert_true((json_object_get(json[i], "init") != NULL) == has);
        assert_true((json_object_get(json[i], "faithful") != NULL) == has);
    }
    for (size_t i = 0; i < OTHERS; i++) {
        static const char *const inits[] = {"search", "search", "search", "range",
                                            "bits",   "search", "search"};
        static const int iters[] = {10, 0, 11, 10, 10, 10, 10};
        assert_string_equal(json_string_value(json_object_get(json[i], "method")), "bpdq");
        assert_int_equal(json_integer_value(json_object_get(json[i], "iters")), iters[i]);
        assert_string_equal(json_string_value(json_object_get(json[i], "init")), inits[i]);
        assert_true(json_is_true(json_object_get(json[i], "faithful")) == (i == 5));
        assert_string_equal(json_string_value(json_object_get(json[i], "order")), "group");
        assert_true(json_real_value(json_object_get(json[i], "damp")) == r[i].damp);
    }
    r[0].tuning.iters = 7; /* of learned rounding, and nothing to this method */
    r[7].alternation = (lb_alternation){.iters = 3, .init = LB_INIT_BITS, .faithful = true};
    r[8].alternation = r[7].alternation;
    for (size_t i = 0; i < VARIANTS; i++) {
        json_t *again = lb_recipe_json(&r[i]);
        assert_true(json_equal(again, json[i]));
        json_decref(again);
        json_decref(json[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_what_the_command_documents),
        cmocka_unit_test(the_last_rule_that_matches_wins),
        cmocka_unit_test(bad_rules_leave_the_recipe_alone),
        cmocka_unit_test(patterns_as_long_as_fits_and_rules_as_many),
        cmocka_unit_test(names_of_methods_and_orders),
        cmocka_unit_test(names_of_beginnings),
        cmocka_unit_test(names_of_allocations),
        cmocka_unit_test(candidates_are_formats),
        cmocka_unit_test(plans_decide_where_rules_do_not),
        cmocka_unit_test(the_json_tells_recipes_apart),
        cmocka_unit_test(the_json_tells_allocations_apart),
        cmocka_unit_test(the_json_tells_alternations_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
