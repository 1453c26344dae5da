/* SPDX-License-Identifier: MIT
 * Normalization forms against utf8proc's own one-call functions, on random text and on the examples of
 * UAX #15; and long runs of marks, where those are quadratic and ours is not. */
#include "near.h"

#include <stdlib.h>
#include <utf8proc.h>

#include "base/clock.h"
#include "base/rng.h"
#include "io/unicode_form.h"
#include "io/utf8.h"

static void check(lb_unicode_form form, const char *text)
{
    utf8proc_uint8_t *(*const reference[])(const utf8proc_uint8_t *) = {[LB_FORM_NFC] = utf8proc_NFC,
                                                                        [LB_FORM_NFD] = utf8proc_NFD,
                                                                        [LB_FORM_NFKC] = utf8proc_NFKC,
                                                                        [LB_FORM_NFKD] = utf8proc_NFKD};
    lb_text out = {0};
    lb_error err;
    assert_int_equal(lb_unicode_normalize(form, text, strlen(text), &out, &err), LB_OK);
    utf8proc_uint8_t *want = reference[form]((const utf8proc_uint8_t *)text);
    assert_non_null(want);
    lb_text_add(&out, "", 0);
    assert_string_equal(out.data, (const char *)want);
    free(want);
    lb_text_free(&out);
}

static void test_random_text(void **state)
{
    (void)state;
    static const struct {
        uint32_t first, count;
    } ranges[] = {{0x20, 0x5F},    {0xA0, 0x160},  {0x300, 0x70},  {0x1100, 0x100}, {0xAC00, 0x400},
                  {0x1E00, 0x100}, {0x2100, 0x80}, {0xFB00, 0x50}, {0x1D15E, 0x10}};
    lb_rng rng;
    lb_rng_seed(&rng, 5);
    for (int round = 0; round < 4000; round++) {
        char text[200];
        size_t used = 0, characters = (size_t)lb_rng_below(&rng, 45);
        for (size_t i = 0; i < characters; i++) {
            size_t r = (size_t)lb_rng_below(&rng, sizeof ranges / sizeof *ranges);
            used += lb_utf8_put(ranges[r].first + (uint32_t)lb_rng_below(&rng, ranges[r].count), text + used);
        }
        text[used] = '\0';
        for (int form = 0; form < 4; form++)
            check((lb_unicode_form)form, text);
    }
}

static void test_published_examples(void **state)
{
    (void)state;
    /* UAX #15, figures 3 to 6: text, NFC. */
    static const char *const examples[][2] = {
        {"\xE2\x84\xAB", "\xC3\x85"}, /* angstrom sign */
        {"o\xCC\x82", "\xC3\xB4"}, /* o + circumflex */
        {"s\xCC\xA3\xCC\x87", "\xE1\xB9\xA9"}, /* s + dot below + dot above */
        {"\xE1\xB8\x8B\xCC\xA3", "\xE1\xB8\x8D\xCC\x87"}, /* d-dot-above + dot below */
        {"q\xCC\x87\xCC\xA3", "q\xCC\xA3\xCC\x87"}};
    for (size_t i = 0; i < sizeof examples / sizeof *examples; i++) {
        lb_text out = {0};
        assert_int_equal(
            lb_unicode_normalize(LB_FORM_NFC, examples[i][0], strlen(examples[i][0]), &out, NULL), LB_OK);
        assert_string_equal(out.data, examples[i][1]);
        lb_text_free(&out);
    }
}

static void test_long_run_of_marks(void **state)
{
    (void)state;
    enum { MARKS = 200000 };
    char *text = malloc(2 * MARKS + 2);
    assert_non_null(text);
    text[0] = 'q';
    for (size_t i = 0; i < MARKS; i++) /* above (230), below (220): all of these must move */
        memcpy(text + 1 + 2 * i, i % 2 ? "\xCC\xA3" : "\xCC\x87", 2);
    lb_text out = {0};
    double start = lb_now();
    assert_int_equal(lb_unicode_normalize(LB_FORM_NFC, text, 2 * MARKS + 1, &out, NULL), LB_OK);
    assert_true(lb_now() - start < 5.0); /* the quadratic way takes minutes */
    assert_int_equal(out.length, 2 * MARKS + 1);
    assert_memory_equal(out.data + 1, "\xCC\xA3", 2);
    assert_memory_equal(out.data + MARKS - 1, "\xCC\xA3", 2);
    assert_memory_equal(out.data + MARKS + 1, "\xCC\x87", 2);
    lb_text_free(&out);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_text),
        cmocka_unit_test(test_published_examples),
        cmocka_unit_test(test_long_run_of_marks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
