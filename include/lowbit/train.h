/* SPDX-License-Identifier: MIT
 *
 * Training a small Llama-style model from text.
 *
 * A run is a folder:
 *
 *     RUN/run.json                 all that the run's bits follow from
 *     RUN/data/                    tokenizer and tokens (unless they are elsewhere: `data`)
 *     RUN/log.csv                  a row every `log_every` steps
 *     RUN/step-00001000/           a checkpoint: a Hugging Face folder, and in it training-state.bin to go on from
 *     RUN/interrupted/             the same, of a run that was told to stop
 *     RUN/averaged/                the mean of checkpoints that `average` asks for, of a run that is done
 *
 * The same options and texts give the same bytes at any thread count (but for the log's times), and a resumed run
 * those of an unbroken one.
 */
#ifndef LOWBIT_TRAIN_H
#define LOWBIT_TRAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "lowbit/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A row of the log. */
typedef struct lb_train_row {
    uint64_t step, steps, tokens;
    double rate; /* of the last step */
    double loss; /* nats a token, mean over the steps since the last row */
    double grad_norm, weight_norm; /* at the last step, before clipping */
    double valid_loss; /* NaN where it was not measured */
    double tokens_per_second, seconds_left;
} lb_train_row;

typedef void (*lb_train_row_fn)(void *user, const lb_train_row *row);

/* Numbers that are 0 (those that may be 0: negative) and names that are NULL are not given: the run's own where it is
 * resumed, the other run's where one is branched off (`from`), otherwise the default. */
typedef struct lb_train_options {
    size_t struct_size;
    const char *output; /* the run's folder */
    bool resume; /* go on with the run in `output`, rather than make one */
    const char
        *from; /* a checkpoint with a training state, of any run: begin with its weights, moments and step;
                         what is not given is then as in that run */
    /* Text */
    const char *const *texts; /* files; "<|endoftext|>" in them ends a document */
    size_t text_count;
    const char *valid; /* held-out text */
    const char *data; /* a folder that holds tokens, or will; NULL: RUN/data */
    const char *tokenizer; /* a model whose tokenizer is taken; NULL: one is trained */
    size_t sample_bytes; /* of text that it is trained on (default 32 MiB) */
    /* Model: a Hugging Face config.json, or numbers, or both: numbers win */
    const char *config;
    size_t hidden, layers, heads, kv_heads, ffn, vocab,
        length; /* length: of the sequences in training, the context */
    bool untied; /* a head of its own */
    /* Optimization */
    uint64_t tokens; /* to see in all */
    size_t batch_tokens; /* a step, default 8192 */
    size_t micro_tokens; /* that go through the model at once, default 4096 */
    const char *schedule; /* "wsd" (default), "cosine", "constant" */
    const char *decay_shape; /* "linear" (default), "sqrt" */
    double decay; /* of WSD: the last share of all steps, default 0.2 */
    double final; /* the last learning rate as a share of the first, default 0 */
    size_t warmup; /* steps; default 1 %, or 200 where that is more and no more than a tenth of the run */
    double lr, weight_decay, beta1, beta2, eps; /* defaults 3e-3, 0.1, 0.9, 0.95, 1e-8 */
    bool decay_all; /* norms, biases and embeddings too */
    double clip; /* norm of the gradient; default 1, 0: none */
    double z_loss; /* its weight, default 0 */
    double init_std; /* default 0.02 */
    const char
        *low_bit; /* an MX format: operands of the layers' products are rounded to it, forward and backward */
    uint64_t seed; /* default 42 */
    /* What is written */
    size_t save_every, log_every, valid_every; /* steps; defaults: a tenth of the run, 10, as save_every */
    size_t valid_tokens; /* of the held-out text, default 65536 */
    const char *dtype; /* of checkpoints: "bf16" (default), "f32" */
    bool keep_states; /* of all checkpoints, not only of the last */
    const char *average; /* "latest:K", "latest:K:STEPS" (apart), "ema:KEEP" (0 to less than 1); NULL: none */
    const char *cpu; /* cap of the instruction sets; NULL: the best */
    lb_progress progress;
    lb_train_row_fn on_row; /* may be NULL */
    void *on_row_user;
} lb_train_options;

LB_API void lb_train_options_init_sized(lb_train_options *options, size_t size);
#define lb_train_options_init(options) lb_train_options_init_sized((options), sizeof *(options))

typedef struct lb_train_result {
    uint64_t step, tokens;
    size_t parameters;
    double loss, valid_loss; /* of the last row; NaN where there is none */
    double seconds;
    size_t peak_rss_bytes;
    char checkpoint[64]; /* the last one's name in the run's folder */
    size_t reserved[8]; /* 0 */
} lb_train_result;

/* LB_ECANCELED where the progress callback asked to stop: the run can then be resumed. */
LB_API lb_status lb_train(const lb_train_options *options, lb_train_result *result, lb_error *err);

/* The mean of several checkpoints of one model, weight by weight. */
typedef enum lb_average_kind {
    LB_AVERAGE_MEAN, /* all alike, or by `shares` */
    LB_AVERAGE_EMA /* a <- decay a + (1 - decay) c, from the first checkpoint to the last */
} lb_average_kind;

typedef struct lb_average_options {
    size_t struct_size;
    const char *const
        *models; /* Hugging Face folders of float weights; or runs, which stand for their checkpoints */
    size_t model_count;
    const char *output; /* folder to make */
    lb_average_kind kind;
    const double *shares; /* [share_count], one for each checkpoint, of any sum but 0; NULL: all alike */
    size_t share_count;
    double decay; /* of the EMA */
    size_t latest; /* take only the last so many of all; 0: all */
    size_t
        spacing; /* of a run only the last checkpoint, and those a multiple of so many steps before it; 0: all */
    uint64_t until; /* of a run only checkpoints up to this step; 0: all */
    const char *dtype; /* "bf16", "f32"; NULL: as the last checkpoint has it */
    lb_progress progress;
} lb_average_options;

LB_API void lb_average_options_init_sized(lb_average_options *options, size_t size);
#define lb_average_options_init(options) lb_average_options_init_sized((options), sizeof *(options))

/* *count is how many checkpoints the mean is of (may be NULL). */
LB_API lb_status lb_average(const lb_average_options *options, size_t *count, lb_error *err);

#ifdef __cplusplus
}
#endif
#endif
