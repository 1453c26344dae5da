/* SPDX-License-Identifier: MIT
 * The Hadamard transform, compiled for AVX-512. */
#define LB_FILL_HADAMARD lb_fill_hadamard_avx512
#define LB_HADAMARD_LANES 16
#include "kernels/hadamard_body.h"
