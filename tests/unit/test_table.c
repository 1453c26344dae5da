/* SPDX-License-Identifier: MIT
 * Tables of strings: exact text, and CSV read back by a reader of RFC 4180 written for the test. */
#include "near.h"

#include "base/alloc.h"
#include "base/rng.h"
#include "report/table.h"
#include "tag_balance.h"

static const lb_column columns[] = {{"pair", false}, {"KL", true}, {"who wins", false}};

static lb_table example(void)
{
    lb_table table = {.columns = columns, .column_count = 3};
    lb_table_add(&table, "MXINT8 - MXFP8");
    lb_table_add_format(&table, "%.4f", 0.00025);
    lb_table_add(&table, "integer");
    lb_table_add(&table, "NV|4 *a*");
    lb_table_add_format(&table, "%d", 12345678);
    lb_table_add(&table, "");
    return table;
}

static void is_text(void (*render)(const lb_table *, lb_text *), const lb_table *table, const char *wanted)
{
    lb_text out = {0};
    render(table, &out);
    assert_false(out.failed);
    assert_string_equal(out.data, wanted);
    lb_text_free(&out);
}

static void plain_text(void **state)
{
    (void)state;
    lb_table table = example();
    assert_int_equal(lb_table_rows(&table), 2);
    is_text(lb_table_text, &table,
            "pair                  KL  who wins\n"
            "--------------  --------  --------\n"
            "MXINT8 - MXFP8    0.0003  integer\n"
            "NV|4 *a*        12345678\n");
    lb_table_free(&table);
    is_text(lb_table_text, &table, "pair  KL  who wins\n----  --  --------\n");
}

/* Width is that of characters, not bytes: accents join, ideographs take two, mistakes one. */
static void wide_characters(void **state)
{
    (void)state;
    static const lb_column two[] = {{"a", false}, {"b", true}};
    static const char *const cells[] = {"\xc3\xa9t\xc3\xa9", "1", "e\xcc\x81", "22",
                                        "\xe6\xbc\xa2",      "3", "\xff\n",    "4"};
    lb_table table = {.columns = two, .column_count = 2};
    for (size_t i = 0; i < 8; i++)
        lb_table_add(&table, cells[i]);
    is_text(
        lb_table_text, &table,
        "a     b\n---  --\n\xc3\xa9t\xc3\xa9   1\ne\xcc\x81    22\n\xe6\xbc\xa2    3\n\xef\xbf\xbd     4\n");
    lb_table_free(&table);
}

static void markdown(void **state)
{
    (void)state;
    lb_table table = example();
    lb_table_add(&table, "a\nb\\c");
    lb_table_add(&table, "`x`");
    lb_table_add(&table, "<b>&[l](m) q_proj");
    is_text(lb_table_markdown, &table,
            "| pair | KL | who wins |\n|---|---:|---|\n"
            "| MXINT8 - MXFP8 | 0.0003 | integer |\n"
            "| NV\\|4 \\*a\\* | 12345678 |  |\n"
            "| a b\\\\c | \\`x\\` | \\<b>\\&\\[l](m) q_proj |\n");
    lb_table_free(&table);
}

/* One field of a CSV file from *at, its quotes undone; *at moves past the comma or line end after it. */
static void read_field(const char **at, char *out, bool *last)
{
    const char *p = *at;
    if (*p == '"') {
        for (p++; *p != '"' || p[1] == '"'; p++) {
            assert_true(*p != '\0');
            if (*p == '"')
                p++;
            *out++ = *p;
        }
        p++;
    } else {
        while (*p && *p != ',' && *p != '\n' && *p != '\r') {
            assert_true(*p != '"');
            *out++ = *p++;
        }
    }
    *out = '\0';
    assert_true(*p == ',' || *p == '\n');
    *last = *p == '\n';
    *at = p + 1;
}

static void csv_by_hand(void **state)
{
    (void)state;
    static const lb_column two[] = {{"a,b", false}, {"c", true}};
    lb_table table = {.columns = two, .column_count = 2};
    static const char *const cells[] = {"say \"hi\"", "1.5", "two\nlines", "", " space ", "\r"};
    for (size_t i = 0; i < 6; i++)
        lb_table_add(&table, cells[i]);
    is_text(lb_table_csv, &table, "\"a,b\",c\n\"say \"\"hi\"\"\",1.5\n\"two\nlines\",\n space ,\"\r\"\n");
    lb_table_free(&table);
    lb_table one = {.columns = two + 1, .column_count = 1};
    lb_table_add(&one, "");
    is_text(lb_table_csv, &one, "c\n\"\"\n");
    lb_table_free(&one);
}

static void csv_round_trip(void **state)
{
    (void)state;
    enum { ROWS = 300, COLUMNS = 3, LONGEST = 6 };
    static const char alphabet[] = "a,\"\n\r 1;'\t\xc3\xa9";
    static char wanted[ROWS * COLUMNS][LONGEST + 1];
    lb_rng rng;
    lb_rng_seed(&rng, 4180);
    lb_table table = {.columns = columns, .column_count = COLUMNS};
    for (size_t i = 0; i < ROWS * COLUMNS; i++) {
        const size_t length = lb_rng_below(&rng, LONGEST + 1);
        for (size_t k = 0; k < length; k++)
            wanted[i][k] = alphabet[lb_rng_below(&rng, sizeof alphabet - 1)];
        lb_table_add(&table, wanted[i]);
    }
    lb_text out = {0};
    lb_table_csv(&table, &out);
    const char *at = out.data;
    for (size_t i = 0; i < (ROWS + 1) * COLUMNS; i++) {
        char field[LONGEST + 20];
        bool last;
        read_field(&at, field, &last);
        assert_string_equal(field, i < COLUMNS ? columns[i].name : wanted[i - COLUMNS]);
        assert_int_equal(last, i % COLUMNS == COLUMNS - 1);
    }
    assert_true(*at == '\0');
    lb_text_free(&out);
    lb_table_free(&table);
}

static void html(void **state)
{
    (void)state;
    lb_table table = example();
    lb_html page = {0};
    lb_table_html(&table, "a < b", &page);
    check_balance(page.text.data);
    assert_non_null(strstr(page.text.data, "<caption>a &lt; b</caption>"));
    assert_non_null(strstr(page.text.data, "<th scope=\"col\" class=\"n\">KL</th>"));
    assert_non_null(
        strstr(page.text.data, "<tr><td>NV|4 *a*</td><td class=\"n\">12345678</td><td></td></tr>"));
    lb_html_free(&page);
    lb_table_free(&table);
}

/* A row that is not full yet does not count; a formatted cell that is too long is cut. */
static void edges(void **state)
{
    (void)state;
    lb_table table = {.columns = columns, .column_count = 3};
    lb_table_add(&table, "alone");
    assert_int_equal(lb_table_rows(&table), 0);
    is_text(lb_table_csv, &table, "pair,KL,who wins\n");
    lb_table_add_format(&table, "%0400d", 1);
    lb_table_add(&table, "x");
    lb_text out = {0};
    lb_table_csv(&table, &out);
    assert_int_equal(out.length, strlen("pair,KL,who wins\nalone,,x\n") + LB_TABLE_CELL_BYTES - 1);
    lb_text_free(&out);
    lb_table_free(&table);
}

static void no_memory(void **state)
{
    (void)state;
    void (*const renders[])(const lb_table *, lb_text *) = {lb_table_text, lb_table_markdown, lb_table_csv};
    for (size_t r = 0; r < 4; r++) {
        bool good = false;
        size_t k = 1;
        for (; !good; k++) {
            lb_html page = {0};
            lb_alloc_fail_at(k);
            lb_table table = example();
            if (r < 3)
                renders[r](&table, &page.text);
            else
                lb_table_html(&table, "c", &page);
            lb_alloc_fail_at(0);
            good = !page.text.failed;
            if (good)
                assert_non_null(strstr(page.text.data, "12345678"));
            lb_html_free(&page);
            lb_table_free(&table);
        }
        assert_true(k > 3);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_text),  cmocka_unit_test(wide_characters), cmocka_unit_test(markdown),
        cmocka_unit_test(csv_by_hand), cmocka_unit_test(csv_round_trip),  cmocka_unit_test(html),
        cmocka_unit_test(edges),       cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
