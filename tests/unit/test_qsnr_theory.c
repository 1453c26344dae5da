/* SPDX-License-Identifier: MIT
 * The QSNR formulas against what arXiv:2510.25602 prints, against plain numerical integration, and against the
 * Monte-Carlo measurements of tests/golden/qsnr. */
#include "near_value.h"
#include "qsnr_golden.h"

#include "analyze/qsnr_grid.h"
#include "analyze/qsnr_theory.h"

static lb_format format_of(const char *name)
{
    lb_format f;
    assert_int_equal(lb_format_parse(name, &f, NULL), LB_OK);
    return f;
}

static double theory(lb_theory which, const char *name, double crest)
{
    const lb_format f = format_of(name);
    return lb_theory_qsnr(which, &f, crest, f.group);
}

static const char *const pairs[4][2] = {
    {"mxint8", "mxfp8-e4m3"}, {"mxint6", "mxfp6-e2m3"}, {"mxint4", "mxfp4"}, {"nvint4", "nvfp4"}};

static void check_crossovers(lb_theory which, const double (*want)[2], double crest_bound, double db_bound)
{
    for (int i = 0; i < 4; i++) {
        const lb_format integer = format_of(pairs[i][0]), floating = format_of(pairs[i][1]);
        double crest = 0.0, db = 0.0;
        const bool found = lb_theory_crossover(which, &integer, &floating, &crest, &db);
        if (found != (want[i][0] > 0.0))
            fail_msg("%s, theory %d: crossover %s", pairs[i][0], which, found ? "found" : "not found");
        if (!found)
            continue;
        if (fabs(crest - want[i][0]) > crest_bound || fabs(db - want[i][1]) > db_bound)
            fail_msg("%s, theory %d: crossover at %.4f, %.3f dB; want %.2f, %.2f", pairs[i][0], which, crest,
                     db, want[i][0], want[i][1]);
    }
}

/* Half a unit of the last digit that is printed. */
static void crossovers(void **state)
{
    (void)state;
    static const double paper[4][2] = {{7.55, 31.86}, {1.96, 31.54}, {2.04, 19.14}, {2.39, 21.14}};
    check_crossovers(LB_THEORY_PAPER, paper, 0.005, 0.006);
    static const double range[4][2] = {{7.48, 31.86}, {1.89, 31.57}, {1.73, 19.39}, {2.15, 20.90}};
    check_crossovers(LB_THEORY_RANGE, range, 0.005, 0.006);
    /* Monte-Carlo; at the last one a change of 0.1 dB in either curve moves the crossing by 0.02. */
    static const double measured[4][2] = {{0.0, 0.0}, {2.00, 31.24}, {1.78, 19.32}, {2.23, 20.89}};
    check_crossovers(LB_THEORY_GRID, measured, 0.03, 0.11);
}

/* Formats that are each other's rivals nowhere, and theories that do not know a rule. */
static void no_crossover(void **state)
{
    (void)state;
    double crest, db;
    const lb_format int8 = format_of("mxint8"), int4 = format_of("mxint4"), fp4 = format_of("mxfp4");
    const lb_format ocp4 = format_of("mxint4-ocp"), ocp = format_of("mxfp4-ocp"),
                    plain = format_of("int4-g128");
    assert_false(lb_theory_crossover(LB_THEORY_GRID, &int8, &fp4, &crest, &db)); /* always ahead */
    assert_false(lb_theory_crossover(LB_THEORY_GRID, &int4, &int8, &crest, &db)); /* never */
    assert_false(lb_theory_crossover(LB_THEORY_PAPER, &ocp4, &ocp, &crest, &db));
    assert_true(lb_theory_crossover(LB_THEORY_GRID, &ocp4, &ocp, &crest, &db));
    assert_false(lb_theory_crossover(LB_THEORY_PAPER, &plain, &fp4, &crest, &db));
}

static void theorem_of_integers(void **state)
{
    (void)state;
    for (unsigned bits = 2; bits <= 8; bits++) {
        for (double crest = 1.0; crest < 6.0; crest += 0.7) {
            const double b = bits;
            near_value(lb_theorem_int(bits, 0.0, crest, 1.5, 0),
                       4.78 + 6.02 * b - 20.0 * log10(1.5) - 20.0 * log10(crest), 1e-12);
            /* Noise: a twelfth of the squared step, in all values but the largest. */
            const double q = pow(2.0, b - 1.0) - 1.0, step = crest / q;
            near_value(lb_theorem_int(bits, q, crest, 1.0, 16),
                       -10.0 * log10(15.0 / 16.0 * step * step / 12.0), 1e-12);
        }
    }
    near_value(LB_PHASE_RHO_SQUARE, 3.0 / (2.0 * log(2.0)), 1e-15);
    near_value(LB_PHASE_INVERSE_SQUARE, 3.0 / (8.0 * log(2.0)), 1e-15);
    double rho_square = 0.0, inverse_square = 0.0;
    for (int i = 0; i < 10000; i++) {
        const double r = exp2((i + 0.5) / 10000.0);
        rho_square += r * r / 10000.0;
        inverse_square += 1.0 / (r * r) / 10000.0;
    }
    near_value(rho_square, LB_PHASE_RHO_SQUARE, 1e-7);
    near_value(inverse_square, LB_PHASE_INVERSE_SQUARE, 1e-7);
}

/* Theorem 2 from where it comes from: the integral over a normal distribution of a twelfth of the squared step,
 * which above the least normal value is on average half the value's own 4^-M times its square. */
static void theorem_of_floats(void **state)
{
    (void)state;
    static const struct {
        const lb_element *e;
        double max, m, bias;
    } cases[] = {{&lb_e4m3, 448.0, 3.0, 7.0},
                 {&lb_e5m2, 57344.0, 2.0, 15.0},
                 {&lb_e2m3, 7.5, 3.0, 1.0},
                 {&lb_e3m2, 28.0, 2.0, 3.0},
                 {&lb_e2m1, 6.0, 1.0, 1.0}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        for (double crest = 1.5; crest < 6.0; crest += 1.5) {
            const double scale = 1.5 * crest / cases[k].max, least = scale * pow(2.0, 1.0 - cases[k].bias);
            const double step = least * pow(2.0, -cases[k].m), h = 1e-4;
            double noise = 0.0;
            for (double x = 0.5 * h; x < 9.0; x += h) {
                const double density = 2.0 * exp(-0.5 * x * x) / sqrt(2.0 * acos(-1.0));
                noise +=
                    h * density * (x < least ? step * step / 12.0 : x * x * pow(4.0, -cases[k].m) / 24.0);
            }
            near_value(lb_theorem_float(cases[k].e, 0.5, crest, 1.5, 0), -10.0 * log10(noise), 2e-3);
            const double largest = crest * crest / 64.0 * pow(4.0, -cases[k].m) / 24.0;
            near_value(lb_theorem_float(cases[k].e, 0.5, crest, 1.5, 64), -10.0 * log10(noise - largest),
                       2e-3);
        }
    }
}

/* The ceiling of floats, 13.80 + 6.02 M dB, and 0.34 dB less with log-uniform mantissas; and the loss of 3.35 dB
 * by a power-of-two scale. */
static void limits(void **state)
{
    (void)state;
    for (unsigned m = 2; m <= 3; m++) {
        const char *name = m == 3 ? "mxfp8-e4m3" : "mxfp8-e5m2";
        near_value(theory(LB_THEORY_PAPER, name, 2.0), 13.80 + 6.02 * m, 0.005);
        near_value(theory(LB_THEORY_PHASE, name, 2.0), 13.80 + 6.02 * m - 0.342, 0.005);
    }
    near_value(theory(LB_THEORY_PHASE, "mxint8", sqrt(32.0)), 34.46, 0.005);
    for (double crest = 1.8; crest < 5.0; crest += 0.4) {
        near_value(theory(LB_THEORY_PHASE, "mxint8", crest),
                   10.0 * log10(12.0 * 127.0 * 127.0) - 3.353 - 20.0 * log10(crest), 0.001);
        /* A fine grid has nothing else to it, and a float's is fine everywhere. */
        near_value(theory(LB_THEORY_GRID, "mxint8", crest), theory(LB_THEORY_PHASE, "mxint8", crest), 0.01);
        near_value(theory(LB_THEORY_GRID, "mxfp8-e4m3", crest), 31.54, 0.01);
    }
}

/* Everything in the table whose blocks have one crest factor: 104 rows. The error that is left is that the values
 * besides the largest are taken to be independent, which matters where no scale is spread over an octave. */
static void against_monte_carlo(void **state)
{
    (void)state;
    const qsnr_row *rows = qsnr_rows();
    size_t compared = 0;
    for (size_t i = 0; i < QSNR_ROWS; i++) {
        if (rows[i].crest == 0.0)
            continue;
        const lb_format f = format_of(rows[i].format);
        const double grid = lb_theory_qsnr(LB_THEORY_GRID, &f, rows[i].crest, f.group);
        const bool powers_of_two = f.rule != LB_SCALE_EXACT && f.rule != LB_SCALE_TWO_LEVEL;
        if (fabs(grid - rows[i].db) > (powers_of_two ? 0.025 : 0.065))
            fail_msg("%s, crest factor %g: %.4f dB, measured %.4f", rows[i].format, rows[i].crest, grid,
                     rows[i].db);
        compared++;
        if (f.rule != LB_SCALE_CEIL)
            continue;
        const double phase = lb_theory_qsnr(LB_THEORY_PHASE, &f, rows[i].crest, f.group);
        const bool covered = f.element->twos_complement || f.element == &lb_e4m3;
        if (covered && fabs(phase - rows[i].db) > 0.03)
            fail_msg("%s, crest factor %g: closed form %.4f dB, measured %.4f", rows[i].format, rows[i].crest,
                     phase, rows[i].db);
    }
    assert_int_equal(compared, 104);
}

/* A wider range on one side cannot be worse where values are clipped at the other, and changes nothing where none
 * is. */
static void asymmetric_range(void **state)
{
    (void)state;
    assert_true(theory(LB_THEORY_GRID, "mxint4-ocp-asym", 2.5) >
                theory(LB_THEORY_GRID, "mxint4-ocp", 2.5) + 0.01);
    near_value(theory(LB_THEORY_GRID, "mxint4-asym", 2.5), theory(LB_THEORY_GRID, "mxint4", 2.5), 1e-9);
}

static void outside_the_domain(void **state)
{
    (void)state;
    assert_true(isnan(theory(LB_THEORY_GRID, "mxint8", sqrt(32.0))));
    assert_true(isnan(theory(LB_THEORY_GRID, "nvfp4", 4.5)));
    assert_true(isnan(theory(LB_THEORY_GRID, "mxfp4", 1.0)));
    assert_true(isnan(theory(LB_THEORY_GRID, "mxfp4", 0.5)));
    assert_true(isnan(theory(LB_THEORY_PAPER, "mxfp4", (double)NAN)));
    assert_true(isnan(theory(LB_THEORY_PHASE, "mxfp4-even", 2.0)));
    assert_true(isnan(theory(LB_THEORY_GRID, "bf16", 2.0)));
    assert_true(isnan(theory(LB_THEORY_GRID, "int4-g128-asym", 2.0)));
    assert_true(isnan(theory(LB_THEORY_PAPER, "int4-g128", 2.0)));
    const lb_format f = format_of("mxint8");
    assert_true(isnan(lb_grid_noise(&f, 1.2, 3)));
    /* A float scale and 2^3 steps on the longer side. */
    near_value(theory(LB_THEORY_GRID, "int4-g128", 3.0), 10.0 * log10(12.0 * 64.0 / 9.0 * 128.0 / 127.0),
               1e-9);
    for (double crest = 1.05; crest < 5.65; crest += 0.05)
        assert_true(isfinite(theory(LB_THEORY_GRID, "mxfp8-e5m2", crest)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crossovers),
        cmocka_unit_test(no_crossover),
        cmocka_unit_test(theorem_of_integers),
        cmocka_unit_test(theorem_of_floats),
        cmocka_unit_test(limits),
        cmocka_unit_test(against_monte_carlo),
        cmocka_unit_test(asymmetric_range),
        cmocka_unit_test(outside_the_domain),
    };
    return cmocka_run_group_tests_name("qsnr_theory", tests, NULL, NULL);
}
