/* SPDX-License-Identifier: MIT
 * The element-wise loops for any processor. */
#define LB_FILL_VECTOR lb_fill_vector_ref
#include "kernels/vector_body.h"
