/* SPDX-License-Identifier: MIT
 * The AVX-512 block kernels on a machine without AVX-512: the same source, on SIMDe's emulation. */
#define LB_SIMDE
#define lb_fill_block_codec_avx512 lb_fill_emulated
#include "kernels/x86/intrinsics.h"

/* One copy of each function is enough here: inlined emulation takes a compiler minutes. */
#undef LB_INLINE
#define LB_INLINE static inline
#include "kernels/x86/block_codec_avx512.c"

#include "kernels/block_codec_cases.h"

#include "kernels/ref.h"

static void emulated_block_kernels(void **state)
{
    (void)state;
    lb_kernels emulated;
    lb_fill_ref(&emulated);
    lb_fill_emulated(&emulated);
    codec_check_all(&emulated, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(emulated_block_kernels)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
