/* SPDX-License-Identifier: MIT
 *
 * A decoder block, forward, keeping what its backward pass (block_grad.h) needs. Stored is what the products
 * with weights see and make; attention's probabilities and the norms are cheaper to compute again.
 */
#ifndef LB_MODEL_BLOCK_TRACE_H
#define LB_MODEL_BLOCK_TRACE_H

#include "model/block.h"

/* Of one mini-batch: `sequences` sequences of `sequence_tokens` tokens each, `tokens` in all. */
typedef struct lb_block_trace {
    size_t max_tokens, max_sequence_tokens;
    size_t sequences, sequence_tokens, tokens; /* of the last forward pass; 0 before there was one */
    float *x; /* [tokens, hidden]: the block's input */
    float *mid; /* [tokens, hidden]: the same after attention was added */
    float *inputs[LB_STAGE_COUNT]; /* what the layers of a stage were fed: rotated and rounded */
    float *q, *k, *v; /* as attention saw them */
    float *raw_q, *raw_k; /* before their heads were normalized; NULL where the model does not */
    float *gate, *up; /* [tokens, ffn] */
    bool shares; /* inputs of all stages but o, and scratch, belong to another trace */
    /* Scratch of both passes; nothing in it outlives a call. */
    struct {
        float *hidden[2]; /* [tokens, hidden] */
        float *heads[2], *k, *v; /* as q, k and v */
        float *wide[2]; /* [tokens, ffn], or as q where that is wider */
        float *scores, *partials;
    } scratch;
} lb_block_trace;

/* For mini-batches of up to max_tokens tokens in all, in sequences of up to max_sequence_tokens. */
lb_status lb_block_trace_create(const lb_config *config, size_t max_tokens, size_t max_sequence_tokens,
                                lb_block_trace *out, lb_error *err);
/* A trace with what is cheap to compute again in the memory of `owner`, which must live as long. After passes of
 * others through that memory lb_block_trace_restore brings it back for a backward pass. */
lb_status lb_block_trace_share(const lb_config *config, const lb_block_trace *owner, lb_block_trace *out,
                               lb_error *err);
void lb_block_trace_free(lb_block_trace *trace);
size_t lb_block_trace_bytes(const lb_config *config, size_t max_tokens, size_t max_sequence_tokens);
/* Of one that shares memory, without the owner's. */
size_t lb_block_trace_shared_bytes(const lb_config *config, size_t max_tokens, size_t max_sequence_tokens);

/* As lb_block_forward, bit for bit, but from x to y [tokens, hidden], which may be x. c->ws is not used. */
lb_status lb_block_forward_traced(const lb_stage_context *c, const float *x, size_t sequences,
                                  size_t sequence_tokens, lb_block_trace *trace, float *y, lb_error *err);

/* The inputs of all stages but o as the forward pass made them, bit for bit. */
lb_status lb_block_trace_restore(const lb_stage_context *c, lb_block_trace *trace, lb_error *err);

/* What the layers of a stage would have been fed without rounding, out [tokens, width of the stage]. */
lb_status lb_block_trace_unrounded(const lb_stage_context *c, const lb_block_trace *trace, lb_stage stage,
                                   float *out, lb_error *err);

#endif
