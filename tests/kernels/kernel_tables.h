/* SPDX-License-Identifier: MIT
 * Every table of kernels that this machine and build have, one a level, the portable one first. */
#ifndef LB_TESTS_KERNELS_KERNEL_TABLES_H
#define LB_TESTS_KERNELS_KERNEL_TABLES_H

#include "kernels/kernels.h"

static const lb_kernels *tables[LB_CPU_BEST + 1];
static size_t table_count;

/* A group's set-up. */
static inline int find_tables(void **state)
{
    (void)state;
    for (unsigned level = LB_CPU_REF; level <= LB_CPU_BEST; level++) {
        const lb_kernels *kernels = lb_kernels_get((lb_cpu_level)level);
        if ((unsigned)kernels->level == level)
            tables[table_count++] = kernels;
    }
    return table_count == 0;
}

#endif
