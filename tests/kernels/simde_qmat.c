/* SPDX-License-Identifier: MIT
 * The AVX-512 matrix kernels on a machine without AVX-512: the same source, on SIMDe's emulation. */
#define LB_SIMDE
#define lb_fill_qmat_avx512 lb_fill_emulated
#include "kernels/x86/qmat_avx512.c"

#include "kernels/simde_qmat_body.h"
