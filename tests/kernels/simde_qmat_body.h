/* SPDX-License-Identifier: MIT
 * What the two simde_qmat programs share: the emulated kernels (lb_fill_emulated) through every width,
 * grouping and extreme. */
#include "kernels/block_cases.h"
#include "kernels/qmat_cases.h"
#include "kernels/qrows_cases.h"

#include "kernels/block_codec.h"
#include "kernels/ref.h"

static lb_kernels emulated;

static void check_emulated(size_t rows, size_t cols, unsigned bits, size_t group, bool symmetric,
                           weights_kind weights, vector_kind vector, lb_rng *rng)
{
    qmat_case q;
    case_create(&q, rng, rows, cols, bits, group, symmetric, weights);
    case_set_vector(&q, rng, &emulated, vector);
    check_times(&q, &emulated);
    case_destroy(&q);
}

static void shapes(void **state)
{
    (void)state;
    const size_t groups[] = {32, 64, 128, 256, 0}, rows[] = {1, 16, 33}, cols[] = {1, 33, 352, 577};
    lb_rng rng;
    lb_rng_seed(&rng, 7);
    for (unsigned bits = 2; bits <= 8; bits++)
        for (unsigned i = 0; i < 5 * 3 * 4 * 2; i++)
            check_emulated(rows[i / 5 % 3], cols[i / 15 % 4], bits, groups[i % 5], i / 60 == 0,
                           WEIGHTS_RANDOM, VECTOR_RANDOM, &rng);
}

static void extremes(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 8);
    for (unsigned bits = 2; bits <= 8; bits++)
        for (unsigned i = 0; i < 2 * WEIGHTS_KINDS * VECTOR_KINDS; i++)
            check_emulated(17, 300, bits, 64, i % 2 == 0, (weights_kind)(i / 2 / VECTOR_KINDS),
                           (vector_kind)(i / 2 % VECTOR_KINDS), &rng);
}

static void block_formats(void **state)
{
    (void)state;
    const size_t rows[] = {1, 16, 33}, cols[] = {1, 16, 17, 33, 48, 352};
    const lb_kernels *const table = &emulated;
    lb_rng rng;
    lb_rng_seed(&rng, 9);
    for (size_t i = 0; i < 6; i++)
        check_block_shape(&rng, rows[i % 3], cols[i], (exponents){-7, 3, 0}, &table, 1, false);
    check_block_extremes(&rng, &table, 1);
}

static void rows_of_integers(void **state)
{
    (void)state;
    const lb_kernels *const table = &emulated;
    check_rows_shapes(&table, 1);
}

int main(void)
{
    lb_fill_ref(&emulated);
    lb_fill_block_codec_ref(&emulated);
    lb_fill_emulated(&emulated);
    const struct CMUnitTest tests[] = {cmocka_unit_test(shapes), cmocka_unit_test(extremes),
                                       cmocka_unit_test(block_formats), cmocka_unit_test(rows_of_integers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
