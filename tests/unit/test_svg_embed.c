/* SPDX-License-Identifier: MIT
 * SVG made a part of a page: names that cannot clash, and nothing that runs or loads. */
#include "near.h"

#include "base/alloc.h"
#include "base/file.h"
#include "report/svg_embed.h"
#include "tag_balance.h"

static void gives(const char *svg, const char *wanted)
{
    lb_text out = {0};
    lb_error err;
    if (lb_svg_embed(svg, strlen(svg), "p-", &out, &err) != LB_OK)
        fail_msg("%s: %s", svg, err.msg);
    assert_string_equal(out.data, wanted);
    lb_text_free(&out);
}

static void prologue_goes_and_names_change(void **state)
{
    (void)state;
    gives("<svg/>", "<svg/>");
    gives("<?xml version=\"1.0\"?>\n<!DOCTYPE svg PUBLIC \"a\" \"b\">\n<!-- <x> -->\n<svg></svg>\n",
          "<svg></svg>");
    gives("<svg xmlns=\"http://www.w3.org/2000/svg\" xmlns:xlink='x' width=\"5\"\n height = '6' />",
          "<svg width=\"5\" height='6'/>");
    gives("<svg><g id=\"a\"><use xlink:href='#a' href=\"#\"/></g></svg>",
          "<svg><g id=\"p-a\"><use xlink:href='#p-a' href=\"#p-\"/></g></svg>");
    gives("<svg><g filter=\"url(#f)\" style='fill:URL( \"#g\" );mask:url(#m)' class=\"id\"></g ></svg>",
          "<svg><g filter=\"url(#p-f)\" style='fill:URL( \"#p-g\" );mask:url(#p-m)' class=\"id\"></g></svg>");
    gives("<svg transform='translate(1,2) skewX(3)' fill='RGB( 1,2,3)' iD='a'/>",
          "<svg transform='translate(1,2) skewX(3)' fill='RGB( 1,2,3)' iD='p-a'/>");
    gives("<svg><text font-family=\"a &amp; b\">x &lt; \xc3\xa9 'y' \"z\"<!-- no --></text></svg>",
          "<svg><text font-family=\"a &amp; b\">x &lt; \xc3\xa9 'y' \"z\"</text></svg>");
}

static void what_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *svg, *why;
    } cases[] = {
        {"", "byte 0: it ends before </svg>"},
        {"text", "byte 0: text outside of <svg>"},
        {"<g></g>", "byte 1: the outermost element is not <svg>"},
        {"<svg><script>x</script></svg>", "byte 6: <script> is not a part of a picture"},
        {"<svg><SCRIPT/></svg>", "<SCRIPT> is not"},
        {"<svg><style>x</style></svg>", "<style> is not"},
        {"<svg><foreignObject/></svg>", "<foreignObject> is not"},
        {"<svg><image href='#a'/></svg>", "<image> is not"},
        {"<svg><a href='#a'/></svg>", "<a> is not"},
        {"<svg><set/></svg>", "<set> is not"},
        {"<svg><title><g/></title></svg>", "byte 13: an element inside a title"},
        {"<svg><desc>a<text/></desc></svg>", "an element inside a title"},
        {"<svg><use HREF='x'/></svg>", "leaves the file"},
        {"<svg><use xlink:Href='//x'/></svg>", "leaves the file"},
        {"<svg style='background:image-set(\"x\" 1x)'/>", "byte 32: a reference that leaves the file"},
        {"<svg mask='image(#a)'/>", "leaves the file"},
        {"<svg mask='xurl(#a)'/>", "leaves the file"},
        {"<svg mask='u/**/rl(#a)'/>", "leaves the file"},
        {"<svg fill='(1)'/>", "leaves the file"},
        {"<svg onload=\"x\"/>", "byte 5: an attribute that holds a script"},
        {"<svg OnClick='x'/>", "holds a script"},
        {"<svg><use href=\"http://x/y#z\"/></svg>", "leaves the file"},
        {"<svg><use xlink:href='data:x'/></svg>", "leaves the file"},
        {"<svg><use href=''/></svg>", "leaves the file"},
        {"<svg><use src='x'/></svg>", "leaves the file"},
        {"<svg fill=\"url(http://x)\"/>", "byte 14: a reference that leaves the file"},
        {"<svg style='a:url(#b);c:uRl( x)'/>", "leaves the file"},
        {"<svg style='a:url('/>", "leaves the file"},
        {"<svg style='a:u\\72l(x)'/>", "an entity that XML does not define"},
        {"<svg style='a:&#117;rl(x)'/>", "an entity that XML does not define"},
        {"<svg a='&x;'/>", "an entity that XML does not define"},
        {"<svg a='<'/>", "an entity that XML does not define"},
        {"<!DOCTYPE svg [<!ENTITY a \"b\">]><svg/>", "a document type that defines something"},
        {"<svg><![CDATA[x]]></svg>", "byte 6: a name was expected"},
        {"<svg><g></svg></g>", "byte 10: an end without its beginning"},
        {"</svg>", "an end without its beginning"},
        {"<svg><g></svg>", "an end without its beginning"},
        {"<svg>", "it ends before </svg>"},
        {"<svg", "what begins here never ends"},
        {"<svg a", "an attribute without a value"},
        {"<svg a=b/>", "a value without quotes"},
        {"<svg a='b/>", "what begins here never ends"},
        {"<svg a='1'b='2'/>", "a space was expected"},
        {"<svg></svg", "\">\" was expected"},
        {"<svg/><svg/>", "a second outermost element"},
        {"<svg></svg>x", "text outside of <svg>"},
        {"<svg><!-- x</svg>", "byte 5: what begins here never ends"},
        {"<svg><text>1 < 2</text></svg>", "a name was expected"},
        {"<svg>\xff</svg>", "byte 5: not UTF-8"},
        {"<svg>\x01</svg>", "byte 5: a control character"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lb_text out = {0};
        lb_error err = {LB_OK, ""};
        const lb_status st = lb_svg_embed(cases[i].svg, strlen(cases[i].svg), "p-", &out, &err);
        if (st != LB_EFORMAT || !strstr(err.msg, cases[i].why))
            fail_msg("%s: status %d, \"%s\"; wanted \"%s\"", cases[i].svg, (int)st, err.msg, cases[i].why);
        lb_text_free(&out);
    }
}

static void too_deep(void **state)
{
    (void)state;
    lb_text svg = {0}, out = {0};
    lb_error err;
    lb_text_add_string(&svg, "<svg>");
    for (int i = 0; i < 100000; i++)
        lb_text_add_string(&svg, "<g>");
    assert_int_equal(lb_svg_embed(svg.data, svg.length, "p-", &out, &err), LB_EFORMAT);
    assert_non_null(strstr(err.msg, "too deep"));
    lb_text_free(&svg);
    lb_text_free(&out);
}

/* Two copies of a picture that gnuplot made: every name of each is its own, and every use finds its name. */
static void a_picture_of_gnuplot(void **state)
{
    (void)state;
    char *svg;
    size_t bytes, uses = 0;
    lb_text out = {0};
    assert_int_equal(lb_file_read("docs/quality.svg", 1 << 20, &svg, &bytes, NULL), LB_OK);
    assert_int_equal(lb_svg_embed(svg, bytes, "one-", &out, NULL), LB_OK);
    assert_int_equal(lb_svg_embed(svg, bytes, "two-", &out, NULL), LB_OK);
    check_balance(out.data);
    assert_null(strstr(out.data, "<?"));
    assert_null(strstr(out.data, "http"));
    for (const char *at = out.data; (at = strstr(at, "href='#")) != NULL; uses++) {
        char given[64];
        at += strlen("href='#");
        assert_true(strncmp(at, "one-", 4) == 0 || strncmp(at, "two-", 4) == 0);
        snprintf(given, sizeof given, " id='%.*s'", (int)strcspn(at, "'"), at);
        const char *first = strstr(out.data, given);
        assert_non_null(first);
        assert_null(strstr(first + 1, given));
    }
    assert_true(uses > 20);
    lb_text_free(&out);
    lb_free(svg);
}

/* Cut after every byte it is refused, and read no further than there is. */
static void cut_short(void **state)
{
    (void)state;
    static const char svg[] =
        "<?xml?><!DOCTYPE svg><svg a='&lt;'><!-- c --><g id=\"x\" b='url(#x)'/>t\xc3\xa9</svg>";
    for (size_t cut = 0; cut < sizeof svg - 1; cut++) {
        char *copy = malloc(cut ? cut : 1);
        lb_text out = {0};
        assert_non_null(copy);
        memcpy(copy, svg, cut);
        assert_int_equal(lb_svg_embed(copy, cut, "p-", &out, NULL), LB_EFORMAT);
        lb_text_free(&out);
        free(copy);
    }
    lb_text out = {0};
    lb_error err;
    lb_alloc_fail_at(1);
    const lb_status st = lb_svg_embed(svg, sizeof svg - 1, "p-", &out, &err);
    lb_alloc_fail_at(0);
    assert_int_equal(st, LB_ENOMEM);
    lb_text_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prologue_goes_and_names_change),
        cmocka_unit_test(what_is_refused),
        cmocka_unit_test(too_deep),
        cmocka_unit_test(a_picture_of_gnuplot),
        cmocka_unit_test(cut_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
