/* SPDX-License-Identifier: MIT
 * The AVX-512 VNNI matrix kernels on a machine without them: the same source, on SIMDe's emulation. */
#define LB_SIMDE
#define lb_fill_qmat_avx512vnni lb_fill_emulated
#include "kernels/x86/qmat_avx512vnni.c"

#include "kernels/simde_qmat_body.h"
