/* SPDX-License-Identifier: MIT */
#include "infer/session.h"

#include <assert.h>

#include "base/alloc.h"
#include "infer/attend_one.h"

enum { DEFAULT_CHUNK = 256 };

struct lb_session {
    const lb_kernels *kernels;
    const lb_resident *model;
    lb_rope rope;
    lb_workspace ws;
    size_t context, chunk, past;
    size_t kv_width;
    float *keys, *values; /* [layers][context, kv_width] */
    float *x; /* [chunk, hidden] */
    float *scratch; /* [hidden] */
    float *scores; /* [heads, context] */
    float *logits; /* [vocab] */
};

lb_status lb_session_create(const lb_kernels *kernels, const lb_resident *model, size_t context, size_t chunk,
                            lb_session **out, lb_error *err)
{
    const lb_config *c = &model->config;
    lb_status st = LB_OK;
    size_t rows;
    if (context == 0 || context > c->max_context)
        return lb_fail(err, LB_EINVAL, "a context of %zu tokens was asked for; this model takes 1 to %zu",
                       context, c->max_context);
    lb_session *s = lb_alloc_zero(1, sizeof *s);
    if (!s)
        return lb_fail(err, LB_ENOMEM, "session: no memory for %zu bytes", sizeof *s);
    s->kernels = kernels;
    s->model = model;
    s->context = context;
    s->chunk = chunk ? chunk : DEFAULT_CHUNK;
    if (s->chunk > context)
        s->chunk = context;
    s->kv_width = c->kv_heads * c->head_dim;
    if (__builtin_mul_overflow(c->layers, context, &rows)) {
        st = lb_fail(err, LB_ENOMEM, "session: %zu layers of %zu tokens are too large to address", c->layers,
                     context);
        goto done;
    }
    LB_GO(lb_alloc_array(&s->keys, rows, s->kv_width * sizeof(float), "cached keys", err));
    LB_GO(lb_alloc_array(&s->values, rows, s->kv_width * sizeof(float), "cached values", err));
    LB_GO(lb_alloc_array(&s->x, s->chunk, c->hidden * sizeof(float), "session", err));
    LB_GO(lb_alloc_array(&s->scratch, c->hidden, sizeof(float), "session", err));
    LB_GO(lb_alloc_array(&s->scores, context, c->heads * sizeof(float), "attention scores", err));
    LB_GO(lb_alloc_array(&s->logits, c->vocab, sizeof(float), "logits", err));
    LB_GO(lb_rope_create(c, context, &s->rope, err));
    LB_GO(lb_workspace_create(c, s->chunk, &s->ws, err));
    *out = s;
    s = NULL;
done:
    lb_session_destroy(s);
    return st;
}

void lb_session_destroy(lb_session *s)
{
    if (!s)
        return;
    lb_workspace_free(&s->ws);
    lb_rope_free(&s->rope);
    lb_free(s->keys);
    lb_free(s->values);
    lb_free(s->x);
    lb_free(s->scratch);
    lb_free(s->scores);
    lb_free(s->logits);
    lb_free(s);
}

void lb_session_set_model(lb_session *session, const lb_resident *model)
{
    assert(model->config.layers == session->model->config.layers);
    session->model = model;
}

/* lb_block_continue for one token, without BLAS and without memory of its own. */
static lb_status decode_block(lb_session *s, const lb_stage_context *stage, size_t at, lb_error *err)
{
    const size_t past = s->past;
    float *k = s->keys + at, *v = s->values + at;
    LB_TRY(lb_block_attention_input(stage, s->x, 1, err));
    LB_TRY(lb_block_project(stage, 1, 1, past, k + past * s->kv_width, v + past * s->kv_width, err));
    lb_attend_one(s->kernels, stage->config, s->ws.q, k, v, past, s->scores, s->context, s->ws.a);
    LB_TRY(lb_block_attention_result(stage, 1, err));
    LB_TRY(lb_block_attention_output(stage, s->ws.a, s->x, 1, err));
    LB_TRY(lb_block_ffn_input(stage, s->x, 1, err));
    LB_TRY(lb_block_ffn_inner(stage, 1, err));
    return lb_block_ffn_output(stage, s->x, 1, err);
}

/* The next n <= chunk tokens through all blocks; the past advances only when all went well. */
static lb_status feed_chunk(lb_session *s, const uint32_t *ids, size_t n, lb_error *err)
{
    const lb_config *c = &s->model->config;
    lb_stage_context stage = {
        .kernels = s->kernels, .config = c, .rope = &s->rope, .inputs = &s->model->inputs, .ws = &s->ws};
    LB_TRY(lb_embedding_look_up(s->kernels, &s->model->ends, ids, n, s->x, err));
    for (size_t layer = 0; layer < c->layers; layer++) {
        const size_t at = layer * s->context * s->kv_width;
        stage.block = &s->model->blocks[layer];
        LB_TRY(n == 1 ? decode_block(s, &stage, at, err)
                      : lb_block_continue(&stage, s->x, n, s->past, s->keys + at, s->values + at, err));
    }
    s->past += n;
    return LB_OK;
}

lb_status lb_session_feed(lb_session *s, const uint32_t *ids, size_t n, const lb_progress *progress,
                          float **logits, lb_error *err)
{
    size_t last = 0;
    assert(n > 0);
    if (n > s->context - s->past)
        return lb_fail(err, LB_EINVAL, "%zu more tokens do not fit: the context holds %zu and %zu are taken",
                       n, s->context, s->past);
    for (size_t done = 0; done < n; done += last) {
        last = n - done < s->chunk ? n - done : s->chunk;
        LB_TRY(feed_chunk(s, ids + done, last, err));
        LB_TRY(lb_progress_tell(progress, "prompt", done + last, n, err));
    }
    lb_embedding_logits_decode(s->kernels, &s->model->ends, s->x + (last - 1) * s->model->config.hidden,
                               s->scratch, s->ws.vectors, s->logits);
    *logits = s->logits;
    return LB_OK;
}

size_t lb_session_context(const lb_session *session)
{
    return session->context;
}

size_t lb_session_past(const lb_session *session)
{
    return session->past;
}

void lb_session_rewind(lb_session *session, size_t past)
{
    assert(past <= session->past);
    session->past = past;
}

void lb_session_products(lb_session *s)
{
    lb_workspace *ws = &s->ws;
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
    for (size_t layer = 0; layer < s->model->config.layers; layer++) {
        const lb_linear *linear = s->model->blocks[layer].linear;
        for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
            const unsigned first = flow[which].first;
            lb_linear_decode(s->kernels, &linear[which], flow[which].in, 1, ws->vectors,
                             which != first && linear[first].quantized, flow[which].out);
        }
    }
    lb_linear_decode(s->kernels, &s->model->ends.head, s->scratch, 1, ws->vectors, false, s->logits);
}
