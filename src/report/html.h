/* SPDX-License-Identifier: MIT
 *
 * A report as one HTML file that stands alone: no scripts, nothing loaded from elsewhere, light or dark as
 * the reader's system is. Whatever text is given comes out as text: the characters that HTML gives a
 * meaning to are escaped, and bytes that are no UTF-8 become U+FFFD.
 *
 *     lb_html html = {0};
 *     lb_html_begin(&html, "Integer or float");
 *     lb_html_paragraph(&html, "%zu tokens of %s.", tokens, file);
 *     lb_html_table(&html, "Divergence", columns, 3, cells, rows);
 *     st = lb_html_svg(&html, svg.data, svg.length, "QSNR by crest factor", err);
 *     if (st == LB_OK)
 *         st = lb_html_finish(&html, "report.html", err);
 *     lb_html_free(&html);
 *
 * Memory that runs out is noticed by lb_html_finish.
 */
#ifndef LB_REPORT_HTML_H
#define LB_REPORT_HTML_H

#include <stdbool.h>

#include "base/error.h"
#include "base/text.h"

typedef struct lb_html {
    lb_text text;
    unsigned figures; /* so far: makes the names inside each picture its own */
} lb_html;

/* A column of a table. Numbers are aligned to the right. */
typedef struct lb_column {
    const char *name;
    bool number;
} lb_column;

/* The beginning of the file, and the title as its first heading. Once, first. */
void lb_html_begin(lb_html *html, const char *title);

/* level 2 (a section) or 3. */
void lb_html_heading(lb_html *html, unsigned level, const char *text);
void lb_html_paragraph(lb_html *html, const char *format, ...) __attribute__((format(printf, 2, 3)));
void lb_html_list(lb_html *html, const char *const *items, size_t count);
/* Text as it is, in a fixed width: a command, its output. */
void lb_html_code(lb_html *html, const char *text);

/* cells [rows * column_count], row by row; caption NULL: none. */
void lb_html_table(lb_html *html, const char *caption, const lb_column *columns, size_t column_count,
                   const char *const *cells, size_t rows);

/* An SVG file's bytes as a picture of the page; see svg_embed.h for what is refused. caption NULL: none. */
lb_status lb_html_svg(lb_html *html, const char *svg, size_t bytes, const char *caption, lb_error *err);

/* The end of the file; writes it: complete or not at all. */
lb_status lb_html_finish(lb_html *html, const char *path, lb_error *err);
void lb_html_free(lb_html *html);

/* Appends text as it has to be written in HTML, between tags and in quoted attributes. */
void lb_html_escape(lb_text *out, const char *text);

#endif
