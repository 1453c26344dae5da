/* SPDX-License-Identifier: MIT
 * Learned rounding of every format: where nothing is learned yet it is rounding to nearest; what it says is
 * what storage holds; its gradients are those of the same function in double, with what rounding adds held
 * still. */
#include "tune_sample.h"

#include <stdlib.h>

#include "formats/block_format.h"
#include "formats/int.h"

static const char *const names[] = {
    "int2-g32",    "int3-g64",     "int4-row",        "int8-g128", "int2-g32-asym", "int4-g64-asym",
    "mxfp8-e4m3",  "mxfp8-e5m2",   "mxfp6-e2m3",      "mxfp4",     "mxfp4-ocp",     "mxfp4-even",
    "mxint8",      "mxint4-asym",  "mxfp4-exact",     "nvfp4",     "nvint4",        "nvint4-asym",
    "nvfp4-exact", "nvint4-exact", "mxfp6-e3m2-floor"};
enum { FORMATS = sizeof names / sizeof *names };

static void nothing_learned_is_rounding_to_nearest(void **state)
{
    (void)state;
    for (size_t k = 0; k < 2 * FORMATS; k++) {
        const bool multiplier = k >= FORMATS;
        for (uint64_t seed = 0; seed < 8; seed++) {
            sample s = make_sample(names[k % FORMATS], seed, multiplier, 0.0);
            float params[LB_FORMAT_MAX_PARAMS], values[MOST], want[MOST];
            uint8_t codes[MOST], want_codes[MOST];
            s.format.ops->tune->forward(&s.format, group_of(&s, multiplier), params, codes, values);
            s.format.ops->round(&s.format, s.start, s.w, s.n, want_codes);
            s.format.ops->value(&s.format, s.start, want_codes, s.n, want);
            same_array(params, s.start, s.format.params);
            same_array(values, want, s.n);
        }
    }
}

/* Values are those of the codes, and those of what is unpacked from what was packed. */
static void values_are_what_storage_holds(void **state)
{
    (void)state;
    for (size_t k = 0; k < 2 * FORMATS; k++) {
        const bool multiplier = k >= FORMATS;
        for (uint64_t seed = 0; seed < 40; seed++) {
            sample s = make_sample(names[k % FORMATS], seed, multiplier, seed % 2 ? 0.5 : 3.0);
            const lb_format_ops *ops = s.format.ops;
            float params[LB_FORMAT_MAX_PARAMS], values[MOST], again[MOST];
            float unpacked[LB_FORMAT_MAX_PARAMS];
            uint8_t codes[MOST], bytes[LB_FORMAT_MAX_PARTS][2 * MOST], *parts[LB_FORMAT_MAX_PARTS];
            const uint8_t *stored[LB_FORMAT_MAX_PARTS];
            if (seed % 10 == 8)
                s.group.factors[LB_TUNE_ALPHA] = s.group.factors[LB_TUNE_BETA] = 0.0f;
            if (seed % 10 == 9)
                s.group.factors[LB_TUNE_ALPHA] = s.group.factors[LB_TUNE_BETA] = 1e-4f;
            for (size_t i = 0; i < LB_FORMAT_MAX_PARTS; i++)
                stored[i] = parts[i] = bytes[i];
            ops->tune->forward(&s.format, group_of(&s, multiplier), params, codes, values);
            ops->value(&s.format, params, codes, s.n, again);
            same_array(values, again, s.n);
            ops->pack(&s.format, codes, params, s.n, parts);
            assert_int_equal(ops->unpack(&s.format, stored, s.n, codes, unpacked, NULL), LB_OK);
            ops->value(&s.format, unpacked, codes, s.n, again);
            same_array(values, again, s.n);
        }
    }
}

/* ---- The surrogate ------------------------------------------------------------------------------------ */

/* What a group's values depend on, in double: offsets, then alpha and beta. What rounding adds is held still,
 * and so is which elements are clipped. */
typedef struct surrogate {
    const sample *s;
    bool multiplier;
    double low, high; /* of codes less zero, at the point that is looked at */
    double scale_at, scale_rest, zero_at, zero_rest;
    double scale_quotient; /* blocks: of what is stored and beta */
    double rest[MOST]; /* what rounding adds to an element */
    int outside[MOST]; /* -1, 0, 1 */
    double extreme_low, extreme_high;
} surrogate;

static double smooth_int_scale(const surrogate *m, double alpha, double beta)
{
    const lb_format *f = &m->s->format;
    const double half = ldexp(1.0, (int)f->bits - 1);
    if (m->multiplier)
        return beta * (double)m->s->start[LB_INT_SCALE];
    if (!f->symmetric)
        return (beta * m->extreme_high - alpha * m->extreme_low) / (2.0 * half - 1.0);
    /* The side that is larger at the point is larger nearby. */
    return beta * m->extreme_high >= -alpha * m->extreme_low ? -beta * m->extreme_high / half
                                                             : -alpha * m->extreme_low / half;
}

static double smooth_scale(const surrogate *m, double alpha, double beta)
{
    if (m->s->format.element)
        return m->scale_quotient * beta;
    return smooth_int_scale(m, alpha, beta) + m->scale_rest;
}

static double smooth_zero(const surrogate *m, double alpha, double beta)
{
    const lb_format *f = &m->s->format;
    if (f->element)
        return 0.0;
    if (f->symmetric || m->multiplier)
        return m->zero_at;
    return -alpha * m->extreme_low / smooth_scale(m, alpha, beta) + m->zero_rest;
}

static double surrogate_value(const surrogate *m, size_t i, double v, double alpha, double beta)
{
    const double scale = smooth_scale(m, alpha, beta), zero = smooth_zero(m, alpha, beta);
    const double width = m->high - m->low;
    if (m->s->format.element)
        return scale * (m->outside[i] < 0   ? m->low
                        : m->outside[i] > 0 ? m->high
                                            : (double)m->s->w[i] / scale + v + m->rest[i]);
    return scale * (m->outside[i] < 0   ? -zero
                    : m->outside[i] > 0 ? width - zero
                                        : (double)m->s->w[i] / scale + v + m->rest[i]);
}

static surrogate make_surrogate(sample *s, bool multiplier)
{
    surrogate m = {.s = s, .multiplier = multiplier};
    const lb_format *f = &s->format;
    float params[LB_FORMAT_MAX_PARAMS], values[MOST];
    const double alpha = (double)s->group.factors[LB_TUNE_ALPHA],
                 beta = (double)s->group.factors[LB_TUNE_BETA];
    f->ops->tune->forward(f, group_of(s, multiplier), params, NULL, values);
    for (size_t i = 0; i < s->n; i++) {
        m.extreme_low = fmin(m.extreme_low, (double)s->w[i]);
        m.extreme_high = fmax(m.extreme_high, (double)s->w[i]);
    }
    m.scale_at = (double)params[0];
    if (f->element) {
        m.high = (double)f->element->max;
        m.low = -(double)lb_block_low_max(f);
        m.scale_quotient = m.scale_at / beta;
    } else {
        m.scale_rest = m.scale_at - smooth_int_scale(&m, alpha, beta);
        m.zero_at = (double)params[LB_INT_ZERO];
        m.zero_rest = m.zero_at + alpha * m.extreme_low / m.scale_at;
        m.low = -m.zero_at;
        m.high = ldexp(1.0, (int)f->bits) - 1.0 - m.zero_at;
    }
    for (size_t i = 0; i < s->n; i++) {
        const double t = (double)s->w[i] / m.scale_at + (double)s->v[i];
        const double limited = f->element ? t : rint(t); /* integers are rounded before they are clipped */
        m.outside[i] = limited < m.low ? -1 : limited > m.high ? 1 : 0;
        m.rest[i] = (double)values[i] / m.scale_at - t;
    }
    return m;
}

static double surrogate_loss(const surrogate *m, const float *d, double alpha, double beta)
{
    double sum = 0.0;
    for (size_t i = 0; i < m->s->n; i++)
        sum += (double)d[i] * surrogate_value(m, i, (double)m->s->v[i], alpha, beta);
    return sum;
}

static void check_gradients(const char *name, uint64_t seed, bool multiplier)
{
    static const double H = 1e-5;
    sample s = make_sample(name, seed, multiplier, 0.5);
    if (seed % 5 == 4) /* far out: many are clipped */
        s.group.factors[LB_TUNE_ALPHA] = s.group.factors[LB_TUNE_BETA] = 0.3f;
    const surrogate m = make_surrogate(&s, multiplier);
    const double a = (double)s.group.factors[LB_TUNE_ALPHA], b = (double)s.group.factors[LB_TUNE_BETA];
    float d[MOST], v[MOST];
    lb_rng rng;
    double size = 0.0;
    lb_rng_seed(&rng, seed + 100);
    for (size_t i = 0; i < s.n; i++) {
        d[i] = (float)lb_rng_normal(&rng);
        size += fabs((double)d[i]) * (m.high - m.low) * fabs(m.scale_at);
    }
    lb_tune_gradient got = {.v = v};
    s.format.ops->tune->backward(&s.format, group_of(&s, multiplier), d, &got);
    for (size_t i = 0; i < s.n; i++) {
        const double at = (double)s.v[i];
        const double want = (double)d[i] *
                            (surrogate_value(&m, i, at + H, a, b) - surrogate_value(&m, i, at - H, a, b)) /
                            (2.0 * H);
        if (!(fabs(want - (double)v[i]) <= 1e-6 * fabs(m.scale_at)))
            fail_msg("%s, offset %zu: %.9g, wanted %.9g", name, i, (double)v[i], want);
    }
    const double by_alpha = (surrogate_loss(&m, d, a + H, b) - surrogate_loss(&m, d, a - H, b)) / (2.0 * H);
    const double by_beta = (surrogate_loss(&m, d, a, b + H) - surrogate_loss(&m, d, a, b - H)) / (2.0 * H);
    /* float's error of a sum, and the differences' own of order H^2 */
    const double bound = 1e-5 * size;
    if (!(fabs((double)got.factors[LB_TUNE_ALPHA] - by_alpha) <= bound &&
          fabs((double)got.factors[LB_TUNE_BETA] - by_beta) <= bound))
        fail_msg("%s, seed %d: alpha %.9g, wanted %.9g; beta %.9g, wanted %.9g", name, (int)seed,
                 (double)got.factors[LB_TUNE_ALPHA], by_alpha, (double)got.factors[LB_TUNE_BETA], by_beta);
}

static void gradients_are_those_of_the_surrogate(void **state)
{
    (void)state;
    for (size_t k = 0; k < FORMATS; k++) {
        for (uint64_t seed = 0; seed < 30; seed++) {
            check_gradients(names[k], seed, false);
            check_gradients(names[k], seed, true);
        }
    }
}

/* ---- Cases worked out by hand -------------------------------------------------------------------------- */

/* int2: codes less zero -2 .. 1. The largest weight, 1, is the code -2 of the scale -1/2. */
static void two_bits_by_hand(void **state)
{
    (void)state;
    lb_format f;
    assert_int_equal(lb_format_parse("int2-g32", &f, NULL), LB_OK);
    const float w[] = {1.0f, -0.75f, 0.25f, -0.2f}, v[] = {0.0f, 0.25f, -0.25f, 0.75f};
    lb_tune_group g = {.w = w, .v = v, .n = 4, .factors = {1.0f, 1.0f}};
    float params[2], values[4], dv[4];
    lb_tune_gradient got = {.v = dv};
    f.ops->tune->forward(&f, &g, params, NULL, values);
    /* w / scale + v: -2, 1.75, -0.75, 1.15, rounded -2, 2, -1, 1, clipped -2, 1, -1, 1 */
    same_array(params, ((float[]){-0.5f, 2.0f}), 2);
    same_array(values, ((float[]){1.0f, -0.5f, 0.5f, -0.5f}), 4);
    f.ops->tune->backward(&f, &g, (float[]){1.0f, 2.0f, 4.0f, 8.0f}, &got);
    same_array(dv, ((float[]){-0.5f, 0.0f, -2.0f, -4.0f}), 4);
    /* by scale: (-2+2) + 2*1 + 4*(-1+0.5) + 8*(1-0.4) = 4.8; scale = -beta / 2 */
    near_array(&got.factors[LB_TUNE_BETA], ((double[]){-2.4}), 1, 1e-6);
    assert_true(got.factors[LB_TUNE_ALPHA] == 0.0f);
    /* alpha's side is the larger: scale = +0.75 / 2, and beta has no gradient */
    g.factors[LB_TUNE_BETA] = 0.5f;
    f.ops->tune->forward(&f, &g, params, NULL, values);
    same_array(params, ((float[]){0.375f, 2.0f}), 2);
    f.ops->tune->backward(&f, &g, (float[]){1.0f, 1.0f, 1.0f, 1.0f}, &got);
    assert_true(got.factors[LB_TUNE_BETA] == 0.0f && got.factors[LB_TUNE_ALPHA] != 0.0f);
    /* equal sides: each has half of it, and the scale is negative */
    g.factors[LB_TUNE_BETA] = 0.75f;
    f.ops->tune->forward(&f, &g, params, NULL, values);
    same_array(params, ((float[]){-0.375f, 2.0f}), 2);
    f.ops->tune->backward(&f, &g, (float[]){1.0f, 2.0f, 4.0f, 8.0f}, &got);
    near_array(&got.factors[LB_TUNE_ALPHA], ((double[]){(double)got.factors[LB_TUNE_BETA] * 0.75}), 1, 1e-6);
}

/* mxfp4-ocp: largest 5 -> 2^(2-2) = 1; halved by beta: 2.5 -> 2^(1-2). */
static void four_bit_floats_by_hand(void **state)
{
    (void)state;
    lb_format f;
    assert_int_equal(lb_format_parse("mxfp4-ocp", &f, NULL), LB_OK);
    const float w[] = {5.0f, -2.4f, 0.6f, 0.0f}, v[] = {-0.5f, 0.0f, 0.2f, -0.5f};
    lb_tune_group g = {.w = w, .v = v, .n = 4, .factors = {1.0f, 1.0f}};
    float params[1], values[4], dv[4];
    lb_tune_gradient got = {.v = dv};
    f.ops->tune->forward(&f, &g, params, NULL, values);
    same_array(params, ((float[]){1.0f}), 1);
    same_array(values, ((float[]){4.0f, -2.0f, 1.0f, -0.5f}), 4);
    g.factors[LB_TUNE_BETA] = 0.5f;
    f.ops->tune->forward(&f, &g, params, NULL, values);
    same_array(params, ((float[]){0.5f}), 1);
    same_array(values, ((float[]){3.0f, -2.0f, 0.75f, -0.25f}), 4); /* 9.5 is clipped; -4.8, 1.4, -0.5 */
    f.ops->tune->backward(&f, &g, (float[]){1.0f, 1.0f, 1.0f, 1.0f}, &got);
    same_array(dv, ((float[]){0.0f, 0.5f, 0.5f, 0.5f}), 4);
    /* by scale: 6 + (-4+4.8) + (1.5-1.2) + (-0.5) = 6.6; d scale / d beta = 1 */
    near_array(&got.factors[LB_TUNE_BETA], ((double[]){6.6}), 1, 1e-5);
    assert_true(got.factors[LB_TUNE_ALPHA] == 0.0f);
}

static void groups_of_zeros_stay_zeros(void **state)
{
    (void)state;
    for (size_t k = 0; k < FORMATS; k++) {
        sample s = make_sample(names[k], 1, false, 0.5);
        float params[LB_FORMAT_MAX_PARAMS], values[MOST], dv[MOST], zeros[MOST] = {0};
        lb_tune_gradient got = {.v = dv};
        memset(s.w, 0, sizeof s.w);
        memset(s.v, 0, sizeof s.v);
        s.format.tensor_scale = 1.0f;
        s.format.ops->fit(&s.format, s.w, NULL, s.n, LB_FIT_SEARCH, s.start);
        for (int multiplier = 0; multiplier < 2; multiplier++) {
            s.format.ops->tune->forward(&s.format, group_of(&s, multiplier), params, NULL, values);
            same_array(values, zeros, s.n);
            s.format.ops->tune->backward(&s.format, group_of(&s, multiplier), s.importance, &got);
            assert_true(isfinite(got.factors[LB_TUNE_ALPHA]) && isfinite(got.factors[LB_TUNE_BETA]));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_learned_is_rounding_to_nearest),
        cmocka_unit_test(values_are_what_storage_holds),
        cmocka_unit_test(gradients_are_those_of_the_surrogate),
        cmocka_unit_test(two_bits_by_hand),
        cmocka_unit_test(four_bit_floats_by_hand),
        cmocka_unit_test(groups_of_zeros_stay_zeros),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
