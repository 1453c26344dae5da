/* SPDX-License-Identifier: MIT
 * The Hadamard transform, compiled for AVX2. */
#define LB_FILL_HADAMARD lb_fill_hadamard_avx2
#define LB_HADAMARD_LANES 8
#include "kernels/hadamard_body.h"
