/* SPDX-License-Identifier: MIT
 * Coordinate descent on a layer's codes and coefficients against the same in double, where nothing is kept up to date:
 * every step computes what is left of the target anew. */
#include "slow_columns.h"

#include "base/alloc.h"
#include "base/thread.h"
#include "formats/linear_format.h"
#include "quantize/refine.h"

typedef struct slow_refine {
    const method_case *c;
    const double *target; /* [rows, n] */
    double *h; /* [n, n] damped */
    uint8_t *codes;
    float *params;
} slow_refine;

static size_t group_of(const method_case *c, size_t i)
{
    return c->layer.format.group ? i / c->layer.format.group : 0;
}

static float *params_of(const slow_refine *s, size_t row, size_t g)
{
    return s->params + row * s->c->params_per_row + g * s->c->layer.format.params;
}

static double value_of(const lb_format *f, const float *params, uint8_t code)
{
    float value;
    f->ops->value(f, params, &code, 1, &value);
    return (double)value;
}

static double value_at(const slow_refine *s, size_t row, size_t i)
{
    return value_of(&s->c->layer.format, params_of(s, row, group_of(s->c, i)),
                    s->codes[row * s->c->layer.cols + i]);
}

/* ((target - q) H)_t */
static double left_at(const slow_refine *s, size_t row, size_t t)
{
    const size_t n = s->c->layer.cols;
    double sum = 0.0;
    for (size_t i = 0; i < n; i++)
        sum += (s->target[row * n + i] - value_at(s, row, i)) * s->h[i * n + t];
    return sum;
}

/* tr(D H D^T), damped, of the row. */
static double row_energy(const slow_refine *s, size_t row)
{
    const size_t n = s->c->layer.cols;
    double sum = 0.0;
    for (size_t t = 0; t < n; t++)
        sum += left_at(s, row, t) * (s->target[row * n + t] - value_at(s, row, t));
    return sum;
}

static double energy(const slow_refine *s)
{
    double sum = 0.0;
    for (size_t row = 0; row < s->c->layer.rows; row++)
        sum += row_energy(s, row);
    return sum;
}

static void slow_code(slow_refine *s, size_t row, size_t t)
{
    const lb_format *f = &s->c->layer.format;
    const float *params = params_of(s, row, group_of(s->c, t));
    const double wanted = value_at(s, row, t) + left_at(s, row, t) / s->h[t * (s->c->layer.cols + 1)];
    double nearest = HUGE_VAL;
    for (unsigned k = 0; k < 1u << f->bits; k++) {
        const double distance = fabs(value_of(f, params, (uint8_t)k) - wanted);
        if (distance < nearest) {
            nearest = distance;
            s->codes[row * s->c->layer.cols + t] = (uint8_t)k;
        }
    }
}

/* Gauss with pivots; a [n, n], b [n] -> b. False when singular. */
static bool slow_solve(size_t n, double *a, double *b)
{
    for (size_t k = 0; k < n; k++) {
        size_t best = k;
        for (size_t i = k; i < n; i++)
            best = fabs(a[i * n + k]) > fabs(a[best * n + k]) ? i : best;
        if (!(fabs(a[best * n + k]) > 0.0))
            return false;
        for (size_t j = 0; j < n; j++) {
            const double swap = a[k * n + j];
            a[k * n + j] = a[best * n + j];
            a[best * n + j] = swap;
        }
        const double swap = b[k];
        b[k] = b[best];
        b[best] = swap;
        for (size_t i = 0; i < n; i++) {
            const double factor = a[i * n + k] / a[k * (n + 1)];
            if (i == k)
                continue;
            for (size_t j = 0; j < n; j++)
                a[i * n + j] -= factor * a[k * n + j];
            b[i] -= factor * b[k];
        }
    }
    for (size_t k = 0; k < n; k++)
        b[k] /= a[k * (n + 1)];
    return true;
}

static void slow_coefficients(slow_refine *s, size_t row, size_t g)
{
    const lb_format *f = &s->c->layer.format;
    const lb_linear_format_ops *linear = f->ops->linear;
    const size_t n = s->c->layer.cols, begin = g * f->group, width = lb_format_group_size(f, n, g);
    float *params = params_of(s, row, g), *basis = case_alloc(256 * LB_FORMAT_MAX_PARAMS, sizeof *basis);
    float coefficients[LB_FORMAT_MAX_PARAMS];
    const unsigned count = linear->count(f);
    double a[LB_FORMAT_MAX_PARAMS * LB_FORMAT_MAX_PARAMS] = {0}, b[LB_FORMAT_MAX_PARAMS] = {0};
    linear->basis(f, params, basis);
    for (size_t t = begin; t < begin + width; t++) {
        const float *at = basis + s->codes[row * n + t] * count;
        for (unsigned i = 0; i < count; i++) {
            b[i] += (double)at[i] * left_at(s, row, t);
            for (size_t k = begin; k < begin + width; k++)
                for (unsigned j = 0; j < count; j++)
                    a[i * count + j] +=
                        (double)at[i] * s->h[t * n + k] * (double)basis[s->codes[row * n + k] * count + j];
        }
    }
    double largest = 0.0;
    for (unsigned i = 0; i < count; i++)
        largest = fmax(largest, a[i * count + i]);
    for (unsigned i = 0; i < count; i++) /* where there are fewer columns than coefficients */
        a[i * count + i] += 1e-9 * largest;
    linear->get(f, params, coefficients);
    if (largest > 0.0 && slow_solve(count, a, b)) {
        for (unsigned i = 0; i < count; i++)
            coefficients[i] += (float)b[i];
        linear->set(f, coefficients, params);
    }
    free(basis);
}

static void slow_sweep(slow_refine *s)
{
    const lb_format *f = &s->c->layer.format;
    const size_t n = s->c->layer.cols;
    for (size_t row = 0; row < s->c->layer.rows; row++) {
        for (size_t g = 0; g < lb_format_groups(f, n); g++) {
            for (size_t t = g * f->group; t < g * f->group + lb_format_group_size(f, n, g); t++)
                slow_code(s, row, t);
            if (f->ops->linear)
                slow_coefficients(s, row, g);
        }
    }
}

static double *target_of(const method_case *c, double shift)
{
    const size_t count = c->layer.rows * c->layer.cols;
    double *target = case_alloc(count, sizeof *target);
    for (size_t i = 0; i < count; i++)
        target[i] = (double)(float)((double)c->layer.w[i] + shift * (double)c->layer.w[(i * 7 + 3) % count]);
    return target;
}

static slow_refine slow_begin(const method_case *c, const double *target)
{
    const size_t n = c->layer.cols, codes = c->layer.rows * n, params = c->layer.rows * c->params_per_row;
    slow_refine s = {.c = c,
                     .target = target,
                     .h = case_alloc(n * n, sizeof(double)),
                     .codes = case_alloc(codes, 1),
                     .params = case_alloc(params, sizeof(float))};
    size_t *column = case_alloc(n, sizeof *column);
    slow_order(c, LB_ORDER_NONE, column);
    slow_damped(c, column, s.h);
    free(column);
    memcpy(s.codes, c->layer.codes, codes);
    memcpy(s.params, c->layer.params, params * sizeof(float));
    return s;
}

static void slow_end(slow_refine *s)
{
    free(s->h);
    free(s->codes);
    free(s->params);
}

static void refine(method_case *c, const double *target, size_t sweeps)
{
    const size_t count = c->layer.rows * c->layer.cols;
    float *narrow = case_alloc(count, sizeof *narrow);
    lb_error err;
    for (size_t i = 0; i < count; i++)
        narrow[i] = (float)target[i];
    c->recipe.refine = sweeps;
    if (lb_refine_layer(&c->recipe, &c->hessian, &c->layer, narrow, &err) != LB_OK)
        fail_msg("%s", err.msg);
    c->recipe.refine = 0;
    free(narrow);
}

/* Of the codes and params that the case has now. */
static double energy_now(const method_case *c, const double *target)
{
    slow_refine s = slow_begin(c, target);
    const double found = energy(&s);
    slow_end(&s);
    return found;
}

static const struct {
    const char *format;
    size_t rows, cols, dead_every;
} cases[] = {
    {"int2-g32", 9, 80, 0}, {"int3-g32-asym", 5, 96, 0},  {"bp2-g32", 40, 72, 0},
    {"bp2-row", 3, 290, 0}, {"int4-row-asym", 2, 300, 7}, {"bp3-g64", 4, 130, 5},
    {"mxfp4", 6, 70, 0},    {"bp1-g256", 3, 257, 0},      {"int8-g32", 3, 33, 0},
    {"int2-g128", 1, 1, 0}, {"bp4-g32", 2, 40, 0},
};

/* After one sweep nearly all codes are the same; floats decide a few near-ties otherwise. */
static void one_sweep_is_that_of_the_slow_way(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        method_case c =
            case_create(cases[k].format, cases[k].rows, cases[k].cols, cases[k].dead_every, 300 + k);
        double *target = target_of(&c, 0.1);
        const size_t n = c.layer.cols, count = c.layer.rows * n;
        size_t different = 0;
        case_run(&c, &lb_method_gptq);
        slow_refine s = slow_begin(&c, target);
        const double before = energy(&s);
        slow_sweep(&s);
        refine(&c, target, 1);
        for (size_t i = 0; i < count; i++) { /* mxfp4 has two zeros */
            const float *params = params_of(&s, i / n, group_of(&c, i % n));
            different += value_of(&c.layer.format, params, s.codes[i]) !=
                         value_of(&c.layer.format, params, c.layer.codes[i]);
        }
        const double want = energy(&s), got = energy_now(&c, target);
        if (different * 200 > count || fabs(got - want) > 0.005 * want || !(got <= before))
            fail_msg("%s: %zu of %zu codes differ; error %g, wanted %g, %g before", cases[k].format,
                     different, count, got, want, before);
        slow_end(&s);
        free(target);
        case_free(&c);
    }
}

/* More sweeps never hurt, and in the end there is no single code whose change would help. */
static void it_ends_where_no_code_wants_to_change(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        static const size_t sweeps[] = {1, 2, 4, 8, 200};
        method_case c =
            case_create(cases[k].format, cases[k].rows, cases[k].cols, cases[k].dead_every, 400 + k);
        double *target = target_of(&c, 0.0), last = HUGE_VAL;
        for (size_t i = 0; i < sizeof sweeps / sizeof *sweeps; i++) {
            case_run(&c, &lb_method_gptq);
            refine(&c, target, sweeps[i]);
            const double now = energy_now(&c, target);
            assert_true(now <= last * (1.0 + 1e-4));
            last = now;
        }
        slow_refine s = slow_begin(&c, target);
        for (size_t row = 0; row < c.layer.rows; row++) {
            const double best = row_energy(&s, row);
            for (size_t t = 0; t < c.layer.cols; t += 1 + c.layer.cols / 12) {
                uint8_t *code = &s.codes[row * c.layer.cols + t];
                const uint8_t kept = *code;
                for (unsigned other = 0; other < 1u << c.layer.format.bits; other++) {
                    *code = (uint8_t)other;
                    if (row_energy(&s, row) < best * (1.0 - 1e-3))
                        fail_msg("%s: row %zu, column %zu would rather be %u than %u", cases[k].format, row,
                                 t, other, kept);
                }
                *code = kept;
            }
        }
        slow_end(&s);
        free(target);
        case_free(&c);
    }
}

/* GPTQ and BPDQ call it with the target that they had themselves. */
static void methods_refine_what_they_chose(void **state)
{
    (void)state;
    const lb_method *const methods[] = {&lb_method_gptq, &lb_method_bpdq};
    for (size_t m = 0; m < 2; m++) {
        for (int order = LB_ORDER_GROUP; order <= LB_ORDER_NONE; order++) {
            method_case c = case_create("int2-g32", 36, 128, 0, 77);
            double *target = target_of(&c, 0.0);
            c.recipe.order = (lb_order)order;
            case_run(&c, methods[m]);
            const double before = energy_now(&c, target);
            refine(&c, target, 10);
            const outcome apart = {c.layer.codes, c.layer.params};
            c.layer.codes = case_alloc(c.layer.rows * c.layer.cols, 1);
            c.layer.params = case_alloc(c.layer.rows * c.params_per_row, sizeof(float));
            c.recipe.refine = 10;
            case_run(&c, methods[m]);
            check_outcome(&c, &apart);
            assert_true(energy_now(&c, target) < 0.97 * before);
            free(apart.codes);
            free(apart.params);
            free(target);
            case_free(&c);
        }
    }
}

static void threads_do_not_matter(void **state)
{
    (void)state;
    method_case c = case_create("bp2-g64", 70, 160, 0, 5);
    double *target = target_of(&c, 0.05);
    outcome first = {0};
    for (int threads = 1; threads <= 2; threads++) {
        lb_thread_set_count((unsigned)threads);
        case_run(&c, &lb_method_bpdq);
        refine(&c, target, 4);
        if (threads == 1) {
            first = (outcome){case_alloc(c.layer.rows * c.layer.cols, 1),
                              case_alloc(c.layer.rows * c.params_per_row, sizeof(float))};
            memcpy(first.codes, c.layer.codes, c.layer.rows * c.layer.cols);
            memcpy(first.params, c.layer.params, c.layer.rows * c.params_per_row * sizeof(float));
        }
    }
    lb_thread_set_count(0);
    check_outcome(&c, &first);
    outcome_free(&first);
    free(target);
    case_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_sweep_is_that_of_the_slow_way),
        cmocka_unit_test(it_ends_where_no_code_wants_to_change),
        cmocka_unit_test(methods_refine_what_they_chose),
        cmocka_unit_test(threads_do_not_matter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
