/* SPDX-License-Identifier: MIT
 * `lowbit quantize --report`: what a run did to every layer, as one HTML page that stands alone. */
#ifndef LB_CLI_QUANTIZE_PAGE_H
#define LB_CLI_QUANTIZE_PAGE_H

#include "cli/quantize_text.h"

/* The page appears when it is whole. Without gnuplot it has no plots: *plots_missing says so. */
lb_status lb_quantize_page(const lb_quantize_findings *f, const char *command, const char *path,
                           bool *plots_missing, lb_error *err);

#endif
