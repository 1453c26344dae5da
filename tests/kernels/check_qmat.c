/* SPDX-License-Identifier: MIT
 * Every available level's matrix kernels against slow obvious versions. */
#include "kernels/qmat_cases.h"

#include <float.h>

#include "base/thread.h"

/* The table of exactly this level, or NULL where the machine or the build has none. */
static const lb_kernels *exact_level(unsigned level)
{
    const lb_kernels *kernels = lb_kernels_get((lb_cpu_level)level);
    return (unsigned)kernels->level == level ? kernels : NULL;
}

static void check_case(qmat_case *q, lb_rng *rng, vector_kind kind)
{
    case_set_vector(q, rng, lb_kernels_get(LB_CPU_REF), kind);
    for (unsigned level = LB_CPU_REF; level <= LB_CPU_BEST; level++)
        if (exact_level(level))
            check_times(q, exact_level(level));
}

static const size_t GROUPS[] = {32, 64, 128, 256, 0};
enum { GROUP_COUNT = sizeof GROUPS / sizeof *GROUPS };

static void shapes(void **state)
{
    (void)state;
    const size_t rows[] = {1, 15, 16, 17, 100}, cols[] = {1, 31, 32, 33, 352, 576, 577};
    lb_rng rng;
    lb_rng_seed(&rng, 1);
    for (unsigned bits = 2; bits <= 8; bits++) {
        for (unsigned i = 0; i < 2 * GROUP_COUNT * 5 * 7; i++) {
            size_t group = GROUPS[i / 2 % GROUP_COUNT], r = rows[i / 2 / GROUP_COUNT % 5];
            size_t c = cols[i / 2 / GROUP_COUNT / 5];
            qmat_case q;
            case_create(&q, &rng, r, c, bits, group, i % 2 == 0, WEIGHTS_RANDOM);
            check_case(&q, &rng, VECTOR_RANDOM);
            size_t first = lb_rng_below(&rng, r), count = 1 + lb_rng_below(&rng, r - first);
            for (unsigned level = LB_CPU_REF; level <= LB_CPU_BEST; level++) {
                if (!exact_level(level))
                    continue;
                check_dequantize(&q, exact_level(level), 0, r);
                check_dequantize(&q, exact_level(level), first, count);
            }
            case_destroy(&q);
        }
    }
}

static void extremes(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 2);
    for (unsigned bits = 2; bits <= 8; bits++) {
        for (unsigned i = 0; i < 2 * WEIGHTS_KINDS * VECTOR_KINDS; i++) {
            qmat_case q;
            weights_kind weights = (weights_kind)(i / 2 / VECTOR_KINDS);
            case_create(&q, &rng, 33, 300, bits, 64, i % 2 == 0, weights);
            check_case(&q, &rng, (vector_kind)(i / 2 % VECTOR_KINDS));
            case_destroy(&q);
        }
    }
}

/* Setting a row again replaces it and leaves the other fifteen of its block alone. */
static void rows_can_be_set_again(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 3);
    for (unsigned bits = 2; bits <= 8; bits++) {
        qmat_case q;
        case_create(&q, &rng, 20, 70, bits, 32, false, WEIGHTS_RANDOM);
        for (size_t c = 0; c < q.cols; c++)
            q.codes[7 * q.cols + c] = (uint8_t)lb_rng_below(&rng, 1u << bits);
        for (size_t g = 0; g < q.groups; g++)
            q.zeros[7 * q.groups + g] = (float)lb_rng_below(&rng, 1u << bits);
        lb_qmat_set_row(q.matrix, 7, q.codes + 7 * q.cols, q.scales + 7 * q.groups, q.zeros + 7 * q.groups);
        check_dequantize(&q, lb_kernels_get(LB_CPU_REF), 0, q.rows);
        case_destroy(&q);
    }
}

static void threads_change_nothing(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 4);
    for (unsigned bits = 2; bits <= 8; bits += 3) {
        qmat_case q;
        case_create(&q, &rng, 1000, 1100, bits, 128, false, WEIGHTS_RANDOM);
        case_set_vector(&q, &rng, lb_kernels_get(LB_CPU_REF), VECTOR_RANDOM);
        const lb_kernels *kernels = lb_kernels_get(LB_CPU_BEST);
        float y[1000];
        lb_thread_set_count(1);
        lb_qmat_times(kernels, q.matrix, q.vector, y);
        for (unsigned threads = 2; threads <= 4; threads++) {
            float again[1000] = {0};
            lb_thread_set_count(threads);
            lb_qmat_times(kernels, q.matrix, q.vector, again);
            assert_memory_equal(y, again, sizeof y);
        }
        check_times(&q, kernels);
        lb_thread_set_count(0);
        case_destroy(&q);
    }
}

static void bytes_are_counted(void **state)
{
    (void)state;
    lb_qmat *matrix = NULL;
    /* 3 blocks of 16 rows, 4 blocks of 32 columns, 2 groups. */
    assert_int_equal(lb_qmat_create(33, 100, 3, 64, true, &matrix, NULL), LB_OK);
    assert_int_equal(lb_qmat_bytes(matrix), 3 * 4 * (16 * 32 * 3 / 8) + 3 * 2 * 16 * 2);
    assert_int_equal(lb_qmat_rows(matrix), 33);
    assert_int_equal(lb_qmat_cols(matrix), 100);
    lb_qmat_destroy(matrix);
    assert_int_equal(lb_qmat_create(33, 100, 3, 64, false, &matrix, NULL), LB_OK);
    assert_int_equal(lb_qmat_bytes(matrix), 3 * 4 * (16 * 32 * 3 / 8) + 3 * 2 * 16 * 3);
    lb_qmat_destroy(matrix);
    lb_qmat_destroy(NULL);
    lb_qvec_destroy(NULL);
}

static void wrong_shapes_are_refused(void **state)
{
    (void)state;
    const struct {
        size_t rows, cols, group;
        unsigned bits;
        lb_status want;
    } rows[] = {
        {0, 8, 0, 4, LB_EINVAL},
        {8, 0, 0, 4, LB_EINVAL},
        {8, 8, 0, 1, LB_EINVAL},
        {8, 8, 0, 9, LB_EINVAL},
        {8, 8, 48, 4, LB_EINVAL},
        {SIZE_MAX, 1, 0, 4, LB_ENOMEM},
        {1, SIZE_MAX, 0, 4, LB_ENOMEM},
        {SIZE_MAX / 8, SIZE_MAX / 8, 0, 4, LB_ENOMEM},
        {SIZE_MAX / 64, 1, 0, 8, LB_ENOMEM},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        lb_error err = {LB_OK, ""};
        lb_qmat *matrix = NULL;
        assert_int_equal(
            lb_qmat_create(rows[i].rows, rows[i].cols, rows[i].bits, rows[i].group, true, &matrix, &err),
            rows[i].want);
        assert_null(matrix);
        assert_true(err.msg[0] != '\0');
    }
}

static void lack_of_memory_is_an_answer(void **state)
{
    (void)state;
    lb_error err;
    lb_qmat *matrix = NULL;
    lb_qvec *vector = NULL;
    for (size_t k = 1; k <= 4; k++) {
        lb_alloc_fail_at(k);
        assert_int_equal(lb_qmat_create(20, 40, 4, 32, false, &matrix, &err), LB_ENOMEM);
        assert_null(matrix);
    }
    for (size_t k = 1; k <= 8; k++) {
        lb_alloc_fail_at(k);
        assert_int_equal(lb_qvec_create(1, 40, &vector, &err), LB_ENOMEM);
        assert_null(vector);
    }
    lb_alloc_fail_at(0);
}

/* ---- The 8-bit vector ---------------------------------------------------------------------------- */

static void check_encoded(const float *x, size_t cols)
{
    const lb_kernels *ref = lb_kernels_get(LB_CPU_REF);
    lb_qvec *want = NULL, *got = NULL;
    assert_int_equal(lb_qvec_create(1, cols, &want, NULL), LB_OK);
    assert_int_equal(lb_qvec_create(1, cols, &got, NULL), LB_OK);
    lb_qvec_set(ref, want, x, 1, cols);
    size_t blocks = (cols + 31) / 32;
    for (size_t b = 0; b < blocks; b++) {
        double largest = 0.0;
        int32_t sums[2] = {0, 0};
        for (size_t c = b * 32; c < cols && c < b * 32 + 32; c++)
            if (fabs((double)x[c]) > largest)
                largest = fmin(fabs((double)x[c]), (double)FLT_MAX);
        float scale = (float)(largest / 127.0);
        if (!(scale >= FLT_MIN))
            scale = 0.0f;
        assert_true(want->scales[2 * b] == scale && want->scales[2 * b + 1] == scale);
        for (size_t c = b * 32; c < b * 32 + 32; c++) {
            double exact = c < cols && scale > 0.0f && !isnan(x[c]) ? (double)x[c] / (double)scale : 0.0;
            exact = fmax(-127.0, fmin(127.0, exact));
            sums[c / 16 % 2] += want->codes[c];
            /* A multiplication by the rounded inverse may move a tie by 2 roundings. */
            if (!(fabs(want->codes[c] - exact) <= 0.5 + 127.0 * 0x1p-22))
                fail_msg("entry %zu: %g is %g steps, got code %d", c, (double)x[c], exact, want->codes[c]);
        }
        assert_int_equal(want->code_sums[2 * b], sums[0]);
        assert_int_equal(want->code_sums[2 * b + 1], sums[1]);
        assert_true(want->sums[b] == scale * (float)(sums[0] + sums[1]));
    }
    for (unsigned level = LB_CPU_REF + 1; level <= LB_CPU_BEST; level++) {
        if (!exact_level(level))
            continue;
        lb_qvec_set(exact_level(level), got, x, 1, cols);
        assert_memory_equal(got->codes, want->codes, blocks * 32);
        assert_memory_equal(got->scales, want->scales, 2 * blocks * sizeof *want->scales);
        assert_memory_equal(got->sums, want->sums, blocks * sizeof *want->sums);
        assert_memory_equal(got->code_sums, want->code_sums, 2 * blocks * sizeof *want->code_sums);
    }
    lb_qvec_destroy(want);
    lb_qvec_destroy(got);
}

static void vectors(void **state)
{
    (void)state;
    enum { MOST = 600 };
    float x[MOST];
    lb_rng rng;
    lb_rng_seed(&rng, 5);
    for (unsigned round = 0; round < 400; round++) {
        double size = ldexp(1.0, (int)lb_rng_below(&rng, 250) - 130);
        for (size_t i = 0; i < MOST; i++)
            x[i] = (float)(size * lb_rng_normal(&rng));
        check_encoded(x, 1 + lb_rng_below(&rng, MOST));
    }
}

static void ties_go_to_even(void **state)
{
    (void)state;
    float x[32] = {127.0f, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 125.5f, 126.5f, -127.0f};
    const int8_t want[32] = {127, 0, 2, 2, 0, -2, -2, 126, 126, -127};
    lb_qvec *vector = NULL;
    assert_int_equal(lb_qvec_create(1, 32, &vector, NULL), LB_OK);
    for (unsigned level = LB_CPU_REF; level <= LB_CPU_BEST; level++) {
        lb_qvec_set(lb_kernels_get((lb_cpu_level)level), vector, x, 1, 32);
        assert_true(vector->scales[0] == 1.0f);
        assert_memory_equal(vector->codes, want, 32);
    }
    lb_qvec_destroy(vector);
}

static void strange_numbers(void **state)
{
    (void)state;
    const float strange[] = {0.0f,     -0.0f,   NAN,       -NAN,      INFINITY, -INFINITY, FLT_MAX,
                             -FLT_MAX, FLT_MIN, 0x1p-149f, 0x1p-130f, 1.0f,     -3.0f,     FLT_MIN * 127.0f};
    enum { KINDS = sizeof strange / sizeof *strange };
    float x[96];
    lb_rng rng;
    lb_rng_seed(&rng, 6);
    for (unsigned i = 0; i < KINDS; i++) {
        for (size_t c = 0; c < 96; c++)
            x[c] = strange[i];
        check_encoded(x, 96);
        check_encoded(x, 33);
    }
    for (unsigned round = 0; round < 500; round++) {
        for (size_t c = 0; c < 96; c++)
            x[c] = strange[lb_rng_below(&rng, KINDS)];
        check_encoded(x, 95);
    }
}

/* ---- The table ----------------------------------------------------------------------------------- */

static void tables_are_full(void **state)
{
    (void)state;
    for (unsigned level = LB_CPU_REF; level <= LB_CPU_BEST; level++) {
        const lb_kernels *kernels = lb_kernels_get((lb_cpu_level)level);
        assert_true((unsigned)kernels->level <= level);
        assert_true(kernels->level <= lb_cpu_detect());
#ifndef LB_REF_ONLY
#if defined(__x86_64__) || defined(__aarch64__)
        if (level <= (unsigned)lb_cpu_detect())
            assert_int_equal(kernels->level, level);
#endif
#endif
#define LB_KERNEL(ret, name, args) assert_true(kernels->name != NULL);
#include "kernels/kernels.def"
#undef LB_KERNEL
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_are_full),
        cmocka_unit_test(shapes),
        cmocka_unit_test(extremes),
        cmocka_unit_test(rows_can_be_set_again),
        cmocka_unit_test(threads_change_nothing),
        cmocka_unit_test(bytes_are_counted),
        cmocka_unit_test(wrong_shapes_are_refused),
        cmocka_unit_test(lack_of_memory_is_an_answer),
        cmocka_unit_test(vectors),
        cmocka_unit_test(ties_go_to_even),
        cmocka_unit_test(strange_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
