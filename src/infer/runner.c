/* SPDX-License-Identifier: MIT */
#include "infer/runner.h"

#include <assert.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/thread.h"
#include "infer/attend_tokens.h"

enum { DEFAULT_CHUNK = 256 };

struct lb_runner {
    const lb_kernels *kernels;
    const lb_resident *model;
    lb_rope rope;
    lb_workspace ws;
    size_t context, chunk, most;
    float *x; /* [max(chunk, LB_DECODE_TOKENS), hidden] */
    float *scratch; /* [LB_DECODE_TOKENS, hidden] */
    float *attention; /* scratch of lb_attend_tokens for LB_DECODE_TOKENS tokens, or most if fewer */
    float *logits; /* [most, vocab] */
    lb_step_times *times; /* or NULL */
    double since; /* the last stage that was timed */
};

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

lb_status lb_runner_create(const lb_kernels *kernels, const lb_resident *model, size_t context, size_t chunk,
                           size_t most, lb_runner **out, lb_error *err)
{
    const lb_config *c = &model->config;
    lb_status st = LB_OK;
    assert(most > 0);
    if (context == 0 || context > c->max_context)
        return lb_fail(err, LB_EINVAL, "a context of %zu tokens was asked for; this model takes 1 to %zu",
                       context, c->max_context);
    lb_runner *r = lb_alloc_zero(1, sizeof *r);
    if (!r)
        return lb_fail(err, LB_ENOMEM, "session: no memory for %zu bytes", sizeof *r);
    r->kernels = kernels;
    r->model = model;
    r->context = context;
    r->chunk = smaller(chunk ? chunk : DEFAULT_CHUNK, context);
    r->most = most;
    const size_t group = smaller(most, LB_DECODE_TOKENS), rows = r->chunk > group ? r->chunk : group;
    LB_GO(lb_alloc_array(&r->x, rows, c->hidden * sizeof(float), "session", err));
    LB_GO(lb_alloc_array(&r->scratch, group, c->hidden * sizeof(float), "session", err));
    LB_GO(lb_alloc_array(&r->attention, group, lb_attend_scratch(c, context) * sizeof(float),
                         "attention scores", err));
    LB_GO(lb_alloc_array(&r->logits, most, c->vocab * sizeof(float), "logits", err));
    LB_GO(lb_rope_create(c, context, &r->rope, err));
    LB_GO(lb_workspace_create(c, rows, &r->ws, err));
    *out = r;
    r = NULL;
done:
    lb_runner_destroy(r);
    return st;
}

void lb_runner_destroy(lb_runner *r)
{
    if (!r)
        return;
    lb_workspace_free(&r->ws);
    lb_rope_free(&r->rope);
    lb_free(r->x);
    lb_free(r->scratch);
    lb_free(r->attention);
    lb_free(r->logits);
    lb_free(r);
}

void lb_runner_set_model(lb_runner *runner, const lb_resident *model)
{
    assert(model->config.layers == runner->model->config.layers);
    runner->model = model;
}

size_t lb_runner_chunk(const lb_runner *runner)
{
    return runner->chunk;
}

static lb_stage_context stage_of(lb_runner *r)
{
    return (lb_stage_context){.kernels = r->kernels,
                              .config = &r->model->config,
                              .rope = &r->rope,
                              .inputs = &r->model->inputs,
                              .ws = &r->ws};
}

/* ---- A block over a cache ---------------------------------------------------------------------------- */

/* The stages up to attention, keys and values of the new tokens left in the workspace. */
static lb_status project(const lb_runner *r, const lb_stage_context *stage, size_t tokens, size_t past,
                         lb_error *err)
{
    LB_TRY(lb_block_attention_input(stage, r->x, tokens, err));
    return lb_block_project(stage, tokens, tokens, past, r->ws.k, r->ws.v, err);
}

void lb_runner_time(lb_runner *runner, lb_step_times *times)
{
    runner->times = times;
}

/* A stage has ended. */
static void note(lb_runner *r, double *stage)
{
    const double now = lb_now();
    if (stage)
        *stage += now - r->since;
    r->since = now;
}

#define NOTE(stage) \
    do { \
        if (r->times) \
            note(r, &r->times->stage); \
    } while (0)

/* Those after it. */
static lb_status finish_block(lb_runner *r, const lb_stage_context *stage, size_t tokens, lb_error *err)
{
    LB_TRY(lb_block_attention_result(stage, tokens, err));
    LB_TRY(lb_block_attention_output(stage, r->ws.a, r->x, tokens, err));
    NOTE(o);
    LB_TRY(lb_block_ffn_input(stage, r->x, tokens, err));
    LB_TRY(lb_block_ffn_inner(stage, tokens, err));
    NOTE(gate_up);
    LB_TRY(lb_block_ffn_output(stage, r->x, tokens, err));
    NOTE(down);
    return LB_OK;
}

/* ---- Single tokens of several sequences -------------------------------------------------------------- */

typedef struct group {
    lb_sequence *const *sequences;
    size_t count;
    size_t positions[LB_DECODE_TOKENS];
} group;

/* The tokens' keys and values take their places in their sequences, and then their queries look at all of them: a token
 * sees those before it in the group that belong to its sequence. */
static void attend(const lb_runner *r, const group *g, size_t layer)
{
    const lb_config *c = &r->model->config;
    const size_t q_width = c->heads * c->head_dim, width = c->kv_heads * c->head_dim;
    lb_attending tokens[LB_DECODE_TOKENS];
    for (size_t i = 0; i < g->count; i++) {
        lb_attending *t = &tokens[i];
        *t = (lb_attending){.keys = lb_sequence_keys(g->sequences[i], layer),
                            .values = lb_sequence_values(g->sequences[i], layer),
                            .position = g->positions[i],
                            .q = r->ws.q + i * q_width,
                            .out = r->ws.a + i * q_width};
        lb_kv_set(r->kernels, &t->keys, t->position, 1, r->ws.k + i * width);
        lb_kv_set(r->kernels, &t->values, t->position, 1, r->ws.v + i * width);
    }
    lb_attend_tokens(r->kernels, c, tokens, g->count, r->context, r->attention);
}

/* One token each, count <= LB_DECODE_TOKENS, without BLAS and without memory of its own; pasts stay as they are. */
static lb_status decode_group(lb_runner *r, const group *g, const uint32_t *ids, float *logits, lb_error *err)
{
    lb_stage_context stage = stage_of(r);
    stage.positions = g->positions;
    LB_TRY(lb_embedding_look_up(r->kernels, &r->model->ends, ids, g->count, r->x, err));
    if (r->times)
        note(r, NULL);
    for (size_t layer = 0; layer < r->model->config.layers; layer++) {
        stage.block = &r->model->blocks[layer];
        LB_TRY(project(r, &stage, g->count, 0, err));
        NOTE(qkv);
        attend(r, g, layer);
        NOTE(attention);
        LB_TRY(finish_block(r, &stage, g->count, err));
    }
    if (logits)
        lb_embedding_logits_decode(r->kernels, &r->model->ends, r->x, g->count, r->scratch, r->ws.vectors,
                                   logits);
    NOTE(head);
    return LB_OK;
}

/* Where a token comes to stand whose sequence may have had others in the same step. */
static size_t position_of(lb_sequence *const *sequences, size_t i)
{
    size_t position = sequences[i]->past;
    for (size_t k = 0; k < i; k++)
        position += sequences[k] == sequences[i];
    return position;
}

lb_status lb_runner_step(lb_runner *r, lb_sequence *const *sequences, const uint32_t *ids, size_t count,
                         float **logits, lb_error *err)
{
    const size_t vocab = r->model->config.vocab;
    assert(count > 0 && count <= r->most);
    for (size_t i = 0; i < count; i++)
        if (position_of(sequences, i) >= sequences[i]->context)
            return lb_fail(err, LB_EINVAL,
                           "1 more token does not fit: the context holds %zu and %zu are taken",
                           sequences[i]->context, position_of(sequences, i));
    for (size_t at = 0; at < count; at += LB_DECODE_TOKENS) {
        group g = {.sequences = sequences + at, .count = smaller(count - at, LB_DECODE_TOKENS)};
        for (size_t i = 0; i < g.count; i++)
            g.positions[i] = position_of(sequences, at + i);
        LB_TRY(decode_group(r, &g, ids + at, logits ? r->logits + at * vocab : NULL, err));
    }
    for (size_t i = 0; i < count; i++)
        sequences[i]->past++;
    if (logits)
        *logits = r->logits;
    return LB_OK;
}

/* ---- Prompts ----------------------------------------------------------------------------------------- */

/* The next n <= chunk tokens through all blocks; the past advances only when all went well. */
static lb_status feed_chunk(lb_runner *r, lb_sequence *s, const uint32_t *ids, size_t n, lb_error *err)
{
    lb_stage_context stage = stage_of(r);
    if (n == 1)
        return lb_runner_step(r, &s, ids, 1, NULL, err);
    LB_TRY(lb_embedding_look_up(r->kernels, &r->model->ends, ids, n, r->x, err));
    for (size_t layer = 0; layer < r->model->config.layers; layer++) {
        const lb_kv keys = lb_sequence_keys(s, layer), values = lb_sequence_values(s, layer);
        const lb_attention_input in = {
            .q = r->ws.q, .sequences = 1, .tokens = n, .past = s->past, .keys = &keys, .values = &values};
        stage.block = &r->model->blocks[layer];
        LB_TRY(project(r, &stage, n, s->past, err));
        lb_kv_set(r->kernels, &keys, s->past, n, r->ws.k);
        lb_kv_set(r->kernels, &values, s->past, n, r->ws.v);
        LB_TRY(lb_attention(r->kernels, &r->model->config, &in, r->ws.a, err));
        LB_TRY(finish_block(r, &stage, n, err));
    }
    s->past += n;
    return LB_OK;
}

static lb_status check_room(const lb_sequence *s, size_t n, lb_error *err)
{
    assert(n > 0);
    if (n > s->context - s->past)
        return lb_fail(err, LB_EINVAL, "%zu more tokens do not fit: the context holds %zu and %zu are taken",
                       n, s->context, s->past);
    return LB_OK;
}

/* Chunk by chunk. The last one's tokens, *last of them, stand in r->x; all [n, vocab] gets every token's logits, NULL:
 * none. */
static lb_status feed_chunks(lb_runner *r, lb_sequence *s, const uint32_t *ids, size_t n,
                             const lb_progress *progress, float *all, size_t *last, lb_error *err)
{
    const size_t hidden = r->model->config.hidden, vocab = r->model->config.vocab;
    const size_t together = smaller(r->most, LB_DECODE_TOKENS);
    LB_TRY(check_room(s, n, err));
    for (size_t done = 0; done < n; done += *last) {
        *last = smaller(n - done, r->chunk);
        LB_TRY(feed_chunk(r, s, ids + done, *last, err));
        for (size_t at = 0; all && at < *last; at += together)
            lb_embedding_logits_decode(r->kernels, &r->model->ends, r->x + at * hidden,
                                       smaller(together, *last - at), r->scratch, r->ws.vectors,
                                       all + (done + at) * vocab);
        LB_TRY(lb_progress_tell(progress, "prompt", done + *last, n, err));
    }
    return LB_OK;
}

lb_status lb_runner_feed(lb_runner *r, lb_sequence *s, const uint32_t *ids, size_t n,
                         const lb_progress *progress, float **logits, lb_error *err)
{
    size_t last = 0;
    LB_TRY(feed_chunks(r, s, ids, n, progress, NULL, &last, err));
    if (!logits)
        return LB_OK;
    if (r->times)
        note(r, NULL);
    lb_embedding_logits_decode(r->kernels, &r->model->ends, r->x + (last - 1) * r->model->config.hidden, 1,
                               r->scratch, r->ws.vectors, r->logits);
    NOTE(head);
    *logits = r->logits;
    return LB_OK;
}

lb_status lb_runner_feed_all(lb_runner *r, lb_sequence *s, const uint32_t *ids, size_t n,
                             const lb_progress *progress, float *logits, lb_error *err)
{
    size_t last;
    return feed_chunks(r, s, ids, n, progress, logits, &last, err);
}

void lb_runner_products(lb_runner *r)
{
    lb_workspace *ws = &r->ws;
    const struct {
        const float *in;
        float *out;
        unsigned first; /* of the layers that share this input, and its quantized form */
    } flow[LB_BLOCK_LINEARS] = {
        [LB_LINEAR_Q] = {ws->h, ws->q, LB_LINEAR_Q},
        [LB_LINEAR_K] = {ws->h, ws->k, LB_LINEAR_Q},
        [LB_LINEAR_V] = {ws->h, ws->v, LB_LINEAR_Q},
        [LB_LINEAR_O] = {ws->a, ws->y, LB_LINEAR_O},
        [LB_LINEAR_GATE] = {ws->h, ws->gate, LB_LINEAR_GATE},
        [LB_LINEAR_UP] = {ws->h, ws->gate, LB_LINEAR_GATE},
        [LB_LINEAR_DOWN] = {ws->m, ws->y, LB_LINEAR_DOWN},
    };
    for (size_t layer = 0; layer < r->model->config.layers; layer++) {
        const lb_linear *linear = r->model->blocks[layer].linear;
        for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
            const unsigned first = flow[which].first;
            lb_linear_decode(r->kernels, &linear[which], flow[which].in, 1, ws->vectors,
                             which != first && linear[first].quantized, flow[which].out);
        }
    }
    lb_linear_decode(r->kernels, &r->model->ends.head, r->scratch, 1, ws->vectors, false, r->logits);
}
