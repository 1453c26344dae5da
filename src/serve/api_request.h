/* SPDX-License-Identifier: MIT
 * The body of a request, as OpenAI's API reference describes it (POST /v1/completions, /v1/chat/completions), out
 * of any bytes. What lowbit does not do is refused where it would change the answer, and passed over where it would
 * not. */
#ifndef LB_SERVE_API_REQUEST_H
#define LB_SERVE_API_REQUEST_H

#include "lowbit/generate.h"

typedef enum lb_api_kind { LB_API_COMPLETION, LB_API_CHAT } lb_api_kind;

typedef struct lb_api_request {
    lb_api_kind kind;
    char *prompt; /* of a completion; or NULL, and then ids are the prompt */
    size_t prompt_length;
    uint32_t *ids; /* [id_count] */
    size_t id_count;
    lb_chat_turn *turns; /* [turn_count] of a chat */
    size_t turn_count;
    size_t max_tokens; /* 0: until the model ends, or the context is full */
    char *stops[LB_GENERATE_MOST_STOPS];
    size_t stop_count;
    bool stream, include_usage;
    bool scores; /* log probabilities are wanted, and of so many alternatives */
    size_t top_scores;
    bool forget; /* "cache_prompt": false */
    bool goes_on; /* "ignore_eos": an end token is not the end */
    double temperature, top_p, min_p, repeat_penalty;
    size_t top_k;
    uint64_t seed;
} lb_api_request;

/* A request without a seed gets `seed`. Failures are LB_EFORMAT (not the JSON that was wanted), LB_EINVAL (a value that
 * makes no sense), LB_EUNSUPPORTED or LB_ENOMEM. */
lb_status lb_api_request_parse(lb_api_kind kind, const char *body, size_t size, uint64_t seed,
                               lb_api_request *out, lb_error *err);
void lb_api_request_free(lb_api_request *request);

/* What the engine is asked for; valid as long as the request. */
lb_generate_options lb_api_request_options(const lb_api_request *request);

/* The prompt as tokens (lb_ids_free). */
lb_status lb_api_request_tokens(const lb_api_request *request, const lb_tokenizer *tokenizer, uint32_t **ids,
                                size_t *count, lb_error *err);

#endif
