/* SPDX-License-Identifier: MIT
 * Clipping: of the clamps that are tried, each group of each row gets one after which rounding changes the layer's
 * output the least, as a slow loop over tokens in double finds it. */
#include "near.h"

#include "base/alloc.h"
#include "base/rng.h"
#include "quantize/clip_weights.h"

enum { ROWS = 37, COLS = 160, TOKENS = 50 };

static float weights[ROWS * COLS], clipped[ROWS * COLS], inputs[TOKENS * COLS];

static void draw(uint64_t seed)
{
    lb_rng rng;
    lb_rng_seed(&rng, seed);
    for (size_t i = 0; i < ROWS * COLS; i++) {
        const double tail = lb_rng_below(&rng, 40) == 0 ? 4.0 : 1.0;
        weights[i] = (float)(tail * lb_rng_normal(&rng));
    }
    for (size_t i = 0; i < TOKENS * COLS; i++)
        inputs[i] = (float)(lb_rng_normal(&rng) * (1.0 + 3.0 * (double)(i % COLS % 7 == 0)));
}

/* What a group adds wrongly to the output when clamped to a share of its largest magnitude and rounded. */
static double loss(const lb_format *f, const float *w, const float *x, size_t n, float share)
{
    float held[COLS], params[LB_FORMAT_MAX_PARAMS], most = 0.0f;
    uint8_t codes[COLS];
    double total = 0.0;
    for (size_t i = 0; i < n; i++)
        most = fmaxf(most, fabsf(w[i]));
    for (size_t i = 0; i < n; i++)
        held[i] = fmaxf(fminf(w[i], share * most), -share * most);
    f->ops->fit(f, held, NULL, n, LB_FIT_RANGE, params);
    f->ops->round(f, params, held, n, codes);
    f->ops->value(f, params, codes, n, held);
    for (size_t t = 0; t < TOKENS; t++) {
        double sum = 0.0;
        for (size_t i = 0; i < n; i++)
            sum += (double)x[t * COLS + i] * ((double)w[i] - (double)held[i]);
        total += sum * sum;
    }
    return total;
}

static size_t check_group(const lb_format *f, const float *w, const float *got, const float *x, size_t n)
{
    double least = HUGE_VAL;
    float most = 0.0f, taken = 0.0f;
    for (int step = 0; step < 10; step++)
        least = fmin(least, loss(f, w, x, n, 1.0f - (float)step / 20.0f));
    for (size_t i = 0; i < n; i++) {
        most = fmaxf(most, fabsf(w[i]));
        taken = fmaxf(taken, fabsf(got[i]));
    }
    for (size_t i = 0; i < n; i++)
        assert_true(got[i] == fmaxf(fminf(w[i], taken), -taken));
    const int step = (int)lrintf(20.0f * (1.0f - taken / most));
    assert_true(step >= 0 && step < 10 && taken == (1.0f - (float)step / 20.0f) * most);
    assert_true(loss(f, w, x, n, 1.0f - (float)step / 20.0f) <= least * (1.0 + 1e-4));
    return step > 0;
}

static void the_best_clamp_is_taken(void **state)
{
    (void)state;
    static const char *const names[] = {"int4-g128", "int2-g64", "int3-row", "int4-g32-asym",
                                        "mxint4",    "nvfp4",    "bp2-g64",  "mxfp4"};
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        lb_format f;
        lb_error err;
        size_t changed = 0;
        draw(k + 1);
        memcpy(clipped, weights, sizeof weights);
        assert_int_equal(lb_format_parse(names[k], &f, &err), LB_OK);
        lb_format_bind(&f, weights, ROWS * COLS);
        assert_int_equal(lb_clip_weights(&f, inputs, TOKENS, clipped, ROWS, COLS, &err), LB_OK);
        for (size_t r = 0; r < ROWS; r++)
            for (size_t g = 0, at = 0; at < COLS; at += lb_format_group_size(&f, COLS, g++))
                changed += check_group(&f, weights + r * COLS + at, clipped + r * COLS + at, inputs + at,
                                       lb_format_group_size(&f, COLS, g));
        assert_true(changed > 0);
    }
}

static void zeros_stay_zeros(void **state)
{
    (void)state;
    lb_format f;
    lb_error err;
    assert_int_equal(lb_format_parse("int4-g32", &f, &err), LB_OK);
    memset(clipped, 0, sizeof clipped);
    assert_int_equal(lb_clip_weights(&f, inputs, TOKENS, clipped, ROWS, COLS, &err), LB_OK);
    for (size_t i = 0; i < ROWS * COLS; i++)
        assert_true(clipped[i] == 0.0f);
    lb_alloc_fail_at(1);
    assert_int_equal(lb_clip_weights(&f, inputs, TOKENS, clipped, ROWS, COLS, &err), LB_ENOMEM);
    lb_alloc_fail_at(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_best_clamp_is_taken),
        cmocka_unit_test(zeros_stay_zeros),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
