/* SPDX-License-Identifier: MIT
 * The NEON kernels of bit planes on any machine: the same source, on SIMDe's emulation. */
#define LB_SIMDE
#define lb_fill_planes_neon lb_fill_emulated
#include "kernels/arm/planes_neon.c"

#include "kernels/lookup_cases.h"

#include "kernels/ref.h"

static lb_kernels emulated;
static const lb_kernels *const table = &emulated;

static void shapes(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 9);
    check_lookup_shapes(&rng, &table, 1, true);
}

static void extremes(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 10);
    check_lookup_extremes(&rng, &table, 1);
}

static void strange_activations(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 11);
    check_lookup_strange(&rng, &table, 1);
}

static void ties_go_to_even(void **state)
{
    (void)state;
    check_lookup_ties(&table, 1);
}

int main(void)
{
    lb_fill_ref(&emulated);
    lb_fill_planes_ref(&emulated);
    lb_fill_emulated(&emulated);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes),
        cmocka_unit_test(extremes),
        cmocka_unit_test(strange_activations),
        cmocka_unit_test(ties_go_to_even),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
