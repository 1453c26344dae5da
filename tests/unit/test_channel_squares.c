/* SPDX-License-Identifier: MIT
 * Mean squares of channels against plain sums, and as a Hessian has them. */
#include "near.h"

#include "base/rng.h"
#include "base/thread.h"
#include "calibrate/channel_squares.h"
#include "calibrate/hessian.h"

enum { TOKENS = 23, HIDDEN = 70, FFN = 150 };

static const lb_config config = {.hidden = HIDDEN, .ffn = FFN, .heads = 5, .kv_heads = 1, .head_dim = 16};

static void they_are_the_diagonal_of_the_hessian(void **state)
{
    (void)state;
    static float x[2][TOKENS * FFN];
    for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++) {
        const size_t n = lb_stage_width(&config, (lb_stage)stage);
        lb_rng rng;
        lb_error err;
        lb_hessian h;
        float want[FFN], largest = 0.0f;
        lb_rng_seed(&rng, stage);
        for (size_t k = 0; k < 2; k++)
            for (size_t i = 0; i < TOKENS * n; i++)
                x[k][i] = i % n == 7 ? 0.0f : (float)(lb_rng_normal(&rng) * (1.0 + (double)(i % n)));
        assert_int_equal(lb_hessian_create(n, false, &h, &err), LB_OK);
        for (size_t k = 0; k < 2; k++)
            lb_hessian_add(&h, x[k], NULL, TOKENS);
        lb_hessian_finish(&h);
        lb_hessian_importance(&h, want);
        for (size_t i = 0; i < n; i++)
            largest = want[i] > largest ? want[i] : largest;
        for (size_t i = 0; i < n; i++)
            want[i] /= largest;
        for (unsigned threads = 1; threads <= 3; threads++) {
            lb_channel_squares squares;
            lb_thread_set_count(threads);
            assert_int_equal(lb_channel_squares_create(&config, &squares, &err), LB_OK);
            for (size_t k = 0; k < 2; k++)
                lb_channel_squares_add(&squares, (lb_stage)stage, x[k], TOKENS);
            near_array(lb_channel_squares_importance(&squares, (lb_stage)stage), want, n, 1e-6);
            lb_channel_squares_free(&squares);
        }
        lb_thread_set_count(0);
        lb_hessian_free(&h);
    }
}

static void nothing_seen_is_all_alike(void **state)
{
    (void)state;
    lb_channel_squares squares;
    assert_int_equal(lb_channel_squares_create(&config, &squares, NULL), LB_OK);
    const float *importance = lb_channel_squares_importance(&squares, LB_STAGE_O);
    for (size_t i = 0; i < 80; i++)
        assert_true(importance[i] == 1.0f);
    lb_channel_squares_free(&squares);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(they_are_the_diagonal_of_the_hessian),
        cmocka_unit_test(nothing_seen_is_all_alike),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
