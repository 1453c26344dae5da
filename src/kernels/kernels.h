/* SPDX-License-Identifier: MIT
 * The table of hot loops. kernels.def lists them; ref.c holds the portable versions; a file per
 * instruction set overrides what it does better. Built once per level, immutable afterwards. */
#ifndef LB_KERNELS_KERNELS_H
#define LB_KERNELS_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "base/cpu.h"
#include "base/error.h"
#include "formats/format.h"
#include "kernels/adamw.h"
#include "kernels/high_panel.h"
#include "kernels/panel.h"
#include "kernels/plane_panel.h"
#include "kernels/rows.h"

typedef struct lb_kernels {
    lb_cpu_level level; /* what the table was made for, after capping by what the machine has */
#define LB_KERNEL(ret, name, args) ret(*name) args;
#include "kernels/kernels.def"
#undef LB_KERNEL
} lb_kernels;

/* The table for the best level that is at most `cap` and that this machine has. */
const lb_kernels *lb_kernels_get(lb_cpu_level cap);

/* The same for a level's name (of LB_CPU_NAMES; NULL: the best), as users give it. */
lb_status lb_kernels_choose(const char *cap, const lb_kernels **out, lb_error *err);

#endif
