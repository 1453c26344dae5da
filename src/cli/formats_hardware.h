/* SPDX-License-Identifier: MIT
 * `lowbit formats --hw`: what multiply-accumulate lanes of each format cost, by analyze/hardware.h. */
#ifndef LB_CLI_FORMATS_HARDWARE_H
#define LB_CLI_FORMATS_HARDWARE_H

#include <jansson.h>

#include "base/error.h"

/* cells_path: a file of cell factors (lb_hardware_factors_read); NULL: the defaults. The table, with every
 * assumption, goes to standard output, which the caller flushes. */
lb_status lb_print_hardware(const char *cells_path, lb_error *err);

/* The same as a new JSON object; NULL with the sentence. */
json_t *lb_hardware_json(const char *cells_path, lb_error *err);

#endif
