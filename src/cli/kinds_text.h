/* SPDX-License-Identifier: MIT
 * What is told of formats with elements of two kinds (formats/kinds.h) beside the bits that they take: the nominal
 * ones, and how the high elements are marked. */
#ifndef LB_CLI_KINDS_TEXT_H
#define LB_CLI_KINDS_TEXT_H

#include <jansson.h>

#include "formats/format.h"

/* A line; nothing of other formats. */
void lb_print_kinds(const lb_format *format);

/* Adds "nominal_bits" and "marked_by" to the object (NULL: stays so), and returns it. */
json_t *lb_kinds_add_json(const lb_format *format, json_t *object);

#endif
