/* SPDX-License-Identifier: MIT
 * The growing string, and the allocator under it. */
#include "near.h"

#include "base/alloc.h"
#include "base/text.h"

static void grows_and_stays_terminated(void **state)
{
    (void)state;
    lb_text text = {0};
    char want[20001] = "";
    for (size_t i = 0; i < 20000; i++) {
        char c = (char)('a' + i % 26);
        want[i] = c;
        lb_text_add(&text, &c, 1);
        assert_int_equal(text.length, i + 1);
        assert_int_equal(text.data[i + 1], '\0');
    }
    assert_memory_equal(text.data, want, sizeof want);
    assert_true(text.capacity > text.length);
    lb_text_free(&text);
    assert_null(text.data);
    lb_text_free(&text); /* twice is fine */
}

static void adds_strings_formats_and_zero_bytes(void **state)
{
    (void)state;
    lb_text text = {0};
    lb_text_add(&text, NULL, 0);
    assert_string_equal(text.data, "");
    lb_text_add_string(&text, "bits ");
    lb_text_add_format(&text, "%d of %s;", 3, "eight");
    lb_text_add(&text, "a\0b", 3);
    assert_int_equal(text.length, 5 + 11 + 3);
    assert_memory_equal(text.data, "bits 3 of eight;a\0b", 20);
    lb_text_free(&text);
}

static void a_format_longer_than_the_buffer(void **state)
{
    (void)state;
    lb_text text = {0};
    lb_text_add_format(&text, "%0500d", 7);
    assert_int_equal(text.length, 500);
    assert_int_equal(text.data[499], '7');
    lb_text_free(&text);
}

static void without_memory_it_says_so_and_keeps_what_it_has(void **state)
{
    (void)state;
    lb_text text = {0};
    lb_text_add_string(&text, "kept");
    char big[1000];
    memset(big, 'x', sizeof big);
    lb_alloc_fail_at(1);
    lb_text_add(&text, big, sizeof big);
    lb_alloc_fail_at(0);
    assert_true(text.failed);
    assert_string_equal(text.data, "kept");
    lb_text_add_string(&text, "!"); /* nothing more is added */
    lb_text_add_format(&text, "%d", 1);
    assert_string_equal(text.data, "kept");
    lb_text_free(&text);
    assert_false(text.failed);
}

static void blocks_are_aligned_and_overflow_is_refused(void **state)
{
    (void)state;
    void *block = lb_alloc(3, 5);
    void *nothing = lb_alloc(0, 8);
    assert_non_null(block);
    assert_non_null(nothing);
    assert_int_equal((uintptr_t)block % 64, 0);
    assert_null(lb_alloc(SIZE_MAX / 2, 3));
    assert_null(lb_alloc(SIZE_MAX, 1));
    assert_null(lb_alloc_zero(SIZE_MAX / 4, 8));
    lb_error err;
    void *untouched = &err;
    assert_int_equal(lb_alloc_array(&untouched, SIZE_MAX / 2, 4, "codes", &err), LB_ENOMEM);
    assert_ptr_equal(untouched, &err);
    assert_non_null(strstr(err.msg, "codes: no memory"));
    lb_free(block);
    lb_free(nothing);
    lb_free(NULL);
}

static void growing_keeps_the_content(void **state)
{
    (void)state;
    int *a = lb_grow(NULL, 0, 2, sizeof *a);
    assert_non_null(a);
    a[0] = 1;
    a[1] = 2;
    lb_alloc_fail_at(1);
    assert_null(lb_grow(a, 2, 1000, sizeof *a));
    assert_int_equal(a[1], 2); /* still ours */
    a = lb_grow(a, 2, 1000, sizeof *a);
    assert_int_equal(a[0] + a[1], 3);
    lb_free(a);
    unsigned char *zeros = lb_alloc_zero(1000, 1);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(zeros[i], 0);
    lb_free(zeros);
}

static void the_kth_allocation_fails(void **state)
{
    (void)state;
    void *first, *second;
    lb_alloc_fail_at(2);
    assert_non_null(first = lb_alloc(1, 1));
    assert_null(lb_alloc(1, 1));
    assert_non_null(second = lb_alloc(1, 1));
    lb_free(first);
    lb_free(second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grows_and_stays_terminated),
        cmocka_unit_test(adds_strings_formats_and_zero_bytes),
        cmocka_unit_test(a_format_longer_than_the_buffer),
        cmocka_unit_test(without_memory_it_says_so_and_keeps_what_it_has),
        cmocka_unit_test(blocks_are_aligned_and_overflow_is_refused),
        cmocka_unit_test(growing_keeps_the_content),
        cmocka_unit_test(the_kth_allocation_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
