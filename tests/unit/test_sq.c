/* SPDX-License-Identifier: MIT
 * The sparse-quantized format: names and why they are refused, kinds by a sort, codes, nearest values by a look at
 * all of them, storage bit by bit, and bytes that are broken. */
#include <stdlib.h>

#include "format_case.h"

#include "formats/kinds.h"
#include "formats/sq.h"

enum { MOST_COLS = 1024 };

static const unsigned widths[][2] = {{8, 4}, {8, 3}, {8, 2}, {4, 2}, {6, 4}, {5, 3}, {3, 2}, {7, 4}};
static const size_t banks[] = {16, 32, 64, 128, 256};
static const char *const fractions[] = {"0.5", "0.75", "0.875", "0.9375"};

/* Calls back with every format of the tables above. */
static void each_format(void (*test)(const lb_format *format, size_t index))
{
    size_t index = 0;
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
        for (size_t b = 0; b < sizeof banks / sizeof *banks; b++) {
            for (size_t s = 0; s < sizeof fractions / sizeof *fractions; s++) {
                char name[LB_FORMAT_NAME_BYTES];
                snprintf(name, sizeof name, "sq%u/%u-b%zu-s%s", widths[w][0], widths[w][1], banks[b],
                         fractions[s]);
                const lb_format f = must_parse(name);
                assert_string_equal(f.name, name);
                test(&f, index++);
            }
        }
    }
}

static void check_name(const lb_format *f, size_t index)
{
    const size_t w = index / 20, b = index / 4 % 5, s = index % 4;
    assert_ptr_equal(f->ops, &lb_sq_format);
    assert_int_equal(f->high_bits, widths[w][0]);
    assert_int_equal(f->low_bits, widths[w][1]);
    assert_int_equal(f->group, banks[b]);
    const double high = (1.0 - atof(fractions[s])) * (double)banks[b];
    assert_true((double)f->high_count == high);
    /* Stored with a mask exactly where that is smaller: y + 1 against low + (1 - S) high. */
    const double share = high / (double)banks[b], sentinel = f->low_bits + share * f->high_bits;
    assert_true(lb_kinds_nominal_bits(f) == share * f->high_bits + (1.0 - share) * f->low_bits);
    assert_true(f->masked == (lb_kinds_nominal_bits(f) + 1.0 < sentinel));
    const double bits = (f->masked ? lb_kinds_nominal_bits(f) + 1.0 : sentinel) + 32.0 / (double)banks[b];
    assert_int_equal(lb_format_row_bytes(f, MOST_COLS), (size_t)(bits * MOST_COLS / 8.0));
}

static void names_that_are_known(void **state)
{
    (void)state;
    each_format(check_name);
    assert_true(must_parse("sq8/4-b256-s0.99609375").high_count == 1);
    assert_true(must_parse("sq8/4-b16-s0.0625").high_count == 15);
}

static void names_that_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *name, *words;
    } bad[] = {{"sq8/4-b64-s0.9", "6.4 high elements"},
               {"sq8/4-b16-s0.96875", "0.5 high elements"},
               {"sq8/4-b64-s0.0", "64 high elements"},
               {"sq8/4-b64-s0.50", "without zeros"},
               {"sq8/4-b48-s0.5", "a bank of 48"},
               {"sq8/4-b8-s0.5", "a bank of 8"},
               {"sq8/4-b512-s0.5", "a bank of 512"},
               {"sq8/5-b64-s0.5", "8 high and 5 low bits"},
               {"sq4/4-b64-s0.5", "4 high and 4 low bits"},
               {"sq9/4-b64-s0.5", "9 high and 4 low bits"},
               {"sq2/4-b64-s0.5", "2 high and 4 low bits"},
               {"sq8/1-b64-s0.5", "8 high and 1 low bits"},
               {"sq8/4-b64-s1.5", "is not known"},
               {"sq8/4-b64-s.5", "is not known"},
               {"sq8/4-b064-s0.5", "is not known"},
               {"sq08/4-b64-s0.5", "is not known"},
               {"sq8-4-b64-s0.5", "is not known"},
               {"sq8/4-b64-s0.5x", "is not known"},
               {"sq8/4-b64-s0.5 ", "is not known"},
               {"sq8/4-b 64-s0.5", "is not known"},
               {"sq8/4-b64-s0.", "is not known"},
               {"sq8/4-b64-s0.-5", "is not known"},
               {"sq8/4-b64-s0.000000005", "is not known"},
               {"SQ8/4-b64-s0.5", "is not known"},
               {"sq8/4-b64", "is not known"},
               {"sq8/4", "is not known"},
               {"sq", "is not known"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        lb_format f = {.bits = 77};
        lb_error err = {LB_OK, ""};
        if (lb_format_parse(bad[i].name, &f, &err) != LB_EINVAL || !strstr(err.msg, bad[i].words))
            fail_msg("\"%s\": \"%s\", wanted \"%s\"", bad[i].name, err.msg, bad[i].words);
        assert_int_equal(f.bits, 77);
    }
}

static void widths_that_banks_do_not_divide(void **state)
{
    (void)state;
    const lb_format sq = must_parse("sq8/4-b64-s0.875"), plain = must_parse("int4-g64");
    lb_error err;
    assert_int_equal(lb_format_check_cols(&sq, 576, "a layer", &err), LB_OK);
    assert_int_equal(lb_format_check_cols(&plain, 352, "a layer", &err), LB_OK);
    assert_int_equal(lb_format_check_cols(&sq, 352, "x.down_proj", &err), LB_EINVAL);
    assert_non_null(strstr(err.msg, "x.down_proj: sq8/4-b64-s0.875 has banks of 64"));
    assert_non_null(strstr(err.msg, "width of 352; banks of 32 do"));
    assert_int_equal(lb_format_check_cols(&sq, 100, "a layer", &err), LB_EINVAL);
    assert_non_null(strstr(err.msg, "nor do smaller ones"));
}

/* Every integer of each kind has a code of its own, and no code is of two. */
static void check_codes(const lb_format *f, size_t index)
{
    bool taken[256] = {false};
    const int tops[] = {(1 << (f->low_bits - 1)) - 1, f->high_bits < 8   ? (1 << (f->high_bits - 1)) - 1
                                                      : f->low_bits == 4 ? 120
                                                      : f->low_bits == 3 ? 124
                                                                         : 126};
    (void)index;
    assert_int_equal(lb_sq_low_top(f), tops[0]);
    assert_int_equal(lb_sq_high_top(f), tops[1]);
    for (int high = 0; high < 2; high++) {
        for (int q = -tops[high]; q <= tops[high]; q++) {
            const uint8_t code = lb_sq_code(f, high, q);
            assert_false(taken[code]);
            taken[code] = true;
            assert_true(lb_sq_is_high(f, code) == (high != 0));
            assert_int_equal(lb_sq_integer(f, code), q);
            const float params[] = {0.5f, 3.0f};
            float value;
            f->ops->value(f, params, &code, 1, &value);
            assert_true(value == params[high] * (float)q);
        }
    }
}

static void codes_of_two_kinds(void **state)
{
    (void)state;
    each_format(check_codes);
}

/* Data with outliers, equal magnitudes and zeros. */
static void fill(lb_rng *rng, float *w, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        w[i] = (float)lb_rng_normal(rng) * (lb_rng_below(rng, 20) == 0 ? 8.0f : 1.0f);
        if (lb_rng_below(rng, 10) == 0)
            w[i] = lb_rng_below(rng, 2) ? 0.5f : -0.5f;
        if (lb_rng_below(rng, 12) == 0)
            w[i] = 0.0f;
    }
}

static void check_kinds(const lb_format *f, size_t index)
{
    lb_rng rng;
    lb_rng_seed(&rng, 500 + index);
    for (int try = 0; try < 6; try++) {
        float w[256], score[256];
        uint8_t codes[256];
        const size_t n = f->group;
        fill(&rng, w, n);
        for (size_t i = 0; i < n; i++)
            score[i] = expf(2.0f * (float)lb_rng_normal(&rng));
        if (try == 5)
            memset(w, 0, sizeof w);
        if (try == 4)
            w[3] = NAN; /* nothing sensible, but as many as ever */
        f->ops->kinds->choose(f, w, try % 2 ? score : NULL, n, codes);
        size_t high = 0;
        for (size_t i = 0; i < n; i++)
            high += lb_sq_is_high(f, codes[i]);
        assert_int_equal(high, f->high_count);
        /* None that is low comes before one that is high. */
        for (size_t i = 0; i < n && try != 4; i++) {
            assert_int_equal(lb_sq_integer(f, codes[i]), 0);
            for (size_t k = 0; k < n; k++) {
                const double a = (double)w[i] * (double)w[i] * (try % 2 ? (double)score[i] : 1.0);
                const double b = (double)w[k] * (double)w[k] * (try % 2 ? (double)score[k] : 1.0);
                if (lb_sq_is_high(f, codes[i]) && !lb_sq_is_high(f, codes[k]))
                    assert_true(a > b || (a == b && i < k));
            }
        }
    }
}

static void exactly_so_many_are_high(void **state)
{
    (void)state;
    each_format(check_kinds);
}

static double weighted_error(const lb_format *f, const float *w, const float *importance,
                             const uint8_t *codes, const float *params)
{
    float values[256];
    double error = 0.0;
    f->ops->value(f, params, codes, f->group, values);
    for (size_t i = 0; i < f->group; i++)
        error += (double)importance[i] * pow((double)values[i] - (double)w[i], 2.0);
    return error;
}

/* By range a kind's scale is its largest magnitude over its top; by search the error is never more; codes are the
 * nearest of their kind. */
static void check_fit(const lb_format *f, size_t index)
{
    lb_rng rng;
    float w[256], importance[256], params[2][2];
    uint8_t kinds[256], codes[256];
    double error[2];
    lb_rng_seed(&rng, 900 + index);
    fill(&rng, w, f->group);
    for (size_t i = 0; i < f->group; i++)
        importance[i] = 0.1f + (float)lb_rng_below(&rng, 100) / 10.0f;
    f->ops->kinds->choose(f, w, importance, f->group, kinds);
    for (int how = 0; how < 2; how++) {
        const int tops[] = {lb_sq_low_top(f), lb_sq_high_top(f)};
        memcpy(codes, kinds, sizeof codes);
        lb_format_fit(f, w, importance, codes, f->group, how ? LB_FIT_SEARCH : LB_FIT_RANGE, params[how]);
        f->ops->round(f, params[how], w, f->group, codes);
        for (size_t i = 0; i < f->group; i++) {
            const bool high = lb_sq_is_high(f, kinds[i]);
            const double scale = (double)params[how][high], step = scale > 0.0 ? (double)w[i] / scale : 0.0;
            const double want = fmin(fmax(step, -tops[high]), tops[high]),
                         off = want - lb_sq_integer(f, codes[i]);
            assert_true(lb_sq_is_high(f, codes[i]) == high);
            assert_true(fabs(off) <= 0.5001);
        }
        error[how] = weighted_error(f, w, importance, codes, params[how]);
    }
    for (int high = 0; high < 2; high++) {
        float largest = 0.0f;
        for (size_t i = 0; i < f->group; i++)
            if (lb_sq_is_high(f, kinds[i]) == (high != 0))
                largest = fmaxf(largest, fabsf(w[i]));
        const float top = (float)(high ? lb_sq_high_top(f) : lb_sq_low_top(f));
        assert_true(fabsf(params[0][high] * top - largest) <= largest * 0x1p-11f + 1e-6f);
    }
    if (!(error[1] <= error[0] * (1.0 + 1e-6)))
        fail_msg("%s: searched %g, by range %g", f->name, error[1], error[0]);
}

static void scales_of_two_kinds(void **state)
{
    (void)state;
    each_format(check_fit);
}

/* ---- Storage ----------------------------------------------------------------------------------------- */

typedef struct packed {
    lb_format_part parts[LB_FORMAT_MAX_PARTS];
    uint8_t *data[LB_FORMAT_MAX_PARTS];
    unsigned count;
} packed;

static packed packed_row(const lb_format *f, size_t cols, const uint8_t *codes, const float *params)
{
    packed p = {.count = f->ops->parts(f, cols, p.parts)};
    size_t bytes = 0;
    for (unsigned i = 0; i < p.count; i++) {
        p.data[i] = malloc(p.parts[i].row_bytes); /* exactly: a sanitizer sees what goes beyond */
        assert_non_null(p.data[i]);
        bytes += p.parts[i].row_bytes;
    }
    assert_int_equal(bytes, lb_format_row_bytes(f, cols));
    f->ops->pack(f, codes, params, cols, p.data);
    return p;
}

static void packed_free(packed *p)
{
    for (unsigned i = 0; i < p->count; i++)
        free(p->data[i]);
}

static uint8_t *part_named(const packed *p, const char *name)
{
    for (unsigned i = 0; i < p->count; i++)
        if (strcmp(p->parts[i].name, name) == 0)
            return p->data[i];
    return NULL;
}

/* Integer `index` of a stream of `bits` bits, two's complement. */
static int stored_integer(const uint8_t *bytes, size_t index, unsigned bits)
{
    int value = 0;
    for (unsigned b = 0; b < bits; b++)
        value |= (bytes[(index * bits + b) / 8] >> ((index * bits + b) % 8) & 1) << b;
    return value >= 1 << (bits - 1) ? value - (1 << bits) : value;
}

static void encode(const lb_format *f, size_t cols, uint64_t seed, uint8_t *codes, float *params)
{
    float w[MOST_COLS];
    lb_rng rng;
    lb_rng_seed(&rng, seed);
    fill(&rng, w, cols);
    lb_format_encode_row(f, w, NULL, cols, seed % 2 ? LB_FIT_SEARCH : LB_FIT_RANGE, codes, params);
}

static void check_storage(const lb_format *f, size_t index)
{
    const size_t rows_of[] = {f->group, 3 * f->group, MOST_COLS};
    for (size_t k = 0; k < sizeof rows_of / sizeof *rows_of; k++) {
        const size_t cols = rows_of[k];
        uint8_t codes[MOST_COLS], back[MOST_COLS];
        float params[2 * MOST_COLS / 16], back_params[2 * MOST_COLS / 16];
        lb_error err;
        encode(f, cols, index * 3 + k, codes, params);
        packed p = packed_row(f, cols, codes, params);
        const uint8_t *mask = part_named(&p, "mask"), *low = part_named(&p, "codes"),
                      *high = part_named(&p, "high");
        assert_true((mask != NULL) == f->masked);
        size_t lows = 0, highs = 0;
        for (size_t i = 0; i < cols; i++) {
            const bool is_high = lb_sq_is_high(f, codes[i]);
            const int q = lb_sq_integer(f, codes[i]);
            if (mask)
                assert_int_equal(mask[i / 8] >> (i % 8) & 1, is_high);
            if (!mask || !is_high)
                assert_int_equal(stored_integer(low, lows++, f->low_bits),
                                 is_high ? -(1 << (f->low_bits - 1)) : q);
            if (is_high)
                assert_int_equal(stored_integer(high, highs++, f->high_bits), q);
        }
        memset(back, 0xee, sizeof back);
        if (f->ops->unpack(f, (const uint8_t *const *)p.data, cols, back, back_params, &err) != LB_OK)
            fail_msg("%s: %s", f->name, err.msg);
        assert_memory_equal(back, codes, cols);
        assert_true(cols == MOST_COLS || back[cols] == 0xee);
        assert_memory_equal(back_params, params, cols / f->group * 2 * sizeof *params);
        packed_free(&p);
    }
}

static void storage_bit_by_bit(void **state)
{
    (void)state;
    each_format(check_storage);
}

static void must_refuse(const lb_format *f, const packed *p, size_t cols, const char *words)
{
    uint8_t codes[MOST_COLS];
    float params[2 * MOST_COLS / 16];
    lb_error err = {LB_OK, ""};
    if (f->ops->unpack(f, (const uint8_t *const *)p->data, cols, codes, params, &err) != LB_EFORMAT ||
        !strstr(err.msg, words))
        fail_msg("%s: \"%s\", wanted \"%s\"", f->name, err.msg, words);
}

static void check_broken(const lb_format *f, size_t index)
{
    uint8_t codes[MOST_COLS], kept;
    float params[2 * MOST_COLS / 16];
    const size_t cols = 2 * f->group;
    encode(f, cols, index, codes, params);
    packed p = packed_row(f, cols, codes, params);
    uint8_t *scales = part_named(&p, "scales"), *mask = part_named(&p, "mask"),
            *low = part_named(&p, "codes");
    static const uint8_t halves[] = {0x7c, 0xfc, 0x7e, 0xbc}; /* +-infinity, NaN, -1: the upper byte */
    for (size_t k = 0; k < sizeof halves; k++) {
        uint8_t pair[2] = {scales[6], scales[7]};
        scales[6] = 0;
        scales[7] = halves[k];
        must_refuse(f, &p, cols, "the high scale of bank 1 is");
        memcpy(scales + 6, pair, 2);
    }
    if (mask) { /* one more, one less */
        for (unsigned bit = 0; bit < 8; bit++) {
            mask[0] = (uint8_t)(mask[0] ^ 1u << bit);
            must_refuse(f, &p, cols, "bank 0 has");
            mask[0] = (uint8_t)(mask[0] ^ 1u << bit);
        }
        kept = low[0];
        low[0] =
            (uint8_t)((unsigned)low[0] & ~((1u << f->low_bits) - 1u)) | (uint8_t)(1u << (f->low_bits - 1));
        must_refuse(f, &p, cols, "below the range");
        low[0] = kept;
    } else { /* the first element changes its kind */
        kept = low[0];
        low[0] = (uint8_t)((unsigned)low[0] & ~((1u << f->low_bits) - 1u));
        if (!lb_sq_is_high(f, codes[0]))
            low[0] |= (uint8_t)(1u << (f->low_bits - 1));
        must_refuse(f, &p, cols, "bank 0 has");
        low[0] = kept;
    }
    if (f->high_bits == 8) {
        uint8_t *high = part_named(&p, "high");
        kept = high[1];
        high[1] = 0x80;
        must_refuse(f, &p, cols, "is -128, outside");
        high[1] = 127;
        must_refuse(f, &p, cols, "is 127, outside");
        high[1] = kept;
    }
    lb_error err;
    assert_int_equal(f->ops->unpack(f, (const uint8_t *const *)p.data, cols, codes, params, &err), LB_OK);
    packed_free(&p);
}

static void broken_bytes(void **state)
{
    (void)state;
    each_format(check_broken);
}

/* Whatever the bytes are: an answer, and codes that are codes. */
static void check_noise(const lb_format *f, size_t index)
{
    uint8_t codes[MOST_COLS];
    float params[2 * MOST_COLS / 16];
    lb_rng rng;
    lb_error err;
    encode(f, f->group, index, codes, params);
    packed p = packed_row(f, f->group, codes, params);
    lb_rng_seed(&rng, index);
    for (int try = 0; try < 50; try++) {
        const unsigned part = (unsigned)lb_rng_below(&rng, p.count);
        p.data[part][lb_rng_below(&rng, p.parts[part].row_bytes)] = (uint8_t)lb_rng_below(&rng, 256);
        const lb_status st = f->ops->unpack(f, (const uint8_t *const *)p.data, f->group, codes, params, &err);
        assert_true(st == LB_OK || st == LB_EFORMAT);
    }
    packed_free(&p);
}

static void any_bytes(void **state)
{
    (void)state;
    each_format(check_noise);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_that_are_known),
        cmocka_unit_test(names_that_are_refused),
        cmocka_unit_test(widths_that_banks_do_not_divide),
        cmocka_unit_test(codes_of_two_kinds),
        cmocka_unit_test(exactly_so_many_are_high),
        cmocka_unit_test(scales_of_two_kinds),
        cmocka_unit_test(storage_bit_by_bit),
        cmocka_unit_test(broken_bytes),
        cmocka_unit_test(any_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
