/* SPDX-License-Identifier: MIT
 * GPTQ against the procedure that it is a fast form of, in double: optimal brain quantization with a fixed
 * order (arXiv:2208.11580). There H^-1 of the remaining columns is kept explicitly: after column t,
 *   w -= (w_t - q_t) / P_tt * P_t.     P -= P_.t P_t. / P_tt     P = H^-1 at first */
#include "slow_columns.h"

#include "base/alloc.h"
#include "base/thread.h"

/* Parameters of the group of visited column t, from the weights as they are now. */
static void fit_group(const method_case *c, const size_t *column, const double *w, size_t r, size_t t,
                      float *params)
{
    const lb_format *f = &c->layer.format;
    const size_t n = c->layer.cols, g = f->group ? column[t] / f->group : 0;
    double *members = case_alloc(n, sizeof *members);
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        if ((f->group ? column[i] / f->group : 0) == g)
            members[count++] = w[i];
    case_fit_range(f, members, count, params + r * c->params_per_row + g * f->params);
    free(members);
}

/* With range fits. target [rows, n] in stored order, or NULL for the weights themselves. */
static void slow_gptq(const method_case *c, const double *target, uint8_t *codes, float *params)
{
    const lb_format *f = &c->layer.format;
    const size_t n = c->layer.cols, rows = c->layer.rows;
    size_t *column = case_alloc(n, sizeof *column);
    double *w = case_alloc(rows * n, sizeof *w), *p = case_alloc(n * n, sizeof *p);
    slow_order(c, c->recipe.order, column);
    slow_damped(c, column, p);
    slow_invert(n, p);
    for (size_t r = 0; r < rows; r++)
        for (size_t t = 0; t < n; t++)
            w[r * n + t] = target ? target[r * n + column[t]] : (double)c->layer.w[r * n + column[t]];
    for (size_t t = 0; t < n; t++) {
        const size_t g = f->group ? column[t] / f->group : 0;
        bool begins = true; /* in act order all groups are fitted at the very beginning, to the same effect */
        for (size_t i = 0; i < t; i++)
            begins = begins && (f->group ? column[i] / f->group : 0) != g;
        for (size_t r = 0; r < rows; r++) {
            if (c->recipe.order == LB_ORDER_ACT && t == 0)
                for (size_t i = 0; i < n; i++)
                    fit_group(c, column, w + r * n, r, i, params);
            if (c->recipe.order != LB_ORDER_ACT && begins)
                fit_group(c, column, w + r * n, r, t, params);
            codes[r * n + column[t]] =
                case_round(f, params + r * c->params_per_row + g * f->params, w[r * n + t]);
            const double error = (w[r * n + t] - case_value(c, codes, params, r, column[t])) / p[t * (n + 1)];
            for (size_t j = t; j < n; j++)
                w[r * n + j] -= error * p[t * n + j];
        }
        for (size_t i = t + 1; i < n; i++)
            for (size_t j = t + 1; j < n; j++)
                p[i * n + j] -= p[i * n + t] * p[t * n + j] / p[t * (n + 1)];
    }
    free(column);
    free(w);
    free(p);
}

/* Nearly all codes are the same (floats decide a few near-ties otherwise, which later columns of the row
 * then follow), and the error is. */
static void compare(method_case *c, const double *target)
{
    const size_t count = c->layer.rows * c->layer.cols;
    uint8_t *codes = case_alloc(count, 1);
    float *params = case_alloc(c->layer.rows * c->params_per_row, sizeof *params);
    size_t different = 0;
    c->recipe.fit = LB_FIT_RANGE;
    slow_gptq(c, target, codes, params);
    case_run(c, &lb_method_gptq);
    for (size_t i = 0; i < count; i++)
        different += codes[i] != c->layer.codes[i];
    const double want = case_energy(c, target, codes, params);
    const double got = case_energy(c, target, c->layer.codes, c->layer.params);
    if (different * 200 > count || fabs(got - want) > 0.005 * want)
        fail_msg("%s, order %d: %zu of %zu codes differ; error %g, wanted %g", c->layer.format.name,
                 c->recipe.order, different, count, got, want);
    free(codes);
    free(params);
}

static void same_codes_as_the_slow_way(void **state)
{
    (void)state;
    static const struct {
        const char *format;
        size_t rows, cols, dead_every;
    } cases[] = {
        {"int4-g32", 24, 96, 0},  {"int3-g32-asym", 24, 96, 0}, {"int2-g32", 24, 80, 0},
        {"int4-row", 7, 100, 0},  {"int4-g64", 40, 160, 9},     {"int8-g32", 10, 33, 0},
        {"int4-g256", 5, 300, 0}, {"int3-row-asym", 3, 270, 5}, {"int4-g128", 6, 320, 0},
        {"int4-g64", 4, 352, 13}, {"int5-g32", 1, 1, 0},        {"int6-g32-asym", 2, 32, 0},
    };
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        for (int order = LB_ORDER_GROUP; order <= LB_ORDER_NONE; order++) {
            method_case c =
                case_create(cases[k].format, cases[k].rows, cases[k].cols, cases[k].dead_every, 91 + k);
            c.recipe.order = (lb_order)order;
            compare(&c, NULL);
            case_free(&c);
        }
    }
}

/* The short group comes first when its inputs are the largest, and its fit sees untouched weights. */
static void short_last_group_first(void **state)
{
    (void)state;
    method_case c = case_create("int3-g128", 20, 288, 0, 111);
    const size_t n = 288;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            c.hessian.h[i * n + j] *= (i >= 256 ? 30.0f : 1.0f) * (j >= 256 ? 30.0f : 1.0f);
    c.recipe.order = LB_ORDER_GROUP;
    compare(&c, NULL);
    for (size_t r = 0; r < 20; r++) {
        double w[32];
        float params[2];
        for (size_t i = 0; i < 32; i++)
            w[i] = (double)c.layer.w[r * n + 256 + i];
        case_fit_range(&c.layer.format, w, 32, params);
        same_array(c.layer.params + r * c.params_per_row + 4, params, 2);
    }
    case_free(&c);
}

/* Drift: the target is the least-squares answer W + share * W E^T (H + damp)^-1, E = mean x (x_o - x)^T. */
static void drift_moves_the_target(void **state)
{
    (void)state;
    enum { N = 96, ROWS = 24, TOKENS = 300 };
    method_case c = case_create("int4-g32", ROWS, N, 0, 121);
    lb_rng rng;
    lb_rng_seed(&rng, 122);
    lb_hessian_free(&c.hessian);
    assert_int_equal(lb_hessian_create(N, true, &c.hessian, NULL), LB_OK);
    float *x = case_inputs(&rng, TOKENS, N, 0), *original = case_alloc(TOKENS * N, sizeof *original);
    static double e[N * N], target[ROWS * N], pull[N];
    for (size_t t = 0; t < TOKENS; t++) /* neighbouring channels leak into one another, and some fade */
        for (size_t i = 0; i < N; i++)
            original[t * N + i] = x[t * N + i] * (i % 3 ? 1.05f : 0.9f) + 0.1f * x[t * N + (i + 1) % N];
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j < N; j++)
            for (size_t t = 0; t < TOKENS; t++)
                e[i * N + j] +=
                    (double)x[t * N + i] * ((double)original[t * N + j] - (double)x[t * N + j]) / TOKENS;
    lb_hessian_add(&c.hessian, x, original, TOKENS);
    lb_hessian_finish(&c.hessian);
    size_t stored[N];
    for (size_t i = 0; i < N; i++)
        stored[i] = i;
    double *p = case_alloc(c.layer.cols * c.layer.cols, sizeof *p);
    slow_damped(&c, stored, p);
    slow_invert(c.layer.cols, p);
    for (int order = LB_ORDER_GROUP; order <= LB_ORDER_NONE; order++) {
        for (int share = 0; share <= 2; share++) {
            c.recipe.order = (lb_order)order;
            c.recipe.compensate = 0.5 * share;
            for (size_t r = 0; r < ROWS; r++) {
                for (size_t j = 0; j < N; j++) {
                    pull[j] = 0.0;
                    for (size_t i = 0; i < N; i++)
                        pull[j] += (double)c.layer.w[r * N + i] * e[j * N + i];
                }
                for (size_t j = 0; j < N; j++) {
                    target[r * N + j] = (double)c.layer.w[r * N + j];
                    for (size_t i = 0; i < N; i++)
                        target[r * N + j] += c.recipe.compensate * pull[i] * p[i * N + j];
                }
            }
            compare(&c, target);
        }
    }
    free(p);
    free(x);
    free(original);
    case_free(&c);
}

static void better_than_rounding(void **state)
{
    (void)state;
    static const char *const formats[] = {"int2-g64",       "int3-g64", "int4-g64",      "int8-g64",
                                          "int2-g128-asym", "int4-row", "int4-g32-asym", "int3-row-asym"};
    for (size_t k = 0; k < sizeof formats / sizeof *formats; k++) {
        method_case c = case_create(formats[k], 33, 200, k % 2 ? 17 : 0, 131 + k);
        for (int fit = LB_FIT_RANGE; fit <= LB_FIT_SEARCH; fit++) {
            c.recipe.fit = (lb_fit)fit;
            case_run(&c, &lb_method_rtn);
            const double rounded = case_energy(&c, NULL, c.layer.codes, c.layer.params);
            for (int order = LB_ORDER_GROUP; order <= LB_ORDER_NONE; order++) {
                c.recipe.order = (lb_order)order;
                case_run(&c, &lb_method_gptq);
                const double error = case_energy(&c, NULL, c.layer.codes, c.layer.params);
                if (!(error < rounded))
                    fail_msg("%s, fit %d, order %d: error %g, rounding %g", formats[k], fit, order, error,
                             rounded);
            }
        }
        case_free(&c);
    }
}

/* Where columns have nothing in common there is nothing to pass on. */
static void without_correlation_it_is_rounding(void **state)
{
    (void)state;
    for (int zero = 0; zero < 2; zero++) {
        for (int order = LB_ORDER_GROUP; order <= LB_ORDER_NONE; order++) {
            method_case c = case_create("int3-g64", 35, 150, 0, 141);
            for (size_t i = 0; i < 150 * 150; i++)
                c.hessian.h[i] = i % 151 || zero ? 0.0f : 1.0f + (float)(i % 7);
            c.recipe.fit = LB_FIT_RANGE;
            c.recipe.order = (lb_order)order;
            case_run(&c, &lb_method_rtn);
            uint8_t *codes = case_alloc(35 * 150, 1);
            memcpy(codes, c.layer.codes, 35 * 150);
            case_run(&c, &lb_method_gptq);
            assert_memory_equal(c.layer.codes, codes, 35 * 150);
            c.recipe.damp = 0.0; /* an all-zero Hessian needs some all the same */
            case_run(&c, &lb_method_gptq);
            assert_memory_equal(c.layer.codes, codes, 35 * 150);
            free(codes);
            case_free(&c);
        }
    }
}

/* The same bytes at any number of threads, and for layers that share their call with others. */
static void threads_and_neighbours(void **state)
{
    (void)state;
    static const char *const formats[] = {"int4-g128", "int2-g64-asym", "int3-row"};
    for (size_t k = 0; k < 3; k++) {
        for (int order = LB_ORDER_GROUP; order <= LB_ORDER_NONE; order++) {
            method_case wide = case_create(formats[k], 100, 288, 0, 151);
            method_case small = case_create("int4-g32", 9, 288, 0, 151); /* the same inputs */
            lb_hessian_free(&small.hessian);
            small.hessian = wide.hessian;
            small.recipe.order = wide.recipe.order = (lb_order)order;
            lb_thread_set_count(1);
            outcome of_wide = run_alone(&wide, &lb_method_gptq),
                    of_small = run_alone(&small, &lb_method_gptq);
            for (unsigned threads = 2; threads <= 3; threads++) {
                lb_thread_set_count(threads);
                memset(wide.layer.codes, 0, wide.layer.rows * 288);
                memset(small.layer.codes, 0, small.layer.rows * 288);
                lb_layer all[3] = {wide.layer, small.layer, wide.layer};
                assert_int_equal(lb_method_gptq.quantize(&wide.recipe, &wide.hessian, all, 3, NULL), LB_OK);
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
}

static void hopeless_hessians_and_lack_of_memory(void **state)
{
    (void)state;
    lb_error err;
    method_case c = case_create("int4-g32", 40, 64, 0, 161);
    c.hessian.h[5 * 64 + 9] = NAN;
    assert_int_equal(lb_method_gptq.quantize(&c.recipe, &c.hessian, &c.layer, 1, &err), LB_EINVAL);
    c.hessian.h[5 * 64 + 9] = c.hessian.h[9 * 64 + 5] = 0.0f;
    lb_status st = LB_ENOMEM;
    for (size_t k = 1; st != LB_OK; k++) {
        assert_true(k < 100);
        c.recipe.order = k % 2 ? LB_ORDER_ACT : LB_ORDER_GROUP;
        lb_alloc_fail_at(k);
        st = lb_method_gptq.quantize(&c.recipe, &c.hessian, &c.layer, 1, &err);
        assert_true(st == LB_OK ? k > 5 : st == LB_ENOMEM);
    }
    lb_alloc_fail_at(0);
    case_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_codes_as_the_slow_way),
        cmocka_unit_test(short_last_group_first),
        cmocka_unit_test(drift_moves_the_target),
        cmocka_unit_test(better_than_rounding),
        cmocka_unit_test(without_correlation_it_is_rounding),
        cmocka_unit_test(threads_and_neighbours),
        cmocka_unit_test(hopeless_hessians_and_lack_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
