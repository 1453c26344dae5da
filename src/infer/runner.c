/* SPDX-License-Identifier: MIT */
#include "infer/runner.h"

#include <assert.h>
#include <string.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "infer/attend_one.h"

enum { DEFAULT_CHUNK = 256 };

struct lb_runner {
    const lb_kernels *kernels;
    const lb_resident *model;
    lb_rope rope;
    lb_workspace ws;
    size_t context, chunk, most;
    float *x; /* [max(chunk, LB_DECODE_TOKENS), hidden] */
    float *scratch; /* [LB_DECODE_TOKENS, hidden] */
    float *scores; /* [LB_DECODE_TOKENS, or most if fewer][heads, context] */
    float *logits; /* [most, vocab] */
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
    LB_GO(lb_alloc_array(&r->scores, group * context, c->heads * sizeof(float), "attention scores", err));
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
    lb_free(r->scores);
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

/* ---- Single tokens of several sequences -------------------------------------------------------------- */

typedef struct group {
    lb_runner *runner;
    lb_sequence *const *sequences;
    size_t count, layer;
} group;

/* A token's keys and values take their place in its sequence, and its query looks at all of them. */
static void attend(void *arg, size_t begin, size_t end)
{
    const group *g = arg;
    const lb_runner *r = g->runner;
    const lb_config *c = &r->model->config;
    const size_t q_width = c->heads * c->head_dim;
    for (size_t i = begin; i < end; i++) {
        const lb_sequence *s = g->sequences[i];
        float *k = lb_sequence_keys(s, g->layer), *v = lb_sequence_values(s, g->layer);
        memcpy(k + s->past * s->width, r->ws.k + i * s->width, s->width * sizeof *k);
        memcpy(v + s->past * s->width, r->ws.v + i * s->width, s->width * sizeof *v);
        lb_attend_one(r->kernels, c, r->ws.q + i * q_width, k, v, s->past,
                      r->scores + i * c->heads * r->context, r->context, r->ws.a + i * q_width);
    }
}

/* lb_block_continue for one token of each sequence, without BLAS and without memory of its own. */
static lb_status decode_block(group *g, const lb_stage_context *stage, lb_error *err)
{
    lb_runner *r = g->runner;
    LB_TRY(lb_block_attention_input(stage, r->x, g->count, err));
    LB_TRY(lb_block_project(stage, g->count, 1, 0, r->ws.k, r->ws.v, err));
    lb_parallel_for(g->count, 1, attend, g);
    LB_TRY(lb_block_attention_result(stage, g->count, err));
    LB_TRY(lb_block_attention_output(stage, r->ws.a, r->x, g->count, err));
    LB_TRY(lb_block_ffn_input(stage, r->x, g->count, err));
    LB_TRY(lb_block_ffn_inner(stage, g->count, err));
    return lb_block_ffn_output(stage, r->x, g->count, err);
}

/* One token of each of count <= LB_DECODE_TOKENS sequences, whose pasts stay as they are. */
static lb_status decode_group(lb_runner *r, lb_sequence *const *sequences, const uint32_t *ids, size_t count,
                              float *logits, lb_error *err)
{
    size_t positions[LB_DECODE_TOKENS];
    lb_stage_context stage = stage_of(r);
    group g = {r, sequences, count, 0};
    stage.positions = positions;
    for (size_t i = 0; i < count; i++)
        positions[i] = sequences[i]->past;
    LB_TRY(lb_embedding_look_up(r->kernels, &r->model->ends, ids, count, r->x, err));
    for (; g.layer < r->model->config.layers; g.layer++) {
        stage.block = &r->model->blocks[g.layer];
        LB_TRY(decode_block(&g, &stage, err));
    }
    if (logits)
        lb_embedding_logits_decode(r->kernels, &r->model->ends, r->x, count, r->scratch, r->ws.vectors,
                                   logits);
    return LB_OK;
}

lb_status lb_runner_step(lb_runner *r, lb_sequence *const *sequences, const uint32_t *ids, size_t count,
                         float **logits, lb_error *err)
{
    const size_t vocab = r->model->config.vocab;
    assert(count > 0 && count <= r->most);
    for (size_t i = 0; i < count; i++)
        if (sequences[i]->past >= sequences[i]->context)
            return lb_fail(err, LB_EINVAL,
                           "1 more token does not fit: the context holds %zu and %zu are taken",
                           sequences[i]->context, sequences[i]->past);
    for (size_t at = 0; at < count; at += LB_DECODE_TOKENS)
        LB_TRY(decode_group(r, sequences + at, ids + at, smaller(count - at, LB_DECODE_TOKENS),
                            r->logits + at * vocab, err));
    for (size_t i = 0; i < count; i++)
        sequences[i]->past++;
    *logits = r->logits;
    return LB_OK;
}

/* ---- Prompts ----------------------------------------------------------------------------------------- */

/* The next n <= chunk tokens through all blocks; the past advances only when all went well. */
static lb_status feed_chunk(lb_runner *r, lb_sequence *s, const uint32_t *ids, size_t n, lb_error *err)
{
    lb_stage_context stage = stage_of(r);
    if (n == 1) {
        LB_TRY(decode_group(r, &s, ids, 1, NULL, err));
    } else {
        LB_TRY(lb_embedding_look_up(r->kernels, &r->model->ends, ids, n, r->x, err));
        for (size_t layer = 0; layer < r->model->config.layers; layer++) {
            stage.block = &r->model->blocks[layer];
            LB_TRY(lb_block_continue(&stage, r->x, n, s->past, lb_sequence_keys(s, layer),
                                     lb_sequence_values(s, layer), err));
        }
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

lb_status lb_runner_feed(lb_runner *r, lb_sequence *s, const uint32_t *ids, size_t n,
                         const lb_progress *progress, float **logits, lb_error *err)
{
    size_t last = 0;
    LB_TRY(check_room(s, n, err));
    for (size_t done = 0; done < n; done += last) {
        last = smaller(n - done, r->chunk);
        LB_TRY(feed_chunk(r, s, ids + done, last, err));
        LB_TRY(lb_progress_tell(progress, "prompt", done + last, n, err));
    }
    if (!logits)
        return LB_OK;
    lb_embedding_logits_decode(r->kernels, &r->model->ends, r->x + (last - 1) * r->model->config.hidden, 1,
                               r->scratch, r->ws.vectors, r->logits);
    *logits = r->logits;
    return LB_OK;
}

lb_status lb_runner_feed_all(lb_runner *r, lb_sequence *s, const uint32_t *ids, size_t n,
                             const lb_progress *progress, float *logits, lb_error *err)
{
    const size_t hidden = r->model->config.hidden, vocab = r->model->config.vocab;
    const size_t together = smaller(r->most, LB_DECODE_TOKENS);
    size_t last = 0;
    LB_TRY(check_room(s, n, err));
    for (size_t done = 0; done < n; done += last) {
        last = smaller(n - done, r->chunk);
        LB_TRY(feed_chunk(r, s, ids + done, last, err));
        for (size_t at = 0; at < last; at += together)
            lb_embedding_logits_decode(r->kernels, &r->model->ends, r->x + at * hidden,
                                       smaller(together, last - at), r->scratch, r->ws.vectors,
                                       logits + (done + at) * vocab);
        LB_TRY(lb_progress_tell(progress, "prompt", done + last, n, err));
    }
    return LB_OK;
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
