/* SPDX-License-Identifier: MIT
 * The AVX-512 kernel of SQ-format's high elements on a machine without AVX-512: the same source, emulated by SIMDe. */
#define LB_SIMDE
#define lb_fill_high_avx512 lb_fill_emulated
#include "kernels/x86/high_avx512.c"

#include "kernels/simde_high_body.h"
