/* SPDX-License-Identifier: MIT
 * The compiled versions of vector_body.h, one for each instruction set. */
#ifndef LB_KERNELS_VECTOR_H
#define LB_KERNELS_VECTOR_H

#include "kernels/kernels.h"

void lb_fill_vector_ref(lb_kernels *table);
void lb_fill_vector_avx2(lb_kernels *table);

#endif
