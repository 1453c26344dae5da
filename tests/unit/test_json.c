/* SPDX-License-Identifier: MIT
 * JSON from outside: what is accepted, what is refused and with which sentence; saved files. */
#define _GNU_SOURCE
#include "near.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"

static lb_status parse(const char *text, lb_error *err)
{
    json_t *value = NULL;
    lb_status st = lb_json_parse(text, strlen(text), "file.json", &value, err);
    assert_true((st == LB_OK) == (value != NULL));
    json_decref(value);
    return st;
}

static void objects_parse_and_nothing_else_does(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "", "[]", "3", "\"x\"", "null", "{", "{}x", "{} {}", "{\"a\":1,}", "{\"a\":1,\"a\":2}", "{'a':1}",
        "{\"a\":nan}", "{\"a\":1e999}", "{\"a\":99999999999999999999}", "{\"a\\u0000b\":1}",
        "{\"a\":\"\\u0000\"}", "{\"a\":\"\xff\"}", "{\"a\":\"\\ud800\"}",
    };
    lb_error err;
    assert_int_equal(parse("{}", &err), LB_OK);
    assert_int_equal(parse(" {\"a\": [1, {\"b\": null}]} \n", &err), LB_OK);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (parse(bad[i], &err) != LB_EFORMAT)
            fail_msg("accepted: %s", bad[i]);
        assert_int_equal(strncmp(err.msg, "file.json: ", 11), 0);
    }
}

static void a_zero_byte_inside_is_refused(void **state)
{
    (void)state;
    json_t *value = NULL;
    lb_error err;
    assert_int_equal(lb_json_parse("{}\0{}", 5, "x", &value, &err), LB_EFORMAT);
    assert_null(value);
}

static void deep_nesting_is_refused_not_followed(void **state)
{
    (void)state;
    lb_text text = {0};
    lb_text_add_string(&text, "{\"a\":");
    for (int i = 0; i < 200000; i++)
        lb_text_add_string(&text, "[");
    lb_error err;
    assert_int_equal(parse(text.data, &err), LB_EFORMAT);
    lb_text_free(&text);
}

static void every_truncation_is_refused(void **state)
{
    (void)state;
    const char *text = "{\"width\": 64, \"rope\": {\"theta\": 1e4, \"names\": [\"a\", \"\\u00e9\"]}}";
    lb_error err;
    for (size_t n = 0; n < strlen(text); n++) {
        json_t *value = NULL;
        char *cut = lb_strndup(text, n);
        assert_int_equal(lb_json_parse(cut, n, "cut", &value, &err), LB_EFORMAT);
        lb_free(cut);
    }
    assert_int_equal(parse(text, &err), LB_OK);
}

static void values_of_the_wanted_kind(void **state)
{
    (void)state;
    const char *text = "{\"n\": 12, \"big\": 9223372036854775807, \"neg\": -1, \"x\": 2.5, \"yes\": true, "
                       "\"name\": \"llama\", \"nothing\": null}";
    json_t *o = NULL;
    lb_error err;
    size_t n = 0;
    double x = 0;
    bool b = false;
    const char *s = NULL;
    assert_int_equal(lb_json_parse(text, strlen(text), "f", &o, &err), LB_OK);

    assert_int_equal(lb_json_size(o, "n", 1, 12, 5, "f", &n, &err), LB_OK);
    assert_int_equal(n, 12);
    assert_int_equal(lb_json_size(o, "absent", 1, 10, 5, "f", &n, &err), LB_OK);
    assert_int_equal(n, 5);
    assert_int_equal(lb_json_size(o, "nothing", 1, 10, 6, "f", &n, &err), LB_OK);
    assert_int_equal(n, 6);
    assert_int_equal(lb_json_size(o, "n", 1, 11, 5, "f", &n, &err), LB_EFORMAT);
    assert_string_equal(err.msg, "f: \"n\" is 12, outside 1 to 11");
    assert_int_equal(lb_json_size(o, "n", 13, 99, 5, "f", &n, &err), LB_EFORMAT);
    assert_int_equal(lb_json_size(o, "neg", 0, 11, 5, "f", &n, &err), LB_EFORMAT);
    assert_int_equal(lb_json_size(o, "x", 0, 11, 5, "f", &n, &err), LB_EFORMAT);
    assert_int_equal(lb_json_size(o, "name", 0, 11, 5, "f", &n, &err), LB_EFORMAT);
    assert_int_equal(n, 6); /* unchanged by failures */
    assert_int_equal(lb_json_size(o, "big", 0, SIZE_MAX, 0, "f", &n, &err), LB_OK);
    assert_true(n == INT64_MAX);

    assert_int_equal(lb_json_double(o, "x", 1, "f", &x, &err), LB_OK);
    assert_true(x == 2.5);
    assert_int_equal(lb_json_double(o, "n", 1, "f", &x, &err), LB_OK);
    assert_true(x == 12);
    assert_int_equal(lb_json_double(o, "absent", 0.5, "f", &x, &err), LB_OK);
    assert_true(x == 0.5);
    assert_int_equal(lb_json_double(o, "name", 1, "f", &x, &err), LB_EFORMAT);

    assert_int_equal(lb_json_bool(o, "yes", false, "f", &b, &err), LB_OK);
    assert_true(b);
    assert_int_equal(lb_json_bool(o, "absent", true, "f", &b, &err), LB_OK);
    assert_true(b);
    assert_int_equal(lb_json_bool(o, "n", true, "f", &b, &err), LB_EFORMAT);

    assert_int_equal(lb_json_string(o, "name", NULL, "f", &s, &err), LB_OK);
    assert_string_equal(s, "llama");
    assert_int_equal(lb_json_string(o, "absent", "dflt", "f", &s, &err), LB_OK);
    assert_string_equal(s, "dflt");
    assert_int_equal(lb_json_string(o, "n", NULL, "f", &s, &err), LB_EFORMAT);
    assert_string_equal(err.msg, "f: \"n\" is not a string");
    json_decref(o);
}

static void saved_files_are_sorted_complete_and_read_back(void **state)
{
    (void)state;
    lb_error err;
    char prefix[4096], *folder = NULL;
    const char *tmp = getenv("TMPDIR");
    snprintf(prefix, sizeof prefix, "%s/lb_json", tmp ? tmp : "/tmp");
    assert_int_equal(lb_make_unique_directory(prefix, &folder, &err), LB_OK);
    char *path = lb_path_join(folder, "a.json");
    json_t *o = json_pack("{s:i, s:f, s:s}", "z", 1, "a", 0.1, "m", "x"), *back = NULL;
    assert_int_equal(lb_json_save(path, o, &err), LB_OK);
    char *text = NULL;
    size_t size = 0;
    assert_int_equal(lb_file_read(path, 1000, &text, &size, &err), LB_OK);
    assert_string_equal(text, "{\n \"a\": 0.10000000000000001,\n \"m\": \"x\",\n \"z\": 1\n}\n");
    assert_int_equal(lb_json_load(path, 1000, &back, &err), LB_OK);
    assert_true(json_equal(o, back));
    assert_int_equal(lb_json_load(path, 10, &back, &err), LB_EFORMAT); /* larger than allowed */
    assert_int_equal(lb_remove_directory(folder, &err), LB_OK);
    lb_free(text);
    lb_free(path);
    lb_free(folder);
    json_decref(o);
    json_decref(back);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(objects_parse_and_nothing_else_does),
        cmocka_unit_test(a_zero_byte_inside_is_refused),
        cmocka_unit_test(deep_nesting_is_refused_not_followed),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(values_of_the_wanted_kind),
        cmocka_unit_test(saved_files_are_sorted_complete_and_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
