/* SPDX-License-Identifier: MIT
 * The fit of bit planes against slow versions in double: the uniform grid that it begins with, all assignments of
 * codes there are, and many other beginnings. */
#include "plane_cases.h"

/* What the weights of a group may look like: plain, one outlier, shifted, flat, zero, one-sided, two clusters, and
 * any size. */
static void fill_group(lb_rng *rng, unsigned kind, float *w, size_t n)
{
    static const float sizes[] = {1.0f, 0.02f, 1e-7f, 1e5f, 1e-4f, 1e30f};
    const float size = sizes[kind / 7 % 6];
    const float flat = (float)lb_rng_normal(rng);
    for (size_t i = 0; i < n; i++) {
        float x = (float)lb_rng_normal(rng);
        switch (kind % 7) {
        case 1:
            x = i == n / 2 ? 8.0f : x;
            break;
        case 2:
            x = 3.0f + 0.5f * x;
            break;
        case 3:
            x = flat;
            break;
        case 4:
            x = 0.0f;
            break;
        case 5:
            x = -fabsf(x);
            break;
        case 6:
            x = (i % 3 ? 1.0f : -2.0f) + 0.1f * x;
            break;
        default:
            break;
        }
        w[i] = x * size;
    }
}
enum { KINDS = 42 };

/* Weights of errors: none told, all alike, spread, huge and tiny, zero but for some, all zero. */
static const float *fill_importance(lb_rng *rng, unsigned kind, float *importance, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const double spread = exp(2.0 * lb_rng_normal(rng));
        const double of_kind[] = {1.0, 1.0,   spread, i % 2 ? 1e30 : 1e-30, i % 4 ? 0.0 : spread,
                                  0.0, 1e-38, 1e38};
        importance[i] = (float)of_kind[kind % 8];
    }
    return kind % 8 ? importance : NULL;
}
enum { IMPORTANCE_KINDS = 8 };

static double error_of(const lb_format *f, const float *params, const float *w, const float *importance,
                       size_t n)
{
    double total = 0.0;
    for (size_t i = 0; i < n; i++) {
        const double d = nearest(f, params, (double)w[i]);
        total += (importance ? (double)importance[i] : 1.0) * d * d;
    }
    return total;
}

static bool is_f16(float x)
{
    return isfinite(x) && lb_f16_to_float(lb_f16_from_float(x)) == x;
}

static void fit(const lb_format *f, const float *w, const float *importance, size_t n, lb_fit how,
                float *params)
{
    float again[COEFFICIENTS];
    f->ops->fit(f, w, importance, n, how, params);
    f->ops->fit(f, w, importance, n, how, again);
    for (unsigned i = 0; i <= f->bits; i++)
        assert_true(is_f16(params[i]) && params[i] == again[i]);
}

/* From the least weight to the greatest in equal steps, each coefficient rounded by itself. */
static void range_fit_is_the_uniform_grid(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 33);
    for (unsigned planes = 1; planes <= PLANES; planes++) {
        const lb_format *f = format_of(planes);
        for (unsigned kind = 0; kind < KINDS; kind++) {
            float w[100], params[COEFFICIENTS], want[COEFFICIENTS], low = HUGE_VALF, high = -HUGE_VALF;
            const size_t n = kind % 5 ? 100 : 1;
            fill_group(&rng, kind, w, n);
            fit(f, w, NULL, n, LB_FIT_RANGE, params);
            for (size_t i = 0; i < n; i++) {
                low = fminf(low, w[i]);
                high = fmaxf(high, w[i]);
            }
            want[0] = lb_round_to_f16(low);
            for (unsigned i = 0; i < planes; i++)
                want[i + 1] = lb_round_to_f16((float)(((double)high - (double)low) /
                                                      ((double)(1u << planes) - 1.0) * (double)(1u << i)));
            same_array(params, want, planes + 1);
        }
    }
}

static void search_is_never_worse_than_the_uniform_grid(void **state)
{
    (void)state;
    static const size_t lengths[] = {1, 2, 3, 17, 64, 256};
    lb_rng rng;
    lb_rng_seed(&rng, 34);
    for (unsigned planes = 1; planes <= PLANES; planes++) {
        const lb_format *f = format_of(planes);
        for (unsigned kind = 0; kind < KINDS * IMPORTANCE_KINDS; kind++) {
            float w[256], room[256], range[COEFFICIENTS], search[COEFFICIENTS];
            const size_t n = lengths[kind / 3 % 6];
            fill_group(&rng, kind / IMPORTANCE_KINDS, w, n);
            const float *importance = fill_importance(&rng, kind, room, n);
            fit(f, w, importance, n, LB_FIT_RANGE, range);
            fit(f, w, importance, n, LB_FIT_SEARCH, search);
            const double bad = error_of(f, range, w, importance, n);
            const double good = error_of(f, search, w, importance, n);
            double size = 0.0; /* the error that floats' levels may add: each is off by some units */
            for (size_t i = 0; i < n; i++)
                size += (importance ? (double)importance[i] : 1.0) *
                        pow(PLANES * U24 * fmax(size_of(f, range), size_of(f, search)), 2.0);
            if (!(sqrt(good) <= sqrt(bad) * (1.0 + 1e-12) + 2.0 * sqrt(size)))
                fail_msg("%s, kind %u: error %g after the search, %g before", f->name, kind, good, bad);
        }
    }
}

/* Zeros, any one value, and one element: what f16 holds is kept. */
static void flat_groups_are_kept(void **state)
{
    (void)state;
    static const float flats[] = {0.0f, 1.0f, -1.0f, 0.37f, -0.0123f, 700.0f, -65000.0f, 0x1p-24f};
    for (unsigned planes = 1; planes <= PLANES; planes++) {
        const lb_format *f = format_of(planes);
        for (size_t k = 0; k < 4 * sizeof flats / sizeof *flats; k++) {
            float w[40], importance[40], params[COEFFICIENTS], values[40];
            uint8_t codes[40];
            const size_t n = k & 1 ? 1 : 40;
            for (size_t i = 0; i < 40; i++) {
                w[i] = flats[k / 4];
                importance[i] = (float)i;
            }
            fit(f, w, k & 2 ? importance : NULL, n, k & 2 ? LB_FIT_SEARCH : LB_FIT_RANGE, params);
            f->ops->round(f, params, w, n, codes);
            f->ops->value(f, params, codes, n, values);
            near_array(values, w, n, 0x1p-11 * fabs((double)w[0]));
        }
    }
}

/* Weights that a plane grid can say, each level taken: nothing is lost, whatever the weights of errors. Grids are as a
 * uniform one whose planes' steps were changed by up to a fifth (of three planes a tenth, of four a twentieth). */
static void groups_on_a_grid_are_kept(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 35);
    for (unsigned planes = 1; planes <= PLANES; planes++) {
        const lb_format *f = format_of(planes);
        for (unsigned try = 0; try < 100; try++) {
            float grid[COEFFICIENTS], w[96], room[96], params[COEFFICIENTS], values[96];
            uint8_t codes[96];
            const double reach = planes <= 2   ? 0.4
                                 : planes == 3 ? 0.2
                                               : 0.1,
                         step = exp(3.0 * lb_rng_normal(&rng));
            grid[0] = lb_round_to_f16((float)(step * (lb_rng_uniform(&rng) - 1.0) * (double)(1u << planes)));
            for (unsigned i = 0; i < planes; i++)
                grid[i + 1] = lb_round_to_f16(
                    (float)(step * (double)(1u << i) * (1.0 + reach * (lb_rng_uniform(&rng) - 0.5))));
            for (size_t i = 0; i < 96; i++)
                codes[i] = (uint8_t)(i < 1u << planes ? i : lb_rng_below(&rng, 1u << planes));
            f->ops->value(f, grid, codes, 96, w);
            fit(f, w, fill_importance(&rng, try % 3, room, 96), 96, LB_FIT_SEARCH, params);
            f->ops->round(f, params, w, 96, codes);
            f->ops->value(f, params, codes, 96, values);
            near_array(values, w, 96, 4.0 * PLANES * U24 * size_of(f, grid));
        }
    }
}

/* The least error of weights [n] on fixed codes over real coefficients: what is left of w after its projection on
 * the columns of the basis (Gram and Schmidt, twice each for accuracy; columns that depend on others are left out). */
static double error_of_codes(const lb_format *f, const uint8_t *codes, const float *w,
                             const float *importance, size_t n)
{
    double columns[COEFFICIENTS][8], rest[8];
    unsigned kept = 0;
    for (size_t i = 0; i < n; i++)
        rest[i] = sqrt((double)importance[i]) * (double)w[i];
    for (unsigned c = 0; c <= f->bits; c++) {
        double before = 0.0, after = 0.0, *column = columns[kept];
        for (size_t i = 0; i < n; i++) {
            column[i] = c == 0 || codes[i] >> (c - 1) & 1 ? sqrt((double)importance[i]) : 0.0;
            before += column[i] * column[i];
        }
        for (unsigned k = 0; k < 2 * kept; k++) {
            double dot = 0.0;
            for (size_t i = 0; i < n; i++)
                dot += column[i] * columns[k % kept][i];
            for (size_t i = 0; i < n; i++)
                column[i] -= dot * columns[k % kept][i];
        }
        for (size_t i = 0; i < n; i++)
            after += column[i] * column[i];
        if (after <= 1e-20 * before)
            continue;
        for (size_t i = 0; i < n; i++)
            column[i] /= sqrt(after);
        kept++;
    }
    for (unsigned k = 0; k < 2 * kept; k++) {
        double dot = 0.0;
        for (size_t i = 0; i < n; i++)
            dot += rest[i] * columns[k % kept][i];
        for (size_t i = 0; i < n; i++)
            rest[i] -= dot * columns[k % kept][i];
    }
    double total = 0.0;
    for (size_t i = 0; i < n; i++)
        total += rest[i] * rest[i];
    return total;
}

static double best_of_all(const lb_format *f, const float *w, const float *importance, size_t n)
{
    double best = HUGE_VAL;
    const size_t count = (size_t)1 << (f->bits * n);
    for (size_t k = 0; k < count; k++) {
        uint8_t codes[8];
        for (size_t i = 0; i < n; i++)
            codes[i] = (uint8_t)(k >> (f->bits * i) & ((1u << f->bits) - 1));
        best = fmin(best, error_of_codes(f, codes, w, importance, n));
    }
    return best;
}

/* Tiny groups: in sum within 1.3 times the least error that any codes and any real coefficients have (and a
 * thousandth of the weights, where that is nothing), and three groups of five within 1 percent of it. A single group
 * may be far off: alternation ends where neither codes nor coefficients can be bettered alone. */
static void tiny_groups_against_all_codes(void **state)
{
    (void)state;
    enum { TRIES = 40 };
    lb_rng rng;
    lb_rng_seed(&rng, 36);
    for (unsigned planes = 1; planes <= 2; planes++) {
        const lb_format *f = format_of(planes);
        for (size_t n = 2; n <= 6; n++) {
            double got = 0.0, best = 0.0, energy = 0.0;
            unsigned near_best = 0;
            for (int try = 0; try < TRIES; try++) {
                float w[8], importance[8], params[COEFFICIENTS];
                double whole = 0.0;
                fill_group(&rng, 0, w, n);
                for (size_t i = 0; i < n; i++) {
                    importance[i] = (float)exp(lb_rng_normal(&rng));
                    whole += (double)importance[i] * (double)w[i] * (double)w[i];
                }
                fit(f, w, importance, n, LB_FIT_SEARCH, params);
                const double of_fit = error_of(f, params, w, importance, n);
                const double of_best = best_of_all(f, w, importance, n);
                assert_true(of_fit >= of_best * (1.0 - 1e-9) - 1e-12 * whole);
                near_best += of_fit <= 1.01 * of_best + 1e-6 * whole;
                got += of_fit;
                best += of_best;
                energy += whole;
            }
            if (!(got <= 1.3 * best + 1e-3 * energy) || 5 * near_best < 3 * TRIES)
                fail_msg("%s, %zu weights: error %g, the least is %g; %u of %d near it", f->name, n, got,
                         best, near_best, TRIES);
        }
    }
}

/* Random beginnings, followed down by the slow form of the same alternation, in double and without f16: the least
 * of 60 for each group is in sum within 4 percent of what the fit found. */
static double descend_slowly(const lb_format *f, double *c, const float *w, size_t n)
{
    const unsigned count = f->bits + 1;
    double last = HUGE_VAL;
    for (int round = 0; round < 100; round++) {
        double a[COEFFICIENTS][COEFFICIENTS + 1] = {{0}}, total = 0.0;
        for (size_t i = 0; i < n; i++) {
            double least = HUGE_VAL;
            unsigned best = 0;
            for (unsigned code = 0; code < 1u << f->bits; code++) {
                double level = c[0];
                for (unsigned b = 0; b < f->bits; b++)
                    level += code >> b & 1 ? c[b + 1] : 0.0;
                if (fabs((double)w[i] - level) < least) {
                    least = fabs((double)w[i] - level);
                    best = code << 1 | 1;
                }
            }
            total += least * least;
            for (unsigned j = 0; j < count; j++) {
                if (!(best >> j & 1))
                    continue;
                a[j][count] += (double)w[i];
                for (unsigned k = 0; k < count; k++)
                    a[j][k] += best >> k & 1;
            }
        }
        if (!(total < last))
            break;
        last = total;
        for (unsigned p = 0; p < count; p++) { /* Gauss and Jordan; a plane that no code has keeps nothing */
            a[p][p] += 1e-9;
            for (unsigned j = 0; j < count; j++) {
                const double factor = a[j][p] / a[p][p];
                for (unsigned k = p; j != p && k <= count; k++)
                    a[j][k] -= factor * a[p][k];
            }
        }
        for (unsigned p = 0; p < count; p++)
            c[p] = a[p][count] / a[p][p];
    }
    return last;
}

static void few_beginnings_are_enough(void **state)
{
    (void)state;
    enum { GROUPS_TRIED = 12, BEGINNINGS = 60, N = 64 };
    lb_rng rng;
    lb_rng_seed(&rng, 37);
    for (unsigned planes = 1; planes <= 3; planes++) {
        const lb_format *f = format_of(planes);
        double got = 0.0, best = 0.0;
        for (int try = 0; try < GROUPS_TRIED; try++) {
            float w[N], params[COEFFICIENTS];
            double least = HUGE_VAL;
            fill_group(&rng, 0, w, N);
            fit(f, w, NULL, N, LB_FIT_SEARCH, params);
            for (int k = 0; k < BEGINNINGS; k++) {
                double c[COEFFICIENTS];
                c[0] = 1.5 * lb_rng_normal(&rng);
                for (unsigned i = 1; i <= planes; i++)
                    c[i] = 2.0 * lb_rng_normal(&rng);
                least = fmin(least, descend_slowly(f, c, w, N));
            }
            got += error_of(f, params, w, NULL, N);
            best += least;
        }
        if (!(got <= 1.04 * best && got >= 0.96 * best))
            fail_msg("%s: error %g, the least is %g", f->name, got, best);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(range_fit_is_the_uniform_grid),
        cmocka_unit_test(search_is_never_worse_than_the_uniform_grid),
        cmocka_unit_test(flat_groups_are_kept),
        cmocka_unit_test(groups_on_a_grid_are_kept),
        cmocka_unit_test(tiny_groups_against_all_codes),
        cmocka_unit_test(few_beginnings_are_enough),
    };
    return cmocka_run_group_tests(tests, list_formats, NULL);
}
