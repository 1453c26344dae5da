/* SPDX-License-Identifier: MIT
 * Fills a whole table with the portable kernels; those that are compiled from a common body have a
 * function of their own. */
#ifndef LB_KERNELS_REF_H
#define LB_KERNELS_REF_H

#include "kernels/kernels.h"

void lb_fill_ref(lb_kernels *table);
void lb_fill_hadamard_ref(lb_kernels *table);
void lb_fill_planes_ref(lb_kernels *table);
void lb_fill_high_ref(lb_kernels *table);
void lb_fill_rows_ref(lb_kernels *table);

#endif
