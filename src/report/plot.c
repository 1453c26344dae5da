/* SPDX-License-Identifier: MIT
 * See plot.h. The script stands on gnuplot's standard input and the picture on its standard output: no files. */
#include "report/plot.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/file.h"
#include "io/utf8.h"
#include "report/filter.h"

enum { USUAL_WIDTH = 840, USUAL_HEIGHT = 520, LEGEND_ROW = 22, TITLE_ROWS = 110, MAX_SVG_BYTES = 64 << 20 };
static const double max_seconds = 60.0;
static const double bar_space = 0.8; /* of a category's width */

/* Distinguishable by most eyes and on paper (Okabe & Ito's eight, and four between them). */
static const unsigned palette[LB_PLOT_COLORS] = {0x0072b2, 0xd55e00, 0x009e73, 0xcc79a7, 0xe69f00, 0x56b4e9,
                                                 0x7f3c8d, 0x8c564b, 0x5a9e1f, 0x7f7f7f, 0xb8a800, 0x000000};
/* gnuplot's numbers: a circle, square, triangle, diamond, triangle and pentagon, filled, then open; black has a
 * star. */
static const int markers[LB_PLOT_COLORS] = {7, 5, 9, 13, 11, 15, 6, 4, 8, 12, 10, 3};

/* The next character of a text, as far as XML can hold it: a line's end becomes a space, others '?'. */
static const char *next_character(const char **text, size_t *left, size_t *bytes)
{
    uint32_t code;
    size_t used;
    const char *at = *text;
    const bool valid = lb_utf8_next(at, *left, &code, &used) == LB_UTF8_VALID && code >= 0x20 &&
                       code != 0x7f && code != 0xfffe && code != 0xffff;
    const bool line_end = *at == '\n' || *at == '\t';
    *text += used;
    *left -= used;
    *bytes = valid ? used : 1;
    return valid ? at : line_end ? " " : "?";
}

/* "text" as a gnuplot string, in commands and in data: where backquotes, macros, backslashes and quotes have a
 * meaning, so all that is not plain is written as octal numbers. */
static void put_text(lb_text *out, const char *text, const char *percent)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 _+-.,:()/=";
    size_t bytes;
    lb_text_add_string(out, "\"");
    for (size_t left = strlen(text); left > 0;) {
        const char *c = next_character(&text, &left, &bytes);
        for (size_t i = 0; i < bytes; i++) {
            if (c[i] == '%')
                lb_text_add_string(out, percent);
            else
                lb_text_add_format(out, strchr(plain, c[i]) ? "%c" : "\\%03o", (unsigned char)c[i]);
        }
    }
    lb_text_add_string(out, "\"");
}

static void put_string(lb_text *out, const char *text)
{
    put_text(out, text, "%");
}

static bool is_drawn(const lb_plot *plot, const lb_plot_series *s, size_t i)
{
    return isfinite(s->x[i]) && isfinite(s->y[i]) && (!plot->x_log || s->x[i] > 0.0) &&
           (!plot->y_log || s->y[i] > 0.0);
}

/* Which of the series of bars this one is, and how many there are. */
static size_t bar_index(const lb_plot *plot, const lb_plot_series *series, size_t *count)
{
    size_t index = 0;
    *count = 0;
    for (size_t i = 0; i < plot->series_count; i++) {
        if (&plot->series[i] == series)
            index = *count;
        *count += plot->series[i].style == LB_PLOT_BARS;
    }
    return index;
}

/* $dI: x, y, half an error bar, label. */
static void put_data(lb_text *out, const lb_plot *plot, size_t index)
{
    const lb_plot_series *s = &plot->series[index];
    size_t bars;
    const size_t bar = bar_index(plot, s, &bars);
    const double shift =
        s->style == LB_PLOT_BARS ? ((double)bar + 0.5 - 0.5 * (double)bars) * bar_space / (double)bars : 0.0;
    lb_text_add_format(out, "$d%zu << EOD\n", index);
    for (size_t i = 0; i < s->n; i++) {
        if (!is_drawn(plot, s, i)) {
            lb_text_add_string(out, "\n");
            continue;
        }
        const double error = s->error && isfinite(s->error[i]) ? s->error[i] : 0.0;
        lb_text_add_format(out, "%.17g\t%.17g\t%.17g\t", s->x[i] + shift, s->y[i], error);
        put_string(out, s->labels && s->labels[i] ? s->labels[i] : "");
        lb_text_add_string(out, "\n");
    }
    lb_text_add_string(out, "EOD\n");
}

static void put_range(lb_text *out, const char *axis, double low, double high)
{
    if (low != 0.0 || high != 0.0)
        lb_text_add_format(out, "set %srange [%.17g:%.17g]\n", axis, low, high);
}

static void put_title(lb_text *out, const char *what, const char *text)
{
    if (!text)
        return;
    lb_text_add_format(out, "set %s ", what);
    put_string(out, text);
    lb_text_add_string(out, "\n");
}

static void put_categories(lb_text *out, const lb_plot *plot)
{
    if (!plot->categories)
        return;
    lb_text_add_string(out, "set xtics (");
    for (size_t i = 0; i < plot->category_count; i++) {
        lb_text_add_string(out, i ? ", " : "");
        put_text(out, plot->categories[i], "%%"); /* the name of a tic is a format of its number */
        lb_text_add_format(out, " %zu", i);
    }
    lb_text_add_string(out, ")\nset xtics nomirror scale 0\n");
    if (plot->x_min == 0.0 && plot->x_max == 0.0)
        put_range(out, "x", -0.6, (double)plot->category_count - 0.4);
}

static void put_settings(lb_text *out, const lb_plot *plot)
{
    unsigned labels = 0;
    for (size_t i = 0; i < plot->series_count; i++)
        labels += plot->series[i].label != NULL;
    /* A legend in two columns would leave no room for what it explains. */
    const unsigned tall = LEGEND_ROW * labels + TITLE_ROWS, usual = tall > USUAL_HEIGHT ? tall : USUAL_HEIGHT;
    lb_text_add_format(out,
                       "set terminal svg size %u,%u noenhanced font 'sans-serif,14' background '#ffffff'\n"
                       "set encoding utf8\n"
                       "set datafile separator '\\t'\n"
                       "set datafile commentschars ''\n"
                       "set grid lc rgb '#dddddd'\n"
                       "set style fill solid 0.8\n",
                       plot->width ? plot->width : USUAL_WIDTH, plot->height ? plot->height : usual);
    lb_text_add_string(out, labels ? "set key outside right top Left reverse samplen 2\n" : "set key off\n");
    put_title(out, "title", plot->title);
    put_title(out, "xlabel", plot->x_title);
    put_title(out, "ylabel", plot->y_title);
    if (plot->x_log)
        lb_text_add_string(out, "set logscale x\n");
    if (plot->y_log)
        lb_text_add_string(out, "set logscale y\n");
    put_range(out, "x", plot->x_min, plot->x_max);
    put_range(out, "y", plot->y_min, plot->y_max);
    put_categories(out, plot);
}

static void put_style(lb_text *out, const lb_plot *plot, const lb_plot_series *s, unsigned color)
{
    size_t bars;
    bar_index(plot, s, &bars);
    lb_text_add_string(out, " with ");
    if (s->style == LB_PLOT_BARS)
        lb_text_add_format(out, "boxes lc rgb '#%06x'", palette[color]);
    else if (s->style == LB_PLOT_POINTS)
        lb_text_add_format(out, "points pt %d ps 0.8 lc rgb '#%06x'", markers[color], palette[color]);
    else
        lb_text_add_format(out, "%s lw 2 lc rgb '#%06x'%s",
                           s->style == LB_PLOT_LINE ? "lines" : "linespoints", palette[color],
                           s->dashed ? " dt 2" : "");
    if (s->style == LB_PLOT_LINE_POINTS)
        lb_text_add_format(out, " pt %d ps 0.7", markers[color]);
}

/* One series is up to three plots of the same data: itself, its error bars, its labels. */
static void put_series(lb_text *out, const lb_plot *plot, size_t index, unsigned color)
{
    const lb_plot_series *s = &plot->series[index];
    size_t bars;
    bar_index(plot, s, &bars);
    if (s->style != LB_PLOT_LABELS) {
        if (s->style == LB_PLOT_BARS)
            lb_text_add_format(out, "$d%zu using 1:2:(%.17g)", index, bar_space / (double)bars);
        else
            lb_text_add_format(out, "$d%zu using 1:2", index);
        put_style(out, plot, s, color);
        if (s->label) {
            lb_text_add_string(out, " title ");
            put_string(out, s->label);
        } else {
            lb_text_add_string(out, " notitle");
        }
        lb_text_add_string(out, ", \\\n ");
    }
    if (s->error)
        /* a line from end to end: gnuplot's own error bars leave a white disc behind each point */
        lb_text_add_format(out,
                           "$d%zu using 1:($2-$3):(0):(2*$3) with vectors nohead lw 1.5 lc rgb '#%06x' "
                           "notitle, \\\n ",
                           index, s->style == LB_PLOT_BARS ? 0x333333 : palette[color]);
    if (s->labels)
        lb_text_add_format(out,
                           "$d%zu using 1:2:4 with labels left offset 0.6,0.5 font ',12' tc rgb '#333333' "
                           "notitle, \\\n ",
                           index);
}

static lb_status write_script(const lb_plot *plot, lb_text *script, lb_error *err)
{
    size_t points = 0;
    for (size_t k = 0; k < plot->series_count; k++) {
        size_t of_series = 0;
        for (size_t i = 0; i < plot->series[k].n; i++)
            of_series += is_drawn(plot, &plot->series[k], i);
        points += of_series;
    }
    if (points == 0)
        return lb_fail(err, LB_EINVAL, "the plot \"%.60s\" has no point that can be drawn",
                       plot->title ? plot->title : "");
    put_settings(script, plot);
    for (size_t k = 0; k < plot->series_count; k++)
        put_data(script, plot, k);
    lb_text_add_string(script, "plot ");
    for (size_t k = 0, next = 0; k < plot->series_count; k++) {
        const lb_plot_series *s = &plot->series[k];
        const unsigned color = (s->color ? s->color - 1 : (unsigned)next++) % LB_PLOT_COLORS;
        put_series(script, plot, k, color);
    }
    lb_text_add_string(script, "1/0 notitle\n"); /* ends the list */
    if (script->failed)
        return lb_fail(err, LB_ENOMEM, "the plot \"%.60s\": no memory", plot->title ? plot->title : "");
    return LB_OK;
}

/* Past the XML declaration, which an HTML page must not have. */
static lb_status cut_out(const lb_text *drawn, lb_text *svg, lb_error *err)
{
    const char *begin = drawn->data ? strstr(drawn->data, "<svg") : NULL;
    const char *end = begin ? strstr(begin, "</svg>") : NULL;
    if (!end)
        return lb_fail(err, LB_EIO, "gnuplot ended without a whole picture, after %zu bytes", drawn->length);
    lb_text_add(svg, begin, (size_t)(end - begin) + strlen("</svg>"));
    lb_text_add_string(svg, "\n");
    return svg->failed ? lb_fail(err, LB_ENOMEM, "a plot: no memory for its picture") : LB_OK;
}

lb_status lb_plot_svg(const lb_plot *plot, lb_text *svg, lb_error *err)
{
    /* -d: without the user's own settings */
    static const char *const argv[] = {"gnuplot", "-d", NULL};
    const lb_filter filter = {argv, "plots are drawn by gnuplot (Debian: apt install gnuplot-nox)",
                              MAX_SVG_BYTES, max_seconds};
    lb_text script = {0}, drawn = {0};
    lb_status st = write_script(plot, &script, err);
    if (st == LB_OK)
        st = lb_filter_run(&filter, script.data, script.length, &drawn, err);
    if (st == LB_OK)
        st = cut_out(&drawn, svg, err);
    lb_text_free(&script);
    lb_text_free(&drawn);
    return st;
}

lb_status lb_plot_write(const lb_plot *plot, const char *path, lb_error *err)
{
    lb_text svg = {0};
    lb_status st = lb_plot_svg(plot, &svg, err);
    if (st == LB_OK)
        st = lb_file_replace(path, svg.data, svg.length, err);
    lb_text_free(&svg);
    return st;
}
