/* SPDX-License-Identifier: MIT
 * See table.h. CSV: RFC 4180, section 2. Markdown: GitHub Flavored Markdown, section 4.10. */
#include "report/table.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

#include "base/alloc.h"
#include "io/utf8.h"

void lb_table_add(lb_table *table, const char *cell)
{
    lb_text_add(&table->cells, cell, strlen(cell) + 1);
    table->cell_count += !table->cells.failed;
}

void lb_table_add_format(lb_table *table, const char *format, ...)
{
    char cell[LB_TABLE_CELL_BYTES];
    va_list args;
    va_start(args, format);
    const int length = vsnprintf(cell, sizeof cell, format, args);
    va_end(args);
    lb_table_add(table, length < 0 ? "" : cell);
}

size_t lb_table_rows(const lb_table *table)
{
    return table->cell_count / table->column_count;
}

/* The names are row 0. `next` walks the cells: NULL before the first. */
static const char *next_cell(const lb_table *table, size_t row, size_t column, const char **next)
{
    if (row == 0)
        return table->columns[column].name;
    const char *cell = *next ? *next : table->cells.data;
    *next = cell + strlen(cell) + 1;
    return cell;
}

typedef void put_cell(const lb_table *table, size_t row, size_t column, const char *cell, void *context);

/* Every cell in order, names first. */
static void walk(const lb_table *table, put_cell *put, void *context)
{
    const char *next = NULL;
    for (size_t row = 0; row <= lb_table_rows(table); row++) {
        for (size_t column = 0; column < table->column_count; column++)
            put(table, row, column, next_cell(table, row, column, &next), context);
    }
}

/* What a failed table is written to has failed too. */
static bool is_lost(const lb_table *table, lb_text *out)
{
    out->failed = out->failed || table->cells.failed;
    return out->failed;
}

/* ---- Text --------------------------------------------------------------------------------------------- */

typedef struct text_job {
    lb_text *out;
    size_t *widths;
} text_job;

/* Appends the cell on one line, control characters as spaces, mistakes as U+FFFD; returns its width. */
static size_t put_line(lb_text *out, const char *cell)
{
    size_t width = 0, used;
    for (size_t left = strlen(cell); left > 0; cell += used, left -= used) {
        uint32_t code;
        if (lb_utf8_next(cell, left, &code, &used) != LB_UTF8_VALID) {
            lb_text_add_string(out, LB_UTF8_REPLACEMENT);
            width++;
        } else if (code < 0x20 || (code >= 0x7f && code < 0xa0)) {
            lb_text_add_string(out, " ");
            width++;
        } else {
            lb_text_add(out, cell, used);
            width += (size_t)utf8proc_charwidth((utf8proc_int32_t)code);
        }
    }
    return width;
}

static void put_repeated(lb_text *out, char byte, size_t count)
{
    while (count-- > 0)
        lb_text_add(out, &byte, 1);
}

/* A last cell that is empty leaves the gap before it at the line's end. */
static void trim_line(lb_text *out)
{
    while (!out->failed && out->length > 0 && out->data[out->length - 1] == ' ')
        out->data[--out->length] = '\0';
}

static void measure_cell(const lb_table *table, size_t row, size_t column, const char *cell, void *context)
{
    text_job *job = context;
    (void)table;
    (void)row;
    const size_t width = put_line(job->out, cell);
    job->widths[column] = width > job->widths[column] ? width : job->widths[column];
}

static void put_text_cell(const lb_table *table, size_t row, size_t column, const char *cell, void *context)
{
    const text_job *job = context;
    const bool last = column + 1 == table->column_count, number = table->columns[column].number;
    lb_text plain = {0};
    const size_t gap = job->widths[column] - put_line(&plain, cell);
    put_repeated(job->out, ' ', number ? gap : 0);
    lb_text_add(job->out, plain.data, plain.length);
    put_repeated(job->out, ' ', last ? 0 : (number ? 0 : gap) + 2);
    job->out->failed = job->out->failed || plain.failed;
    lb_text_free(&plain);
    if (!last)
        return;
    trim_line(job->out);
    lb_text_add_string(job->out, "\n");
    for (size_t c = 0; row == 0 && c < table->column_count; c++) {
        put_repeated(job->out, '-', job->widths[c]);
        lb_text_add_string(job->out, c + 1 < table->column_count ? "  " : "\n");
    }
}

void lb_table_text(const lb_table *table, lb_text *out)
{
    size_t *widths = lb_alloc_zero(table->column_count, sizeof *widths);
    lb_text scratch = {0};
    text_job measure = {&scratch, widths}, job = {out, widths};
    out->failed = out->failed || !widths;
    if (!is_lost(table, out)) {
        walk(table, measure_cell, &measure);
        walk(table, put_text_cell, &job);
    }
    lb_text_free(&scratch);
    lb_free(widths);
}

/* ---- Markdown ----------------------------------------------------------------------------------------- */

static void put_markdown_cell(const lb_table *table, size_t row, size_t column, const char *cell,
                              void *context)
{
    lb_text *out = context, line = {0};
    put_line(&line, cell);
    lb_text_add_string(out, "| ");
    for (size_t i = 0; i < line.length; i++) {
        if (strchr("\\|`*<[&", line.data[i]))
            lb_text_add_string(out, "\\");
        lb_text_add(out, &line.data[i], 1);
    }
    out->failed = out->failed || line.failed;
    lb_text_free(&line);
    lb_text_add_string(out, " ");
    if (column + 1 < table->column_count)
        return;
    lb_text_add_string(out, "|\n");
    if (row > 0)
        return;
    for (size_t c = 0; c < table->column_count; c++)
        lb_text_add_string(out, table->columns[c].number ? "|---:" : "|---");
    lb_text_add_string(out, "|\n");
}

void lb_table_markdown(const lb_table *table, lb_text *out)
{
    if (!is_lost(table, out))
        walk(table, put_markdown_cell, out);
}

/* ---- CSV ---------------------------------------------------------------------------------------------- */

static void put_csv_cell(const lb_table *table, size_t row, size_t column, const char *cell, void *context)
{
    lb_text *out = context;
    (void)row;
    /* A row of one empty cell would be an empty line. */
    const bool quoted = strpbrk(cell, "\",\r\n") || (table->column_count == 1 && !*cell);
    if (quoted)
        lb_text_add_string(out, "\"");
    for (; *cell; cell++) {
        if (*cell == '"')
            lb_text_add_string(out, "\"");
        lb_text_add(out, cell, 1);
    }
    if (quoted)
        lb_text_add_string(out, "\"");
    lb_text_add_string(out, column + 1 < table->column_count ? "," : "\n");
}

void lb_table_csv(const lb_table *table, lb_text *out)
{
    if (!is_lost(table, out))
        walk(table, put_csv_cell, out);
}

/* ---- HTML --------------------------------------------------------------------------------------------- */

static void collect_cell(const lb_table *table, size_t row, size_t column, const char *cell, void *context)
{
    const char **cells = context;
    if (row > 0)
        cells[(row - 1) * table->column_count + column] = cell;
}

void lb_table_html(const lb_table *table, const char *caption, lb_html *html)
{
    const size_t rows = lb_table_rows(table);
    if (is_lost(table, &html->text))
        return;
    const char **cells = lb_alloc(rows * table->column_count, sizeof *cells);
    html->text.failed = !cells;
    if (cells) {
        walk(table, collect_cell, cells);
        lb_html_table(html, caption, table->columns, table->column_count, cells, rows);
    }
    lb_free(cells);
}

void lb_table_free(lb_table *table)
{
    lb_text_free(&table->cells);
    table->cell_count = 0;
}
