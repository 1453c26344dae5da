/* SPDX-License-Identifier: MIT
 * Overrides some entries of a table with NEON kernels, which every aarch64 processor can run. */
#ifndef LB_KERNELS_ARM_ARM_H
#define LB_KERNELS_ARM_ARM_H

#include "kernels/kernels.h"

void lb_fill_planes_neon(lb_kernels *table);

#endif
