/* SPDX-License-Identifier: MIT
 * The gradients of the element-wise kernels against the formulas in double, and every instruction set against the
 * portable version bit for bit. */
#include "near.h"

#include "base/rng.h"
#include "kernels/kernels.h"

enum { MOST = 1040, GUARD = 8 };
enum { RMS_NORM, RMS_NORM_PLUS, SILU_MUL, SOFTMAX, OPS };

enum { LEVELS = LB_CPU_BEST + 1 };

static const float EPS = 1e-2f;

/* What an operation reads: x (gate, probabilities), w (weight, up), d, plus; and writes: first (dx, dgate),
 * second (dweight, dup). */
typedef struct operands {
    float x[MOST + 1], w[MOST + 1], d[MOST + 1], plus[MOST + 1];
} operands;

typedef struct results {
    float first[MOST + GUARD], second[MOST + GUARD];
} results;

static size_t next_length(size_t n)
{
    static const size_t longer[] = {127, 128, 129, 576, 577, 1023, 1024, 1040};
    if (n < 70)
        return n + 1;
    for (size_t i = 0; i < sizeof longer / sizeof *longer; i++)
        if (longer[i] > n)
            return longer[i];
    return 0;
}

static void apply(const lb_kernels *k, int op, const float *x, const float *w, const float *d,
                  const float *plus, size_t n, float *first, float *second)
{
    if (op == RMS_NORM || op == RMS_NORM_PLUS) {
        k->rms_norm_grad(x, w, d, n, EPS, op == RMS_NORM ? NULL : plus, first, second);
    } else if (op == SILU_MUL) {
        k->silu_mul_grad(x, w, d, n, first, second);
    } else {
        if (first != d)
            memmove(first, d, n * sizeof *d);
        k->softmax_grad(x, first, n);
    }
}

/* second is what was in it before, where an operation adds. */
static void slow(int op, const float *x, const float *w, const float *d, const float *plus, size_t n,
                 double before, double *first, double *second, double *bounds_1, double *bounds_2)
{
    double squares = 0.0, products = 0.0, size = 0.0;
    for (size_t i = 0; i < n; i++) {
        const double term = (double)x[i] * (op == SOFTMAX ? 1.0 : (double)w[i]) * (double)d[i];
        squares += (double)x[i] * (double)x[i];
        products += term;
        size += fabs(term);
    }
    const double s = 1.0 / sqrt(squares / (double)n + (double)EPS), sums = 6.0 + sqrt((double)n / 16.0);
    for (size_t i = 0; i < n; i++) {
        const double a = (double)x[i], b = (double)w[i], g = (double)d[i];
        if (op == RMS_NORM || op == RMS_NORM_PLUS) {
            const double add = op == RMS_NORM ? 0.0 : (double)plus[i];
            first[i] = add + s * b * g - a * s * s * s * products / (double)n;
            second[i] = before + a * s * g;
            bounds_1[i] = U24 * (fabs(first[i]) +
                                 (sums + 8.0) * (fabs(s * b * g) + fabs(a) * s * s * s * size / (double)n));
            bounds_2[i] = U24 * (fabs(second[i]) + (sums + 6.0) * fabs(a * s * g));
        } else if (op == SILU_MUL) {
            const double sigmoid = 1.0 / (1.0 + exp(-a)), one = fabs(g * b) * sigmoid;
            first[i] = g * b * sigmoid * (1.0 + a * (1.0 - sigmoid));
            second[i] = g * a * sigmoid;
            /* sigmoid to some 8 units; 1 - sigmoid loses what it is rounded by; e^x is held beyond 87 */
            const double least = 3e-38 * (1.0 + fabs(a)) * fabs(g) * (1.0 + fabs(b));
            bounds_1[i] = 16.0 * U24 * one * (1.0 + fabs(a)) + least;
            bounds_2[i] = 12.0 * U24 * fabs(second[i]) + least;
        } else {
            first[i] = a * (g - products);
            bounds_1[i] = U24 * fabs(a) * (4.0 * (fabs(g) + fabs(products)) + 2.0 * sums * size);
            second[i] = before;
            bounds_2[i] = 0.0;
        }
    }
}

static void fill(lb_rng *rng, operands *o, int op, size_t n, double size)
{
    double sum = 0.0;
    for (size_t i = 0; i <= n; i++) {
        o->x[i] = (float)(size * lb_rng_normal(rng));
        o->w[i] = (float)lb_rng_normal(rng);
        o->d[i] = (float)lb_rng_normal(rng);
        o->plus[i] = (float)lb_rng_normal(rng);
        sum += exp((double)o->x[i] / size);
    }
    for (size_t i = 0; op == SOFTMAX && i <= n; i++)
        o->x[i] = (float)(exp((double)o->x[i] / size) / sum);
}

/* Alone, and over each of the operands that may be written to. */
static void check_in_place(const lb_kernels *k, int op, const operands *o, size_t n, const results *want)
{
    static operands work;
    static float other[MOST];
    const float *in[] = {work.x, work.w, work.d, work.plus};
    float *out[] = {work.x, work.w, work.d, work.plus};
    for (int over = 0; over < 4; over++) {
        const bool first_may = op == SILU_MUL  ? over == 0 || over == 2
                               : op == SOFTMAX ? over == 2
                                               : over != 1;
        work = *o;
        for (size_t i = 0; i < n; i++)
            other[i] = 0.5f;
        if (first_may) {
            apply(k, op, in[0], in[1], in[2], in[3], n, out[over], other);
            assert_memory_equal(out[over], want->first, n * sizeof(float));
            if (op != SOFTMAX)
                assert_memory_equal(other, want->second, n * sizeof(float));
        }
        if (op == SILU_MUL && (over == 1 || over == 2)) {
            work = *o;
            apply(k, op, in[0], in[1], in[2], in[3], n, other, out[over]);
            assert_memory_equal(out[over], want->second, n * sizeof(float));
            assert_memory_equal(other, want->first, n * sizeof(float));
        }
    }
}

static void check(lb_rng *rng, int op, size_t n, double size)
{
    static operands o;
    static results portable, got;
    static double first[MOST], second[MOST], bounds_1[MOST], bounds_2[MOST];
    fill(rng, &o, op, n, size);
    for (size_t l = 0; l < LEVELS; l++) {
        const lb_kernels *k = lb_kernels_get((lb_cpu_level)l);
        for (size_t offset = 2; offset-- > 0;) { /* aligned to floats is enough */
            for (size_t i = 0; i < MOST + GUARD; i++)
                got.first[i] = got.second[i] = 0.5f;
            apply(k, op, o.x + offset, o.w + offset, o.d + offset, o.plus + offset, n, got.first, got.second);
            slow(op, o.x + offset, o.w + offset, o.d + offset, o.plus + offset, n, 0.5, first, second,
                 bounds_1, bounds_2);
            near_array_by(got.first, first, n, bounds_1);
            near_array_by(got.second, second, n, bounds_2);
            for (size_t i = n; i < n + GUARD; i++)
                assert_true(got.first[i] == 0.5f && got.second[i] == 0.5f);
        }
        if (l == 0)
            portable = got;
        assert_memory_equal(&got, &portable, sizeof got);
        check_in_place(k, op, &o, n, &portable);
    }
}

static void random_inputs(void **state)
{
    (void)state;
    static const double sizes[] = {1.0, 1e-3, 30.0};
    lb_rng rng;
    lb_rng_seed(&rng, 33);
    for (int op = 0; op < OPS; op++)
        for (size_t n = 1; n > 0; n = next_length(n))
            for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
                check(&rng, op, n, sizes[s]);
}

static void extremes(void **state)
{
    (void)state;
    for (size_t l = 0; l < LEVELS; l++) {
        const lb_kernels *k = lb_kernels_get((lb_cpu_level)l);
        const float gate[4] = {-1000.0f, 1000.0f, 0.0f, -0.0f}, up[4] = {3.0f, 3.0f, 3.0f, 3.0f};
        const float d[4] = {1.0f, 1.0f, 1.0f, 1.0f}, zero[4] = {0};
        float first[4], second[4] = {1.0f, 2.0f, 3.0f, 4.0f};
        k->silu_mul_grad(gate, up, d, 4, first, second);
        assert_true(fabsf(first[0]) < 1e-30f && first[1] == 3.0f && first[2] == 1.5f && first[3] == 1.5f);
        assert_true(fabsf(second[0]) < 1e-30f && second[1] == 1000.0f && second[2] == 0.0f &&
                    second[3] == 0.0f);
        /* No weight's gradient is wanted, and nothing came in: only eps is left. */
        k->rms_norm_grad(zero, up, d, 4, 0.25f, NULL, first, NULL);
        for (size_t i = 0; i < 4; i++)
            assert_true(first[i] == 6.0f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_inputs),
        cmocka_unit_test(extremes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
