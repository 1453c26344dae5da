/* SPDX-License-Identifier: MIT
 * Rows of integers times matrices at every level of this machine. */
#include "kernels/kernel_tables.h"
#include "kernels/qrows_cases.h"

#include "base/thread.h"

static void shapes(void **state)
{
    (void)state;
    check_rows_shapes(tables, table_count);
}

/* The largest sums that there can be: all of one sign, in as many columns as are allowed. */
static void sums_do_not_overflow(void **state)
{
    (void)state;
    enum { COLS = LB_QROWS_MOST_COLS };
    lb_error err = {LB_OK, ""};
    lb_qmat *matrix;
    lb_qrows *rows;
    lb_format f;
    const float scale = 1.0f, zero = 0.0f;
    float y[16];
    uint8_t *codes = lb_alloc(COLS, 1);
    float *x = lb_alloc(COLS, sizeof *x);
    assert_true(codes && x);
    memset(codes, 255, COLS);
    for (size_t i = 0; i < COLS; i++)
        x[i] = -128.0f;
    assert_int_equal(lb_qmat_create(16, COLS, 8, 0, false, &matrix, &err), LB_OK);
    for (size_t r = 0; r < 16; r++)
        lb_qmat_set_row(matrix, r, codes, &scale, &zero);
    assert_int_equal(lb_format_parse("int8-row", &f, &err), LB_OK);
    const lb_row_parts parts = {.formats = {&f, &f}};
    assert_int_equal(lb_qrows_create(&rows, &err), LB_OK);
    assert_int_equal(lb_qrows_set(rows, &parts, x, 1, COLS, &err), LB_OK);
    for (unsigned level = LB_CPU_REF; level <= LB_CPU_BEST; level++) {
        lb_qmat_times_rows(lb_kernels_get((lb_cpu_level)level), matrix, rows, y);
        for (size_t r = 0; r < 16; r++)
            assert_true((double)y[r] == (double)(float)(-255.0 * 128.0 * COLS));
    }
    lb_qmat_destroy(matrix);
    lb_qrows_destroy(rows);
    lb_free(codes);
    lb_free(x);
}

static void threads_and_batches_change_nothing(void **state)
{
    (void)state;
    enum { ROWS = 500, COLS = 700, COUNT = 150 };
    lb_rng rng;
    qmat_case q;
    rows_case r;
    lb_error err = {LB_OK, ""};
    static float y[COUNT * ROWS], again[COUNT * ROWS];
    lb_rng_seed(&rng, 52);
    case_create(&q, &rng, ROWS, COLS, 4, 128, true, WEIGHTS_RANDOM);
    rows_create(&r, &rng, "int8-row", "int4-row", 100, COUNT, COLS, false);
    const lb_kernels *kernels = lb_kernels_get(LB_CPU_BEST);
    lb_thread_set_count(1);
    lb_qmat_times_rows(kernels, q.matrix, r.rows, y);
    lb_thread_set_count(3);
    lb_qmat_times_rows(kernels, q.matrix, r.rows, again);
    assert_memory_equal(y, again, sizeof y);
    const lb_row_parts parts = {.formats = {&r.formats[0], &r.formats[1]}, .split = 100};
    for (size_t t = 0; t < COUNT; t += 49) { /* alone, in memory that held more */
        assert_int_equal(lb_qrows_set(r.rows, &parts, r.x + t * COLS, 1, COLS, &err), LB_OK);
        lb_qmat_times_rows(kernels, q.matrix, r.rows, again);
        assert_memory_equal(y + t * ROWS, again, ROWS * sizeof *y);
    }
    lb_thread_set_count(0);
    rows_destroy(&r);
    case_destroy(&q);
}

static void strange_numbers_are_not_hidden(void **state)
{
    (void)state;
    lb_rng rng;
    qmat_case q;
    rows_case r;
    lb_error err = {LB_OK, ""};
    float y[3 * 20];
    lb_rng_seed(&rng, 53);
    case_create(&q, &rng, 20, 70, 8, 0, true, WEIGHTS_RANDOM);
    rows_create(&r, &rng, "int8-row", "int4-row", 10, 3, 70, false);
    r.x[70 + 5] = NAN;
    r.x[140 + 69] = -INFINITY;
    const lb_row_parts parts = {.formats = {&r.formats[0], &r.formats[1]}, .split = 10};
    assert_int_equal(lb_qrows_set(r.rows, &parts, r.x, 3, 70, &err), LB_OK);
    lb_qmat_times_rows(lb_kernels_get(LB_CPU_BEST), q.matrix, r.rows, y);
    for (size_t i = 0; i < 60; i++)
        assert_true(i < 20 ? isfinite(y[i]) : isnan(y[i]));
    lb_alloc_fail_at(1);
    assert_int_equal(lb_qrows_set(r.rows, &parts, r.x, 3, 7000, &err), LB_ENOMEM);
    lb_alloc_fail_at(0);
    lb_format other;
    static const char *const refused[] = {"int8-g32", "int8-row-asym", "mxint8", "bp4-row", "f16"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        assert_int_equal(lb_format_parse(refused[i], &other, &err), LB_OK);
        assert_false(lb_qrows_takes(&other));
    }
    rows_destroy(&r);
    case_destroy(&q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes),
        cmocka_unit_test(sums_do_not_overflow),
        cmocka_unit_test(threads_and_batches_change_nothing),
        cmocka_unit_test(strange_numbers_are_not_hidden),
    };
    return cmocka_run_group_tests(tests, find_tables, NULL);
}
