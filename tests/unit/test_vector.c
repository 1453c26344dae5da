/* SPDX-License-Identifier: MIT
 * The element-wise kernels against double, and every instruction set against the portable version bit for
 * bit. Bounds are in units of U24, half a unit in the last place, relative to the result. */
#include "near.h"

#include "base/rng.h"
#include "kernels/kernels.h"

enum { MOST = 4097, GUARD = 8 };

/* Every length up to 70, and some around what models have. */
static size_t next_length(size_t n)
{
    static const size_t longer[] = {127, 128, 129, 576, 577, 1023, 4096, 4097};
    if (n < 70)
        return n + 1;
    for (size_t i = 0; i < sizeof longer / sizeof *longer; i++)
        if (longer[i] > n)
            return longer[i];
    return 0;
}

static void fill(lb_rng *rng, float *x, size_t n, double size)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(size * lb_rng_normal(rng));
}

enum { LEVELS = LB_CPU_BEST + 1 };
enum { RMS_NORM, SILU_MUL, SOFTMAX, OPS };

static void apply(const lb_kernels *k, int op, const float *a, const float *b, size_t n, float eps,
                  float *out)
{
    if (op == RMS_NORM) {
        k->rms_norm(a, b, n, eps, out);
    } else if (op == SILU_MUL) {
        k->silu_mul(a, b, n, out);
    } else {
        if (out != a)
            memmove(out, a, n * sizeof *out);
        k->softmax(out, n);
    }
}

static double sigmoid_times(double x)
{
    return x / (1.0 + exp(-x));
}

static void slow(int op, const float *a, const float *b, size_t n, float eps, double *want, double *bounds)
{
    double sum = 0.0, largest = (double)a[0];
    for (size_t i = 0; i < n; i++)
        largest = fmax(largest, (double)a[i]);
    for (size_t i = 0; i < n; i++)
        sum += op == SOFTMAX ? exp((double)a[i] - largest) : (double)a[i] * (double)a[i];
    for (size_t i = 0; i < n; i++) {
        const double x = (double)a[i];
        if (op == RMS_NORM) {
            want[i] = x / sqrt(sum / (double)n + (double)eps) * (double)b[i];
            /* a sum in 16 lanes, halved by the root; root, division, two products */
            bounds[i] = (8.0 + sqrt((double)n / 16.0)) * U24 * fabs(want[i]) + 0x1p-149;
        } else if (op == SILU_MUL) {
            want[i] = sigmoid_times(x) * (double)b[i];
            /* e^x to 3 units; beyond x = -88 it is held, where silu is next to nothing */
            bounds[i] = 12.0 * U24 * fabs(want[i]) + 0x1p-148 * (1.0 + fabs((double)b[i])) +
                        (x < -87.0 ? 1e-38 * fabs(x * (double)b[i]) : 0.0);
        } else {
            /* the difference to the largest is rounded before e^ is taken */
            want[i] = exp(x - largest) / sum;
            bounds[i] = (14.0 + sqrt((double)n / 16.0) + fmin(largest - x, 90.0)) * U24 * want[i] + 2e-38;
        }
    }
}

static void check(lb_rng *rng, int op, size_t n, double size)
{
    static float a[MOST + 1], b[MOST + 1], first[MOST + GUARD], out[MOST + GUARD];
    static double want[MOST], bounds[MOST];
    const float eps = 1e-6f, mark = 77.0f;
    fill(rng, a, n + 1, size);
    fill(rng, b, n + 1, 1.0);
    for (size_t l = 0; l < LEVELS; l++) {
        const lb_kernels *k = lb_kernels_get((lb_cpu_level)l);
        for (size_t offset = 0; offset < 2; offset++) { /* aligned to floats is enough */
            for (size_t i = 0; i < n + GUARD; i++)
                out[i] = mark;
            apply(k, op, a + offset, b + offset, n, eps, out + offset);
            slow(op, a + offset, b + offset, n, eps, want, bounds);
            near_array_by(out + offset, want, n, bounds);
            for (size_t i = offset + n; i < n + GUARD; i++)
                assert_true(out[i] == mark);
        }
        if (l == 0)
            memcpy(first, out, sizeof first);
        assert_memory_equal(out, first, (n + 1) * sizeof *out);
        memcpy(out, a, (n + 1) * sizeof *out); /* in place */
        apply(k, op, out + 1, b + 1, n, eps, out + 1);
        assert_memory_equal(out + 1, first + 1, n * sizeof *out);
        if (op == SILU_MUL) {
            memcpy(out, b, (n + 1) * sizeof *out);
            k->silu_mul(a + 1, out + 1, n, out + 1);
            assert_memory_equal(out + 1, first + 1, n * sizeof *out);
        }
    }
}

static void random_inputs(void **state)
{
    (void)state;
    static const double sizes[] = {1.0, 1e-3, 30.0, 200.0};
    lb_rng rng;
    lb_rng_seed(&rng, 31);
    for (int op = 0; op < OPS; op++)
        for (size_t n = 1; n > 0; n = next_length(n))
            for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
                check(&rng, op, n, sizes[s]);
}

/* e^x over the whole range that matters, through both kernels that take it. */
static void exponentials(void **state)
{
    (void)state;
    for (size_t l = 0; l < LEVELS; l++) {
        const lb_kernels *k = lb_kernels_get((lb_cpu_level)l);
        for (float x = -86.9f; x < 0.0f; x += 0.00173f) {
            float pair[2] = {x, 0.0f}, silu;
            k->softmax(pair, 2);
            const double ratio = (double)pair[0] / (double)pair[1], want = exp((double)x);
            assert_true(fabs(ratio - want) <= 8.0 * U24 * want);
            const float one = 1.0f;
            k->silu_mul(&x, &one, 1, &silu);
            assert_true(fabs((double)silu - sigmoid_times((double)x)) <=
                        8.0 * U24 * fabs(sigmoid_times((double)x)) + 1e-37);
        }
    }
}

static void extremes(void **state)
{
    (void)state;
    for (size_t l = 0; l < LEVELS; l++) {
        const lb_kernels *k = lb_kernels_get((lb_cpu_level)l);
        float x[40], ones[40], out[40];
        for (size_t i = 0; i < 40; i++) {
            x[i] = i % 2 ? -1e30f : 3e38f;
            ones[i] = 1.0f;
        }
        k->softmax(x, 40); /* half of them share everything */
        for (size_t i = 0; i < 40; i++)
            assert_true(fabs((double)x[i] - (i % 2 ? 0.0 : 0.05)) <= 1e-7);
        memset(x, 0, sizeof x);
        k->rms_norm(x, ones, 40, 1e-6f, out);
        same_array(out, x, 40);
        k->silu_mul(x, ones, 40, out);
        same_array(out, x, 40);
        x[0] = -1000.0f; /* far beyond where e^-x overflows: still next to nothing, and finite */
        x[1] = 1000.0f;
        k->silu_mul(x, ones, 2, out);
        assert_true(fabsf(out[0]) < 1e-30f);
        assert_true(out[1] == 1000.0f);
        float one = -123.0f;
        k->softmax(&one, 1);
        assert_true(one == 1.0f);
    }
}

static void every_level_is_what_it_says(void **state)
{
    (void)state;
    const lb_cpu_level best = lb_cpu_detect();
    for (size_t l = 0; l < LEVELS; l++) {
        const lb_kernels *k = lb_kernels_get((lb_cpu_level)l);
        assert_true(k->level <= (lb_cpu_level)l && k->level <= best);
    }
    assert_int_equal(lb_kernels_get(LB_CPU_REF)->level, LB_CPU_REF);
    if (lb_kernels_get(LB_CPU_BEST)->level == LB_CPU_REF)
        print_message("no vector instructions here: the portable kernels were compared with double only\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_inputs),
        cmocka_unit_test(exponentials),
        cmocka_unit_test(extremes),
        cmocka_unit_test(every_level_is_what_it_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
