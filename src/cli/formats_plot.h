/* SPDX-License-Identifier: MIT
 * `lowbit formats --plot`: QSNR against the crest factor, for every format of a list: the theory as a line, a
 * measurement on normal blocks as points, and the crossovers of integers and floats marked. */
#ifndef LB_CLI_FORMATS_PLOT_H
#define LB_CLI_FORMATS_PLOT_H

#include <stdint.h>

#include "cli/formats_select.h"
#include "kernels/kernels.h"

lb_status lb_formats_plot(const lb_format_list *list, const lb_kernels *kernels, uint64_t seed,
                          const char *path, lb_error *err);

#endif
