/* SPDX-License-Identifier: MIT
 * The report: well formed whatever it is told, self-contained, complete or absent. */
#define _GNU_SOURCE
#include "near.h"

#include "base/alloc.h"
#include "base/file.h"
#include "report/html.h"
#include "scratch.h"
#include "tag_balance.h"

static void escapes(const char *text, const char *wanted)
{
    lb_text out = {0};
    lb_text_add_string(&out, "");
    lb_html_escape(&out, text);
    assert_string_equal(out.data, wanted);
    lb_text_free(&out);
}

static void escaping(void **state)
{
    (void)state;
    escapes("", "");
    escapes("a < b && c > \"d\" 'e'", "a &lt; b &amp;&amp; c &gt; &quot;d&quot; &#39;e&#39;");
    escapes("&amp; is not &", "&amp;amp; is not &amp;");
    escapes("\xc3\xa9 \xe2\x88\x92 \xf0\x9f\x99\x82", "\xc3\xa9 \xe2\x88\x92 \xf0\x9f\x99\x82");
    escapes("tab\tline\nend", "tab\tline\nend");
    escapes("\xff<\xc3", "\xef\xbf\xbd&lt;\xef\xbf\xbd");
    escapes("\x01\x1b\r\x7f\xc2\x85", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
    /* Every byte alone and before a letter: nothing with a meaning to HTML ever comes through. */
    for (int byte = 1; byte < 256; byte++) {
        lb_text out = {0};
        lb_html_escape(&out, (const char[]){(char)byte, 'x', '\0'});
        assert_int_equal(check_balance(out.data).tags, 0);
        lb_text_free(&out);
    }
}

static const char nasty[] = "</title></style><script>alert('1')</script>&lt;\"><!-- \xfe ";
static const lb_column columns[] = {{"pair", false}, {"KL <nats>", true}};
static const char *const cells[] = {"MXINT8 & MXFP8", "0.001", nasty, "-1"};

static lb_status fill(lb_html *html, lb_error *err)
{
    static const char svg[] =
        "<?xml version='1.0'?><svg viewBox='0 0 9 9'><path id='a' d='M0,0'/><use href='#a'/></svg>";
    lb_html_begin(html, nasty);
    lb_html_heading(html, 2, nasty);
    lb_html_heading(html, 3, "finer");
    lb_html_paragraph(html, "%s and %d%%, %.3f", nasty, 50, 0.125);
    lb_html_list(html, cells, 4);
    lb_html_code(html, "lowbit study model > \"out\"\n");
    lb_html_table(html, nasty, columns, 2, cells, 2);
    lb_html_table(html, NULL, columns, 2, NULL, 0);
    for (int i = 0; i < 2; i++) {
        const lb_status st = lb_html_svg(html, svg, sizeof svg - 1, i ? NULL : nasty, err);
        if (st != LB_OK)
            return st;
    }
    return LB_OK;
}

static size_t count_of(const char *text, const char *what)
{
    size_t count = 0;
    for (; (text = strstr(text, what)) != NULL; text++)
        count++;
    return count;
}

static void a_whole_report(void **state)
{
    (void)state;
    char *folder = scratch_make("lb_html"), path[SCRATCH_PATH_BYTES], *text;
    size_t size;
    lb_html html = {0};
    lb_error err;
    snprintf(path, sizeof path, "%s/report.html", folder);
    if (fill(&html, &err) != LB_OK || lb_html_finish(&html, path, &err) != LB_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(lb_file_read(path, 1 << 20, &text, &size, NULL), LB_OK);
    assert_int_equal(size, html.text.length);
    assert_memory_equal(text, html.text.data, size);
    assert_true(check_balance(text).tags > 60);
    assert_ptr_equal(strstr(text, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">"),
                     text);
    assert_non_null(strstr(text, "<p>&lt;/title&gt;"));
    assert_non_null(strstr(text, " and 50%, 0.125</p>"));
    assert_non_null(strstr(text, "<pre><code>lowbit study model &gt; &quot;out&quot;\n</code></pre>"));
    assert_non_null(
        strstr(text, "<th scope=\"col\">pair</th><th scope=\"col\" class=\"n\">KL &lt;nats&gt;</th>"));
    assert_non_null(strstr(text, "<tr><td>MXINT8 &amp; MXFP8</td><td class=\"n\">0.001</td></tr>"));
    assert_non_null(strstr(text, "<path id='f1-a' d='M0,0'/><use href='#f1-a'/>"));
    assert_non_null(strstr(text, "<path id='f2-a' d='M0,0'/><use href='#f2-a'/>"));
    assert_int_equal(count_of(text, "<figcaption>"), 1);
    assert_int_equal(count_of(text, "<caption>"), 1);
    assert_int_equal(count_of(text, "<table>"), 2);
    /* Self-contained, and nothing runs. */
    static const char *const never[] = {"<script", "http:", "https:", "//",
                                        "@import", "url(",  "src=",   "<link"};
    for (size_t i = 0; i < sizeof never / sizeof *never; i++)
        assert_null(strstr(text, never[i]));
    assert_non_null(strstr(text, "prefers-color-scheme:dark"));
    lb_free(text);
    lb_html_free(&html);
    scratch_remove(folder);
    free(folder);
}

static void a_bad_picture_leaves_the_report_whole(void **state)
{
    (void)state;
    lb_html html = {0};
    lb_error err;
    lb_html_begin(&html, "t");
    const size_t length = html.text.length;
    assert_int_equal(lb_html_svg(&html, "<svg><script/></svg>", 20, "c", &err), LB_EFORMAT);
    assert_int_equal(html.text.length, length);
    lb_html_free(&html);
}

static void no_memory_and_no_folder(void **state)
{
    (void)state;
    char *folder = scratch_make("lb_html"), path[SCRATCH_PATH_BYTES];
    lb_error err = {LB_OK, ""};
    snprintf(path, sizeof path, "%s/report.html", folder);
    size_t k = 1;
    for (lb_status st = LB_ENOMEM; st != LB_OK; k++) {
        lb_html html = {0};
        lb_alloc_fail_at(k);
        st = fill(&html, &err);
        if (st == LB_OK)
            st = lb_html_finish(&html, path, &err);
        lb_alloc_fail_at(0);
        assert_true(st == LB_OK || (st == LB_ENOMEM && err.status == st));
        size_t size = html.text.length;
        char *text = scratch_read(path, &size); /* complete, or not there */
        assert_true(text ? size == html.text.length : st != LB_OK);
        free(text);
        lb_html_free(&html);
    }
    assert_true(k > 5 && scratch_exists(path));
    scratch_remove(folder);
    lb_html html = {0};
    lb_html_begin(&html, "t");
    assert_int_equal(lb_html_finish(&html, path, &err), LB_EIO);
    assert_non_null(strstr(err.msg, path));
    lb_html_free(&html);
    free(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(escaping),
        cmocka_unit_test(a_whole_report),
        cmocka_unit_test(a_bad_picture_leaves_the_report_whole),
        cmocka_unit_test(no_memory_and_no_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
