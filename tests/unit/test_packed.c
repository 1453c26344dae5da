/* SPDX-License-Identifier: MIT
 * Matrices in a format, for programs: against round to nearest and bit packing written out here, and for every format
 * that is listed, its values against its codes, its sizes against its bytes. */
#include "near.h"

#include "base/rng.h"
#include "formats/format.h"
#include "lowbit/formats.h"

enum { ROWS = 37, COLS = 256, ODD_COLS = 83 };

static void fill(float *w, size_t n, uint64_t seed)
{
    lb_rng rng;
    lb_rng_seed(&rng, seed);
    for (size_t i = 0; i < n; i++)
        w[i] = (float)lb_rng_normal(&rng);
}

static lb_packed *must_pack(const char *format, const float *w, size_t rows, size_t cols, const char *fit)
{
    lb_pack_options o;
    lb_packed *p = NULL;
    lb_error err = {0};
    lb_pack_options_init(&o);
    o.fit = fit;
    if (lb_pack(format, w, rows, cols, &o, &p, &err) != LB_OK)
        fail_msg("%s: %s", format, err.msg);
    return p;
}

/* int5-g32 by range: scale = -max / 16 as f16, the nearest code, five bits each, the lowest first. */
static void integers_are_round_to_nearest(void **state)
{
    (void)state;
    static float w[ROWS * ODD_COLS], values[ROWS * ODD_COLS], params[ROWS * 3 * 2];
    static uint8_t codes[ROWS * ODD_COLS];
    lb_error err;
    lb_packed_part part;
    fill(w, ROWS * ODD_COLS, 7);
    lb_packed *p = must_pack("int5-g32", w, ROWS, ODD_COLS, "range");
    assert_int_equal(lb_packed_groups(p), 3);
    assert_int_equal(lb_packed_codes(p, codes, params, &err), LB_OK);
    assert_int_equal(lb_unpack(p, values, &err), LB_OK);
    assert_int_equal(lb_packed_get_part(p, 0, &part, &err), LB_OK);
    assert_string_equal(part.name, "codes");
    assert_int_equal(part.row_bytes, (ODD_COLS * 5 + 7) / 8);
    for (size_t r = 0; r < ROWS; r++) {
        for (size_t c = 0; c < ODD_COLS; c++) {
            const size_t g = c / 32, end = g == 2 ? ODD_COLS : 32 * g + 32;
            float extreme = 0;
            for (size_t k = 32 * g; k < end; k++)
                extreme = fabsf(w[r * ODD_COLS + k]) > fabsf(extreme) ? w[r * ODD_COLS + k] : extreme;
            const float scale = params[(r * 3 + g) * 2], want = -extreme / 16;
            near_array(&scale, &want, 1, fabs((double)want) * 0x1p-11);
            const float level = rintf(w[r * ODD_COLS + c] / scale);
            const int code = (int)fminf(fmaxf(level, -16), 15) + 16;
            assert_int_equal(codes[r * ODD_COLS + c], code);
            const float value = scale * (float)(code - 16);
            same_array(&values[r * ODD_COLS + c], &value, 1);
            const uint8_t *bytes = (const uint8_t *)part.data + r * part.row_bytes;
            for (size_t bit = 0; bit < 5; bit++)
                assert_int_equal(bytes[(c * 5 + bit) / 8] >> ((c * 5 + bit) % 8) & 1, code >> bit & 1);
        }
    }
    lb_packed_free(p);
}

/* Packing what was unpacked changes nothing; bytes are those of the parts; a format says of itself what a matrix in it
 * turns out to be; `search` is no worse than `range`. */
static void every_listed_format_keeps_its_word(void **state)
{
    (void)state;
    static float w[ROWS * COLS], ranged[ROWS * COLS], searched[ROWS * COLS], params[ROWS * COLS];
    static uint8_t codes[ROWS * COLS];
    size_t listed = 0;
    fill(w, ROWS * COLS, 8);
    for (; lb_format_listed(listed); listed++) {
        const char *name = lb_format_listed(listed);
        lb_format_info info;
        lb_error err = {0};
        if (lb_format_describe(name, &info, &err) != LB_OK)
            fail_msg("%s", err.msg);
        assert_string_equal(info.name, name);
        lb_packed *a = must_pack(name, w, ROWS, COLS, "range"), *b = must_pack(name, w, ROWS, COLS, "search");
        uint64_t bytes = 0;
        for (size_t i = 0; i < lb_packed_part_count(a); i++) {
            lb_packed_part part;
            assert_int_equal(lb_packed_get_part(a, i, &part, &err), LB_OK);
            bytes += part.rows * part.row_bytes;
        }
        assert_int_equal(bytes, lb_packed_bytes(a));
        assert_true(lb_packed_bits_per_weight(a) <= 32 && lb_packed_bits_per_weight(a) >= 1);
        assert_int_equal(lb_unpack(a, ranged, &err), LB_OK);
        assert_int_equal(lb_unpack(b, searched, &err), LB_OK);
        double by_range = 0, by_search = 0, all = 0;
        for (size_t i = 0; i < ROWS * COLS; i++) {
            by_range += pow((double)ranged[i] - (double)w[i], 2);
            by_search += pow((double)searched[i] - (double)w[i], 2);
            all += pow((double)w[i], 2);
        }
        /* Two levels at the extremes of normal data are worse than nothing. */
        if (by_search > by_range * (1 + 1e-6) || by_search > all || (info.bits > 1 && by_range > all))
            fail_msg("%s: %g by search, %g by range, of %g", name, by_search, by_range, all);
        const lb_status st = lb_packed_codes(a, codes, params, &err);
        assert_int_equal(st, info.params ? LB_OK : LB_EUNSUPPORTED);
        for (size_t i = 0; st == LB_OK && i < ROWS * COLS; i++)
            assert_true(codes[i] >> info.bits == 0);
        lb_packed_free(a);
        lb_packed_free(b);
    }
    assert_in_range(listed, 50, 200);
    assert_null(lb_format_listed(listed));
    assert_null(lb_format_listed(SIZE_MAX));
}

static void importance_moves_errors_away(void **state)
{
    (void)state;
    static float w[ROWS * COLS], plain[ROWS * COLS], weighted[ROWS * COLS], importance[COLS];
    lb_pack_options o;
    lb_packed *p;
    lb_error err;
    fill(w, ROWS * COLS, 9);
    for (size_t c = 0; c < COLS; c++)
        importance[c] = c % 8 == 0 ? 100.0f : 0.01f;
    p = must_pack("int2-g64", w, ROWS, COLS, "search");
    assert_int_equal(lb_unpack(p, plain, &err), LB_OK);
    lb_packed_free(p);
    lb_pack_options_init(&o);
    o.importance = importance;
    assert_int_equal(lb_pack("int2-g64", w, ROWS, COLS, &o, &p, &err), LB_OK);
    assert_int_equal(lb_unpack(p, weighted, &err), LB_OK);
    lb_packed_free(p);
    double before = 0, after = 0;
    for (size_t i = 0; i < ROWS * COLS; i += 8) {
        before += pow((double)plain[i] - (double)w[i], 2);
        after += pow((double)weighted[i] - (double)w[i], 2);
    }
    assert_true(after < 0.7 * before);
}

static void nonsense_is_refused(void **state)
{
    (void)state;
    static float w[2 * COLS], one[COLS];
    lb_pack_options o;
    lb_packed *p = NULL;
    lb_format_info info;
    lb_packed_part part;
    lb_error err = {0};
    fill(w, 2 * COLS, 10);
    fill(one, COLS, 11);
    assert_int_equal(lb_format_describe("int9-g64", &info, &err), LB_EINVAL);
    assert_int_equal(lb_format_describe(NULL, &info, &err), LB_EINVAL);
    assert_int_equal(lb_pack("int9-g64", w, 2, COLS, NULL, &p, &err), LB_EINVAL);
    assert_int_equal(lb_pack(NULL, w, 2, COLS, NULL, &p, &err), LB_EINVAL);
    assert_int_equal(lb_pack("int4-g64", w, 0, COLS, NULL, &p, &err), LB_EINVAL);
    assert_int_equal(lb_pack("int4-g64", w, SIZE_MAX / 2, COLS, NULL, &p, &err), LB_EINVAL);
    assert_int_equal(lb_pack("sq8/4-b64-s0.875", w, 2, 100, NULL, &p, &err), LB_EINVAL);
    lb_pack_options_init(&o);
    o.fit = "best";
    assert_int_equal(lb_pack("int4-g64", w, 2, COLS, &o, &p, &err), LB_EINVAL);
    o.fit = "search";
    one[3] = 0;
    o.importance = one;
    assert_int_equal(lb_pack("int4-g64", w, 2, COLS, &o, &p, &err), LB_EINVAL);
    w[COLS + 5] = NAN;
    assert_int_equal(lb_pack("int4-g64", w, 2, COLS, NULL, &p, &err), LB_EINVAL);
    assert_non_null(strstr(err.msg, "row 1, column 5"));
    w[COLS + 5] = 1e6f;
    assert_int_equal(lb_pack("f16", w, 2, COLS, NULL, &p, &err), LB_EINVAL);
    assert_null(p);
    p = must_pack("bf16", w, 2, COLS, "range");
    assert_int_equal(lb_packed_get_part(p, 1, &part, &err), LB_EINVAL);
    lb_packed_free(p);
    lb_packed_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_are_round_to_nearest),
        cmocka_unit_test(every_listed_format_keeps_its_word),
        cmocka_unit_test(importance_moves_errors_away),
        cmocka_unit_test(nonsense_is_refused),
    };
    return cmocka_run_group_tests_name("packed", tests, NULL, NULL);
}
