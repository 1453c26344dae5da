/* SPDX-License-Identifier: MIT
 * Every available level's kernels of bit planes against slow obvious versions. */
#include "kernels/kernel_tables.h"
#include "kernels/lookup_cases.h"

#include "base/thread.h"

static void shapes(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 1);
    check_lookup_shapes(&rng, tables, table_count, false);
}

static void extremes(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 2);
    check_lookup_extremes(&rng, tables, table_count);
}

static void strange_activations(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 3);
    check_lookup_strange(&rng, tables, table_count);
}

static void ties_go_to_even(void **state)
{
    (void)state;
    check_lookup_ties(tables, table_count);
}

/* Setting a row again replaces it and leaves the others of its panel alone. */
static void rows_can_be_set_again(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 4);
    lookup_case q;
    lookup_create(&q, &rng, 70, 130, "bp3-g64", LOOKUP_RANDOM);
    for (size_t c = 0; c < q.cols; c++)
        q.codes[7 * q.cols + c] = (uint8_t)lb_rng_below(&rng, 8);
    for (size_t i = 0; i < q.groups * 4; i++)
        q.params[7 * q.groups * 4 + i] = (float)lb_rng_below(&rng, 100);
    lb_qmat_set_encoded(q.matrix, 7, q.codes + 7 * q.cols, q.params + 7 * q.groups * 4);
    check_lookup_dequantize(&q, lb_kernels_get(LB_CPU_REF), 0, q.rows);
    lookup_destroy(&q);
}

/* A vector's tables are made anew when it is set again, and a vector made by a format has none. */
static void a_vector_can_be_set_again(void **state)
{
    (void)state;
    const lb_kernels *kernels = lb_kernels_get(LB_CPU_BEST);
    lb_format act;
    lb_rng rng;
    lb_rng_seed(&rng, 5);
    lookup_case q;
    lookup_create(&q, &rng, 70, 300, "bp2-g64", LOOKUP_RANDOM);
    check_lookup_times(&q, kernels);
    for (size_t c = 0; c < q.cols; c++)
        q.x[c] *= -3.0f;
    check_lookup_times(&q, kernels);
    assert_true(lb_qmat_takes(q.matrix, q.vector));
    assert_int_equal(lb_format_parse("mxint8", &act, NULL), LB_OK);
    assert_true(lb_qvec_set_format(kernels, q.vector, &act, q.x, 1, q.cols));
    assert_false(lb_qmat_takes(q.matrix, q.vector));
    check_lookup_times(&q, kernels);
    lookup_destroy(&q);
}

/* Several vectors give what each gives alone, of planes and of integers, however they are rounded. */
static void vectors_share_a_product(void **state)
{
    (void)state;
    enum { COUNT = 5, ROWS = 150, COLS = 333 };
    static const char *const formats[] = {"bp2-g64", "bp3-row", "int2-g32-asym", "mxfp4"};
    static float x[COUNT * COLS], y[COUNT * ROWS], alone[ROWS], w[COLS];
    const lb_kernels *kernels = lb_kernels_get(LB_CPU_BEST);
    lb_qvec *all = NULL, *one = NULL;
    lb_format nvint4;
    lb_rng rng;
    lb_rng_seed(&rng, 8);
    assert_int_equal(lb_qvec_create(COUNT + 1, COLS + 40, &all, NULL), LB_OK);
    assert_int_equal(lb_qvec_create(1, COLS, &one, NULL), LB_OK);
    assert_int_equal(lb_format_parse("nvint4", &nvint4, NULL), LB_OK);
    for (size_t i = 0; i < COUNT * COLS; i++)
        x[i] = (float)lb_rng_normal(&rng);
    for (size_t f = 0; f < sizeof formats / sizeof *formats; f++) {
        lb_format format;
        lb_qmat *matrix = NULL;
        uint8_t codes[COLS];
        float params[COLS];
        assert_int_equal(lb_format_parse(formats[f], &format, NULL), LB_OK);
        assert_int_equal(lb_qmat_create_format(ROWS, COLS, &format, &matrix, NULL), LB_OK);
        for (size_t r = 0; r < ROWS; r++) {
            for (size_t c = 0; c < COLS; c++)
                w[c] = (float)lb_rng_normal(&rng);
            lb_format_encode_row(&format, w, NULL, COLS, LB_FIT_RANGE, codes, params);
            lb_qmat_set_encoded(matrix, r, codes, params);
        }
        for (int rounded = 0; rounded < (format.bits == 2 && format.params == 2 ? 2 : 1); rounded++) {
            if (rounded)
                assert_true(lb_qvec_set_format(kernels, all, &nvint4, x, COUNT, COLS));
            else
                lb_qvec_set(kernels, all, x, COUNT, COLS);
            memset(y, 0xff, sizeof y);
            lb_qmat_times(kernels, matrix, all, y);
            for (size_t i = 0; i < COUNT; i++) {
                if (rounded)
                    assert_true(lb_qvec_set_format(kernels, one, &nvint4, x + i * COLS, 1, COLS));
                else
                    lb_qvec_set(kernels, one, x + i * COLS, 1, COLS);
                lb_qmat_times(kernels, matrix, one, alone);
                assert_memory_equal(y + i * ROWS, alone, sizeof alone);
            }
        }
        lb_qmat_destroy(matrix);
    }
    lb_qvec_destroy(all);
    lb_qvec_destroy(one);
}

static void threads_change_nothing(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 6);
    lookup_case q;
    lookup_create(&q, &rng, 1500, 1000, "bp2-g128", LOOKUP_RANDOM);
    const lb_kernels *kernels = lb_kernels_get(LB_CPU_BEST);
    float y[1500];
    lb_qvec_set(kernels, q.vector, q.x, 1, q.cols);
    lb_thread_set_count(1);
    lb_qmat_times(kernels, q.matrix, q.vector, y);
    for (unsigned threads = 2; threads <= 4; threads++) {
        float again[1500] = {0};
        lb_thread_set_count(threads);
        lb_qmat_times(kernels, q.matrix, q.vector, again);
        assert_memory_equal(y, again, sizeof y);
    }
    lb_thread_set_count(0);
    lookup_destroy(&q);
}

static void bytes_are_counted(void **state)
{
    (void)state;
    lb_qmat *matrix = NULL;
    lb_format format;
    assert_int_equal(lb_format_parse("bp3-g64", &format, NULL), LB_OK);
    /* 2 panels of 64 rows, 7 units of 16 columns, 2 groups. */
    assert_int_equal(lb_qmat_create_format(65, 100, &format, &matrix, NULL), LB_OK);
    assert_int_equal(lb_qmat_bytes(matrix), 2 * (7 * 64 * 16 * 3 / 8 + 2 * 4 * 64 * 2));
    lb_qmat_destroy(matrix);
}

static void wrong_shapes_and_lack_of_memory_are_answers(void **state)
{
    (void)state;
    lb_qmat *matrix = NULL;
    lb_format format;
    lb_error err;
    assert_int_equal(lb_format_parse("bp2-row", &format, NULL), LB_OK);
    assert_int_equal(lb_qmat_create_format(0, 8, &format, &matrix, &err), LB_EINVAL);
    assert_int_equal(lb_qmat_create_format(8, 0, &format, &matrix, &err), LB_EINVAL);
    assert_int_equal(lb_qmat_create_format(SIZE_MAX, 1, &format, &matrix, &err), LB_ENOMEM);
    assert_int_equal(lb_qmat_create_format(SIZE_MAX / 64, 8, &format, &matrix, &err), LB_ENOMEM);
    assert_int_equal(lb_qmat_create_format(SIZE_MAX / 8, SIZE_MAX / 8, &format, &matrix, &err), LB_ENOMEM);
    for (size_t k = 1; k <= 3; k++) {
        lb_alloc_fail_at(k);
        assert_int_equal(lb_qmat_create_format(20, 40, &format, &matrix, &err), LB_ENOMEM);
    }
    lb_alloc_fail_at(0);
    assert_null(matrix);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes),
        cmocka_unit_test(extremes),
        cmocka_unit_test(strange_activations),
        cmocka_unit_test(ties_go_to_even),
        cmocka_unit_test(rows_can_be_set_again),
        cmocka_unit_test(a_vector_can_be_set_again),
        cmocka_unit_test(vectors_share_a_product),
        cmocka_unit_test(threads_change_nothing),
        cmocka_unit_test(bytes_are_counted),
        cmocka_unit_test(wrong_shapes_and_lack_of_memory_are_answers),
    };
    return cmocka_run_group_tests(tests, find_tables, NULL);
}
