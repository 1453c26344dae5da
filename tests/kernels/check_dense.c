/* SPDX-License-Identifier: MIT
 * Float kernels of every available level, the matrix product made of them, and the reading of memory. */
#include "kernels/dense_cases.h"

#include <string.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "base/thread.h"
#include "kernels/bandwidth.h"
#include "kernels/dense.h"

static void check_widened(const uint16_t *in, const float *out, size_t n, int mantissa_bits)
{
    for (size_t i = 0; i < n; i++) {
        double want = half_value(in[i], mantissa_bits);
        if (isnan(want) ? !isnan(out[i]) : lb_float_bits(out[i]) != lb_float_bits((float)want))
            fail_msg("0x%04x: got %a, wanted %a", in[i], (double)out[i], want);
    }
}

static void all_halves_are_widened(void **state)
{
    (void)state;
    enum { ALL = 1 << 16 };
    static uint16_t in[ALL];
    static float out[ALL + 1];
    for (size_t i = 0; i < ALL; i++)
        in[i] = (uint16_t)i;
    for (unsigned level = LB_CPU_REF; level <= LB_CPU_BEST; level++) {
        const lb_kernels *kernels = lb_kernels_get((lb_cpu_level)level);
        lb_dense_to_f32(kernels, LB_DENSE_F16, in, ALL, out);
        check_widened(in, out, ALL, 10);
        lb_dense_to_f32(kernels, LB_DENSE_BF16, in, ALL, out);
        check_widened(in, out, ALL, 7);
        for (size_t n = 0; n < 40; n++) { /* tails, and nothing beyond them */
            out[n] = -1.0f;
            lb_dense_to_f32(kernels, LB_DENSE_F16, in + 15000 + n, n, out);
            check_widened(in + 15000 + n, out, n, 10);
            assert_true(out[n] == -1.0f);
            lb_dense_to_f32(kernels, LB_DENSE_BF16, in + 16000 + n, n, out);
            check_widened(in + 16000 + n, out, n, 7);
            assert_true(out[n] == -1.0f);
        }
    }
    float same[3] = {1.5f, -0.0f, 3.0f}, copy[3] = {0};
    lb_dense_to_f32(lb_kernels_get(LB_CPU_REF), LB_DENSE_F32, same, 3, copy);
    assert_memory_equal(same, copy, sizeof same);
}

/* Several vectors at once: each has the bits that it has alone. x and y are the second of them. */
static void check_several(const lb_kernels *kernels, lb_dense_type type, const void *weights, size_t rows,
                          size_t cols, const float *x, const float *y)
{
    enum { MOST = 9 };
    float *xs = lb_alloc(MOST * cols, sizeof *xs), *ys = lb_alloc(MOST * rows + 1, sizeof *ys);
    float *alone = lb_alloc(rows, sizeof *alone);
    assert_true(xs && ys && alone);
    for (size_t count = 2; count <= MOST; count++) {
        for (size_t v = 0; v < count; v++)
            for (size_t i = 0; i < cols; i++)
                xs[v * cols + i] = v == 1 ? x[i] : x[(i + 7 * v) % cols] - (float)v;
        ys[count * rows] = -7.0f;
        lb_dense_times_few(kernels, type, weights, rows, cols, xs, count, ys);
        assert_true(ys[count * rows] == -7.0f);
        assert_memory_equal(ys + rows, y, rows * sizeof *y);
        for (size_t v = 0; v < count; v++) {
            lb_dense_times(kernels, type, weights, rows, cols, xs + v * cols, alone);
            assert_memory_equal(ys + v * rows, alone, rows * sizeof *alone);
        }
    }
    lb_free(xs);
    lb_free(ys);
    lb_free(alone);
}

static void check_product(const lb_kernels *kernels, size_t rows, size_t cols, lb_rng *rng)
{
    uint16_t *w = lb_alloc(rows * cols, sizeof *w);
    float *wide = lb_alloc(rows * cols, sizeof *wide), *x = lb_alloc(cols, sizeof *x);
    float *y = lb_alloc(rows + 1, sizeof *y), *again = lb_alloc(rows + 1, sizeof *again);
    double *row = lb_alloc(cols, sizeof *row);
    assert_true(w && wide && x && y && again && row);
    for (size_t i = 0; i < rows * cols; i++)
        w[i] = lb_bf16_from_float((float)lb_rng_normal(rng));
    for (size_t i = 0; i < cols; i++)
        x[i] = (float)lb_rng_normal(rng);
    lb_dense_to_f32(kernels, LB_DENSE_BF16, w, rows * cols, wide);
    for (int type = LB_DENSE_F32; type <= LB_DENSE_BF16; type++) {
        const void *weights = type == LB_DENSE_F32 ? (const void *)wide : (const void *)w;
        y[rows] = -7.0f;
        lb_thread_set_count(1);
        lb_dense_times(kernels, (lb_dense_type)type, weights, rows, cols, x, y);
        assert_true(y[rows] == -7.0f);
        lb_thread_set_count(2);
        lb_dense_times(kernels, (lb_dense_type)type, weights, rows, cols, x, again);
        lb_thread_set_count(0);
        assert_memory_equal(y, again, rows * sizeof *y);
        check_several(kernels, (lb_dense_type)type, weights, rows, cols, x, y);
        for (size_t r = 0; r < rows; r++) {
            for (size_t c = 0; c < cols; c++)
                row[c] = type == LB_DENSE_F32 ? (double)wide[r * cols + c]
                                              : half_value(w[r * cols + c], type == LB_DENSE_F16 ? 10 : 7);
            check_dot("row", y[r], row, x, cols);
        }
    }
    lb_free(w);
    lb_free(wide);
    lb_free(x);
    lb_free(y);
    lb_free(again);
    lb_free(row);
}

static void products(void **state)
{
    (void)state;
    const size_t shapes[][2] = {{1, 1}, {3, 0}, {5, 33}, {1, 4000}, {300, 577}, {40000, 3}};
    lb_rng rng;
    lb_rng_seed(&rng, 12);
    for (unsigned level = LB_CPU_REF; level <= LB_CPU_BEST; level++)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
            check_product(lb_kernels_get((lb_cpu_level)level), shapes[i][0], shapes[i][1], &rng);
    assert_int_equal(lb_dense_size(LB_DENSE_F32), 4);
    assert_int_equal(lb_dense_size(LB_DENSE_F16), 2);
    assert_int_equal(lb_dense_size(LB_DENSE_BF16), 2);
}

static void every_byte_is_read(void **state)
{
    (void)state;
    enum { MOST = 2048 };
    uint8_t data[MOST + 8];
    lb_rng rng;
    lb_rng_seed(&rng, 13);
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)lb_rng_u64(&rng);
    for (unsigned level = LB_CPU_REF; level <= LB_CPU_BEST; level++) {
        for (size_t bytes = 0; bytes <= MOST; bytes += 24) {
            uint64_t want = 0, word;
            for (size_t i = 0; i < bytes / 64 * 8; i++) {
                memcpy(&word, data + bytes % 8 + 8 * i, sizeof word);
                want += word;
            }
            assert_true(lb_kernels_get((lb_cpu_level)level)->read_sum(data + bytes % 8, bytes) == want);
        }
    }
}

static void bandwidth_is_a_rate(void **state)
{
    (void)state;
    const lb_kernels *kernels = lb_kernels_get(LB_CPU_BEST);
    double rate = -1.0;
    lb_error err;
    assert_int_equal(lb_read_bandwidth(kernels, 0, 1, &rate, &err), LB_EINVAL);
    assert_int_equal(lb_read_bandwidth(kernels, 1 << 20, 0, &rate, &err), LB_EINVAL);
    for (size_t k = 1; k <= 2; k++) {
        lb_alloc_fail_at(k);
        assert_int_equal(lb_read_bandwidth(kernels, 1 << 20, 1, &rate, &err), LB_ENOMEM);
    }
    lb_alloc_fail_at(0);
    assert_true(rate == -1.0);
    assert_int_equal(lb_read_bandwidth(kernels, (16 << 20) + 100, 3, &rate, &err), LB_OK);
    assert_true(rate > 0.01 && rate < 1e5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_halves_are_widened),
        cmocka_unit_test(products),
        cmocka_unit_test(every_byte_is_read),
        cmocka_unit_test(bandwidth_is_a_rate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
