/* SPDX-License-Identifier: MIT
 * The throughput of two precisions side by side, by model and as measured here (analyze/throughput.h). */
#ifndef LB_CLI_FORMATS_THROUGHPUT_H
#define LB_CLI_FORMATS_THROUGHPUT_H

#include <jansson.h>

#include "analyze/throughput.h"

void lb_print_throughput(const lb_throughput *measured);
json_t *lb_throughput_json(const lb_throughput *measured);

#endif
