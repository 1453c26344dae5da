/* SPDX-License-Identifier: MIT
 *
 * One decoder block, forward: written once for evaluation, calibration and generation.
 *
 *   x += o(attention(rope(q(h)), rope(k(h)), v(h)))   h = rms_norm(x) * attn_norm
 *   x += down(silu(gate(h)) * up(h))                  h = rms_norm(x) * ffn_norm
 *
 * The block is offered as its stages, each of which ends where the inputs of linear layers exist, so
 * that calibration can look at them (and change the weights) on the way without computing anything
 * twice. lb_block_forward runs them all.
 */
#ifndef LB_MODEL_BLOCK_H
#define LB_MODEL_BLOCK_H

#include "model/attention.h"
#include "model/inputs.h"
#include "model/linear.h"
#include "model/low_bit.h"
#include "model/rope.h"

typedef struct lb_block {
    lb_linear linear[LB_BLOCK_LINEARS];
    float *attn_norm, *ffn_norm; /* [hidden] */
    float *q_norm, *k_norm; /* [head_dim], or NULL */
    uint32_t *order[LB_STAGE_COUNT]; /* in which layers see their input's channels; NULL: as they are */
} lb_block;

lb_status lb_block_load(const lb_weights *weights, size_t layer, lb_load how, lb_block *out, lb_error *err);
void lb_block_free(lb_block *block);
/* What the block holds of the vector that lb_block_vector gives for `index`. */
float *lb_block_vector_values(const lb_config *config, const lb_block *block, size_t index);

/* So many tokens at the most are worth the decode kernels whatever their speed is beside BLAS; more go through them,
 * LB_CODED_TOKENS at a time, where lb_qmat_many_pays. */
enum { LB_DECODE_TOKENS = 8, LB_CODED_TOKENS = 64 };

/* What the stages write to, for up to max_tokens tokens at a time. */
typedef struct lb_workspace {
    size_t max_tokens;
    float *h; /* [max_tokens, hidden]: a stage's normalized input */
    float *q, *k, *v;
    float *a; /* [max_tokens, heads * head_dim]: attention's result, the input of o */
    float *gate; /* [max_tokens, ffn] */
    float *m; /* [max_tokens, ffn]: the input of down */
    float *y; /* [max_tokens, hidden]: a stage's output before it is added to x */
    lb_qvec *vectors; /* of up to LB_CODED_TOKENS tokens; NULL where no layer is quantized */
    lb_qrows *rows; /* of as many tokens as there are: inputs in integers with a scale a token; or NULL */
    /* What the backward pass wants to see (block_trace.h); lb_workspace_create leaves them NULL. */
    float *up; /* [max_tokens, ffn]: the output of up, which otherwise m is made from in place */
    float *raw_q, *raw_k; /* as q and k: before their heads are normalized */
} lb_workspace;

lb_status lb_workspace_create(const lb_config *config, size_t max_tokens, lb_workspace *out, lb_error *err);
void lb_workspace_free(lb_workspace *workspace);
size_t lb_workspace_bytes(const lb_config *config, size_t max_tokens);

/* All that a stage needs besides its data. */
typedef struct lb_stage_context {
    const lb_kernels *kernels;
    const lb_config *config;
    const lb_rope *rope;
    const lb_block *block;
    const lb_inputs *inputs; /* what linear layers see of their inputs; NULL: all, as it is */
    lb_workspace *ws;
    /* Where each of up to LB_DECODE_TOKENS tokens stands in a sequence of its own: a token is then computed as if it
     * were alone, and yet all of them in one pass over the weights. NULL: neighbours in their sequences. */
    const size_t *positions;
    const lb_low_bit *low_bit; /* training: layers of float32 multiply rounded numbers; inputs is NULL then */
} lb_stage_context;

/* Inputs of linear layers are put in the block's order, and rotated and rounded as c->inputs says, by the function
 * that makes them (a single token's are rounded by the layers themselves, which may take the codes; so are any
 * number's that are multiplied as integers, kernels/qrows.h).
 *
 * x [tokens, hidden] -> ws->h, the input of q, k and v. */
lb_status lb_block_attention_input(const lb_stage_context *c, const float *x, size_t tokens, lb_error *err);
/* ws->h -> ws->q, and keys and values of the new tokens into k and v [tokens, kv_heads * head_dim]
 * (rotated; token t has position first_position + t % sequence_tokens, or c->positions[t]). */
lb_status lb_block_project(const lb_stage_context *c, size_t tokens, size_t sequence_tokens,
                           size_t first_position, float *k, float *v, lb_error *err);
/* What attention put into ws->a made the input of o. */
lb_status lb_block_attention_result(const lb_stage_context *c, size_t tokens, lb_error *err);
/* ws->h -> ws->a, the input of o, for whole sequences. */
lb_status lb_block_attend(const lb_stage_context *c, size_t sequences, size_t sequence_tokens, lb_error *err);
/* ws->a (or another `a` of that shape, which a single token's rounding changes) -> x += o(a). */
lb_status lb_block_attention_output(const lb_stage_context *c, float *a, float *x, size_t tokens,
                                    lb_error *err);
/* x -> ws->h, the input of gate and up. */
lb_status lb_block_ffn_input(const lb_stage_context *c, const float *x, size_t tokens, lb_error *err);
/* ws->h -> ws->m, the input of down. */
lb_status lb_block_ffn_inner(const lb_stage_context *c, size_t tokens, lb_error *err);
/* ws->m -> x += down(m). */
lb_status lb_block_ffn_output(const lb_stage_context *c, float *x, size_t tokens, lb_error *err);

/* The whole block on whole sequences, x [sequences * sequence_tokens, hidden] in place;
 * sequences * sequence_tokens <= ws->max_tokens. */
lb_status lb_block_forward(const lb_stage_context *c, float *x, size_t sequences, size_t sequence_tokens,
                           lb_error *err);

#endif
