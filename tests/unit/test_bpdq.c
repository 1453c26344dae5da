/* SPDX-License-Identifier: MIT
 * BPDQ against the procedure as it is described (slow_bpdq.h), and against GPTQ, of which it is the same sweep. */
#include "slow_bpdq.h"

#include "base/alloc.h"
#include "base/thread.h"

/* The sum over rows of d (H + damp I) d^T, where the codes and parameters are the layer's. */
static double damped_error(const method_case *c, const slow_bpdq *s)
{
    double total = 0.0;
    for (size_t r = 0; r < s->rows; r++)
        total += slow_energy(c, s, c->layer.codes, c->layer.params, r, NULL);
    return total;
}

/* How many rows are like those of the slow way: the same codes, and parameters to the same effect, which f16 may
 * have rounded differently. */
static size_t rows_alike(const method_case *c, const slow_bpdq *s)
{
    size_t alike = 0;
    double got = 0.0, want = 0.0;
    for (size_t r = 0; r < s->rows; r++) {
        const double a = slow_energy(c, s, c->layer.codes, c->layer.params, r, NULL);
        const double b = slow_energy(c, s, s->codes, s->params, r, NULL);
        alike += memcmp(c->layer.codes + r * s->n, s->codes + r * s->n, s->n) == 0 && fabs(a - b) <= 1e-5 * b;
        got += a;
        want += b;
    }
    if (!(fabs(got - want) <= 0.05 * want)) /* which a few rows that went another way do not make */
        fail_msg("%s: error %g, wanted %g", c->layer.format.name, got, want);
    return alike;
}

/* sum E^2 = tr(D (H + damp I) D^T), and the two ways to E agree. */
static void check_errors_add_up(const method_case *c, const slow_bpdq *s)
{
    for (size_t r = 0; r < s->rows; r++) {
        const double want = slow_energy(c, s, s->codes, s->params, r, NULL);
        if (!(fabs(s->energy[r] - want) <= 1e-9 * want))
            fail_msg("%s: errors add up to %.15g, the layer's is %.15g", c->layer.format.name, s->energy[r],
                     want);
    }
    if (!(s->delta_error <= 1e-9))
        fail_msg("%s: the corrected error is off by %g of it", c->layer.format.name, s->delta_error);
}

typedef struct shape {
    const char *format;
    size_t rows, cols, dead_every;
} shape;

static const shape shapes[] = {
    {"bp2-g32", 24, 96, 0},   {"bp1-g64", 10, 128, 0},       {"bp3-g64", 10, 160, 9},
    {"bp4-g32", 10, 80, 0},   {"bp2-g128", 12, 288, 0},      {"bp2-g256", 6, 300, 13},
    {"bp2-row", 7, 100, 0},   {"bp3-row", 5, 37, 5},         {"int2-g32", 24, 80, 0},
    {"int3-g64", 10, 160, 7}, {"int2-g64-asym", 12, 150, 0}, {"int4-row-asym", 5, 90, 0},
    {"int4-g128", 6, 288, 0}, {"bp2-g32", 3, 1, 0},          {"int8-g32", 5, 33, 0},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static method_case create(const shape *s, uint64_t seed)
{
    return case_create(s->format, s->rows, s->cols, s->dead_every, seed);
}

/* In every order, from every beginning, with the best of each row and of the layer, after some rounds and after none:
 * the same codes but for a row in a hundred, where floats decide a near-tie otherwise. */
static void same_codes_as_the_slow_way(void **state)
{
    (void)state;
    static const size_t iters[] = {10, 3, 1, 0, 6};
    size_t rows = 0, alike = 0;
    for (size_t k = 0; k < SHAPES; k++) {
        const shape *like = &shapes[k];
        for (unsigned mode = 0; mode < 12; mode++) {
            method_case c = create(like, 201 + k);
            c.recipe.order = mode & 1 ? LB_ORDER_NONE : LB_ORDER_GROUP;
            c.recipe.alternation.init = (lb_init)(mode / 2 % 3);
            c.recipe.alternation.faithful = mode >= 6;
            c.recipe.alternation.iters = iters[(k + mode / 6) % 5];
            c.recipe.damp = k % 2 ? 0.01 : 0.05;
            for (size_t i = 0; k % 4 == 1 && i < like->rows * like->cols; i++)
                c.layer.w[i] = 0.7f + 0.1f * c.layer.w[i]; /* where f16 is coarse */
            for (size_t i = 0; k % 3 == 1 && i < like->cols * like->cols; i++)
                c.hessian.h[i] *= 1e-3f; /* where the faithful ridge is much */
            slow_bpdq s = slow_create(&c);
            slow_run(&c, &s);
            check_errors_add_up(&c, &s);
            case_run(&c, &lb_method_bpdq);
            rows += s.rows;
            alike += rows_alike(&c, &s);
            slow_free(&s);
            case_free(&c);
        }
    }
    if (alike * 100 < rows * 99)
        fail_msg("%zu of %zu rows are not those of the slow way", rows - alike, rows);
}

/* A layer whose inputs were other ones in the original model. */
static method_case create_with_drift(const char *format, size_t rows, size_t n, uint64_t seed)
{
    method_case c = case_create(format, rows, n, 0, seed);
    const size_t tokens = 3 * n;
    lb_rng rng;
    lb_rng_seed(&rng, seed + 1);
    float *x = case_inputs(&rng, tokens, n, 0), *original = case_alloc(tokens * n, sizeof *original);
    for (size_t t = 0; t < tokens; t++) /* neighbouring channels leak into one another, and some fade */
        for (size_t i = 0; i < n; i++)
            original[t * n + i] = x[t * n + i] * (i % 3 ? 1.05f : 0.9f) + 0.1f * x[t * n + (i + 1) % n];
    lb_hessian_free(&c.hessian);
    assert_int_equal(lb_hessian_create(n, true, &c.hessian, NULL), LB_OK);
    lb_hessian_add(&c.hessian, x, original, tokens);
    lb_hessian_finish(&c.hessian);
    free(x);
    free(original);
    return c;
}

/* The first group's codes and parameters bit for bit, of the others nearly all; no group is wider than what GPTQ
 * takes at once. */
static void check_against_gptq(method_case *c)
{
    const lb_format *f = &c->layer.format;
    const size_t n = c->layer.cols, rows = c->layer.rows;
    uint8_t *codes = case_alloc(rows * n, 1);
    float *params = case_alloc(rows * c->params_per_row, sizeof *params);
    size_t different = 0;
    slow_bpdq s = slow_create(c);
    case_run(c, &lb_method_gptq);
    memcpy(codes, c->layer.codes, rows * n);
    memcpy(params, c->layer.params, rows * c->params_per_row * sizeof *params);
    const double want = damped_error(c, &s);
    case_run(c, &lb_method_bpdq);
    const double got = damped_error(c, &s);
    const size_t first = slow_group_of(c, s.column[0]), end = slow_group_end(c, &s, 0);
    for (size_t r = 0; r < rows; r++) {
        for (size_t t = 0; t < n; t++) {
            const bool same = codes[r * n + s.column[t]] == c->layer.codes[r * n + s.column[t]];
            assert_true(same || t >= end);
            different += !same;
        }
        same_array(c->layer.params + r * c->params_per_row + first * f->params,
                   params + r * c->params_per_row + first * f->params, f->params);
    }
    if (different * 100 > rows * n || !(fabs(got - want) <= 0.01 * want))
        fail_msg("%s: %zu of %zu codes are not GPTQ's; error %g, GPTQ's %g", f->name, different, rows * n,
                 got, want);
    slow_free(&s);
    free(codes);
    free(params);
}

static void without_rounds_it_is_gptq(void **state)
{
    (void)state;
    static const shape alike[] = {
        {"int2-g32", 40, 160, 0}, {"int3-g64", 20, 200, 7},       {"int4-g128", 20, 288, 0},
        {"int8-g32", 10, 70, 0},  {"int2-g64-asym", 40, 160, 11}, {"int4-row-asym", 9, 90, 0},
        {"bp1-g32", 20, 160, 0},  {"bp2-g64", 40, 160, 9},        {"bp3-g128", 20, 288, 0},
        {"bp4-g32", 20, 100, 0},  {"bp2-row", 9, 128, 0}};
    for (size_t k = 0; k < sizeof alike / sizeof *alike; k++) {
        for (unsigned mode = 0; mode < 4; mode++) {
            method_case c = create(&alike[k], 231 + k);
            c.recipe.alternation.iters = 0;
            c.recipe.order = mode & 1 ? LB_ORDER_NONE : LB_ORDER_GROUP;
            c.recipe.fit = mode & 2 ? LB_FIT_RANGE : LB_FIT_SEARCH;
            c.recipe.alternation.init = mode & 2 ? LB_INIT_RANGE : LB_INIT_SEARCH;
            check_against_gptq(&c);
            case_free(&c);
        }
    }
}

/* The target is W + share * W E^T (H + damp)^-1, E = mean x (x_original - x)^T, as GPTQ's is. */
static void drift_moves_the_target(void **state)
{
    (void)state;
    static const char *const formats[] = {"bp2-g32", "int3-g32-asym", "bp3-row"};
    size_t rows = 0, alike = 0;
    for (size_t k = 0; k < 3; k++) {
        double moved[3];
        for (int share = 0; share <= 2; share++) {
            method_case c = create_with_drift(formats[k], 20, 80, 241);
            c.recipe.compensate = 0.5 * share;
            slow_bpdq s = slow_create(&c);
            slow_run(&c, &s);
            case_run(&c, &lb_method_bpdq);
            rows += s.rows;
            alike += rows_alike(&c, &s);
            moved[share] = 0.0;
            for (size_t i = 0; i < 20 * 80; i++)
                moved[share] += fabs(s.target[i] - (double)c.layer.w[i / 80 * 80 + s.column[i % 80]]);
            slow_free(&s);
            c.recipe.alternation.iters = 0;
            check_against_gptq(&c);
            case_free(&c);
        }
        assert_true(moved[0] == 0.0 && moved[1] > 0.0 && fabs(moved[2] - 2.0 * moved[1]) < 1e-9 * moved[2]);
    }
    assert_true(alike * 100 >= rows * 98);
}

/* Every row keeps the best of its rounds, so that with more of them the group that comes first never gets worse. Later
 * ones may, since what reaches them is another matter; not in sum. */
static void more_rounds_do_not_hurt(void **state)
{
    (void)state;
    static const size_t rounds[] = {1, 2, 3, 5, 10, 20};
    enum { TIMES = sizeof rounds / sizeof *rounds, ROWS = 24 };
    static const char *const formats[] = {"bp2-g64", "bp3-g32", "int2-g64", "int2-g32-asym", "bp4-g128"};
    for (size_t k = 0; k < sizeof formats / sizeof *formats; k++) {
        for (int init = LB_INIT_SEARCH; init <= LB_INIT_BITS; init++) {
            double before[ROWS], total[TIMES];
            method_case c = case_create(formats[k], ROWS, 192, k % 2 ? 15 : 0, 251 + k);
            slow_bpdq s = slow_create(&c);
            c.recipe.alternation.init = (lb_init)init;
            for (size_t i = 0; i < TIMES; i++) {
                c.recipe.alternation.iters = rounds[i];
                case_run(&c, &lb_method_bpdq);
                total[i] = 0.0;
                for (size_t r = 0; r < ROWS; r++) {
                    double first;
                    total[i] += slow_energy(&c, &s, c.layer.codes, c.layer.params, r, &first);
                    if (i > 0 && !(first <= before[r] * (1.0 + 1e-5)))
                        fail_msg("%s, row %zu: %g after %zu rounds, %g before", formats[k], r, first,
                                 rounds[i], before[r]);
                    before[r] = first;
                }
            }
            if (!(total[TIMES - 1] <= 0.995 * total[0]))
                fail_msg("%s: the layer's error is %g after one round, %g after the last", formats[k],
                         total[0], total[TIMES - 1]);
            slow_free(&s);
            case_free(&c);
        }
    }
}

/* In sum over layers; a single one may be worse. */
static void better_than_gptq_at_two_bits(void **state)
{
    (void)state;
    static const char *const formats[] = {"int2-g32",      "int2-g64",      "int2-g128",      "int2-row",
                                          "int2-g32-asym", "int2-g64-asym", "int2-g128-asym", "int2-row-asym",
                                          "bp2-g64",       "bp2-g128",      "bp3-g64"};
    for (size_t k = 0; k < sizeof formats / sizeof *formats; k++) {
        double gptq = 0.0, bpdq = 0.0;
        for (uint64_t seed = 261; seed < 265; seed++) {
            method_case c = case_create(formats[k], 24, 160, 0, seed);
            slow_bpdq s = slow_create(&c);
            case_run(&c, &lb_method_gptq);
            gptq += damped_error(&c, &s);
            case_run(&c, &lb_method_bpdq);
            bpdq += damped_error(&c, &s);
            slow_free(&s);
            case_free(&c);
        }
        if (!(bpdq <= gptq))
            fail_msg("%s: error %g, GPTQ's %g", formats[k], bpdq, gptq);
    }
}

/* The same bytes at any number of threads, for layers that share their call with others, and in act order, which
 * is group order here. */
static void threads_neighbours_and_act_order(void **state)
{
    (void)state;
    static const char *const formats[] = {"bp2-g128", "int2-g64-asym", "bp3-row"};
    for (unsigned k = 0; k < 3 * 4; k++) {
        method_case wide = case_create(formats[k / 4], 50, 200, k == 5 ? 9 : 0, 271);
        method_case small = case_create("bp4-g32", 9, 200, 0, 271); /* the same inputs */
        lb_hessian_free(&small.hessian);
        small.hessian = wide.hessian;
        wide.recipe.order = k & 1 ? LB_ORDER_NONE : LB_ORDER_GROUP;
        wide.recipe.alternation = (lb_alternation){.iters = 3, .faithful = k & 2};
        small.recipe = wide.recipe;
        lb_thread_set_count(1);
        outcome of_wide = run_alone(&wide, &lb_method_bpdq), of_small = run_alone(&small, &lb_method_bpdq);
        for (unsigned threads = 2; threads <= 3; threads++) {
            lb_thread_set_count(threads);
            if (wide.recipe.order == LB_ORDER_GROUP && threads == 3)
                wide.recipe.order = LB_ORDER_ACT;
            memset(wide.layer.codes, 0, 50 * 200);
            memset(small.layer.codes, 0, 9 * 200);
            lb_layer all[3] = {wide.layer, small.layer, wide.layer};
            assert_int_equal(lb_method_bpdq.quantize(&wide.recipe, &wide.hessian, all, 3, NULL), LB_OK);
            check_outcome(&wide, &of_wide);
            check_outcome(&small, &of_small);
        }
        lb_thread_set_count(0);
        outcome_free(&of_wide);
        outcome_free(&of_small);
        small.hessian = (lb_hessian){0};
        case_free(&wide);
        case_free(&small);
    }
}

/* A row does not depend on the others of its layer, unless one round is chosen for all of them. */
static void rows_share_their_round_only_when_faithful(void **state)
{
    (void)state;
    enum { ROWS = 30, ALONE = 3, N = 90 };
    size_t different = 0;
    for (int faithful = 0; faithful < 2; faithful++) {
        for (uint64_t seed = 281; seed < 285; seed++) {
            method_case c = case_create("bp2-row", ROWS, N, 0, seed);
            c.recipe.alternation = (lb_alternation){.iters = 10, .init = LB_INIT_BITS, .faithful = faithful};
            outcome all = run_alone(&c, &lb_method_bpdq);
            c.layer.rows = ALONE;
            case_run(&c, &lb_method_bpdq);
            if (faithful)
                different += memcmp(c.layer.codes, all.codes, ALONE * N) != 0;
            else
                check_outcome(&c, &all);
            outcome_free(&all);
            case_free(&c);
        }
    }
    assert_true(different > 0);
}

/* Zeros, one value, and weights and inputs of any size: all that comes out is finite. Zeros stay, and
 * one value is kept but for what later columns do to make up for f16's rounding of it. */
static void odd_weights_and_inputs(void **state)
{
    (void)state;
    static const char *const formats[] = {"bp2-g32", "bp4-row", "int2-g32", "int3-g64-asym", "bp1-g64"};
    enum { ROWS = 9, N = 70 };
    for (size_t k = 0; k < 5; k++) {
        for (unsigned mode = 0; mode < 48; mode++) {
            method_case c = case_create(formats[k], ROWS, N, 0, 291);
            c.recipe.alternation = (lb_alternation){
                .iters = mode & 8 ? 4 : 0, .init = (lb_init)(mode % 3), .faithful = mode & 16};
            const unsigned kind = mode / 3 % 6;
            for (size_t i = 0; i < ROWS * N; i++) {
                float *w = &c.layer.w[i];
                *w = kind == 0   ? 0.0f
                     : kind == 1 ? 0.25f
                     : kind == 2 ? 1e30f * *w
                     : kind == 3 ? 1e-30f * *w
                                 : *w;
            }
            for (size_t i = 0; i < N * N && kind >= 3; i++)
                c.hessian.h[i] *= kind == 3 ? 1e-12f : kind == 4 ? 0.0f : 1e12f;
            case_run(&c, &lb_method_bpdq);
            for (size_t r = 0; r < ROWS && kind < 2; r++) {
                for (size_t i = 0; i < N; i++) {
                    const float *p =
                        c.layer.params + r * c.params_per_row + slow_group_of(&c, i) * c.layer.format.params;
                    const double value = slow_level(&c.layer.format, p, c.layer.codes[r * N + i]);
                    if (!(fabs(value - (double)c.layer.w[r * N + i]) <=
                          0.02 * fabs((double)c.layer.w[r * N + i])))
                        fail_msg("%s mode %u: %g became %g", formats[k], mode, (double)c.layer.w[r * N + i],
                                 value);
                }
            }
            case_free(&c);
        }
    }
}

static void other_formats_are_refused(void **state)
{
    (void)state;
    static const char *const formats[] = {"mxfp4", "mxint8", "nvfp4"};
    for (size_t k = 0; k < 3; k++) {
        method_case c = case_create(formats[k], 4, 64, 0, 301);
        method_case fine = case_create("bp2-g32", 4, 64, 0, 301);
        lb_error err;
        char words[200];
        const lb_layer layers[2] = {fine.layer, c.layer};
        for (size_t from = 0; from < 2; from++) {
            lb_layer all[2] = {layers[from], layers[1 - from]};
            err.msg[0] = '\0';
            assert_int_equal(lb_method_bpdq.quantize(&c.recipe, &c.hessian, all, 2, &err), LB_EINVAL);
            snprintf(words, sizeof words,
                     "test: method bpdq wants a format with free coefficients (bp, int), not %s", formats[k]);
            assert_string_equal(err.msg, words);
        }
        case_free(&c);
        case_free(&fine);
    }
}

static void hopeless_hessians_and_lack_of_memory(void **state)
{
    (void)state;
    lb_error err;
    for (int faithful = 0; faithful < 2; faithful++) {
        method_case c = case_create("bp2-g32", 40, 80, 0, 311);
        c.recipe.alternation.iters = 2;
        c.recipe.alternation.faithful = faithful;
        c.hessian.h[5 * 80 + 9] = NAN;
        assert_int_equal(lb_method_bpdq.quantize(&c.recipe, &c.hessian, &c.layer, 1, &err), LB_EINVAL);
        c.hessian.h[5 * 80 + 9] = c.hessian.h[9 * 80 + 5] = 0.0f;
        outcome whole = run_alone(&c, &lb_method_bpdq);
        lb_status st = LB_ENOMEM;
        for (size_t k = 1; st != LB_OK; k++) {
            assert_true(k < 500);
            lb_alloc_fail_at(k);
            st = lb_method_bpdq.quantize(&c.recipe, &c.hessian, &c.layer, 1, &err);
            assert_true(st == LB_OK ? k > 50 : st == LB_ENOMEM);
        }
        lb_alloc_fail_at(0);
        check_outcome(&c, &whole);
        outcome_free(&whole);
        case_free(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_codes_as_the_slow_way),
        cmocka_unit_test(without_rounds_it_is_gptq),
        cmocka_unit_test(drift_moves_the_target),
        cmocka_unit_test(more_rounds_do_not_hurt),
        cmocka_unit_test(better_than_gptq_at_two_bits),
        cmocka_unit_test(threads_neighbours_and_act_order),
        cmocka_unit_test(rows_share_their_round_only_when_faithful),
        cmocka_unit_test(odd_weights_and_inputs),
        cmocka_unit_test(other_formats_are_refused),
        cmocka_unit_test(hopeless_hessians_and_lack_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
