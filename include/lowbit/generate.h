/* SPDX-License-Identifier: MIT
 *
 * A model that answers: opened once, then asked as often as one likes.
 *
 *     lb_generate_options options;
 *     lb_generator *generator;
 *     lb_generate_options_init(&options);
 *     options.on_text = print_piece;
 *     if (lb_generator_open("./model", NULL, &generator, &err) == LB_OK) {
 *         lb_generate_text(generator, "Once upon a time", 16, &options, NULL, &err);
 *         lb_generator_close(generator);
 *     }
 */
#ifndef LOWBIT_GENERATE_H
#define LOWBIT_GENERATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lowbit/status.h"
#include "lowbit/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lb_generator lb_generator;

/* Initialise with lb_generator_options_init (NULL in a call means just that); fields are only ever
 * appended. The same goes for every options struct of this library. */
typedef struct lb_generator_options {
    size_t struct_size;
    size_t context; /* tokens of prompt and answer together; 0: the model's limit, at most 8192 */
    const char *cpu; /* "ref", "avx2", "avx512", "neon": no instructions beyond these; NULL: the best */
    lb_progress progress; /* while loading */
    const char *kv; /* how keys and values are kept: "f32", "f16", "int8", "mxint8"; NULL: f16 */
    /* A faster model with the same tokenizer, such as the same one at fewer bits, or NULL. It proposes up to
     * draft_tokens tokens (0: 4, at most LB_GENERATE_MOST_DRAFT), all of which the model then judges in one
     * pass over its weights. Answers have the model's own distribution all the same; at temperature 0 they
     * are the same. */
    const char *draft_path;
    size_t draft_tokens;
    double draft_confidence; /* no more is proposed where its likeliest token is less probable; 0.4 */
} lb_generator_options;

enum { LB_GENERATE_MOST_DRAFT = 16 };

LB_API void lb_generator_options_init_sized(lb_generator_options *options, size_t size);
#define lb_generator_options_init(options) lb_generator_options_init_sized((options), sizeof *(options))

/* Loads a Hugging Face folder, a lowbit folder or a GGUF file, with its tokenizer. A tokenizer that has
 * ids beyond the model's embedding is refused. The caller closes it. */
LB_API lb_status lb_generator_open(const char *model_path, const lb_generator_options *options,
                                   lb_generator **out, lb_error *err);
LB_API void lb_generator_close(lb_generator *generator);

/* The model's own tokenizer: valid as long as the generator. */
LB_API const lb_tokenizer *lb_generator_tokenizer(const lb_generator *generator);
LB_API size_t lb_generator_context(const lb_generator *generator);

/* Logits [count - first, vocab] after ids[first], ..., ids[count - 1], each a prediction of the next token, as
 * generation sees them: not normalized, computed anew whatever was asked before, the same bits at any number of
 * threads. LB_EINVAL where ids are none, too many for the context or not of the model, or first is not below count.
 * progress may be NULL. */
LB_API lb_status lb_generator_logits(lb_generator *generator, const uint32_t *ids, size_t count, size_t first,
                                     const lb_progress *progress, float *logits, lb_error *err);
/* Logits in a row: ids are below this. A tokenizer may have fewer. */
LB_API size_t lb_generator_vocab(const lb_generator *generator);

/* Gets the next piece of the answer: whole UTF-8 characters, length > 0, valid during the call. A
 * non-zero return ends the generation with LB_STOP_CALLER. */
typedef int (*lb_generate_fn)(void *user, const char *text, size_t length);

/* How probable a token was, in the model's own distribution: before penalty, temperature and filters. */
typedef struct lb_token_score {
    uint32_t id;
    double logprob; /* natural logarithm */
} lb_token_score;

/* Gets each generated token but an end token, before the text that it makes certain. `top` [top_count]: the
 * likeliest tokens there, the first the likeliest; valid during the call. */
typedef void (*lb_generate_token_fn)(void *user, lb_token_score token, const lb_token_score *top,
                                     size_t top_count);

enum { LB_GENERATE_MOST_STOPS = 16, LB_GENERATE_MOST_STOP_BYTES = 1024, LB_GENERATE_MOST_TOP = 20 };

typedef struct lb_generate_options {
    size_t struct_size;
    size_t max_tokens; /* 0: until the model ends, or the context is full */
    double temperature; /* 0: always the likeliest token */
    size_t top_k; /* 0: all */
    double top_p; /* 1: all */
    double min_p; /* 0: all */
    double repeat_penalty; /* 1: none */
    size_t repeat_window; /* tokens that the penalty looks back on */
    uint64_t seed;
    bool ignore_end; /* go on after an end token */
    lb_generate_fn on_text;
    void *user;
    lb_progress progress; /* asked before every piece of work; its non-zero return cancels */
    const char *const *stops; /* [stop_count] texts that end the answer before they would appear in it */
    size_t stop_count; /* at most LB_GENERATE_MOST_STOPS, each of 1 to LB_GENERATE_MOST_STOP_BYTES bytes */
    lb_generate_token_fn on_token; /* or NULL */
    size_t top_scores; /* how many alternatives on_token gets, at most LB_GENERATE_MOST_TOP */
    bool
        continues_text; /* the answer goes on where the prompt's text ends: a space that it begins with is kept */
    bool
        forget; /* read the whole prompt, whatever is in memory: then no call before has a part in the bits */
    bool no_draft; /* leave the draft's model aside */
} lb_generate_options;

LB_API void lb_generate_options_init_sized(lb_generate_options *options, size_t size);
#define lb_generate_options_init(options) lb_generate_options_init_sized((options), sizeof *(options))

typedef enum lb_stop {
    LB_STOP_LENGTH = 0, /* max_tokens were generated */
    LB_STOP_END = 1, /* the model said that it is done */
    LB_STOP_CONTEXT = 2, /* the context is full (only with max_tokens 0) */
    LB_STOP_CALLER = 3, /* on_text asked to stop */
    LB_STOP_STRING = 4 /* one of options->stops came up */
} lb_stop;

typedef struct lb_generate_result {
    size_t prompt_tokens; /* of the whole prompt */
    size_t reused_tokens; /* of those, still in memory from the call before */
    size_t generated_tokens; /* an end token included */
    double prompt_seconds, decode_seconds;
    lb_stop stop;
    size_t drafted_tokens, accepted_tokens; /* what the draft proposed, and what of it was taken */
    size_t passes; /* of the model over its weights, after the prompt's */
    size_t reserved[8]; /* 0 */
} lb_generate_result;

/* Continues ids [count]. What the prompt has in common with the tokens of the call before is not
 * computed again. A prompt that leaves no room for max_tokens is LB_EINVAL, before anything is
 * computed. *result (may be NULL) is filled in on failure too, as far as it went; cancelling is
 * LB_ECANCELED. Reproducible: the same model, ids, options and seed give the same text on the same
 * kernels, at any number of threads. */
LB_API lb_status lb_generate(lb_generator *generator, const uint32_t *ids, size_t count,
                             const lb_generate_options *options, lb_generate_result *result, lb_error *err);

/* The same for text [length], tokenized as the model's tokenizer does it by default. */
LB_API lb_status lb_generate_text(lb_generator *generator, const char *text, size_t length,
                                  const lb_generate_options *options, lb_generate_result *result,
                                  lb_error *err);

#ifdef __cplusplus
}
#endif
#endif
