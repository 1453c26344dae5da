/* SPDX-License-Identifier: MIT
 * Rotary embedding against multiplication of complex numbers in double, and its frequencies against the
 * published formulas written out again: arXiv:2104.09864 (plain), arXiv:2306.15595 (linear), the Llama 3.1
 * model card's wavelengths (llama3). */
#include "near.h"

#include <complex.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "base/thread.h"
#include "model/rope.h"

static const double PI = 3.14159265358979323846;

static lb_config plain(size_t head_dim, double theta)
{
    return (lb_config){.head_dim = head_dim, .rope_theta = theta};
}

/* theta^(-2i/d) through the logarithm. */
static double plain_frequency(const lb_config *c, size_t i)
{
    return exp(-log(c->rope_theta) * (double)(2 * i) / (double)c->head_dim);
}

static void check_frequencies(const lb_config *c, const double *want)
{
    double got[LB_MAX_HEAD_DIM / 2];
    lb_rope_frequencies(c, got);
    for (size_t i = 0; i < c->head_dim / 2; i++)
        near_array(got + i, want + i, 1, 1e-12 * want[i]);
}

static void plain_and_linear(void **state)
{
    (void)state;
    static const size_t dims[] = {2, 64, 80, 128, LB_MAX_HEAD_DIM};
    static const double thetas[] = {10000.0, 500000.0, 100.0};
    for (size_t d = 0; d < 5; d++) {
        for (size_t t = 0; t < 3; t++) {
            double want[LB_MAX_HEAD_DIM / 2];
            lb_config c = plain(dims[d], thetas[t]);
            for (size_t i = 0; i < c.head_dim / 2; i++)
                want[i] = plain_frequency(&c, i);
            check_frequencies(&c, want);
            c.rope_scaling = LB_ROPE_LINEAR;
            c.rope_factor = 2.5;
            for (size_t i = 0; i < c.head_dim / 2; i++)
                want[i] = plain_frequency(&c, i) / 2.5;
            check_frequencies(&c, want);
            c.rope_scaling = LB_ROPE_FACTORS;
            for (size_t i = 0; i < c.head_dim / 2; i++) {
                c.rope_factors[i] = 1.0f + 0.25f * (float)i;
                want[i] = plain_frequency(&c, i) / (1.0 + 0.25 * (double)i);
            }
            check_frequencies(&c, want);
        }
    }
}

/* Meta's description, in wavelengths: shorter than original / high_freq_factor: as it is; longer than
 * original / low_freq_factor: divided; between: blended by how many waves fit into the original context. */
static double llama3_frequency(const lb_config *c, double frequency)
{
    const double original = (double)c->rope_original_context, wavelength = 2.0 * PI / frequency;
    if (wavelength < original / c->rope_high_freq_factor)
        return frequency;
    if (wavelength > original / c->rope_low_freq_factor)
        return frequency / c->rope_factor;
    const double smooth = (original / wavelength - c->rope_low_freq_factor) /
                          (c->rope_high_freq_factor - c->rope_low_freq_factor);
    return (1.0 - smooth) * frequency / c->rope_factor + smooth * frequency;
}

static void llama3(void **state)
{
    (void)state;
    static const size_t dims[] = {64, 128};
    static const double factors[][3] = {{8.0, 1.0, 4.0}, {32.0, 1.0, 4.0}, {2.0, 0.5, 16.0}};
    for (size_t d = 0; d < 2; d++) {
        for (size_t f = 0; f < 3; f++) {
            double want[LB_MAX_HEAD_DIM / 2];
            size_t kept = 0, divided = 0;
            lb_config c = plain(dims[d], 500000.0);
            c.rope_scaling = LB_ROPE_LLAMA3;
            c.rope_factor = factors[f][0];
            c.rope_low_freq_factor = factors[f][1];
            c.rope_high_freq_factor = factors[f][2];
            c.rope_original_context = 8192;
            for (size_t i = 0; i < c.head_dim / 2; i++) {
                const double frequency = plain_frequency(&c, i);
                want[i] = llama3_frequency(&c, frequency);
                kept += want[i] == frequency;
                divided += want[i] == frequency / c.rope_factor;
            }
            check_frequencies(&c, want);
            /* all three cases occur */
            assert_true(kept > 0 && divided > 0 && kept + divided < c.head_dim / 2);
        }
    }
}

/* Entry i and entry i + half are the two parts of a number, turned by position * frequency. */
static void rotation_is_complex_multiplication(void **state)
{
    (void)state;
    enum { HEADS = 3, POSITIONS = 700 };
    static const size_t dims[] = {2, 16, 80, 128};
    lb_rng rng;
    lb_rng_seed(&rng, 41);
    for (size_t d = 0; d < 4; d++) {
        const size_t dim = dims[d], half = dim / 2;
        const lb_config c = plain(dim, 10000.0);
        lb_rope rope;
        assert_int_equal(lb_rope_create(&c, POSITIONS, &rope, NULL), LB_OK);
        assert_int_equal(rope.half, half);
        assert_int_equal(rope.positions, POSITIONS);
        for (size_t position = 0; position < POSITIONS; position += position < 4 ? 1 : 87) {
            float x[HEADS * 128 + 1], before[HEADS * 128];
            for (size_t i = 0; i < HEADS * dim; i++)
                before[i] = x[i] = (float)lb_rng_normal(&rng);
            x[HEADS * dim] = 99.0f;
            lb_rope_rotate(&rope, position, HEADS, x);
            for (size_t h = 0; h < HEADS; h++) {
                for (size_t i = 0; i < half; i++) {
                    const size_t at = h * dim + i;
                    const double complex z = (double)before[at] + I * (double)before[at + half];
                    const double complex want = z * cexp(I * (double)position * plain_frequency(&c, i));
                    const double bound = 4.0 * U24 * cabs(z);
                    assert_true(fabs((double)x[at] - creal(want)) <= bound);
                    assert_true(fabs((double)x[at + half] - cimag(want)) <= bound);
                }
            }
            assert_true(x[HEADS * dim] == 99.0f);
            if (position == 0)
                same_array(x, before, HEADS * dim);
        }
        lb_rope_free(&rope);
        assert_null(rope.cosine);
    }
}

/* What the whole thing is for: products of rotated vectors depend on the distance only. */
static void products_depend_on_the_distance(void **state)
{
    (void)state;
    enum { DIM = 64 };
    const lb_config c = plain(DIM, 10000.0);
    lb_rope rope;
    lb_rng rng;
    lb_rng_seed(&rng, 42);
    assert_int_equal(lb_rope_create(&c, 2000, &rope, NULL), LB_OK);
    float q[DIM], k[DIM];
    for (size_t i = 0; i < DIM; i++) {
        q[i] = (float)lb_rng_normal(&rng);
        k[i] = (float)lb_rng_normal(&rng);
    }
    double first = 0.0;
    for (size_t at = 0; at < 1900; at += 100) {
        float a[DIM], b[DIM];
        memcpy(a, q, sizeof q);
        memcpy(b, k, sizeof k);
        lb_rope_rotate(&rope, at + 37, 1, a);
        lb_rope_rotate(&rope, at, 1, b);
        double product = 0.0;
        for (size_t i = 0; i < DIM; i++)
            product += (double)a[i] * (double)b[i];
        if (at == 0)
            first = product;
        assert_true(fabs(product - first) <= 1e-5);
    }
    lb_rope_free(&rope);
}

/* Two roundings each way. */
static void undone(void **state)
{
    (void)state;
    enum { DIM = 10, HEADS = 3 };
    const lb_config c = plain(DIM, 10000.0);
    lb_rope rope;
    lb_rng rng;
    lb_rng_seed(&rng, 9);
    assert_int_equal(lb_rope_create(&c, 50, &rope, NULL), LB_OK);
    for (size_t position = 0; position < 50; position += 7) {
        float x[HEADS * DIM], y[HEADS * DIM];
        for (size_t i = 0; i < HEADS * DIM; i++)
            y[i] = x[i] = (float)lb_rng_normal(&rng);
        lb_rope_rotate(&rope, position, HEADS, y);
        assert_true(position == 0 || memcmp(x, y, sizeof x) != 0);
        lb_rope_undo(&rope, position, HEADS, y);
        near_array(y, x, HEADS * DIM, 8.0 * U24 * 4.0);
    }
    lb_rope_free(&rope);
}

static void tables_do_not_depend_on_threads(void **state)
{
    (void)state;
    const lb_config c = plain(64, 10000.0);
    lb_rope one, three;
    lb_thread_set_count(1);
    assert_int_equal(lb_rope_create(&c, 1000, &one, NULL), LB_OK);
    lb_thread_set_count(3);
    assert_int_equal(lb_rope_create(&c, 1000, &three, NULL), LB_OK);
    lb_thread_set_count(0);
    assert_memory_equal(one.cosine, three.cosine, 1000 * 32 * sizeof(float));
    assert_memory_equal(one.sine, three.sine, 1000 * 32 * sizeof(float));
    lb_rope_free(&one);
    lb_rope_free(&three);
}

static void lack_of_memory_is_said(void **state)
{
    (void)state;
    const lb_config c = plain(64, 10000.0);
    for (size_t k = 1; k <= 2; k++) {
        lb_rope rope;
        lb_error err;
        lb_alloc_fail_at(k);
        assert_int_equal(lb_rope_create(&c, 10, &rope, &err), LB_ENOMEM);
    }
    lb_alloc_fail_at(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_and_linear),
        cmocka_unit_test(llama3),
        cmocka_unit_test(rotation_is_complex_multiplication),
        cmocka_unit_test(products_depend_on_the_distance),
        cmocka_unit_test(undone),
        cmocka_unit_test(tables_do_not_depend_on_threads),
        cmocka_unit_test(lack_of_memory_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
