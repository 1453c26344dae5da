/* SPDX-License-Identifier: MIT
 * Stop texts in a stream, against a search in the whole text, with random cuts. */
#include "near.h"

#include <stdlib.h>

#include "base/rng.h"
#include "infer/stop_text.h"

/* Where the first of the stops begins, or the text's length; *found says which. */
static size_t slow_find(const char *text, const char *const *stops, size_t count, bool *found)
{
    for (size_t at = 0; text[at]; at++)
        for (size_t i = 0; i < count; i++)
            if (strncmp(text + at, stops[i], strlen(stops[i])) == 0) {
                *found = true;
                return at;
            }
    *found = false;
    return strlen(text);
}

static void a_stream_stops_where_the_whole_text_does(void **state)
{
    (void)state;
    static const char *const sets[][3] = {
        {"ab", "b", NULL}, {"aab", NULL}, {"abab", "bb", NULL}, {"aaaa", "c", NULL}};
    lb_rng rng;
    lb_error err = {0};
    size_t hits = 0;
    lb_rng_seed(&rng, 5);
    for (int round = 0; round < 20000; round++) {
        const char *const *stops = sets[lb_rng_below(&rng, 4)];
        const size_t count = stops[1] ? 2 : 1, length = lb_rng_below(&rng, 14);
        char text[16], got[64];
        size_t got_length = 0;
        bool want_found, found = false;
        for (size_t i = 0; i < length; i++)
            text[i] = (char)('a' + (lb_rng_below(&rng, 10) == 0 ? 2 : lb_rng_below(&rng, 2)));
        text[length] = '\0';
        const size_t want = slow_find(text, stops, count, &want_found);
        lb_stop_text stop;
        const char *out;
        size_t n;
        assert_int_equal(lb_stop_text_create(stops, count, &stop, &err), LB_OK);
        for (size_t at = 0; at < length && !found;) {
            size_t piece = lb_rng_below(&rng, 4);
            piece = piece < length - at ? piece : length - at;
            found = lb_stop_text_put(&stop, text + at, piece, &out, &n);
            memcpy(got + got_length, out, n);
            got_length += n;
            at += piece;
            /* What is kept back may still become a stop: nothing beyond the longest of them less a byte. */
            assert_true(found || at - got_length < 4);
        }
        if (!found) {
            lb_stop_text_rest(&stop, &out, &n);
            memcpy(got + got_length, out, n);
            got_length += n;
        }
        /* A stop is seen when it is whole, so an earlier, longer one that is not whole yet waits. */
        assert_int_equal(found, want_found);
        assert_int_equal(got_length, want);
        assert_memory_equal(got, text, want);
        hits += found;
        lb_stop_text_free(&stop);
    }
    assert_true(hits > 5000 && hits < 18000);
}

static void senseless_stops_are_refused(void **state)
{
    (void)state;
    lb_error err = {0};
    lb_stop_text stop;
    static char text[2000];
    const char *many[17], *empty[] = {"a", ""}, *longs[] = {text};
    memset(text, 'x', sizeof text - 1);
    for (size_t i = 0; i < 17; i++)
        many[i] = "a";
    assert_int_equal(lb_stop_text_create(many, 17, &stop, &err), LB_EINVAL);
    assert_int_equal(lb_stop_text_create(empty, 2, &stop, &err), LB_EINVAL);
    assert_int_equal(lb_stop_text_create(longs, 1, &stop, &err), LB_EINVAL);
    assert_non_null(strstr(err.msg, "1024"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_stops_where_the_whole_text_does),
        cmocka_unit_test(senseless_stops_are_refused),
    };
    return cmocka_run_group_tests_name("stop_text", tests, NULL, NULL);
}
