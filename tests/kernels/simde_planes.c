/* SPDX-License-Identifier: MIT
 * The AVX-512 kernels of bit planes on a machine without AVX-512: the same source, on SIMDe's emulation. */
#define LB_SIMDE
#define lb_fill_planes_avx512 lb_fill_emulated
#include "kernels/x86/planes_avx512.c"

#include "kernels/lookup_cases.h"

#include "kernels/ref.h"

static lb_kernels emulated;
static const lb_kernels *const table = &emulated;

static void shapes(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 7);
    check_lookup_shapes(&rng, &table, 1, true);
}

static void extremes(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 8);
    check_lookup_extremes(&rng, &table, 1);
}

int main(void)
{
    lb_fill_ref(&emulated);
    lb_fill_planes_ref(&emulated);
    lb_fill_emulated(&emulated);
    const struct CMUnitTest tests[] = {cmocka_unit_test(shapes), cmocka_unit_test(extremes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
