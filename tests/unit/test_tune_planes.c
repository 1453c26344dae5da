/* SPDX-License-Identifier: MIT
 * Learned rounding of bit planes: to nearest where nothing is learned; what storage holds; on an even grid
 * what integers do; gradients of the same function in double, with the jumps of rounding held still. */
#include "tune_sample.h"

#include <stdlib.h>

#include "formats/int.h"
#include "formats/planes.h"

enum { LEVELS = 16, COEFFICIENTS = 5 };

static const char *const names[] = {"bp1-g32", "bp2-g64", "bp2-g256", "bp3-g128", "bp4-g32", "bp4-row"};
enum { FORMATS = sizeof names / sizeof *names };

static void nothing_learned_is_rounding_to_nearest(void **state)
{
    (void)state;
    static sample s;
    for (size_t k = 0; k < 2 * FORMATS; k++) {
        for (uint64_t seed = 0; seed < 10; seed++) {
            float params[LB_FORMAT_MAX_PARAMS], values[MOST];
            s = make_sample(names[k / 2], seed, k % 2, 0.0);
            group_of(&s, k % 2);
            s.format.ops->tune->forward(&s.format, &s.group, params, NULL, values);
            same_array(params, s.start, s.format.params);
            /* By distance, not by code: levels may coincide. */
            float levels[LEVELS];
            uint8_t codes[LEVELS];
            for (unsigned i = 0; i < 1u << s.format.bits; i++)
                codes[i] = (uint8_t)i;
            s.format.ops->value(&s.format, params, codes, 1u << s.format.bits, levels);
            for (size_t i = 0; i < s.n; i++) {
                float least = HUGE_VALF;
                for (unsigned j = 0; j < 1u << s.format.bits; j++)
                    least = fminf(least, fabsf(s.w[i] - levels[j]));
                assert_true(fabsf(s.w[i] - values[i]) <= least * (1.0f + 0x1p-20f));
            }
        }
    }
}

static void values_are_what_storage_holds(void **state)
{
    (void)state;
    static sample s;
    for (size_t k = 0; k < 2 * FORMATS; k++) {
        for (uint64_t seed = 0; seed < 40; seed++) {
            s = make_sample(names[k / 2], seed, k % 2, seed % 2 ? 0.5 : 5.0);
            group_of(&s, k % 2);
            for (unsigned i = 0; seed % 10 >= 8 && i < COEFFICIENTS; i++)
                s.group.factors[i] = seed % 10 == 8 ? 0.0f : 1e-4f;
            const lb_format_ops *ops = s.format.ops;
            float params[LB_FORMAT_MAX_PARAMS], values[MOST], again[MOST], unpacked[LB_FORMAT_MAX_PARAMS];
            uint8_t codes[MOST], bytes[LB_FORMAT_MAX_PARTS][2 * MOST], *parts[LB_FORMAT_MAX_PARTS];
            const uint8_t *stored[LB_FORMAT_MAX_PARTS];
            for (size_t i = 0; i < LB_FORMAT_MAX_PARTS; i++)
                stored[i] = parts[i] = bytes[i];
            ops->tune->forward(&s.format, &s.group, params, codes, values);
            ops->value(&s.format, params, codes, s.n, again);
            same_array(values, again, s.n);
            ops->pack(&s.format, codes, params, s.n, parts);
            assert_int_equal(ops->unpack(&s.format, stored, s.n, codes, unpacked, NULL), LB_OK);
            ops->value(&s.format, unpacked, codes, s.n, again);
            same_array(values, again, s.n);
        }
    }
}

/* With coefficients of powers of two times a step that f16 holds, and the planes' own factors 1, values and gradients
 * are those of asymmetric integers with a multiplier. */
static void an_even_grid_is_that_of_integers(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 3);
    for (unsigned bits = 2; bits <= 4; bits++) {
        char name[LB_FORMAT_NAME_BYTES];
        lb_format planes, ints;
        snprintf(name, sizeof name, "bp%u-g64", bits);
        assert_int_equal(lb_format_parse(name, &planes, NULL), LB_OK);
        snprintf(name, sizeof name, "int%u-g64-asym", bits);
        assert_int_equal(lb_format_parse(name, &ints, NULL), LB_OK);
        for (unsigned round = 0; round < 200; round++) {
            enum { N = 64 };
            const float step = 0x1p-5f, zero = (float)lb_rng_below(&rng, 1u << bits);
            float w[N], v[N], d[N], values[N], want[N], dv[N], want_dv[N], params[LB_FORMAT_MAX_PARAMS];
            for (size_t i = 0; i < N; i++) {
                w[i] = (float)(0.04 * lb_rng_normal(&rng));
                v[i] = (float)(lb_rng_uniform(&rng) - 0.5);
                d[i] = (float)lb_rng_normal(&rng);
            }
            const float beta = 0.5f + (float)lb_rng_below(&rng, 9) / 8.0f;
            const float start[COEFFICIENTS] = {-zero * step, step, 2 * step, 4 * step, 8 * step};
            const float int_start[LB_INT_PARAMS] = {[LB_INT_SCALE] = step, [LB_INT_ZERO] = zero};
            lb_tune_group g = {.w = w, .v = v, .n = N, .start = start, .factors = {beta, 1, 1, 1, 1}};
            lb_tune_gradient got = {.v = dv}, wanted = {.v = want_dv};
            planes.ops->tune->forward(&planes, &g, params, NULL, values);
            planes.ops->tune->backward(&planes, &g, d, &got);
            g.start = int_start;
            g.factors[LB_TUNE_ALPHA] = 1.0f;
            g.factors[LB_TUNE_BETA] = beta;
            ints.ops->tune->forward(&ints, &g, params, NULL, want);
            ints.ops->tune->backward(&ints, &g, d, &wanted);
            for (size_t i = 0; i < N; i++) {
                assert_true(fabsf(values[i] - want[i]) <= 1e-6f);
                assert_true(fabsf(dv[i] - want_dv[i]) <= 1e-6f);
            }
            assert_true(fabsf(got.factors[0] - wanted.factors[LB_TUNE_BETA]) <= 1e-5f);
        }
    }
}

/* ---- The smooth function ---------------------------------------------------------------------------------- */

/* In double: levels in order for some factors, in the order that they have at the point looked at. */
typedef struct smooth {
    const sample *s;
    unsigned count, order[LEVELS]; /* codes in ascending order of level at the point */
    double rest[COEFFICIENTS]; /* what storing a coefficient adds to it there */
} smooth;

static double smooth_coefficient(const smooth *m, const double *factors, unsigned k)
{
    return factors[0] * (k ? factors[k] : 1.0) * (double)m->s->start[k];
}

static void smooth_levels(const smooth *m, const double *factors, double *levels)
{
    for (unsigned j = 0; j < m->count; j++) {
        levels[j] = smooth_coefficient(m, factors, 0) + m->rest[0];
        for (unsigned k = 1; k <= m->s->format.bits; k++)
            levels[j] += m->order[j] >> (k - 1) & 1 ? smooth_coefficient(m, factors, k) + m->rest[k] : 0.0;
    }
}

static double place_in(const double *levels, double w, unsigned rung)
{
    return rung + (w - levels[rung]) / (levels[rung + 1] - levels[rung]);
}

static unsigned rung_of(const double *levels, unsigned count, double w)
{
    unsigned rung = 0;
    while (rung + 2 < count && w >= levels[rung + 1])
        rung++;
    return rung;
}

/* What the value would be without rounding: the rungs are those of the point looked at, so that nothing jumps. */
static double unrounded(const smooth *m, size_t i, const double *factors, double v, unsigned from,
                        unsigned to)
{
    double levels[LEVELS];
    smooth_levels(m, factors, levels);
    const double t = place_in(levels, (double)m->s->w[i], from) + v;
    return levels[to] + (t - to) * (levels[to + 1] - levels[to]);
}

/* What rounding makes of it: the level of a rung. */
static double level_at(const smooth *m, const double *factors, unsigned rung)
{
    double levels[LEVELS];
    smooth_levels(m, factors, levels);
    return levels[rung];
}

static void check_gradients(sample *s)
{
    static const double H = 1e-6;
    float d[MOST], dv[MOST], params[LB_FORMAT_MAX_PARAMS], values[MOST], sorted[LEVELS];
    double factors[COEFFICIENTS], levels[LEVELS], want[COEFFICIENTS] = {0}, size = 0.0;
    smooth m = {.s = s, .count = 1u << s->format.bits};
    uint8_t codes[LEVELS];
    lb_rng rng;
    lb_rng_seed(&rng, 77);
    for (size_t i = 0; i < s->n; i++)
        d[i] = (float)lb_rng_normal(&rng);
    lb_tune_gradient got = {.v = dv};
    s->format.ops->tune->forward(&s->format, &s->group, params, NULL, values);
    s->format.ops->tune->backward(&s->format, &s->group, d, &got);
    for (unsigned k = 0; k <= s->format.bits; k++)
        factors[k] = (double)s->group.factors[k];
    for (unsigned k = 0; k <= s->format.bits; k++)
        m.rest[k] = (double)params[k] - smooth_coefficient(&m, factors, k);
    for (unsigned j = 0; j < m.count; j++) {
        codes[j] = (uint8_t)j;
        m.order[j] = j;
    }
    s->format.ops->value(&s->format, params, codes, m.count, sorted);
    for (unsigned a = 0; a < m.count; a++)
        for (unsigned b = a + 1; b < m.count; b++)
            if (sorted[m.order[b]] < sorted[m.order[a]]) {
                const unsigned swap = m.order[a];
                m.order[a] = m.order[b];
                m.order[b] = swap;
            }
    smooth_levels(&m, factors, levels);
    for (size_t i = 0; i < s->n; i++) {
        const unsigned from = rung_of(levels, m.count, (double)s->w[i]);
        const double t = place_in(levels, (double)s->w[i], from) + (double)s->v[i];
        const double rounded = fmax(0.0, fmin((double)m.count - 1.0, rint(t)));
        const bool inside = t >= -0.5 && t <= (double)m.count - 0.5;
        const unsigned to = (unsigned)fmax(0.0, fmin((double)m.count - 2.0, floor(t)));
        const unsigned rung = (unsigned)rounded;
        const double v = (double)s->v[i], by = (double)d[i];
        /* Too near to where it jumps for float and double to agree. */
        if (fabs(t - floor(t) - 0.5) < 1e-4 || fabs(t - rint(t)) < 1e-4)
            return;
        size += fabs(by) * (levels[m.count - 1] - levels[0]) *
                fmax(1.0, (levels[to + 1] - levels[to]) / (levels[from + 1] - levels[from]));
        if (!(fabs((double)values[i] - levels[rung]) <= 1e-6))
            fail_msg("%s: value %zu is %g, wanted %g", s->format.name, i, (double)values[i], levels[rung]);
        const double by_v = inside ? by *
                                         (unrounded(&m, i, factors, v + H, from, to) -
                                          unrounded(&m, i, factors, v - H, from, to)) /
                                         (2.0 * H)
                                   : 0.0;
        if (!(fabs(by_v - (double)dv[i]) <= 1e-4 * fabs(by_v) + 1e-7))
            fail_msg("%s: offset %zu has gradient %g, wanted %g", s->format.name, i, (double)dv[i], by_v);
        for (unsigned k = 0; k <= s->format.bits; k++) {
            double up[COEFFICIENTS], down[COEFFICIENTS];
            memcpy(up, factors, sizeof up);
            memcpy(down, factors, sizeof down);
            up[k] += H;
            down[k] -= H;
            /* The level moves with its coefficients; inside, the place in between moves against them. */
            const double grid = level_at(&m, up, rung) - level_at(&m, down, rung);
            const double at = (level_at(&m, up, to) * (to + 1 - t) + level_at(&m, up, to + 1) * (t - to)) -
                              (level_at(&m, down, to) * (to + 1 - t) + level_at(&m, down, to + 1) * (t - to));
            const double slide = unrounded(&m, i, up, v, from, to) - unrounded(&m, i, down, v, from, to) - at;
            want[k] += by * (grid + (inside ? slide : 0.0)) / (2.0 * H);
        }
    }
    for (unsigned k = 0; k <= s->format.bits; k++)
        if (!(fabs(want[k] - (double)got.factors[k]) <= 1e-5 * size))
            fail_msg("%s: factor %u has gradient %g, wanted %g", s->format.name, k, (double)got.factors[k],
                     want[k]);
}

static void gradients_are_those_of_the_smooth_function(void **state)
{
    (void)state;
    static sample s;
    for (size_t k = 0; k < 2 * FORMATS; k++) {
        for (uint64_t seed = 0; seed < 60; seed++) {
            s = make_sample(names[k / 2], seed, k % 2, seed % 3 ? 0.5 : 1.5);
            group_of(&s, k % 2);
            check_gradients(&s);
        }
    }
}

static void two_planes_by_hand(void **state)
{
    (void)state;
    lb_format f;
    assert_int_equal(lb_format_parse("bp2-g32", &f, NULL), LB_OK);
    const float start[] = {-3.0f, 2.0f, 6.0f}; /* levels -3, -1, 3, 5 */
    const float w[] = {-1.5f, 1.4f, 2.0f, 9.0f}, v[] = {0.0f, 0.0f, -0.5f, 0.0f};
    lb_tune_group g = {.w = w, .v = v, .n = 4, .start = start, .factors = {1.0f, 1.0f, 1.0f}};
    float params[3], values[4], dv[4];
    uint8_t codes[4];
    lb_tune_gradient got = {.v = dv};
    f.ops->tune->forward(&f, &g, params, codes, values);
    /* places 0.75, 1.6, 1.75 - 0.5, beyond the end: rungs 1, 2, 1, 3 */
    same_array(values, ((float[]){-1.0f, 3.0f, -1.0f, 5.0f}), 4);
    assert_memory_equal(codes, ((uint8_t[]){1, 2, 1, 3}), 4);
    f.ops->tune->backward(&f, &g, (float[]){1.0f, 1.0f, 1.0f, 1.0f}, &got);
    same_array(dv, ((float[]){2.0f, 4.0f, 4.0f, 0.0f}), 4);
    /* B(code) - B(t): c_1: 1-.75, 0-.4, 1-.25, and 1 outside; c_2: 0, 1-.6, 0-.75, 1; c_0: 0, 0, 0, 1 */
    near_array(&got.factors[1], ((double[]){2.0 * (0.25 - 0.4 + 0.75 + 1.0)}), 1, 1e-5);
    near_array(&got.factors[2], ((double[]){6.0 * (0.4 - 0.75 + 1.0)}), 1, 1e-5);
    near_array(&got.factors[0], ((double[]){-3.0 + 2.0 * 1.6 + 6.0 * 0.65}), 1, 1e-5);
}

static void groups_of_equal_weights_stay_finite(void **state)
{
    (void)state;
    static sample s;
    const float constants[] = {0.0f, 0.25f, -65504.0f, 1e6f};
    for (size_t k = 0; k < 4 * FORMATS; k++) {
        float params[LB_FORMAT_MAX_PARAMS], values[MOST], dv[MOST];
        lb_tune_gradient got = {.v = dv};
        s = make_sample(names[k / 4], 1, true, 0.5);
        group_of(&s, true);
        for (size_t i = 0; i < s.n; i++)
            s.w[i] = constants[k % 4];
        s.format.ops->fit(&s.format, s.w, NULL, s.n, LB_FIT_SEARCH, s.start);
        for (unsigned i = 0; i < COEFFICIENTS; i++)
            s.start[i] = fminf(65504.0f, fmaxf(-65504.0f, s.start[i]));
        for (int searched = 0; searched < 2; searched++) {
            s.group.start = searched ? s.start : NULL;
            s.format.ops->tune->forward(&s.format, &s.group, params, NULL, values);
            s.format.ops->tune->backward(&s.format, &s.group, s.importance, &got);
            for (size_t i = 0; i < s.n; i++)
                assert_true(isfinite(values[i]) && isfinite(dv[i]));
            for (unsigned i = 0; i <= s.format.bits; i++)
                assert_true(isfinite(params[i]) && isfinite(got.factors[i]));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_learned_is_rounding_to_nearest),
        cmocka_unit_test(values_are_what_storage_holds),
        cmocka_unit_test(an_even_grid_is_that_of_integers),
        cmocka_unit_test(gradients_are_those_of_the_smooth_function),
        cmocka_unit_test(two_planes_by_hand),
        cmocka_unit_test(groups_of_equal_weights_stay_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
