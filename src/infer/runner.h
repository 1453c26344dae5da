/* SPDX-License-Identifier: MIT
 *
 * A model at work on sequences (sequence.h): the scratch that a step needs, so that decoding a token
 * allocates nothing of its own. Prompts are read in chunks, one sequence at a time, since a chunk makes good
 * use of a pass over the weights by itself. Single tokens of several sequences (or several of one, where a
 * draft proposed them) share a pass, and each gets the bits that it would get alone: every product of a row
 * goes through the decode kernels, which do not know what is beside it.
 */
#ifndef LB_INFER_RUNNER_H
#define LB_INFER_RUNNER_H

#include "infer/resident.h"
#include "infer/sequence.h"

typedef struct lb_runner lb_runner;

/* For sequences of at most `context` tokens, at most `most` of them in a step. Prompts are taken `chunk`
 * tokens at a time (0: a default). The model must outlive the runner. */
lb_status lb_runner_create(const lb_kernels *kernels, const lb_resident *model, size_t context, size_t chunk,
                           size_t most, lb_runner **out, lb_error *err);
void lb_runner_destroy(lb_runner *runner);

/* The same weights' shape in another format: takes over from the next token on. */
void lb_runner_set_model(lb_runner *runner, const lb_resident *model);

size_t lb_runner_chunk(const lb_runner *runner);

/* Appends ids [n], n > 0, to one sequence. *logits [vocab] are those after the last one (NULL: not wanted);
 * the caller may change them, and they are valid until the next call. More tokens than there is room for are
 * refused before anything is computed. After a failure or a cancellation sequence->past tells how many were
 * kept. */
lb_status lb_runner_feed(lb_runner *runner, lb_sequence *sequence, const uint32_t *ids, size_t n,
                         const lb_progress *progress, float **logits, lb_error *err);

/* The same, with the logits after each token -> logits [n, vocab]. */
lb_status lb_runner_feed_all(lb_runner *runner, lb_sequence *sequence, const uint32_t *ids, size_t n,
                             const lb_progress *progress, float *logits, lb_error *err);

/* Appends ids[i] to sequences[i], for 0 < count <= most tokens; those of one sequence come in their order.
 * *logits [count, vocab], as above: the same bits as from lb_runner_feed of one after the other. After a
 * failure no sequence has changed. */
lb_status lb_runner_step(lb_runner *runner, lb_sequence *const *sequences, const uint32_t *ids, size_t count,
                         float **logits, lb_error *err);

/* Seconds of decoded tokens by what they went into. A stage's normalizing, rounding and rotating are its
 * own; what is left of a token is looking up its embedding and choosing the next one. */
typedef struct lb_step_times {
    double qkv, attention, o, gate_up, down, head;
} lb_step_times;

/* From now on adds the times of steps to *times (NULL: no more). */
void lb_runner_time(lb_runner *runner, lb_step_times *times);

/* Only the products with matrices that one decoded token costs, on whatever is in the scratch: what the
 * time of a whole step is compared with. */
void lb_runner_products(lb_runner *runner);

#endif
