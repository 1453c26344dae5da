/* SPDX-License-Identifier: MIT
 * The Hadamard transform at every level of this machine against the portable one, bit for bit; and the
 * source of the AVX-512 version, which has no intrinsics, compiled for whatever machine this is. */
#define lb_fill_hadamard_avx512 lb_fill_wide
#include "kernels/x86/hadamard_avx512.c"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <math.h>

#include "base/rng.h"
#include "base/thread.h"
#include "kernels/hadamard.h"
#include "near.h"

enum { MOST_FLOATS = 20000, GUARD = 32 };
typedef float buffer[MOST_FLOATS + 2 * GUARD];

/* The tables to compare with the portable one. */
static lb_kernels levels[3];

static int fill_levels(void **state)
{
    (void)state;
    levels[0] = *lb_kernels_get((lb_cpu_level)(LB_CPU_REF + 1)); /* the least above it, if there is one */
    levels[1] = *lb_kernels_get(LB_CPU_BEST);
    levels[2] = *lb_kernels_get(LB_CPU_REF);
    lb_fill_wide(&levels[2]);
    return 0;
}

/* Normal numbers among which are zeros of both signs and some that cancel exactly. */
static void fill(lb_rng *rng, float *x, size_t n, double size)
{
    for (size_t i = 0; i < n; i++) {
        x[i] = (float)(size * lb_rng_normal(rng));
        if (lb_rng_below(rng, 4) == 0)
            x[i] = lb_rng_below(rng, 2) ? (float)size : lb_rng_below(rng, 2) ? -0.0f : 0.0f;
    }
}

typedef struct call {
    size_t n, count; /* hadamard: size of a chunk; hadamard_mix: its stride */
    size_t order; /* 0: hadamard */
    bool scaled;
    uint8_t picks[28 * 7];
    float scale[MOST_FLOATS + GUARD];
} call;

static void do_call(const lb_kernels *kernels, const call *c, float *x, size_t offset)
{
    if (c->order)
        kernels->hadamard_mix(x, c->picks, c->order, c->n, c->count);
    else
        kernels->hadamard(x, c->scaled ? c->scale + offset : NULL, c->n, c->count);
}

/* At odd places, with what lies around compared too. */
static void check(lb_rng *rng, call *c, double size)
{
    static buffer input, want, got;
    const size_t n = c->n * c->count * (c->order ? c->order : 1);
    assert_true(n <= MOST_FLOATS);
    fill(rng, input, n + 2 * GUARD, size);
    fill(rng, c->scale, n + GUARD, 1.0);
    for (size_t i = 0; i < sizeof c->picks; i++)
        c->picks[i] = (uint8_t)lb_rng_below(rng, 16);
    const size_t offset = (size_t)lb_rng_below(rng, GUARD);
    memcpy(want, input, sizeof want);
    do_call(lb_kernels_get(LB_CPU_REF), c, want + offset, offset % 5);
    assert_memory_equal(want, input, offset * sizeof *want);
    assert_memory_equal(want + offset + n, input + offset + n, (2 * GUARD - offset) * sizeof *want);
    for (size_t l = 0; l < sizeof levels / sizeof *levels; l++) {
        memcpy(got, input, sizeof got);
        do_call(&levels[l], c, got + offset, offset % 5);
        if (size < 1e30)
            assert_memory_equal(got, want, (n + 2 * GUARD) * sizeof *got);
        else /* sums that overflow: of a NaN only that it is one is promised */
            same_array(got, want, n + 2 * GUARD);
    }
}

static const double sizes[] = {1.0, 1e-41, 3e38};
enum { SIZES = sizeof sizes / sizeof *sizes };

static void powers_of_two(void **state)
{
    (void)state;
    static call c;
    lb_rng rng;
    lb_rng_seed(&rng, 11);
    for (c.n = 1; c.n <= 16384; c.n *= 2)
        for (c.count = 1; c.count <= 35 && c.n * c.count <= MOST_FLOATS; c.count += c.count < 9 ? 1 : 13)
            for (size_t s = 0; s < SIZES; s++)
                for (int scaled = 0; scaled < 2; scaled++) {
                    c.scaled = scaled;
                    check(&rng, &c, sizes[s]);
                }
}

static void other_orders(void **state)
{
    (void)state;
    static call c;
    lb_rng rng;
    lb_rng_seed(&rng, 12);
    for (c.order = 12; c.order <= 28; c.order += 8)
        for (c.n = 1; c.n <= 208; c.n += c.n < 18 ? 1 : c.n < 64 ? 2 : 16)
            for (c.count = 1; c.count <= 6 && c.order * c.n * c.count <= MOST_FLOATS; c.count++)
                for (size_t s = 0; s < SIZES; s++)
                    check(&rng, &c, sizes[s]);
}

/* All that has a matrix, and sizes of models, as rotations of several rows. */
static void rotations(void **state)
{
    (void)state;
    static const size_t large[] = {576, 960, 1536, 2304, 3072, 4096, 5120, 8960};
    static buffer input, want, got;
    lb_rng rng;
    lb_error err;
    lb_rng_seed(&rng, 13);
    unsigned tried = 0;
    for (size_t k = 1; k < 64 + sizeof large / sizeof *large + 1; k++) {
        const size_t n = k <= 64 ? k : large[k - 65], rows = n <= 64 ? 7 : 2;
        const bool exists = lb_hadamard_order_exists(n);
        lb_rotation *r = NULL;
        assert_int_equal(lb_rotation_create(n, exists ? 0 : 16, true, k, &r, &err), LB_OK);
        for (size_t offset = 0; offset < 4; offset++, tried += exists) {
            fill(&rng, input, rows * n + offset, 1.0);
            for (int undo = 0; undo < 2; undo++) {
                memcpy(want, input, sizeof want);
                (undo ? lb_rotation_undo : lb_rotation_apply)(lb_kernels_get(LB_CPU_REF), r, want + offset,
                                                              rows);
                for (size_t l = 0; l < sizeof levels / sizeof *levels; l++) {
                    memcpy(got, input, sizeof got);
                    (undo ? lb_rotation_undo : lb_rotation_apply)(&levels[l], r, got + offset, rows);
                    assert_memory_equal(got, want, sizeof got);
                }
            }
        }
        lb_rotation_destroy(r);
    }
    /* 1, 2, ... 64; 12, 24, 48; 20, 40; 28, 56; and the large ones. */
    assert_int_equal(tried, 4 * (7 + 3 + 2 + 2 + sizeof large / sizeof *large));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(powers_of_two),
        cmocka_unit_test(other_orders),
        cmocka_unit_test(rotations),
    };
    return cmocka_run_group_tests(tests, fill_levels, NULL);
}
