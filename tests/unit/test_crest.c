/* SPDX-License-Identifier: MIT
 * Crest factors of blocks, against all of them in a sorted array. */
#include "near_value.h"

#include <stdlib.h>

#include "analyze/crest.h"
#include "base/rng.h"
#include "base/thread.h"

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Of a block, by its definition; 0: all zeros. */
static double crest_of(const float *x, size_t n)
{
    double largest = 0.0, square = 0.0;
    for (size_t i = 0; i < n; i++) {
        largest = fmax(largest, fabs((double)x[i]));
        square += (double)x[i] * (double)x[i];
    }
    return square > 0.0 ? largest / sqrt(square / (double)n) : 0.0;
}

static void check_quartile(double got, const double *sorted, size_t count, double share)
{
    const double want = sorted[(size_t)(share * (double)(count - 1))];
    if (fabs(got - want) > 2e-4 * want)
        fail_msg("quartile %g: %.6f, want %.6f", share, got, want);
}

static void compare(size_t rows, size_t cols, size_t block, uint64_t seed)
{
    const size_t width = block ? block : cols;
    float *x = malloc(rows * cols * sizeof *x);
    double *all = malloc(rows * (cols / width + 1) * sizeof *all), sum = 0.0;
    size_t count = 0;
    lb_rng rng;
    lb_crest *crest;
    lb_rng_seed(&rng, seed);
    for (size_t i = 0; i < rows * cols; i++) /* every fifth block of 16 is zero */
        x[i] = i / 16 % 5 == 0 ? 0.0f : (float)pow(lb_rng_normal(&rng), 3.0);
    assert_int_equal(lb_crest_create(block, &crest, NULL), LB_OK);
    assert_int_equal(lb_crest_add(crest, x, rows / 2, cols, NULL), LB_OK); /* in two parts */
    assert_int_equal(lb_crest_add(crest, x + rows / 2 * cols, rows - rows / 2, cols, NULL), LB_OK);
    for (size_t r = 0; r < rows; r++) {
        for (size_t at = 0; at < cols; at += width) {
            const double c = crest_of(x + r * cols + at, cols - at < width ? cols - at : width);
            if (c > 0.0) {
                all[count++] = c;
                sum += c;
            }
        }
    }
    qsort(all, count, sizeof *all, by_size);
    const lb_crest_summary s = lb_crest_summarize(crest);
    assert_int_equal(s.blocks, count);
    if (count > 0) {
        near_value(s.min, all[0], 1e-12);
        near_value(s.max, all[count - 1], 1e-12);
        near_value(s.mean, sum / (double)count, 1e-12);
        check_quartile(s.q1, all, count, 0.25);
        check_quartile(s.median, all, count, 0.5);
        check_quartile(s.q3, all, count, 0.75);
    }
    lb_crest_destroy(crest);
    free(x);
    free(all);
}

static void against_sorting(void **state)
{
    (void)state;
    compare(50, 256, 32, 1);
    compare(33, 100, 16, 2); /* a short last block */
    compare(200, 31, 32, 3); /* only short ones */
    compare(17, 640, 0, 4); /* rows */
    compare(70000, 16, 16, 5); /* more than one slab */
    compare(1, 1, 32, 6); /* a block of one zero */
    compare(1, 17, 16, 7); /* zeros, and one value */
}

/* A fine format: where every block has one crest factor, the theory is that of the crest factor; where blocks
 * differ, noise is added in proportion to energy. */
static void theory_of_blocks(void **state)
{
    (void)state;
    lb_format f;
    lb_crest *crest;
    float x[2][32];
    assert_int_equal(lb_format_parse("mxint8", &f, NULL), LB_OK);
    for (int i = 0; i < 32; i++) {
        x[0][i] = i == 3 ? -4.0f : 1.0f;
        x[1][i] = i == 5 ? 6.0f : i % 2 ? 2.0f : -2.5f;
    }
    double noise = 0.0, energy = 0.0;
    assert_int_equal(lb_crest_create(32, &crest, NULL), LB_OK);
    assert_true(isnan(lb_crest_theory(crest, LB_THEORY_GRID, &f)));
    for (int b = 0; b < 2; b++) {
        double square = 0.0;
        for (int i = 0; i < 32; i++)
            square += (double)x[b][i] * (double)x[b][i];
        energy += square;
        noise += square * pow(10.0, -lb_theory_qsnr(LB_THEORY_GRID, &f, crest_of(x[b], 32), 32) / 10.0);
        assert_int_equal(lb_crest_add(crest, x[b], 1, 32, NULL), LB_OK);
        near_value(lb_crest_theory(crest, LB_THEORY_GRID, &f), 10.0 * log10(energy / noise), 0.01);
    }
    near_value(lb_crest_theory(crest, LB_THEORY_PAPER, &f),
               lb_theory_qsnr(LB_THEORY_PAPER, &f, lb_crest_summarize(crest).mean, 32), 1e-12);
    assert_int_equal(lb_format_parse("bf16", &f, NULL), LB_OK);
    assert_true(isnan(lb_crest_theory(crest, LB_THEORY_GRID, &f)));
    lb_crest_destroy(crest);
}

/* Blocks of one value only and of equal values are at the ends of what is possible. */
static void ends_of_the_range(void **state)
{
    (void)state;
    lb_format f;
    lb_crest *crest;
    float x[2][32] = {{0.0f}};
    x[0][7] = -3.0f;
    for (int i = 0; i < 32; i++)
        x[1][i] = i % 2 ? 1.5f : -1.5f;
    assert_int_equal(lb_format_parse("mxfp4", &f, NULL), LB_OK);
    assert_int_equal(lb_crest_create(32, &crest, NULL), LB_OK);
    assert_int_equal(lb_crest_add(crest, x[0], 2, 32, NULL), LB_OK);
    const lb_crest_summary s = lb_crest_summarize(crest);
    near_value(s.min, 1.0, 1e-12);
    near_value(s.max, sqrt(32.0), 1e-12);
    assert_true(isfinite(lb_crest_theory(crest, LB_THEORY_GRID, &f)));
    lb_crest_destroy(crest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(against_sorting),
        cmocka_unit_test(theory_of_blocks),
        cmocka_unit_test(ends_of_the_range),
    };
    return cmocka_run_group_tests_name("crest", tests, NULL, NULL);
}
