/* SPDX-License-Identifier: MIT
 * The Hadamard transform for any processor: registers of four floats, which compilers know how to take
 * apart. */
#define LB_FILL_HADAMARD lb_fill_hadamard_ref
#define LB_HADAMARD_LANES 4
#include "kernels/hadamard_body.h"
