/* SPDX-License-Identifier: MIT
 * See html.h. Syntax: the HTML standard (WHATWG), section 13.1. */
#include "report/html.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/file.h"
#include "io/utf8.h"
#include "report/svg_embed.h"

/* Pictures keep their white ground in the dark: their lines were chosen for it. */
static const char style[] =
    ":root{color-scheme:light "
    "dark;--ground:#fff;--ink:#1c1e21;--soft:#5d6470;--line:#d8dce2;--band:#f4f6f8}\n"
    "@media(prefers-color-scheme:dark){:root{--ground:#16181c;--ink:#e4e6ea;--soft:#9aa2ae;--line:#383d45;"
    "--band:#1e2126}}\n"
    "body{margin:0 auto;max-width:60rem;padding:2rem 1rem 4rem;background:var(--ground);color:var(--ink);"
    "font:16px/1.5 system-ui,sans-serif}\n"
    "h1{font-size:1.8rem;line-height:1.2}h2{font-size:1.35rem;margin-top:2.2em}h3{font-size:1.1rem}\n"
    "pre{padding:.8rem 1rem;overflow-x:auto;background:var(--band);border:1px solid var(--line);"
    "border-radius:4px;font:14px/1.45 ui-monospace,monospace}\n"
    ".wide{overflow-x:auto}\n"
    "table{border-collapse:collapse;font-size:.92rem}\n"
    "caption,figcaption{color:var(--soft);text-align:left;padding:.4rem 0;font-size:.92rem}\n"
    "th,td{padding:.3rem .8rem;border-bottom:1px solid var(--line);text-align:left;white-space:nowrap}\n"
    "th{border-bottom:2px solid var(--line)}tbody tr:nth-child(even){background:var(--band)}\n"
    ".n{text-align:right;font-variant-numeric:tabular-nums}\n"
    "figure{margin:1.5rem 0}figure svg{display:block;max-width:100%;height:auto;background:#fff;"
    "border-radius:4px}\n"
    "@media print{body{max-width:none;padding:0}figure,table{break-inside:avoid}}\n";

/* Control characters besides tab and line ends may not stand in HTML at all. */
static bool is_allowed(uint32_t code)
{
    return code >= 0x20 ? code != 0x7f && !(code >= 0x80 && code < 0xa0) : code == '\t' || code == '\n';
}

void lb_html_escape(lb_text *out, const char *text)
{
    size_t left = strlen(text), used;
    for (; left > 0; text += used, left -= used) {
        uint32_t code;
        const bool valid = lb_utf8_next(text, left, &code, &used) == LB_UTF8_VALID;
        if (!valid || !is_allowed(code))
            lb_text_add_string(out, LB_UTF8_REPLACEMENT);
        else if (code == '&')
            lb_text_add_string(out, "&amp;");
        else if (code == '<')
            lb_text_add_string(out, "&lt;");
        else if (code == '>')
            lb_text_add_string(out, "&gt;");
        else if (code == '"')
            lb_text_add_string(out, "&quot;");
        else if (code == '\'')
            lb_text_add_string(out, "&#39;");
        else
            lb_text_add(out, text, used);
    }
}

/* <tag>text</tag> and a new line. */
static void add_element(lb_html *html, const char *tag, const char *text)
{
    lb_text_add_format(&html->text, "<%s>", tag);
    lb_html_escape(&html->text, text);
    lb_text_add_format(&html->text, "</%s>\n", tag);
}

void lb_html_begin(lb_html *html, const char *title)
{
    lb_text_add_string(&html->text,
                       "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                       "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    add_element(html, "title", title);
    lb_text_add_string(&html->text, "<style>\n");
    lb_text_add_string(&html->text, style);
    lb_text_add_string(&html->text, "</style>\n</head>\n<body>\n");
    add_element(html, "h1", title);
}

void lb_html_heading(lb_html *html, unsigned level, const char *text)
{
    add_element(html, level <= 2 ? "h2" : "h3", text);
}

void lb_html_paragraph(lb_html *html, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *plain = length < 0 ? NULL : lb_alloc((size_t)length + 1, 1);
    if (!plain) {
        html->text.failed = true;
        return;
    }
    va_start(args, format);
    vsnprintf(plain, (size_t)length + 1, format, args);
    va_end(args);
    add_element(html, "p", plain);
    lb_free(plain);
}

void lb_html_list(lb_html *html, const char *const *items, size_t count)
{
    lb_text_add_string(&html->text, "<ul>\n");
    for (size_t i = 0; i < count; i++)
        add_element(html, "li", items[i]);
    lb_text_add_string(&html->text, "</ul>\n");
}

void lb_html_code(lb_html *html, const char *text)
{
    lb_text_add_string(&html->text, "<pre><code>");
    lb_html_escape(&html->text, text);
    lb_text_add_string(&html->text, "</code></pre>\n");
}

static void add_cell(lb_html *html, bool head, bool number, const char *text)
{
    lb_text_add_string(&html->text, head ? "<th scope=\"col\"" : "<td");
    lb_text_add_string(&html->text, number ? " class=\"n\">" : ">");
    lb_html_escape(&html->text, text);
    lb_text_add_string(&html->text, head ? "</th>" : "</td>");
}

void lb_html_table(lb_html *html, const char *caption, const lb_column *columns, size_t column_count,
                   const char *const *cells, size_t rows)
{
    lb_text_add_string(&html->text, "<div class=\"wide\">\n<table>\n");
    if (caption)
        add_element(html, "caption", caption);
    lb_text_add_string(&html->text, "<thead><tr>");
    for (size_t c = 0; c < column_count; c++)
        add_cell(html, true, columns[c].number, columns[c].name);
    lb_text_add_string(&html->text, "</tr></thead>\n<tbody>\n");
    for (size_t r = 0; r < rows; r++) {
        lb_text_add_string(&html->text, "<tr>");
        for (size_t c = 0; c < column_count; c++)
            add_cell(html, false, columns[c].number, cells[r * column_count + c]);
        lb_text_add_string(&html->text, "</tr>\n");
    }
    lb_text_add_string(&html->text, "</tbody>\n</table>\n</div>\n");
}

lb_status lb_html_svg(lb_html *html, const char *svg, size_t bytes, const char *caption, lb_error *err)
{
    lb_text picture = {0};
    char prefix[32];
    snprintf(prefix, sizeof prefix, "f%u-", ++html->figures);
    const lb_status st = lb_svg_embed(svg, bytes, prefix, &picture, err);
    if (st == LB_OK) {
        lb_text_add_string(&html->text, "<figure>\n");
        lb_text_add(&html->text, picture.data, picture.length);
        lb_text_add_string(&html->text, "\n");
        if (caption)
            add_element(html, "figcaption", caption);
        lb_text_add_string(&html->text, "</figure>\n");
    }
    lb_text_free(&picture);
    return st;
}

lb_status lb_html_finish(lb_html *html, const char *path, lb_error *err)
{
    lb_text_add_string(&html->text, "</body>\n</html>\n");
    if (html->text.failed)
        return lb_fail(err, LB_ENOMEM, "%s: no memory for the report", path);
    return lb_file_replace(path, html->text.data, html->text.length, err);
}

void lb_html_free(lb_html *html)
{
    lb_text_free(&html->text);
    *html = (lb_html){0};
}
