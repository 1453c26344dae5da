/* SPDX-License-Identifier: MIT
 * Formats with free coefficients: that values are what basis and coefficients say, for every code, and the small
 * solver against elimination with pivots in long double. */
#include "near.h"

#include "base/half.h"
#include "base/rng.h"
#include "formats/linear_format.h"

enum { MOST = LB_LINEAR_MOST };

/* ---- Normal equations -------------------------------------------------------------------------------- */

/* a x = b by Gauss and Jordan, the largest of each column as pivot. */
static void solve_slowly(unsigned count, const double *a, const double *b, double ridge, double *x)
{
    long double m[MOST][MOST + 1];
    for (unsigned i = 0; i < count; i++) {
        for (unsigned j = 0; j < count; j++)
            m[i][j] = (long double)a[i * count + j] + (i == j ? (long double)ridge : 0.0L);
        m[i][count] = (long double)b[i];
    }
    for (unsigned p = 0; p < count; p++) {
        unsigned pivot = p;
        for (unsigned i = p + 1; i < count; i++)
            pivot = fabsl(m[i][p]) > fabsl(m[pivot][p]) ? i : pivot;
        for (unsigned j = 0; j <= count; j++) {
            const long double swap = m[p][j];
            m[p][j] = m[pivot][j];
            m[pivot][j] = swap;
        }
        for (unsigned i = 0; i < count; i++) {
            const long double factor = m[i][p] / m[p][p];
            for (unsigned j = p; i != p && j <= count; j++)
                m[i][j] -= factor * m[p][j];
        }
    }
    for (unsigned p = 0; p < count; p++)
        x[p] = (double)(m[p][count] / m[p][p]);
}

/* a = F^T F of `rows` random rows whose columns differ in size by up to `spread`, and random b. */
static void make_equations(lb_rng *rng, unsigned count, unsigned rows, double spread, double *a, double *b)
{
    double f[4 * MOST][MOST];
    for (unsigned r = 0; r < rows; r++)
        for (unsigned i = 0; i < count; i++)
            f[r][i] = lb_rng_normal(rng) * pow(spread, (double)i / (double)count);
    for (unsigned i = 0; i < count; i++) {
        b[i] = lb_rng_normal(rng);
        for (unsigned j = 0; j < count; j++) {
            a[i * count + j] = 0.0;
            for (unsigned r = 0; r < rows; r++)
                a[i * count + j] += f[r][i] * f[r][j];
        }
    }
}

/* The difference, in the norm that a makes of it, against what rounding may do at a condition of 1e6 or so. */
static void check_solution(unsigned count, const double *a, const double *b, double ridge, double tolerance)
{
    double got[MOST], want[MOST], off = 0.0, size = 0.0;
    assert_true(lb_solve_normal(count, a, b, ridge, got));
    solve_slowly(count, a, b, ridge, want);
    for (unsigned i = 0; i < count; i++) {
        for (unsigned j = 0; j < count; j++) {
            const double element = a[i * count + j] + (i == j ? ridge : 0.0);
            off += (got[i] - want[i]) * element * (got[j] - want[j]);
            size += want[i] * element * want[j];
        }
    }
    if (!(sqrt(fabs(off)) <= tolerance * sqrt(size)))
        fail_msg("%u unknowns, ridge %g: off by %g of %g", count, ridge, sqrt(fabs(off)), sqrt(size));
}

static void equations_are_solved(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 41);
    for (unsigned count = 1; count <= MOST; count++) {
        for (unsigned try = 0; try < 50; try++) {
            static const double sizes[] = {1.0, 1e-30, 1e30}, ridges[] = {0.0, 1e-4, 1.0};
            double a[MOST * MOST], b[MOST];
            const double size = sizes[try % 3];
            make_equations(&rng, count, count + 4 + (unsigned)lb_rng_below(&rng, 20), try % 2 ? 1.0 : 1e-3, a,
                           b);
            for (unsigned i = 0; i < count * count; i++)
                a[i] *= size;
            check_solution(count, a, b, ridges[try % 5 % 3] * size, 1e-9);
        }
    }
}

/* Fewer rows than unknowns: nothing without a ridge, and with one the answer of the slow way. */
static void singular_equations_are_refused(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 42);
    for (unsigned count = 1; count <= MOST; count++) {
        for (unsigned rows = 0; rows < count; rows++) {
            double a[MOST * MOST], b[MOST], x[MOST];
            make_equations(&rng, count, rows, 1.0, a, b);
            for (unsigned i = 0; i < MOST; i++)
                x[i] = 7.0;
            assert_false(lb_solve_normal(count, a, b, 0.0, x));
            for (unsigned i = 0; i < MOST; i++)
                assert_true(x[i] == 7.0);
            check_solution(count, a, b, 1e-3, 1e-9);
        }
    }
    const double bad[][4] = {{1.0, 1.0, 1.0, 1.0},         {0.0, 0.0, 0.0, 1.0}, {1.0, 2.0, 2.0, 1.0},
                             {-1.0, 0.0, 0.0, 1.0},        {NAN, 0.0, 0.0, 1.0}, {INFINITY, 0.0, 0.0, 1.0},
                             {1.0, 0.0, 0.0, INFINITY},    {1.0, NAN, NAN, 1.0}, {1.0, 0.0, 0.0, NAN},
                             {1e-300, 1e10, 1e10, 1e-300}, {4.0, 2.0, 2.0, 1.0}};
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        const double b[2] = {1.0, 2.0};
        double x[2] = {7.0, 8.0};
        assert_false(lb_solve_normal(2, bad[k], b, 0.0, x));
        assert_true(x[0] == 7.0 && x[1] == 8.0);
    }
}

/* A plane that no code has: its coefficient is nothing, and the others are what they are without it. */
static void unused_planes_get_nothing(void **state)
{
    (void)state;
    const double a[9] = {4.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 2.0}, b[3] = {1.0, 0.0, 3.0};
    double x[3];
    assert_true(lb_solve_normal(3, a, b, 1e-9, x));
    const double want[3] = {-1.0 / 7.0, 0.0, 11.0 / 7.0};
    near_array(x, want, 3, 1e-8);
}

/* ---- Coefficients ------------------------------------------------------------------------------------ */

static const char *const names[] = {"int2-g32",       "int3-g64",      "int4-row",      "int5-g128",
                                    "int8-g32",       "int2-g32-asym", "int3-row-asym", "int4-g128",
                                    "int4-g256-asym", "int8-row-asym", "bp1-g64",       "bp2-row",
                                    "bp2-g256",       "bp3-g128",      "bp4-g32"};
enum { NAMES = sizeof names / sizeof *names };

static lb_format format_named(const char *name)
{
    lb_format f;
    assert_int_equal(lb_format_parse(name, &f, NULL), LB_OK);
    assert_non_null(f.ops->linear);
    return f;
}

static bool is_planes(const lb_format *f)
{
    return strcmp(f->ops->family, "bp") == 0;
}

/* value(code) = sum of coefficients times basis, for params as a fit gives them and after others were set. */
static void check_values(const lb_format *f, const float *params)
{
    const unsigned count = f->ops->linear->count(f);
    float basis[256 * MOST], coefficients[MOST], got[256];
    double want[256], bounds[256];
    uint8_t codes[256];
    f->ops->linear->basis(f, params, basis);
    f->ops->linear->get(f, params, coefficients);
    for (unsigned code = 0; code < 1u << f->bits; code++) {
        codes[code] = (uint8_t)code;
        want[code] = bounds[code] = 0.0;
        for (unsigned i = 0; i < count; i++) {
            want[code] += (double)basis[code * count + i] * (double)coefficients[i];
            bounds[code] +=
                (count + 1) * U24 * fabs((double)basis[code * count + i] * (double)coefficients[i]);
        }
    }
    f->ops->value(f, params, codes, (size_t)1 << f->bits, got);
    near_array_by(got, want, (size_t)1 << f->bits, bounds);
}

static void values_are_basis_times_coefficients(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 43);
    for (size_t k = 0; k < NAMES; k++) {
        const lb_format f = format_named(names[k]);
        const unsigned count = f.ops->linear->count(&f);
        assert_int_equal(count, is_planes(&f) ? f.bits + 1 : 1);
        for (int try = 0; try < 20; try++) {
            float w[50], params[MOST], before[256 * MOST], after[256 * MOST], other[MOST];
            for (size_t i = 0; i < 50; i++)
                w[i] = (float)(0.3 + lb_rng_normal(&rng));
            f.ops->fit(&f, w, NULL, 50, try % 2 ? LB_FIT_SEARCH : LB_FIT_RANGE, params);
            check_values(&f, params);
            f.ops->linear->basis(&f, params, before);
            for (unsigned i = 0; i < count; i++)
                other[i] = (float)lb_rng_normal(&rng);
            f.ops->linear->set(&f, other, params);
            check_values(&f, params);
            f.ops->linear->basis(&f, params, after); /* which coefficients do not change */
            same_array(after, before, count << f.bits);
        }
    }
}

/* What is set comes back as an f16, once more set as it is, and everything else of the group stays. */
static void coefficients_come_back_as_stored(void **state)
{
    (void)state;
    static const float values[] = {0.0f, 1.0f,   -1.0f, 0.1f,     -0.0123f, 65504.0f,
                                   1e6f, -1e30f, 3e-8f, 0x1p-24f, 1e-12f};
    enum { VALUES = sizeof values / sizeof *values };
    for (size_t k = 0; k < NAMES; k++) {
        const lb_format f = format_named(names[k]);
        const unsigned count = f.ops->linear->count(&f);
        for (size_t v = 0; v < VALUES; v++) {
            float coefficients[MOST], params[MOST], again[MOST], want[MOST];
            for (unsigned i = 0; i < MOST; i++)
                params[i] = 3.0f;
            for (unsigned i = 0; i < count; i++) {
                coefficients[i] = values[(v + i) % VALUES];
                want[i] = lb_round_to_f16(coefficients[i]);
                if (!is_planes(&f) && want[i] == 0.0f && coefficients[i] != 0.0f)
                    want[i] = 0x1p-24f; /* an integer's scale is not rounded to nothing */
            }
            f.ops->linear->set(&f, coefficients, params);
            f.ops->linear->get(&f, params, again);
            same_array(again, want, count);
            for (unsigned i = count; i < MOST; i++)
                assert_true(params[i] == 3.0f);
            f.ops->linear->set(&f, again, params);
            f.ops->linear->get(&f, params, again);
            same_array(again, want, count);
        }
    }
}

static void other_formats_have_none(void **state)
{
    (void)state;
    static const char *const others[] = {"mxfp4", "mxint8", "mxfp8-e4m3", "nvfp4", "nvint4"};
    for (size_t k = 0; k < sizeof others / sizeof *others; k++) {
        lb_format f;
        assert_int_equal(lb_format_parse(others[k], &f, NULL), LB_OK);
        assert_null(f.ops->linear);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equations_are_solved),
        cmocka_unit_test(singular_equations_are_refused),
        cmocka_unit_test(unused_planes_get_nothing),
        cmocka_unit_test(values_are_basis_times_coefficients),
        cmocka_unit_test(coefficients_come_back_as_stored),
        cmocka_unit_test(other_formats_have_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
