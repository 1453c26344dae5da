/* SPDX-License-Identifier: MIT */
#include "serve/api_reply.h"

#include <string.h>

#include "io/tokenizer_parts.h"

/* ---- JSON into text ---------------------------------------------------------------------------------- */

static int add_bytes(const char *bytes, size_t length, void *text)
{
    lb_text_add(text, bytes, length);
    return ((lb_text *)text)->failed ? -1 : 0;
}

/* Drops the reference. */
static void write_json(json_t *json, bool event, lb_text *out)
{
    if (event)
        lb_text_add_string(out, "data: ");
    if (!json || json_dump_callback(json, add_bytes, out, JSON_COMPACT) != 0)
        out->failed = true;
    lb_text_add_string(out, event ? "\n\n" : "\n");
    json_decref(json);
}

void lb_api_reply_free(lb_api_reply *reply)
{
    json_decref(reply->scores);
    reply->scores = NULL;
    lb_text_free(&reply->text);
}

/* ---- Scores ------------------------------------------------------------------------------------------ */

/* A token's spelling, which need not be whole characters, as a JSON text; and its bytes. */
static lb_status spell(lb_detokenizer *stream, uint32_t id, json_t **text, json_t **bytes, lb_error *err)
{
    lb_text copy = {0};
    const char *clean, *raw;
    size_t raw_length, length;
    LB_TRY(lb_detokenizer_token(stream, id, &raw, &raw_length, err));
    *bytes = json_array();
    for (size_t i = 0; i < raw_length; i++)
        json_array_append_new(*bytes, json_integer((unsigned char)raw[i]));
    clean = raw;
    length = raw_length;
    const lb_status st = lb_utf8_clean(&copy, &clean, &length, err);
    *text = st == LB_OK ? json_stringn(clean, length) : NULL;
    lb_text_free(&copy);
    if (*text && *bytes)
        return LB_OK;
    json_decref(*text);
    json_decref(*bytes);
    return st != LB_OK ? st : lb_fail(err, LB_ENOMEM, "no memory for a token's score");
}

static lb_status score_entry(lb_detokenizer *stream, lb_token_score token, json_t **out, lb_error *err)
{
    json_t *text, *bytes;
    LB_TRY(spell(stream, token.id, &text, &bytes, err));
    /* JSON has no infinity: what can hardly be said is what OpenAI's servers say. */
    const double logprob = token.logprob >= -9999.0 ? token.logprob : -9999.0;
    *out = json_pack("{s:o, s:f, s:o}", "token", text, "logprob", logprob, "bytes", bytes);
    return *out ? LB_OK : lb_fail(err, LB_ENOMEM, "no memory for a token's score");
}

lb_status lb_api_reply_score(lb_api_reply *reply, lb_detokenizer *stream, lb_token_score token,
                             const lb_token_score *top, size_t top_count, lb_error *err)
{
    json_t *entry = NULL, *list = json_array(), *one;
    lb_status st = LB_OK;
    if (!reply->scores)
        reply->scores = json_array();
    LB_GO(score_entry(stream, token, &entry, err));
    for (size_t i = 0; i < top_count; i++) {
        LB_GO(score_entry(stream, top[i], &one, err));
        if (json_array_append_new(list, one) != 0)
            st = lb_fail(err, LB_ENOMEM, "no memory for a token's score");
    }
    if (json_object_set(entry, "top_logprobs", list) != 0 || json_array_append(reply->scores, entry) != 0)
        st = lb_fail(err, LB_ENOMEM, "no memory for a token's score");
done:
    json_decref(entry);
    json_decref(list);
    return st;
}

static size_t count_characters(const char *text)
{
    size_t count = 0;
    for (; *text; text++)
        count += (*text & 0xC0) != 0x80;
    return count;
}

/* The older shape: four lists side by side. */
static json_t *scores_of_completion(lb_api_reply *reply)
{
    json_t *tokens = json_array(), *logprobs = json_array(), *tops = json_array(), *offsets = json_array();
    size_t i, k;
    const json_t *entry, *other;
    json_array_foreach(reply->scores, i, entry)
    {
        json_t *token = json_object_get(entry, "token"), *top = json_object();
        json_array_append(tokens, token);
        json_array_append(logprobs, json_object_get(entry, "logprob"));
        json_array_append_new(offsets, json_integer((json_int_t)reply->score_offset));
        json_array_foreach(json_object_get(entry, "top_logprobs"), k, other)
        {
            const char *key = json_string_value(json_object_get(other, "token"));
            if (!json_object_get(top, key)) /* the likelier of two that are spelled alike */
                json_object_set(top, key, json_object_get(other, "logprob"));
        }
        json_array_append_new(tops, top);
        reply->score_offset += count_characters(json_string_value(token));
    }
    return json_pack("{s:o, s:o, s:o, s:o}", "tokens", tokens, "token_logprobs", logprobs, "top_logprobs",
                     tops, "text_offset", offsets);
}

/* The scores that wait, in the shape of the reply's kind; null where none do. */
static json_t *take_scores(lb_api_reply *reply)
{
    json_t *out;
    if (!reply->scores)
        return json_null();
    if (reply->kind == LB_API_COMPLETION)
        out = scores_of_completion(reply);
    else
        out = json_pack("{s:O, s:n}", "content", reply->scores, "refusal");
    json_decref(reply->scores);
    reply->scores = NULL;
    return out;
}

/* ---- Answers ----------------------------------------------------------------------------------------- */

static json_t *usage(const lb_generate_result *r)
{
    return json_pack("{s:I, s:I, s:I, s:{s:I}}", "prompt_tokens", (json_int_t)r->prompt_tokens,
                     "completion_tokens", (json_int_t)r->generated_tokens, "total_tokens",
                     (json_int_t)(r->prompt_tokens + r->generated_tokens), "prompt_tokens_details",
                     "cached_tokens", (json_int_t)r->reused_tokens);
}

/* The frame of a document or an event around its choice, which may be NULL; steals what it is given. */
static json_t *frame(const lb_api_reply *reply, json_t *choice, json_t *use)
{
    const char *object = reply->kind == LB_API_COMPLETION ? "text_completion"
                         : reply->stream                  ? "chat.completion.chunk"
                                                          : "chat.completion";
    json_t *choices = json_array();
    if (choice)
        json_array_append_new(choices, choice);
    json_t *whole = json_pack("{s:s, s:s, s:I, s:s, s:o}", "id", reply->id, "object", object, "created",
                              (json_int_t)reply->created, "model", reply->model, "choices", choices);
    if (use)
        json_object_set_new(whole, "usage", use);
    return whole;
}

/* One event of a stream. delta is stolen; NULL in a completion, which has text. */
static void event(lb_api_reply *reply, json_t *delta, const char *text, size_t length, const char *finish,
                  lb_text *out)
{
    json_t *choice;
    json_t *end = finish ? json_string(finish) : json_null();
    if (reply->kind == LB_API_CHAT)
        choice = json_pack("{s:i, s:o, s:o, s:o}", "index", 0, "delta", delta, "logprobs", take_scores(reply),
                           "finish_reason", end);
    else
        choice = json_pack("{s:i, s:s%, s:o, s:o}", "index", 0, "text", text, length, "logprobs",
                           take_scores(reply), "finish_reason", end);
    write_json(frame(reply, choice, reply->include_usage ? json_null() : NULL), true, out);
}

static void begin_stream(lb_api_reply *reply, lb_text *out)
{
    json_t *scores = reply->scores;
    if (reply->begun)
        return;
    reply->begun = true;
    reply->scores = NULL;
    if (reply->kind == LB_API_CHAT)
        event(reply, json_pack("{s:s, s:s}", "role", "assistant", "content", ""), NULL, 0, NULL, out);
    reply->scores = scores;
}

void lb_api_reply_text(lb_api_reply *reply, const char *text, size_t length, lb_text *out)
{
    if (!reply->stream) {
        lb_text_add(&reply->text, text, length);
        return;
    }
    begin_stream(reply, out);
    json_t *delta = reply->kind == LB_API_CHAT ? json_pack("{s:s%}", "content", text, length) : NULL;
    event(reply, delta, text, length, NULL, out);
}

static const char *finish_reason(lb_stop stop)
{
    return stop == LB_STOP_END || stop == LB_STOP_STRING ? "stop" : "length";
}

void lb_api_reply_end(lb_api_reply *reply, const lb_generate_result *result, lb_text *out)
{
    const char *finish = finish_reason(result->stop);
    if (reply->stream) {
        begin_stream(reply, out);
        event(reply, reply->kind == LB_API_CHAT ? json_object() : NULL, "", 0, finish, out);
        if (reply->include_usage)
            write_json(frame(reply, NULL, usage(result)), true, out);
        lb_text_add_string(out, "data: [DONE]\n\n");
        return;
    }
    const char *text = reply->text.data ? reply->text.data : "";
    json_t *choice;
    if (reply->kind == LB_API_CHAT)
        choice = json_pack("{s:i, s:{s:s, s:s%, s:n}, s:o, s:s}", "index", 0, "message", "role", "assistant",
                           "content", text, reply->text.length, "refusal", "logprobs", take_scores(reply),
                           "finish_reason", finish);
    else
        choice = json_pack("{s:i, s:s%, s:o, s:s}", "index", 0, "text", text, reply->text.length, "logprobs",
                           take_scores(reply), "finish_reason", finish);
    out->failed = out->failed || reply->text.failed;
    write_json(frame(reply, choice, usage(result)), false, out);
}

static const char *error_type(unsigned status)
{
    switch (status) {
    case 401:
        return "authentication_error";
    case 403:
        return "permission_error";
    case 429:
        return "rate_limit_error";
    default:
        return status >= 500 ? "server_error" : "invalid_request_error";
    }
}

void lb_api_reply_error(unsigned status, const char *code, const char *message, bool is_event, lb_text *out)
{
    lb_text copy = {0};
    lb_error err;
    size_t length = strlen(message);
    if (lb_utf8_clean(&copy, &message, &length, &err) != LB_OK)
        out->failed = true;
    json_t *error = json_pack("{s:{s:s%, s:s, s:n, s:s?}}", "error", "message", message, length, "type",
                              error_type(status), "param", "code", code);
    write_json(error, is_event, out);
    lb_text_free(&copy);
}

void lb_api_reply_models(const char *model, long long created, size_t context, bool list, lb_text *out)
{
    json_t *entry =
        json_pack("{s:s, s:s, s:I, s:s, s:I}", "id", model, "object", "model", "created", (json_int_t)created,
                  "owned_by", "lowbit", "context_length", (json_int_t)context);
    write_json(list ? json_pack("{s:s, s:[o]}", "object", "list", "data", entry) : entry, false, out);
}
