/* SPDX-License-Identifier: MIT
 * The AVX-512 VNNI kernel of SQ-format's high elements on a machine without it: the same source, emulated. */
#define LB_SIMDE
#define lb_fill_high_avx512vnni lb_fill_emulated
#include "kernels/x86/high_avx512vnni.c"

#include "kernels/simde_high_body.h"
