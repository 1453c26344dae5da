/* SPDX-License-Identifier: MIT
 * Every available level's products of matrices in SQ-format against slow obvious versions. */
#include "kernels/kernel_tables.h"
#include "kernels/sq_cases.h"

#include "base/thread.h"

static void shapes(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 1);
    check_sq_shapes(&rng, tables, table_count, lb_kernels_get(LB_CPU_REF), false);
}

/* Setting a row again, with its high elements elsewhere, replaces it and leaves the others of its panel alone. */
static void rows_can_be_set_again(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 2);
    sq_case q;
    sq_create(&q, &rng, 20, 512, "sq8/4-b128-s0.875", SQ_CLUSTERED);
    for (size_t bank = 0; bank < q.banks; bank++)
        sq_fill_bank(&q.format, &rng, SQ_RANDOM, q.codes + 7 * q.cols + bank * 128);
    lb_qmat_set_encoded(q.matrix, 7, q.codes + 7 * q.cols, q.params + 7 * q.banks * LB_SQ_PARAMS);
    for (size_t t = 0; t < table_count; t++) {
        check_sq_times(&q, tables[t], tables[t]);
        check_sq_dequantize(&q, tables[t], 0, q.rows);
    }
    sq_destroy(&q);
}

static void threads_change_nothing(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 3);
    sq_case q;
    sq_create(&q, &rng, 1500, 1024, "sq8/3-b64-s0.875", SQ_RANDOM);
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
    sq_destroy(&q);
}

static void bytes_are_counted(void **state)
{
    (void)state;
    lb_qmat *matrix = NULL;
    lb_format format;
    /* 2 panels of 16 rows, 3 banks of 64 with 8 high elements, which are 2 quads and lie in 2 parts. */
    assert_int_equal(lb_format_parse("sq8/4-b64-s0.875", &format, NULL), LB_OK);
    assert_int_equal(lb_qmat_create_format(17, 192, &format, &matrix, NULL), LB_OK);
    assert_int_equal(lb_qmat_bytes(matrix), 2 * (16 * 192 / 2 + 3 * (2 * 16 * 2 + 2 * 128 + 2 * 2)));
    assert_int_equal(lb_qmat_rows(matrix), 17);
    assert_int_equal(lb_qmat_cols(matrix), 192);
    lb_qmat_destroy(matrix);
}

static void wrong_shapes_and_lack_of_memory_are_answers(void **state)
{
    (void)state;
    lb_qmat *matrix = NULL;
    lb_format format;
    lb_error err;
    assert_int_equal(lb_format_parse("sq8/4-b64-s0.875", &format, NULL), LB_OK);
    assert_int_equal(lb_qmat_create_format(16, 352, &format, &matrix, &err), LB_EINVAL);
    assert_non_null(strstr(err.msg, "banks of 32 do"));
    assert_int_equal(lb_qmat_create_format(0, 64, &format, &matrix, &err), LB_EINVAL);
    assert_int_equal(lb_qmat_create_format(16, 0, &format, &matrix, &err), LB_EINVAL);
    assert_int_equal(lb_qmat_create_format(SIZE_MAX / 8, 64, &format, &matrix, &err), LB_ENOMEM);
    for (size_t k = 1; k <= 7; k++) {
        lb_alloc_fail_at(k);
        assert_int_equal(lb_qmat_create_format(20, 64, &format, &matrix, &err), LB_ENOMEM);
    }
    lb_alloc_fail_at(0);
    assert_null(matrix);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes),
        cmocka_unit_test(rows_can_be_set_again),
        cmocka_unit_test(threads_change_nothing),
        cmocka_unit_test(bytes_are_counted),
        cmocka_unit_test(wrong_shapes_and_lack_of_memory_are_answers),
    };
    return cmocka_run_group_tests(tests, find_tables, NULL);
}
