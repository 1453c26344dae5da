/* SPDX-License-Identifier: MIT
 * The AVX-512 products of rows on a machine without AVX-512: the same source, on SIMDe's emulation. */
#define LB_SIMDE
#define lb_fill_rows_avx512 lb_fill_emulated
#include "kernels/x86/rows_avx512.c"
#undef LANES

#include "kernels/rows_cases.h"

#include "kernels/ref.h"

static void emulated_rows(void **state)
{
    (void)state;
    lb_kernels emulated;
    lb_fill_rows_ref(&emulated);
    lb_fill_emulated(&emulated);
    check_all_rows(&emulated);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(emulated_rows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
