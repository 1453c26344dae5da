/* SPDX-License-Identifier: MIT
 * Fills a whole table with the portable kernels. */
#ifndef LB_KERNELS_REF_H
#define LB_KERNELS_REF_H

#include "kernels/kernels.h"

void lb_fill_ref(lb_kernels *table);

#endif
