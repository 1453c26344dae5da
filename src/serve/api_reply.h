/* SPDX-License-Identifier: MIT
 * What goes back to a client: JSON documents and events, in the shapes of OpenAI's API reference. Every function adds
 * to `out`; without memory out->failed is set. */
#ifndef LB_SERVE_API_REPLY_H
#define LB_SERVE_API_REPLY_H

#include <jansson.h>

#include "base/text.h"
#include "serve/api_request.h"

/* One answer, as it is made. */
typedef struct lb_api_reply {
    lb_api_kind kind;
    bool stream, include_usage;
    char id[48];
    long long created; /* seconds since 1970 */
    const char *model;
    bool begun; /* a stream's first event has gone out */
    json_t *scores; /* of tokens whose text has not gone out yet, a list; or NULL */
    size_t score_offset; /* characters of all tokens before those */
    lb_text text; /* not streamed: the answer so far */
} lb_api_reply;

void lb_api_reply_free(lb_api_reply *reply);

/* A token's score, to go out with its text. `stream` is for the tokens' spellings. */
lb_status lb_api_reply_score(lb_api_reply *reply, lb_detokenizer *stream, lb_token_score token,
                             const lb_token_score *top, size_t top_count, lb_error *err);

/* A piece of the answer: an event, or kept for the end. */
void lb_api_reply_text(lb_api_reply *reply, const char *text, size_t length, lb_text *out);

/* The end of an answer: the last events, or the whole document. */
void lb_api_reply_end(lb_api_reply *reply, const lb_generate_result *result, lb_text *out);

/* {"error": ...} of an HTTP status, alone or as the last event of a stream that has begun. code may be NULL. */
void lb_api_reply_error(unsigned status, const char *code, const char *message, bool event, lb_text *out);

/* /v1/models, and one entry of it. */
void lb_api_reply_models(const char *model, long long created, size_t context, bool list, lb_text *out);

#endif
