/* SPDX-License-Identifier: MIT
 * Bit planes on a variable grid: names, levels by their definition, the nearest by a look at all of them, storage bit
 * by bit. test_planes_fit.c has the fit. */
#include "plane_cases.h"

static void names_that_are_known(void **state)
{
    (void)state;
    for (size_t k = 0; k < FORMATS; k++) {
        const lb_format *f = &formats[k];
        assert_ptr_equal(f->ops, &lb_planes_format);
        assert_string_equal(f->ops->family, "bp");
        assert_int_equal(f->bits, 1 + k / GROUPS);
        assert_int_equal(f->group, group_sizes[k % GROUPS]);
        assert_int_equal(f->params, f->bits + 1);
        assert_false(f->symmetric || lb_format_is_float(f) || lb_format_has_tensor_scale(f));
        assert_non_null(f->ops->linear);
    }
}

static void names_that_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "bp",       "bp2",         "bp2-",      "bp2-g",      "bp2-row ",  " bp2-row",  "bp2-rows",
        "bp0-g64",  "bp5-g64",     "bp9-row",   "bp-1-g64",   "bp+2-g64",  "bp02-g64",  "bp2-g0",
        "bp2-g16",  "bp2-g96",     "bp2-g512",  "bp2-g064",   "bp2-g 64",  "bp2-g+64",  "bp2-g-64",
        "bp2-g64-", "bp2-g64-sym", "bp2-g256x", "bp2-g64000", "bp2-asym",  "bp2-row-g", "bp 2-g64",
        "BP2-g64",  "bp2-G64",     "bp2_g64",   "bp2g64",     "bp2-g64\n", "bpK-gG",    "bp12-g64",
        "bp2-g1e2", "bp2-g0x40",   "bp2--g64",  "xbp2-g64",   "bp2-g32.0", "bp4-rowg64"};
    lb_error err;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        lb_format f = {.bits = 77};
        err.msg[0] = '\0';
        if (lb_format_parse(bad[i], &f, &err) != LB_EINVAL)
            fail_msg("\"%s\" was taken for %s", bad[i], f.name);
        assert_int_equal(f.bits, 77);
        assert_non_null(strstr(err.msg, lb_planes_format.syntax));
    }
}

/* Coefficients as a fit would not give them: out of order, negative, alike, zero, of very different sizes. */
static void fill_params(lb_rng *rng, const lb_format *f, unsigned kind, float *params)
{
    for (unsigned i = 0; i <= f->bits; i++) {
        float c = (float)lb_rng_normal(rng);
        switch (kind % 7) {
        case 1:
            c = fabsf(c) * (float)(1u << (f->bits - i)); /* the first plane is the largest */
            break;
        case 2:
            c = -fabsf(c);
            break;
        case 3:
            c = i == 0 ? c : 0.5f; /* all planes alike */
            break;
        case 4:
            c = i % 2 ? c : 0.0f;
            break;
        case 5:
            c = ldexpf(c, -6 * (int)i);
            break;
        case 6:
            c = 65504.0f * (i % 2 ? -1.0f : 1.0f);
            break;
        default:
            break;
        }
        params[i] = lb_round_to_f16(c);
    }
}
enum { PARAM_KINDS = 7 };

static void levels_are_sums_of_coefficients(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 31);
    for (unsigned planes = 1; planes <= PLANES; planes++) {
        const lb_format *f = format_of(planes);
        for (unsigned kind = 0; kind < 10 * PARAM_KINDS; kind++) {
            float params[COEFFICIENTS], got[1 << PLANES];
            double want[1 << PLANES];
            uint8_t codes[1 << PLANES];
            fill_params(&rng, f, kind, params);
            for (unsigned code = 0; code < 1u << planes; code++) {
                codes[code] = (uint8_t)code;
                want[code] = value_of(f, params, code);
            }
            f->ops->value(f, params, codes, (size_t)1 << planes, got);
            near_array(got, want, (size_t)1 << planes, PLANES * U24 * size_of(f, params));
            f->ops->value(f, params, codes + 1, 1, got); /* one is as good as all */
            near_array(got, want + 1, 1, PLANES * U24 * size_of(f, params));
        }
    }
}

/* Where two levels are equally near to float accuracy, either will do. */
static void check_rounding(const lb_format *f, const float *params, const float *w, size_t n)
{
    uint8_t codes[MOST];
    memset(codes, 0xff, sizeof codes);
    f->ops->round(f, params, w, n, codes);
    for (size_t i = 0; i < n; i++) {
        assert_true(codes[i] < 1u << f->bits);
        const double got = fabs((double)w[i] - value_of(f, params, codes[i]));
        const double want = nearest(f, params, (double)w[i]);
        if (got > want + 4.0 * U24 * (fabs((double)w[i]) + PLANES * size_of(f, params)))
            fail_msg("%s: %g becomes %g, off by %g where %g is possible", f->name, (double)w[i],
                     value_of(f, params, codes[i]), got, want);
    }
    assert_true(n == MOST || codes[n] == 0xff);
}

static void rounding_is_to_the_nearest(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 32);
    for (unsigned planes = 1; planes <= PLANES; planes++) {
        const lb_format *f = format_of(planes);
        for (unsigned kind = 0; kind < 20 * PARAM_KINDS; kind++) {
            float params[COEFFICIENTS], w[200];
            size_t n = 0;
            fill_params(&rng, f, kind, params);
            while (n < 150)
                w[n++] = (float)(lb_rng_normal(&rng) * size_of(f, params));
            for (unsigned code = 0; code < 1u << planes; code++) {
                w[n++] = (float)value_of(f, params, code);
                w[n++] =
                    (float)(0.5 * (value_of(f, params, code) + value_of(f, params, code / 2))); /* ties */
            }
            w[n++] = 1e30f;
            w[n++] = -1e30f;
            w[n++] = 0x1p-140f;
            check_rounding(f, params, w, n);
        }
    }
}

/* Levels that a code stands for are kept, also where other codes stand for the same. */
static void levels_are_kept(void **state)
{
    (void)state;
    static const float grids[][COEFFICIENTS] = {
        {-1.0f, 1.0f, 1.0f, 1.0f, 1.0f},    {0.5f, 0.0f, 0.0f, 0.0f, 0.0f}, {0.25f, 2.0f, -2.0f, 4.0f, -4.0f},
        {3.0f, -0.5f, -1.0f, -2.0f, -4.0f}, {0.0f, 8.0f, 4.0f, 2.0f, 1.0f}, {-7.5f, 1.0f, 2.0f, 4.0f, 8.0f}};
    for (unsigned planes = 1; planes <= PLANES; planes++) {
        const lb_format *f = format_of(planes);
        for (size_t k = 0; k < sizeof grids / sizeof *grids; k++) {
            float w[1 << PLANES], back[1 << PLANES];
            uint8_t codes[1 << PLANES];
            for (unsigned code = 0; code < 1u << planes; code++)
                w[code] = (float)value_of(f, grids[k], code);
            f->ops->round(f, grids[k], w, (size_t)1 << planes, codes);
            f->ops->value(f, grids[k], codes, (size_t)1 << planes, back);
            same_array(back, w, (size_t)1 << planes);
        }
    }
}

/* Plane after plane, a column's bit in its place, then coefficients as little-endian f16; nothing beyond the promised
 * bytes, and zeros where no column is. */
static void check_storage(const lb_format *f, size_t cols, const uint8_t *codes, const float *params)
{
    const size_t groups = lb_format_groups(f, cols), plane = (cols + 7) / 8;
    lb_format_part part[LB_FORMAT_MAX_PARTS];
    uint8_t back[MOST], *parts[LB_FORMAT_MAX_PARTS] = {0};
    float back_params[32 * COEFFICIENTS];
    lb_error err;
    assert_int_equal(f->ops->parts(f, cols, part), 2);
    assert_string_equal(part[0].name, "codes");
    assert_int_equal(part[0].elem_bytes, 1);
    assert_int_equal(part[0].row_bytes, f->bits * plane);
    assert_string_equal(part[1].name, "coefficients");
    assert_int_equal(part[1].elem_bytes, 2);
    assert_int_equal(part[1].row_bytes, 2 * (f->bits + 1) * groups);
    assert_int_equal(lb_format_row_bytes(f, cols), f->bits * plane + 2 * (f->bits + 1) * groups);
    assert_int_equal(lb_format_tensor_bytes(f, 7, cols), 7 * lb_format_row_bytes(f, cols));
    for (unsigned p = 0; p < 2; p++) { /* exactly as large as promised: sanitizers watch the end */
        parts[p] = malloc(part[p].row_bytes);
        assert_non_null(parts[p]);
        memset(parts[p], 0xee, part[p].row_bytes);
    }
    f->ops->pack(f, codes, params, cols, parts);
    for (size_t bit = 0; bit < part[0].row_bytes * 8; bit++) {
        const size_t p = bit / (8 * plane), i = bit % (8 * plane);
        assert_int_equal(parts[0][bit / 8] >> bit % 8 & 1, i < cols ? codes[i] >> p & 1 : 0);
    }
    for (size_t i = 0; i < groups * f->params; i++)
        assert_int_equal(parts[1][2 * i] | parts[1][2 * i + 1] << 8, lb_f16_from_float(params[i]));
    assert_int_equal(f->ops->unpack(f, (const uint8_t *const *)parts, cols, back, back_params, &err), LB_OK);
    assert_memory_equal(back, codes, cols);
    assert_memory_equal(back_params, params, groups * f->params * sizeof *params);
    free(parts[0]);
    free(parts[1]);
}

static void storage_round_trip(void **state)
{
    (void)state;
    static const size_t widths[] = {1, 7, 8, 9, 31, 33, 352, 576, 577, 999};
    lb_rng rng;
    lb_rng_seed(&rng, 38);
    for (size_t k = 0; k < FORMATS; k++) {
        const lb_format *f = &formats[k];
        for (size_t c = 0; c < sizeof widths / sizeof *widths; c++) {
            const size_t cols = widths[c], groups = lb_format_groups(f, cols);
            float params[32 * COEFFICIENTS], w[MOST], got[MOST];
            uint8_t codes[MOST];
            for (size_t g = 0; g < groups; g++)
                fill_params(&rng, f, (unsigned)(k + c + g), params + g * f->params);
            for (size_t i = 0; i < cols; i++)
                codes[i] = (uint8_t)lb_rng_below(&rng, 1u << f->bits);
            check_storage(f, cols, codes, params);
            for (size_t i = 0; i < cols; i++)
                w[i] = (float)lb_rng_normal(&rng) + 0.3f;
            lb_format_encode_row(f, w, NULL, cols, c % 2 ? LB_FIT_SEARCH : LB_FIT_RANGE, codes, params);
            check_storage(f, cols, codes, params);
            lb_format_decode_row(f, codes, params, cols, got);
            for (size_t i = 0; i < cols; i++) {
                const float *p = params + (f->group ? i / f->group : 0) * f->params;
                const double value = value_of(f, p, codes[i]);
                near_array(got + i, &value, 1, PLANES * U24 * size_of(f, p));
                assert_true(fabs((double)w[i] - value) <=
                            nearest(f, p, (double)w[i]) + 4.0 * PLANES * U24 * (size_of(f, p) + 5.0));
            }
        }
    }
}

/* Every 16 bits in every place of the second group. */
static void coefficients_that_are_not_finite_are_refused(void **state)
{
    (void)state;
    const uint8_t planes[PLANES * 8] = {0};
    for (size_t k = 0; k < FORMATS; k++) {
        const lb_format *f = &formats[k];
        if (f->group != 32)
            continue;
        for (unsigned at = 0; at < f->params; at++) {
            for (uint32_t bits = 0; bits < 65536; bits++) {
                uint8_t coefficients[4 * COEFFICIENTS] = {0}, codes[64];
                float params[2 * COEFFICIENTS];
                lb_error err;
                char words[64];
                coefficients[2 * (f->params + at)] = (uint8_t)bits;
                coefficients[2 * (f->params + at) + 1] = (uint8_t)(bits >> 8);
                const uint8_t *const parts[] = {planes, coefficients};
                const bool finite = (bits & 0x7c00) != 0x7c00;
                assert_int_equal(f->ops->unpack(f, parts, 64, codes, params, &err),
                                 finite ? LB_OK : LB_EFORMAT);
                if (finite) {
                    assert_true(params[f->params + at] == lb_f16_to_float((uint16_t)bits));
                    continue;
                }
                snprintf(words, sizeof words, "coefficient %u of group 1 ", at);
                assert_non_null(strstr(err.msg, words));
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_that_are_known),
        cmocka_unit_test(names_that_are_refused),
        cmocka_unit_test(levels_are_sums_of_coefficients),
        cmocka_unit_test(rounding_is_to_the_nearest),
        cmocka_unit_test(levels_are_kept),
        cmocka_unit_test(storage_round_trip),
        cmocka_unit_test(coefficients_that_are_not_finite_are_refused),
    };
    return cmocka_run_group_tests(tests, list_formats, NULL);
}
