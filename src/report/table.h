/* SPDX-License-Identifier: MIT
 *
 * A table of strings, and the four ways in which one is written: for a terminal, for Markdown, for programs
 * (CSV) and for a report (html.h).
 *
 *     static const lb_column columns[] = {{"pair", false}, {"KL", true}};
 *     lb_table table = {.columns = columns, .column_count = 2};
 *     lb_table_add(&table, "MXINT8 - MXFP8");
 *     lb_table_add_format(&table, "%.5f", kl);
 *     lb_table_text(&table, &out);
 *     lb_table_free(&table);
 *
 * Cells are added row by row; the last row counts once all its cells are there. Memory that runs out is
 * noticed where the table is written: `failed` of the text that it goes to.
 */
#ifndef LB_REPORT_TABLE_H
#define LB_REPORT_TABLE_H

#include <stddef.h>

#include "base/text.h"
#include "report/html.h"

enum { LB_TABLE_CELL_BYTES = 256 }; /* that lb_table_add_format makes at most, the NUL included */

typedef struct lb_table {
    const lb_column *columns; /* the caller keeps them */
    size_t column_count; /* at least 1 */
    lb_text cells; /* each with a NUL after it */
    size_t cell_count;
} lb_table;

void lb_table_add(lb_table *table, const char *cell);
/* A formatted cell; what does not fit into LB_TABLE_CELL_BYTES is cut. */
void lb_table_add_format(lb_table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));
size_t lb_table_rows(const lb_table *table);

/* Columns aligned by spaces, a line under their names. A character takes the columns that Unicode says. */
void lb_table_text(const lb_table *table, lb_text *out);
/* GitHub's tables. */
void lb_table_markdown(const lb_table *table, lb_text *out);
/* The names, then the rows; quoted as RFC 4180 says, lines ended as Unix does. */
void lb_table_csv(const lb_table *table, lb_text *out);
/* caption NULL: none. */
void lb_table_html(const lb_table *table, const char *caption, lb_html *html);

void lb_table_free(lb_table *table);

#endif
