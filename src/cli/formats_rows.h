/* SPDX-License-Identifier: MIT
 * What `lowbit formats` measured, as a table and as JSON. */
#ifndef LB_CLI_FORMATS_ROWS_H
#define LB_CLI_FORMATS_ROWS_H

#include <jansson.h>

#include "analyze/qsnr_measure.h"
#include "cli/formats_select.h"

typedef struct lb_formats_row {
    const lb_format *format;
    bool rotated;
    lb_qsnr_result result;
} lb_formats_row;

typedef struct lb_formats_rows {
    lb_formats_row items[2 * 256];
    size_t count;
    const char *dist; /* what was measured: "gaussian", "MODEL:NAME" */
} lb_formats_rows;

void lb_print_formats_rows(const lb_formats_rows *rows);
json_t *lb_formats_rows_json(const lb_formats_rows *rows);

/* An integer format and the floating-point one of the same size and rule, both of the list. */
typedef struct lb_format_pair {
    const lb_format *integer, *floating;
} lb_format_pair;

enum { LB_PAIRS_MAX = 32 };

size_t lb_format_pairs(const lb_format_list *list, lb_format_pair out[LB_PAIRS_MAX]);

/* The crest factor below which the integers of each pair are better, by each theory. */
void lb_print_crossovers(const lb_format_list *list);
json_t *lb_crossovers_json(const lb_format_list *list);

#endif
