/* SPDX-License-Identifier: MIT
 * Plots: what is asked for is in the picture, whatever the texts; and gnuplot may be missing or misbehave. */
#define _GNU_SOURCE
#include "scratch.h"

#include <ctype.h>

#include "report/plot.h"

static const double xs[] = {1.0, 2.0, 3.0, 4.0}, ys[] = {10.0, 20.0, 15.0, 5.0},
                    halves[] = {1.0, 2.0, 1.0, 2.0};

/* Tags that close what was opened, attributes in quotes, no bare & in text: what a reader of XML insists on. */
static void check_xml(const char *at)
{
    char open[64][24];
    size_t depth = 0;
    while (*at) {
        if (strncmp(at, "<!--", 4) == 0) {
            at = strstr(at, "-->");
            assert_non_null(at);
            at += 3;
            continue;
        }
        if (*at == '&')
            assert_true(strncmp(at, "&amp;", 5) == 0 || strncmp(at, "&lt;", 4) == 0 ||
                        strncmp(at, "&gt;", 4) == 0 || strncmp(at, "&quot;", 6) == 0 ||
                        strncmp(at, "&#", 2) == 0);
        if (*at++ != '<')
            continue;
        const bool end = *at == '/';
        at += end;
        const size_t length = strcspn(at, " \t\r\n/>");
        assert_true(isalpha((unsigned char)*at) && length < sizeof *open);
        if (end) {
            assert_true(depth > 0 && strlen(open[depth - 1]) == length);
            assert_memory_equal(open[--depth], at, length);
        } else {
            assert_true(depth < 64);
            snprintf(open[depth++], sizeof *open, "%.*s", (int)length, at);
        }
        for (at += length; *at != '>'; at++) {
            assert_true(*at != '\0' && *at != '<');
            if (*at == '"' || *at == '\'')
                at = strchr(at + 1, *at);
            assert_non_null(at);
        }
        depth -= !end && at[-1] == '/';
        at++;
    }
    assert_int_equal(depth, 0);
}

static bool has_gnuplot(void)
{
    return system("command -v gnuplot >/dev/null 2>&1") == 0;
}

/* The picture; free it. */
static char *draw(const lb_plot *plot)
{
    lb_text svg = {0};
    lb_error err;
    if (lb_plot_svg(plot, &svg, &err) != LB_OK)
        fail_msg("%s", err.msg);
    assert_memory_equal(svg.data, "<svg", 4);
    assert_memory_equal(svg.data + svg.length - 7, "</svg>\n", 7);
    assert_int_equal(strlen(svg.data), svg.length);
    check_xml(svg.data);
    char *copy = strdup(svg.data);
    lb_text_free(&svg);
    return copy;
}

static void has(const char *svg, const char *text)
{
    if (!strstr(svg, text))
        fail_msg("the picture lacks \"%s\"", text);
}

static size_t count(const char *svg, const char *text)
{
    size_t n = 0;
    for (const char *at = strstr(svg, text); at; at = strstr(at + 1, text))
        n++;
    return n;
}

/* Markers are drawn as <use>. */
static size_t markers(const char *svg)
{
    return count(svg, "<use xlink:href='#gpPt");
}

static void every_style(void **state)
{
    (void)state;
    const char *const labels[] = {"first", NULL, "third", NULL};
    const char *const categories[] = {"8-bit", "6-bit", "4-bit", "last"};
    if (!has_gnuplot())
        skip();
    lb_plot_series s[] = {
        {.label = "a line", .x = xs, .y = ys, .n = 4},
        {.label = "points", .x = xs, .y = ys, .n = 4, .style = LB_PLOT_POINTS, .error = halves},
        {.label = "both", .x = xs, .y = halves, .n = 4, .style = LB_PLOT_LINE_POINTS, .dashed = true},
        {.x = xs, .y = ys, .n = 4, .style = LB_PLOT_LABELS, .labels = labels},
    };
    const lb_plot plot = {.title = "A title",
                          .x_title = "across",
                          .y_title = "up",
                          .y_log = true,
                          .series = s,
                          .series_count = 4,
                          .width = 500,
                          .height = 300};
    char *svg = draw(&plot);
    const char *const texts[] = {"A title", "across", "up",    "a line", "points",
                                 "both",    "first",  "third", "500"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        has(svg, texts[i]);
    free(svg);

    const double places[] = {0.0, 1.0, 2.0, 3.0};
    const lb_plot_series bars[] = {{.label = "one", .x = places, .y = ys, .n = 4, .style = LB_PLOT_BARS},
                                   {.label = "two", .x = places, .y = halves, .n = 4, .style = LB_PLOT_BARS}};
    const lb_plot chart = {.series = bars, .series_count = 2, .categories = categories, .category_count = 4};
    svg = draw(&chart);
    has(svg, "8-bit");
    has(svg, "4-bit");
    has(svg, "last");
    free(svg);
}

/* Of gnuplot's curves, whose frame is 840 wide: how far right the axes' last corner is. */
static void a_long_legend_leaves_room(void **state)
{
    enum { MANY = 40 };
    (void)state;
    if (!has_gnuplot())
        skip();
    lb_plot_series s[MANY];
    for (size_t i = 0; i < MANY; i++)
        s[i] = (lb_plot_series){.label = "a run of some name, latest:10:50", .x = xs, .y = ys, .n = 4};
    const lb_plot plot = {.series = s, .series_count = MANY};
    char *svg = draw(&plot);
    unsigned width = 0, height = 0;
    assert_int_equal(sscanf(strstr(svg, "width="), "width=\"%u\" height=\"%u\"", &width, &height), 2);
    assert_int_equal(width, 840);
    assert_true(height >= 40 * 14);
    /* All texts of the legend begin at one place: it has one column. */
    char *first = strstr(svg, ">a run"), *last = first;
    double from = 0.0, to = 0.0;
    for (char *at = first; at; at = strstr(at + 1, ">a run"))
        last = at;
    for (char *at = first; from == 0.0; at--)
        if (strncmp(at, "translate(", 10) == 0)
            from = strtod(at + 10, NULL);
    for (char *at = last; to == 0.0; at--)
        if (strncmp(at, "translate(", 10) == 0)
            to = strtod(at + 10, NULL);
    assert_true(fabs(from - to) < 1.0);
    free(svg);
}

/* Points that have no place are left out, and no others. */
static void points_that_are_not_there(void **state)
{
    (void)state;
    if (!has_gnuplot())
        skip();
    const double x[] = {1.0, 2.0, NAN, 4.0, 5.0, -1.0}, y[] = {1.0, INFINITY, 3.0, 0.0, 5.0, 6.0};
    const lb_plot_series s = {.x = x, .y = y, .n = 6, .style = LB_PLOT_POINTS};
    lb_plot plot = {.series = &s, .series_count = 1};
    char *svg = draw(&plot);
    const size_t linear = markers(svg);
    free(svg);
    plot.x_log = plot.y_log = true;
    svg = draw(&plot);
    assert_int_equal(linear - markers(svg), 2); /* (4, 0) and (-1, 6) */
    free(svg);
    const lb_plot_series fewer = {.x = x, .y = y, .n = 1, .style = LB_PLOT_POINTS};
    plot = (lb_plot){.series = &fewer, .series_count = 1};
    svg = draw(&plot);
    assert_int_equal(linear - markers(svg), 3); /* of (1, 1), (4, 0), (5, 5), (-1, 6) */
    free(svg);
}

/* Texts come out as they are, and nothing in them is an order to anyone. */
static void hostile_texts(void **state)
{
    (void)state;
    if (!has_gnuplot())
        skip();
    char *folder = scratch_make("plot"), trap[SCRATCH_PATH_BYTES], texts[6][SCRATCH_PATH_BYTES];
    snprintf(trap, sizeof trap, "%s/trap", folder);
    snprintf(texts[0], sizeof *texts, "`touch %.200s`", trap);
    snprintf(texts[1], sizeof *texts, "'; system(\"touch %.200s\"); '", trap);
    snprintf(texts[2], sizeof *texts, "\"\n!touch %.200s\nEOD\n", trap);
    snprintf(texts[3], sizeof *texts, "<script>&amp;</script> x_1 ^2 {/Symbol a}");
    snprintf(texts[4], sizeof *texts, "bytes \x01\x7f\xff\xc3 \xc3\xa9 \\n \\");
    snprintf(texts[5], sizeof *texts, "@macro $d0 %%s # 'x'");
    static const char *const shown[6] = {[1] = "; system(",
                                         [3] = "&lt;script>&amp;amp;&lt;/script> x_1 ^2 {/Symbol a}",
                                         [4] = "bytes ???? \xc3\xa9 \\n \\",
                                         [5] = "@macro $d0 %s # 'x'"};
    for (int i = 0; i < 6; i++) {
        const char *const labels[] = {texts[i], texts[i], NULL, NULL}, *const categories[] = {texts[i], "1",
                                                                                              "2"};
        const lb_plot_series s = {.label = texts[i], .x = xs, .y = ys, .n = 4, .labels = labels};
        const lb_plot plot = {.title = texts[i],
                              .x_title = texts[i],
                              .y_title = texts[i],
                              .series = &s,
                              .series_count = 1,
                              .categories = categories,
                              .category_count = 3};
        char *svg = draw(&plot);
        assert_false(scratch_exists(trap));
        assert_null(strstr(svg, "<script"));
        if (shown[i] && count(svg, shown[i]) < 7) /* a title, two axes, a legend, two points, a category */
            fail_msg("\"%s\" is there %zu times", shown[i], count(svg, shown[i]));
        free(svg);
    }
    scratch_remove(folder);
    free(folder);
}

static void files(void **state)
{
    (void)state;
    if (!has_gnuplot())
        skip();
    char *folder = scratch_make("plot"), path[SCRATCH_PATH_BYTES];
    const lb_plot_series s = {.x = xs, .y = ys, .n = 4};
    const lb_plot plot = {.series = &s, .series_count = 1};
    lb_error err;
    size_t size;
    snprintf(path, sizeof path, "%s/a.svg", folder);
    assert_int_equal(lb_plot_write(&plot, path, &err), LB_OK);
    char *bytes = scratch_read(path, &size), *drawn = draw(&plot);
    assert_string_equal(bytes, drawn);
    assert_int_equal(scratch_count(folder), 1);
    free(bytes);
    free(drawn);
    snprintf(path, sizeof path, "%s/none/a.svg", folder);
    assert_int_equal(lb_plot_write(&plot, path, &err), LB_EIO);
    scratch_remove(folder);
    free(folder);
}

static void nothing_to_draw(void **state)
{
    (void)state;
    const double bad[] = {NAN, INFINITY};
    const lb_plot_series none = {.x = xs, .y = ys, .n = 0}, odd = {.x = xs, .y = bad, .n = 2};
    const lb_plot plots[] = {{.title = "empty"},
                             {.title = "empty", .series = &none, .series_count = 1},
                             {.title = "empty", .series = &odd, .series_count = 1}};
    lb_text svg = {0};
    for (int i = 0; i < 3; i++) {
        lb_error err;
        assert_int_equal(lb_plot_svg(&plots[i], &svg, &err), LB_EINVAL);
        assert_string_equal(err.msg, "the plot \"empty\" has no point that can be drawn");
    }
    assert_null(svg.data);
}

/* A gnuplot of our own in PATH, or none. */
static void broken_gnuplot(void **state)
{
    (void)state;
    static const struct {
        const char *script; /* NULL: there is none */
        lb_status status;
        const char *sentence;
    } cases[] = {
        {NULL, LB_EUNSUPPORTED,
         "gnuplot is missing: plots are drawn by gnuplot (Debian: apt install gnuplot-nox)"},
        {"echo 'line 3: undefined' >&2; exit 1", LB_EIO, "gnuplot failed with status 1: line 3: undefined"},
        {"kill -9 $$", LB_EIO, "gnuplot was killed by signal 9"},
        {"echo '<svg>'", LB_EIO, "gnuplot ended without a whole picture, after 6 bytes"},
        {"exit 0", LB_EIO, "gnuplot ended without a whole picture, after 0 bytes"},
    };
    char *folder = scratch_make("plot"), *path = strdup(getenv("PATH"));
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        char program[SCRATCH_PATH_BYTES], script[256];
        const lb_plot_series s = {.x = xs, .y = ys, .n = 4};
        const lb_plot plot = {.series = &s, .series_count = 1};
        lb_text svg = {0};
        lb_error err;
        snprintf(program, sizeof program, "%s/gnuplot", folder);
        if (cases[k].script) {
            const int length = snprintf(script, sizeof script, "#!/bin/sh\n%s\n", cases[k].script);
            scratch_write(program, script, (size_t)length);
            assert_int_equal(chmod(program, 0755), 0);
        }
        setenv("PATH", folder, 1);
        const lb_status st = lb_plot_svg(&plot, &svg, &err);
        setenv("PATH", path, 1);
        if (st != cases[k].status || strcmp(err.msg, cases[k].sentence) != 0)
            fail_msg("status %d \"%s\", want \"%s\"", st, st ? err.msg : "", cases[k].sentence);
        assert_null(svg.data);
    }
    scratch_remove(folder);
    free(folder);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_style),
        cmocka_unit_test(a_long_legend_leaves_room),
        cmocka_unit_test(points_that_are_not_there),
        cmocka_unit_test(hostile_texts),
        cmocka_unit_test(files),
        cmocka_unit_test(nothing_to_draw),
        cmocka_unit_test(broken_gnuplot),
    };
    return cmocka_run_group_tests_name("plot", tests, NULL, NULL);
}
