/* SPDX-License-Identifier: MIT
 * A linear layer in memory: what is kept as it is on disk must mean what the float path reads. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/half.h"
#include "base/rng.h"
#include "model/linear.h"

enum { HEADS = 4, HEAD_DIM = 6, ROWS = HEADS * HEAD_DIM, COLS = 20, TOKENS = 3 };

/* A matrix as GGUF stores query rows: within a head, row 2j+h holds row h * HEAD_DIM/2 + j. */
static void interleaved_rows(lb_dtype dtype)
{
    static uint16_t stored[ROWS * COLS];
    float wanted[ROWS * COLS], x[TOKENS * COLS], y[TOKENS * ROWS], row[COLS];
    lb_error err = {0};
    lb_rng rng;
    lb_rng_seed(&rng, 7);
    for (size_t head = 0; head < HEADS; head++) {
        for (size_t i = 0; i < HEAD_DIM; i++) {
            const size_t from = head * HEAD_DIM + 2 * (i % (HEAD_DIM / 2)) + i / (HEAD_DIM / 2);
            for (size_t c = 0; c < COLS; c++) {
                const float value = (float)lb_rng_normal(&rng);
                const uint16_t bits =
                    dtype == LB_DTYPE_F16 ? lb_f16_from_float(value) : lb_bf16_from_float(value);
                stored[from * COLS + c] = bits;
                wanted[(head * HEAD_DIM + i) * COLS + c] =
                    dtype == LB_DTYPE_F16 ? lb_f16_to_float(bits) : lb_bf16_to_float(bits);
            }
        }
    }
    lb_tensor tensor = {.dtype = dtype,
                        .rank = 2,
                        .shape = {ROWS, COLS},
                        .data = (const uint8_t *)stored,
                        .bytes = sizeof stored,
                        .interleaved_heads = HEADS};
    lb_weight weight = {.name = "q", .rows = ROWS, .cols = COLS, .tensor = &tensor};
    for (size_t i = 0; i < TOKENS * COLS; i++)
        x[i] = (float)lb_rng_normal(&rng);
    for (int how = LB_LOAD_FLOAT; how <= LB_LOAD_NATIVE; how++) {
        lb_linear l;
        assert_int_equal(lb_linear_load(&weight, NULL, (lb_load)how, &l, &err), LB_OK);
        const lb_kernels *kernels = lb_kernels_get(LB_CPU_BEST);
        for (size_t r = 0; r < ROWS; r++) {
            lb_linear_row(kernels, &l, r, row);
            assert_memory_equal(row, wanted + r * COLS, sizeof row);
        }
        assert_int_equal(lb_linear_apply(kernels, &l, x, TOKENS, y, &err), LB_OK);
        for (size_t t = 0; t < TOKENS; t++) {
            for (size_t r = 0; r < ROWS; r++) {
                double sum = 0.0, size = 0.0;
                for (size_t c = 0; c < COLS; c++) {
                    sum += (double)wanted[r * COLS + c] * (double)x[t * COLS + c];
                    size += fabs((double)wanted[r * COLS + c] * (double)x[t * COLS + c]);
                }
                assert_true(fabs(sum - (double)y[t * ROWS + r]) <= 2.0 * sqrt(COLS) * 0x1p-24 * size);
            }
        }
        lb_linear_free(&l);
    }
}

static void interleaved_half_rows_are_put_in_order(void **state)
{
    (void)state;
    interleaved_rows(LB_DTYPE_F16);
    interleaved_rows(LB_DTYPE_BF16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(interleaved_half_rows_are_put_in_order)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
