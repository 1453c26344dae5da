/* SPDX-License-Identifier: MIT
 * Round to nearest against an independent fit and a search over all codes in double. */
#include "method_cases.h"

#include "base/alloc.h"
#include "base/thread.h"

static const char *const formats[] = {"int2-g32", "int3-g64-asym", "int4-g128", "int8-row", "int4-row-asym"};
enum { FORMATS = sizeof formats / sizeof *formats };

static void range_fit_is_the_obvious_rounding(void **state)
{
    (void)state;
    for (size_t k = 0; k < FORMATS; k++) {
        method_case c = case_create(formats[k], 19, 200, 0, 61 + k);
        const lb_format *f = &c.layer.format;
        size_t different = 0;
        c.recipe.fit = LB_FIT_RANGE;
        case_run(&c, &lb_method_rtn);
        for (size_t r = 0; r < c.layer.rows; r++) {
            const size_t group = f->group ? f->group : c.layer.cols;
            for (size_t at = 0, g = 0; at < c.layer.cols; at += group, g++) {
                const size_t n = c.layer.cols - at < group ? c.layer.cols - at : group;
                const float *got = c.layer.params + r * c.params_per_row + g * f->params;
                double w[256];
                float params[2];
                for (size_t i = 0; i < n; i++)
                    w[i] = (double)c.layer.w[r * c.layer.cols + at + i];
                case_fit_range(f, w, n, params);
                same_array(got, params, 2);
                for (size_t i = 0; i < n; i++)
                    different += case_round(f, params, w[i]) != c.layer.codes[r * c.layer.cols + at + i];
            }
        }
        assert_true(different <= 1); /* a tie to float accuracy */
        case_free(&c);
    }
}

/* The diagonal of H alone, which is what the search minimises. */
static double weighted_error(const method_case *c)
{
    double total = 0.0;
    for (size_t r = 0; r < c->layer.rows; r++) {
        for (size_t i = 0; i < c->layer.cols; i++) {
            const double d = (double)c->layer.w[r * c->layer.cols + i] -
                             case_value(c, c->layer.codes, c->layer.params, r, i);
            total += (double)c->hessian.h[i * c->layer.cols + i] * d * d;
        }
    }
    return total;
}

static void calibration_pays(void **state)
{
    (void)state;
    for (size_t k = 0; k < FORMATS; k++) {
        method_case c = case_create(formats[k], 19, 352, 11, 71 + k);
        c.recipe.fit = LB_FIT_RANGE;
        case_run(&c, &lb_method_rtn);
        const double range = weighted_error(&c);
        c.recipe.fit = LB_FIT_SEARCH;
        case_run(&c, &lb_method_rtn);
        const double searched = weighted_error(&c);
        assert_int_equal(lb_method_rtn.quantize(&c.recipe, NULL, &c.layer, 1, NULL), LB_OK);
        const double blind = weighted_error(&c);
        assert_true(searched < range && searched < blind);
        case_free(&c);
    }
}

/* Rows are independent: each alone, several layers in one call, any number of threads. */
static void rows_layers_and_threads(void **state)
{
    (void)state;
    method_case c = case_create("int3-g64", 50, 150, 0, 81), one = case_create("int3-g64", 1, 150, 0, 82);
    lb_layer both[2] = {one.layer, c.layer};
    lb_thread_set_count(1);
    case_run(&c, &lb_method_rtn);
    uint8_t *codes = case_alloc(50 * 150, 1);
    float *params = case_alloc(50 * c.params_per_row, sizeof *params);
    memcpy(codes, c.layer.codes, 50 * 150);
    memcpy(params, c.layer.params, 50 * c.params_per_row * sizeof *params);
    for (unsigned threads = 1; threads <= 3; threads++) {
        lb_thread_set_count(threads);
        memset(c.layer.codes, 0, 50 * 150);
        memcpy(both[0].w, c.layer.w + 33 * 150, 150 * sizeof(float));
        assert_int_equal(lb_method_rtn.quantize(&c.recipe, &c.hessian, both, 2, NULL), LB_OK);
        assert_memory_equal(c.layer.codes, codes, 50 * 150);
        assert_memory_equal(c.layer.params, params, 50 * c.params_per_row * sizeof *params);
        assert_memory_equal(one.layer.codes, codes + 33 * 150, 150);
        assert_memory_equal(one.layer.params, params + 33 * c.params_per_row,
                            c.params_per_row * sizeof *params);
    }
    lb_thread_set_count(0);
    lb_error err;
    lb_alloc_fail_at(1);
    assert_int_equal(lb_method_rtn.quantize(&c.recipe, &c.hessian, &c.layer, 1, &err), LB_ENOMEM);
    lb_alloc_fail_at(0);
    free(codes);
    free(params);
    case_free(&c);
    case_free(&one);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(range_fit_is_the_obvious_rounding),
        cmocka_unit_test(calibration_pays),
        cmocka_unit_test(rows_layers_and_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
