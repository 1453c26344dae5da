/* SPDX-License-Identifier: MIT
 * The AVX-512 float kernels on a machine without AVX-512: the same source, on SIMDe's emulation. */
#define LB_SIMDE
#define lb_fill_dense_avx512 lb_fill_emulated
#include "kernels/x86/dense_avx512.c"

#include "kernels/dense_cases.h"

#include "kernels/ref.h"

static void emulated_dots(void **state)
{
    (void)state;
    lb_kernels emulated;
    lb_fill_ref(&emulated);
    lb_fill_emulated(&emulated);
    check_all_dots(&emulated);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(emulated_dots)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
