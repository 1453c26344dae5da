/* SPDX-License-Identifier: MIT
 * Bodies of requests: what is read, what is refused and how it is said, and memory that runs out anywhere. */
#include "near.h"

#include "base/alloc.h"
#include "serve/access.h"
#include "serve/api_request.h"

static lb_status parse(lb_api_kind kind, const char *body, lb_api_request *out, lb_error *err)
{
    return lb_api_request_parse(kind, body, strlen(body), 7, out, err);
}

static void a_completion_is_read(void **state)
{
    (void)state;
    lb_api_request r;
    lb_error err = {0};
    assert_int_equal(parse(LB_API_COMPLETION, "{\"prompt\": \"a b\"}", &r, &err), LB_OK);
    assert_string_equal(r.prompt, "a b");
    assert_int_equal(r.max_tokens, 16);
    assert_true(r.temperature == 1 && r.top_p == 1 && r.seed == 7);
    assert_false(r.stream || r.scores || r.forget);
    lb_generate_options o = lb_api_request_options(&r);
    assert_true(!o.ignore_end && o.continues_text && o.top_k == 0 && o.min_p == 0 && o.repeat_penalty == 1);
    lb_api_request_free(&r);

    assert_int_equal(parse(LB_API_COMPLETION,
                           "{\"prompt\": [3, 1, 4], \"max_tokens\": 5, \"temperature\": 0, \"top_p\": 0.5,"
                           " \"top_k\": 9, \"min_p\": 0.1, \"repeat_penalty\": 1.5, \"seed\": -1, \"stop\": "
                           "[\"x\", \"yz\"], \"stream\": true, \"stream_options\": {\"include_usage\": true},"
                           " \"logprobs\": 3, \"cache_prompt\": false, \"ignore_eos\": true,"
                           " \"unknown\": {}, \"user\": \"me\"}",
                           &r, &err),
                     LB_OK);
    assert_null(r.prompt);
    assert_int_equal(r.id_count, 3);
    assert_int_equal(r.ids[2], 4);
    assert_int_equal(r.stop_count, 2);
    assert_string_equal(r.stops[1], "yz");
    assert_true(r.stream && r.include_usage && r.scores && r.forget && r.goes_on && r.top_scores == 3);
    assert_true(r.seed == UINT64_MAX && r.top_k == 9 && r.repeat_penalty == 1.5 && r.min_p == 0.1);
    o = lb_api_request_options(&r);
    assert_true(o.ignore_end && o.max_tokens == 5 && o.stop_count == 2 && o.temperature == 0 && o.top_scores == 3);
    lb_api_request_free(&r);

    assert_int_equal(parse(LB_API_COMPLETION, "{\"prompt\": [\"one\"], \"top_p\": 0, \"n\": null}", &r, &err),
                     LB_OK);
    assert_string_equal(r.prompt, "one");
    assert_true(r.top_k == 1 && r.top_p == 1);
    lb_api_request_free(&r);
}

static void a_chat_is_read(void **state)
{
    (void)state;
    lb_api_request r;
    lb_error err = {0};
    assert_int_equal(
        parse(LB_API_CHAT,
              "{\"model\": \"m\", \"messages\": [{\"role\": \"developer\", \"content\": \"be\"},"
              "{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"a\"}, {\"type\": \"text\","
              " \"text\": \"b\"}], \"name\": \"n\"}, {\"role\": \"assistant\", \"content\": \"\"}],"
              " \"max_tokens\": 3, \"max_completion_tokens\": 4, \"logprobs\": true, \"top_logprobs\": 20,"
              " \"response_format\": {\"type\": \"text\"}, \"tools\": [], \"presence_penalty\": 0}",
              &r, &err),
        LB_OK);
    assert_int_equal(r.turn_count, 3);
    assert_string_equal(r.turns[0].role, "system");
    assert_string_equal(r.turns[1].content, "ab");
    assert_string_equal(r.turns[2].content, "");
    assert_true(r.max_tokens == 4 && r.scores && r.top_scores == 20);
    assert_false(lb_api_request_options(&r).continues_text);
    lb_api_request_free(&r);
    assert_int_equal(
        parse(LB_API_CHAT, "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}", &r, &err), LB_OK);
    assert_int_equal(r.max_tokens, 0);
    lb_api_request_free(&r);
}

#define USER "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}]"

static const struct {
    lb_api_kind kind;
    const char *body, *said;
    lb_status status;
} refused[] = {
    {LB_API_COMPLETION, "", "not valid JSON", LB_EFORMAT},
    {LB_API_COMPLETION, "{\"prompt\": \"x\"", "not valid JSON", LB_EFORMAT},
    {LB_API_COMPLETION, "{\"prompt\": \"a\\u0000b\"}", "not valid JSON", LB_EFORMAT},
    {LB_API_COMPLETION, "[]", "not an object", LB_EFORMAT},
    {LB_API_COMPLETION, "{}", "\"prompt\" is missing", LB_EFORMAT},
    {LB_API_COMPLETION, "{\"prompt\": 3}", "\"prompt\" is missing", LB_EFORMAT},
    {LB_API_COMPLETION, "{\"prompt\": []}", "one text or one list", LB_EUNSUPPORTED},
    {LB_API_COMPLETION, "{\"prompt\": [\"a\", \"b\"]}", "one text or one list", LB_EUNSUPPORTED},
    {LB_API_COMPLETION, "{\"prompt\": [1, -1]}", "item 1", LB_EINVAL},
    {LB_API_COMPLETION, "{\"prompt\": [1, \"a\"]}", "item 1", LB_EINVAL},
    {LB_API_COMPLETION, "{\"prompt\": [1, 4294967296]}", "item 1", LB_EINVAL},
    {LB_API_COMPLETION, "{\"prompt\": \"x\", \"max_tokens\": 0}", "\"max_tokens\"", LB_EFORMAT},
    {LB_API_COMPLETION, "{\"prompt\": \"x\", \"max_tokens\": 1.5}", "\"max_tokens\"", LB_EFORMAT},
    {LB_API_COMPLETION, "{\"prompt\": \"x\", \"temperature\": -1}", "\"temperature\" is -1", LB_EINVAL},
    {LB_API_COMPLETION, "{\"prompt\": \"x\", \"temperature\": \"hot\"}", "\"temperature\"", LB_EFORMAT},
    {LB_API_COMPLETION, "{\"prompt\": \"x\", \"top_p\": 1.1}", "\"top_p\" is 1.1", LB_EINVAL},
    {LB_API_COMPLETION, "{\"prompt\": \"x\", \"seed\": 1.5}", "\"seed\"", LB_EFORMAT},
    {LB_API_COMPLETION, "{\"prompt\": \"x\", \"stop\": 3}", "\"stop\" must be", LB_EFORMAT},
    {LB_API_COMPLETION, "{\"prompt\": \"x\", \"stop\": \"\"}", "0 bytes", LB_EINVAL},
    {LB_API_COMPLETION, "{\"prompt\": \"x\", \"logprobs\": 21}", "\"logprobs\" is 21", LB_EFORMAT},
    {LB_API_COMPLETION, "{\"prompt\": \"x\", \"n\": 2}", "\"n\" is 2; only 1 answer", LB_EUNSUPPORTED},
    {LB_API_COMPLETION, "{\"prompt\": \"x\", \"best_of\": 3}", "\"best_of\" is 3", LB_EUNSUPPORTED},
    {LB_API_COMPLETION, "{\"prompt\": \"x\", \"echo\": true}", "\"echo\"", LB_EUNSUPPORTED},
    {LB_API_COMPLETION, "{\"prompt\": \"x\", \"suffix\": \"y\"}", "\"suffix\"", LB_EUNSUPPORTED},
    {LB_API_COMPLETION, "{\"prompt\": \"x\", \"presence_penalty\": 1}", "presence_penalty", LB_EUNSUPPORTED},
    {LB_API_COMPLETION, "{\"prompt\": \"x\", \"logit_bias\": {\"1\": 2}}", "logit_bias", LB_EUNSUPPORTED},
    {LB_API_COMPLETION, "{\"prompt\": \"x\", \"stream\": 1}", "\"stream\"", LB_EFORMAT},
    {LB_API_COMPLETION, "{\"prompt\": \"x\", \"stream_options\": 1}", "\"stream_options\"", LB_EFORMAT},
    {LB_API_CHAT, "{}", "\"messages\" is missing", LB_EFORMAT},
    {LB_API_CHAT, "{\"messages\": []}", "\"messages\" is missing, empty", LB_EFORMAT},
    {LB_API_CHAT, "{\"messages\": [3]}", "message 0 has no \"role\"", LB_EFORMAT},
    {LB_API_CHAT, "{\"messages\": [{\"role\": \"user\"}]}", "\"content\" of message 0", LB_EFORMAT},
    {LB_API_CHAT, "{\"messages\": [{\"role\": \"tool\", \"content\": \"\"}]}", "\"tool\"", LB_EUNSUPPORTED},
    {LB_API_CHAT, "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image_url\"}]}]}",
     "no text", LB_EUNSUPPORTED},
    {LB_API_CHAT, USER ", \"top_logprobs\": 2}", "needs \"logprobs\"", LB_EINVAL},
    {LB_API_CHAT, USER ", \"tools\": [{}]}", "\"tools\"", LB_EUNSUPPORTED},
    {LB_API_CHAT, USER ", \"response_format\": {\"type\": \"json_object\"}}", "response_format",
     LB_EUNSUPPORTED},
};

static void what_makes_no_sense_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        lb_api_request r = {.max_tokens = 77};
        lb_error err = {0};
        const lb_status st = parse(refused[i].kind, refused[i].body, &r, &err);
        if (st != refused[i].status || !strstr(err.msg, refused[i].said))
            fail_msg("%s: status %d, \"%s\"", refused[i].body, (int)st, err.msg);
        assert_int_equal(r.max_tokens, 77); /* unchanged */
    }
}

static void memory_that_runs_out_is_an_answer(void **state)
{
    (void)state;
    static const char body[] =
        "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}, {\"role\": \"user\", "
        "\"content\": [{\"type\": \"text\", \"text\": \"b\"}]}], \"stop\": [\"a\", \"b\"]}";
    lb_status st = LB_ENOMEM;
    size_t k = 1;
    for (; st != LB_OK && k < 100; k++) {
        lb_api_request r;
        lb_error err = {0};
        lb_alloc_fail_at(k);
        st = parse(LB_API_CHAT, body, &r, &err);
        lb_alloc_fail_at(0);
        if (st == LB_OK)
            lb_api_request_free(&r);
        else
            assert_int_equal(st, LB_ENOMEM);
    }
    assert_true(k > 4 && k < 100);
}

static void access_is_looked_at(void **state)
{
    (void)state;
    assert_true(lb_access_key("Bearer abc", "abc"));
    assert_true(lb_access_key("bearer abc", "abc"));
    assert_false(lb_access_key(NULL, "abc"));
    assert_false(lb_access_key("abc", "abc"));
    assert_false(lb_access_key("Bearer abcabc", "abc"));
    assert_false(lb_access_key("Bearer ab", "abc"));
    assert_false(lb_access_key("Bearer abd", "abc"));
    assert_false(lb_access_key("Bearer ", "abc"));
    assert_true(lb_access_host("127.0.0.1:8080") && lb_access_host("localhost:1") &&
                lb_access_host("[::1]:1"));
    assert_true(lb_access_host("LocalHost") && lb_access_host(NULL));
    assert_false(lb_access_host("evil.example") || lb_access_host("localhost.evil.example"));
    assert_true(lb_access_origin(NULL, "a") && lb_access_origin("http://a:1", "a:1"));
    assert_false(lb_access_origin("http://b", "a") || lb_access_origin("null", "a"));
    assert_false(lb_access_origin("http://a", NULL));
    assert_true(lb_access_is_loopback("127.0.0.1") && lb_access_is_loopback("::1"));
    assert_false(lb_access_is_loopback("0.0.0.0") || lb_access_is_loopback("192.168.1.2"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_completion_is_read),
        cmocka_unit_test(a_chat_is_read),
        cmocka_unit_test(what_makes_no_sense_is_refused),
        cmocka_unit_test(memory_that_runs_out_is_an_answer),
        cmocka_unit_test(access_is_looked_at),
    };
    return cmocka_run_group_tests_name("api_request", tests, NULL, NULL);
}
