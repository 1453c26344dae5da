/* SPDX-License-Identifier: MIT
 *
 * Several answers at once from one model in memory (continuous batching): an engine has a number of sequences, each
 * with room for a prompt and its answer. Every step reads a piece of a prompt that waits to be read, and decodes one
 * token of every answer under way, all of them in one pass over the weights. An answer's bits do not depend on the
 * answers beside it. lb_generator (generate.h) is an engine with one sequence.
 *
 * An engine is used from one thread at a time; its tokenizer from any number.
 */
#ifndef LOWBIT_ENGINE_H
#define LOWBIT_ENGINE_H

#include "lowbit/generate.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lb_engine lb_engine;

enum { LB_ENGINE_MOST_SEQUENCES = 64 };

typedef struct lb_engine_options {
    size_t struct_size;
    size_t
        context; /* tokens of prompt and answer together, of each sequence; 0: the model's limit, at most 8192 */
    size_t sequences; /* 1 to LB_ENGINE_MOST_SEQUENCES */
    size_t
        chunk; /* tokens of a prompt in one step; 0: 256. Another number rounds a prompt's sums differently. */
    const char *cpu; /* "ref", "avx2", "avx512", "neon": no instructions beyond these; NULL: the best */
    lb_progress progress; /* while loading */
    const char *kv; /* how keys and values are kept: "f32", "f16", "int8", "mxint8"; NULL: f16 */
    const char *draft_path; /* as in lb_generator_options */
    size_t draft_tokens;
    double draft_confidence;
} lb_engine_options;

LB_API void lb_engine_options_init_sized(lb_engine_options *options, size_t size);
#define lb_engine_options_init(options) lb_engine_options_init_sized((options), sizeof *(options))

/* Loads a Hugging Face folder, a lowbit folder or a GGUF file, with its tokenizer. A tokenizer that has
 * ids beyond the model's embedding is refused. The caller closes it, which abandons the tasks that are left. */
LB_API lb_status lb_engine_open(const char *model_path, const lb_engine_options *options, lb_engine **out,
                                lb_error *err);
LB_API void lb_engine_close(lb_engine *engine);

/* The model's own tokenizer: valid as long as the engine. */
LB_API const lb_tokenizer *lb_engine_tokenizer(const lb_engine *engine);
LB_API size_t lb_engine_context(const lb_engine *engine);
/* Tasks under way. */
LB_API size_t lb_engine_busy(const lb_engine *engine);

/* Whether ids [count] and max_tokens more (0: at least one) fit: LB_OK, or LB_EINVAL with the sentence. */
LB_API lb_status lb_engine_check(const lb_engine *engine, size_t count, size_t max_tokens, lb_error *err);

/* lb_generator_logits and lb_generator_vocab of an engine; LB_EEXIST where no sequence is free. */
LB_API lb_status lb_engine_logits(lb_engine *engine, const uint32_t *ids, size_t count, size_t first,
                                  const lb_progress *progress, float *logits, lb_error *err);
LB_API size_t lb_engine_vocab(const lb_engine *engine);

/* One answer under way. */
typedef struct lb_task lb_task;

/* Told once, when a task is over: LB_OK, LB_ECANCELED after options->progress said so, or why it failed. The task is
 * gone when this returns. */
typedef void (*lb_task_end_fn)(void *user, lb_status status, const lb_generate_result *result,
                               const lb_error *err);

/* Continues ids [count] in a sequence that is free; LB_EEXIST where none is. What the prompt has in common with any
 * sequence's tokens, busy or free, is not computed again. options->user is the user of all callbacks, which are called
 * by lb_engine_step and must not call the engine. */
LB_API lb_status lb_engine_begin(lb_engine *engine, const uint32_t *ids, size_t count,
                                 const lb_generate_options *options, lb_task_end_fn on_end, lb_task **out,
                                 lb_error *err);

/* Gives a task up without another callback, between two steps. */
LB_API void lb_engine_abandon(lb_engine *engine, lb_task *task);

/* One step of all tasks; does nothing where there are none. */
LB_API void lb_engine_step(lb_engine *engine);

#ifdef __cplusplus
}
#endif
#endif
