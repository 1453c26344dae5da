/* SPDX-License-Identifier: MIT */
#include "serve/api_request.h"

#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/text.h"

static const char where[] = "the request";

/* What /v1/completions generates where nobody says how much (chats go on until their end). */
enum { COMPLETION_TOKENS = 16, MOST_TOKENS = 1 << 24 };

static lb_status no_memory(lb_error *err)
{
    return lb_fail(err, LB_ENOMEM, "no memory for %s", where);
}

static const json_t *find(const json_t *body, const char *key)
{
    const json_t *value = json_object_get(body, key);
    return json_is_null(value) ? NULL : value;
}

/* ---- The prompt -------------------------------------------------------------------------------------- */

static lb_status read_ids(const json_t *list, lb_api_request *r, lb_error *err)
{
    r->id_count = json_array_size(list);
    LB_TRY(lb_alloc_array(&r->ids, r->id_count, sizeof *r->ids, where, err));
    for (size_t i = 0; i < r->id_count; i++) {
        const json_t *id = json_array_get(list, i);
        const json_int_t n = json_integer_value(id);
        if (!json_is_integer(id) || n < 0 || n > UINT32_MAX)
            return lb_fail(err, LB_EINVAL, "%s: item %zu of \"prompt\" is no token id", where, i);
        r->ids[i] = (uint32_t)n;
    }
    return LB_OK;
}

static lb_status read_prompt(const json_t *body, lb_api_request *r, lb_error *err)
{
    const json_t *prompt = find(body, "prompt");
    if (json_is_array(prompt) && json_array_size(prompt) == 1 && !json_is_integer(json_array_get(prompt, 0)))
        prompt = json_array_get(prompt, 0);
    if (json_is_array(prompt) && json_array_size(prompt) > 0 && json_is_integer(json_array_get(prompt, 0)))
        return read_ids(prompt, r, err);
    if (json_is_array(prompt))
        return lb_fail(err, LB_EUNSUPPORTED, "%s: \"prompt\" must be one text or one list of token ids",
                       where);
    if (!json_is_string(prompt))
        return lb_fail(err, LB_EFORMAT, "%s: \"prompt\" is missing, or no text", where);
    r->prompt_length = json_string_length(prompt);
    r->prompt = lb_strndup(json_string_value(prompt), r->prompt_length);
    return r->prompt ? LB_OK : no_memory(err);
}

/* A turn's text: a string, or a list of parts of which each is text. */
static lb_status read_content(const json_t *content, size_t turn, char **out, lb_error *err)
{
    lb_text text = {0};
    if (!json_is_string(content) && !json_is_array(content))
        return lb_fail(err, LB_EFORMAT, "%s: \"content\" of message %zu is missing, or no text", where, turn);
    lb_text_add(&text, "", 0);
    if (json_is_string(content))
        lb_text_add(&text, json_string_value(content), json_string_length(content));
    for (size_t i = 0; i < json_array_size(content); i++) {
        const json_t *part = json_array_get(content, i), *words = json_object_get(part, "text");
        const char *type = json_string_value(json_object_get(part, "type"));
        if (!type || strcmp(type, "text") != 0 || !json_is_string(words)) {
            lb_text_free(&text);
            return lb_fail(err, LB_EUNSUPPORTED, "%s: message %zu has a part that is no text", where, turn);
        }
        lb_text_add(&text, json_string_value(words), json_string_length(words));
    }
    *out = text.failed ? NULL : lb_strndup(text.data, text.length);
    lb_text_free(&text);
    return *out ? LB_OK : no_memory(err);
}

static lb_status read_turn(const json_t *message, size_t turn, lb_chat_turn *out, lb_error *err)
{
    static const struct {
        const char *said, *meant;
    } roles[] = {{"system", "system"}, {"developer", "system"}, {"user", "user"}, {"assistant", "assistant"}};
    const char *role = json_string_value(json_object_get(message, "role"));
    char *content = NULL;
    if (!role)
        return lb_fail(err, LB_EFORMAT, "%s: message %zu has no \"role\"", where, turn);
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (strcmp(role, roles[i].said) == 0)
            out->role = roles[i].meant;
    if (!out->role)
        return lb_fail(err, LB_EUNSUPPORTED,
                       "%s: message %zu has the role \"%s\"; known are system, developer, user and assistant",
                       where, turn, role);
    LB_TRY(read_content(find(message, "content"), turn, &content, err));
    out->content = content;
    return LB_OK;
}

static lb_status read_turns(const json_t *body, lb_api_request *r, lb_error *err)
{
    const json_t *messages = find(body, "messages");
    const size_t count = json_array_size(messages);
    if (!json_is_array(messages) || count == 0)
        return lb_fail(err, LB_EFORMAT, "%s: \"messages\" is missing, empty or no list", where);
    r->turns = lb_alloc_zero(count, sizeof *r->turns);
    if (!r->turns)
        return no_memory(err);
    for (r->turn_count = 0; r->turn_count < count; r->turn_count++)
        LB_TRY(
            read_turn(json_array_get(messages, r->turn_count), r->turn_count, &r->turns[r->turn_count], err));
    return LB_OK;
}

/* ---- How it is to be answered ------------------------------------------------------------------------ */

static lb_status add_stop(const json_t *stop, lb_api_request *r, lb_error *err)
{
    const size_t length = json_string_length(stop);
    if (!json_is_string(stop))
        return lb_fail(err, LB_EFORMAT, "%s: \"stop\" must be a text or a list of texts", where);
    if (length == 0 || length > LB_GENERATE_MOST_STOP_BYTES)
        return lb_fail(err, LB_EINVAL, "%s: a \"stop\" has %zu bytes, wanted 1 to %d", where, length,
                       LB_GENERATE_MOST_STOP_BYTES);
    if (r->stop_count == LB_GENERATE_MOST_STOPS)
        return lb_fail(err, LB_EINVAL, "%s: more than %d texts in \"stop\"", where, LB_GENERATE_MOST_STOPS);
    r->stops[r->stop_count] = lb_strndup(json_string_value(stop), length);
    return r->stops[r->stop_count++] ? LB_OK : no_memory(err);
}

static lb_status read_stops(const json_t *body, lb_api_request *r, lb_error *err)
{
    const json_t *stop = find(body, "stop");
    if (!stop)
        return LB_OK;
    if (!json_is_array(stop))
        return add_stop(stop, r, err);
    for (size_t i = 0; i < json_array_size(stop); i++)
        LB_TRY(add_stop(json_array_get(stop, i), r, err));
    return LB_OK;
}

static lb_status read_scores(const json_t *body, lb_api_request *r, lb_error *err)
{
    if (r->kind == LB_API_COMPLETION) {
        r->scores = find(body, "logprobs") != NULL;
        return lb_json_size(body, "logprobs", 0, LB_GENERATE_MOST_TOP, 0, where, &r->top_scores, err);
    }
    LB_TRY(lb_json_bool(body, "logprobs", false, where, &r->scores, err));
    LB_TRY(lb_json_size(body, "top_logprobs", 0, LB_GENERATE_MOST_TOP, 0, where, &r->top_scores, err));
    if (r->top_scores > 0 && !r->scores)
        return lb_fail(err, LB_EINVAL, "%s: \"top_logprobs\" needs \"logprobs\": true", where);
    return LB_OK;
}

static lb_status read_number(const json_t *body, const char *key, double low, double high, double fallback,
                             double *out, lb_error *err)
{
    LB_TRY(lb_json_double(body, key, fallback, where, out, err));
    if (!(*out >= low && *out <= high))
        return lb_fail(err, LB_EINVAL, "%s: \"%s\" is %g, wanted %g to %g", where, key, *out, low, high);
    return LB_OK;
}

static lb_status read_sampling(const json_t *body, uint64_t seed, lb_api_request *r, lb_error *err)
{
    const json_t *given = find(body, "seed");
    LB_TRY(read_number(body, "temperature", 0, 100, 1, &r->temperature, err));
    LB_TRY(read_number(body, "top_p", 0, 1, 1, &r->top_p, err));
    LB_TRY(read_number(body, "min_p", 0, 1, 0, &r->min_p, err));
    LB_TRY(read_number(body, "repeat_penalty", 0.001, 1000, 1, &r->repeat_penalty, err));
    LB_TRY(lb_json_size(body, "top_k", 0, MOST_TOKENS, 0, where, &r->top_k, err));
    if (r->top_p == 0) { /* nothing but the likeliest */
        r->top_p = 1;
        r->top_k = 1;
    }
    if (given && !json_is_integer(given))
        return lb_fail(err, LB_EFORMAT, "%s: \"seed\" is not an integer", where);
    r->seed = given ? (uint64_t)json_integer_value(given) : seed;
    return LB_OK;
}

static lb_status read_amount(const json_t *body, lb_api_request *r, lb_error *err)
{
    const size_t fallback = r->kind == LB_API_COMPLETION ? COMPLETION_TOKENS : 0;
    size_t newer;
    LB_TRY(lb_json_size(body, "max_tokens", 1, MOST_TOKENS, fallback, where, &r->max_tokens, err));
    LB_TRY(lb_json_size(body, "max_completion_tokens", 1, MOST_TOKENS, 0, where, &newer, err));
    if (newer)
        r->max_tokens = newer;
    return LB_OK;
}

static lb_status read_stream(const json_t *body, lb_api_request *r, lb_error *err)
{
    bool cached;
    const json_t *options = find(body, "stream_options");
    LB_TRY(lb_json_bool(body, "stream", false, where, &r->stream, err));
    LB_TRY(lb_json_bool(body, "cache_prompt", true, where, &cached, err));
    r->forget = !cached;
    LB_TRY(lb_json_bool(body, "ignore_eos", false, where, &r->goes_on, err));
    if (!options)
        return LB_OK;
    if (!json_is_object(options))
        return lb_fail(err, LB_EFORMAT, "%s: \"stream_options\" is no object", where);
    return lb_json_bool(options, "include_usage", false, where, &r->include_usage, err);
}

/* What would make another answer than lowbit gives. */
static lb_status refuse_rest(const json_t *body, lb_error *err)
{
    static const char *const lists[] = {"tools", "functions", "logit_bias", "modalities"};
    static const char *const numbers[] = {"presence_penalty", "frequency_penalty"};
    size_t n, best;
    bool echo;
    LB_TRY(lb_json_size(body, "n", 0, MOST_TOKENS, 1, where, &n, err));
    LB_TRY(lb_json_size(body, "best_of", 0, MOST_TOKENS, 1, where, &best, err));
    LB_TRY(lb_json_bool(body, "echo", false, where, &echo, err));
    if (n != 1 || best != 1)
        return lb_fail(err, LB_EUNSUPPORTED, "%s: \"%s\" is %zu; only 1 answer to a request is supported",
                       where, n != 1 ? "n" : "best_of", n != 1 ? n : best);
    if (echo)
        return lb_fail(err, LB_EUNSUPPORTED, "%s: \"echo\" is not supported", where);
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        const json_t *value = find(body, lists[i]);
        const bool text_only = json_array_size(value) == 1 && json_is_string(json_array_get(value, 0)) &&
                               strcmp(json_string_value(json_array_get(value, 0)), "text") == 0;
        if (value && !text_only && (json_array_size(value) > 0 || json_object_size(value) > 0))
            return lb_fail(err, LB_EUNSUPPORTED, "%s: \"%s\" is not supported", where, lists[i]);
    }
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        double value;
        LB_TRY(lb_json_double(body, numbers[i], 0, where, &value, err));
        if (value != 0)
            return lb_fail(err, LB_EUNSUPPORTED, "%s: \"%s\" is not supported; \"repeat_penalty\" is", where,
                           numbers[i]);
    }
    const json_t *format = find(body, "response_format"), *suffix = find(body, "suffix");
    const char *type = json_string_value(json_object_get(format, "type"));
    if (format && (!type || strcmp(type, "text") != 0))
        return lb_fail(err, LB_EUNSUPPORTED, "%s: \"response_format\" can only be text", where);
    if (json_string_length(suffix) > 0)
        return lb_fail(err, LB_EUNSUPPORTED, "%s: \"suffix\" is not supported", where);
    return LB_OK;
}

lb_status lb_api_request_parse(lb_api_kind kind, const char *bytes, size_t size, uint64_t seed,
                               lb_api_request *out, lb_error *err)
{
    lb_api_request r = {.kind = kind};
    json_t *body = NULL;
    lb_status st = LB_OK;
    LB_GO(lb_json_parse(bytes, size, where, &body, err));
    LB_GO(kind == LB_API_CHAT ? read_turns(body, &r, err) : read_prompt(body, &r, err));
    LB_GO(read_amount(body, &r, err));
    LB_GO(read_sampling(body, seed, &r, err));
    LB_GO(read_stops(body, &r, err));
    LB_GO(read_stream(body, &r, err));
    LB_GO(read_scores(body, &r, err));
    LB_GO(refuse_rest(body, err));
    *out = r;
    r = (lb_api_request){0};
done:
    json_decref(body);
    lb_api_request_free(&r);
    return st;
}

void lb_api_request_free(lb_api_request *r)
{
    lb_free(r->prompt);
    lb_free(r->ids);
    for (size_t i = 0; r->turns && i < r->turn_count; i++)
        lb_free((char *)(uintptr_t)r->turns[i].content);
    lb_free(r->turns);
    for (size_t i = 0; i < r->stop_count; i++)
        lb_free(r->stops[i]);
    *r = (lb_api_request){0};
}

lb_generate_options lb_api_request_options(const lb_api_request *r)
{
    lb_generate_options o;
    lb_generate_options_init(&o);
    o.max_tokens = r->max_tokens;
    o.temperature = r->temperature;
    o.top_k = r->top_k;
    o.top_p = r->top_p;
    o.min_p = r->min_p;
    o.repeat_penalty = r->repeat_penalty;
    o.seed = r->seed;
    o.stops = (const char *const *)r->stops;
    o.stop_count = r->stop_count;
    o.top_scores = r->top_scores;
    o.continues_text = r->kind == LB_API_COMPLETION;
    o.forget = r->forget;
    o.ignore_end = r->goes_on;
    return o;
}

lb_status lb_api_request_tokens(const lb_api_request *r, const lb_tokenizer *tokenizer, uint32_t **ids,
                                size_t *count, lb_error *err)
{
    if (r->kind == LB_API_CHAT)
        return lb_tokenizer_chat(tokenizer, r->turns, r->turn_count, ids, count, err);
    if (r->prompt)
        return lb_tokenizer_encode(tokenizer, r->prompt, r->prompt_length, LB_ENCODE_DEFAULT_BOS, ids, count,
                                   err);
    const size_t vocab = lb_tokenizer_vocab_size(tokenizer);
    for (size_t i = 0; i < r->id_count; i++)
        if (r->ids[i] >= vocab)
            return lb_fail(err, LB_EINVAL, "%s: token id %u is outside the vocabulary of %zu", where,
                           r->ids[i], vocab);
    LB_TRY(lb_alloc_array(ids, r->id_count, sizeof **ids, where, err));
    memcpy(*ids, r->ids, r->id_count * sizeof **ids);
    *count = r->id_count;
    return LB_OK;
}
