/* SPDX-License-Identifier: MIT
 * The element-wise loops, compiled for AVX2. */
#define LB_FILL_VECTOR lb_fill_vector_avx2
#include "kernels/vector_body.h"
