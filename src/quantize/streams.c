/* SPDX-License-Identifier: MIT */
#include "quantize/streams.h"

#include <string.h>

#include "base/alloc.h"
#include "model/embedding.h"

enum { CHUNK_TOKENS = 2048 }; /* tokens that go through a stage at a time */

lb_stage_context lb_stream_context(const lb_streams *s, lb_stream *stream)
{
    return (lb_stage_context){.kernels = s->kernels,
                              .config = s->config,
                              .rope = &s->rope,
                              .block = &stream->block,
                              .inputs = &stream->inputs,
                              .ws = &stream->ws};
}

static void stream_free(lb_stream *s)
{
    lb_workspace_free(&s->ws);
    lb_block_free(&s->block);
    lb_inputs_free(&s->inputs);
    lb_free(s->x);
    lb_free(s->attended);
}

void lb_streams_free(lb_streams *s)
{
    lb_rope_free(&s->rope);
    stream_free(&s->original);
    stream_free(&s->quantized);
}

static lb_status stream_start(const lb_streams *s, lb_stream *stream, bool weights_stay, lb_error *err)
{
    const lb_config *c = s->config;
    LB_TRY(lb_workspace_create(c, s->chunk_sequences * s->samples->length, &stream->ws, err));
    LB_TRY(lb_alloc_array(&stream->x, s->tokens, c->hidden * sizeof(float), "activations", err));
    if (weights_stay)
        return LB_OK;
    return lb_alloc_array(&stream->attended, s->tokens, c->heads * c->head_dim * sizeof(float), "activations",
                          err);
}

lb_status lb_streams_start(lb_streams *s, const lb_weights *weights, lb_error *err)
{
    const lb_samples *samples = s->samples;
    lb_embedding e = {0};
    lb_status st = LB_OK;
    s->tokens = samples->count * samples->length;
    s->chunk_sequences = samples->length < CHUNK_TOKENS ? CHUNK_TOKENS / samples->length : 1;
    LB_GO(lb_rope_create(s->config, samples->length, &s->rope, err));
    LB_GO(stream_start(s, &s->original, true, err));
    LB_GO(stream_start(s, &s->quantized, s->whole_blocks, err));
    LB_GO(lb_embedding_load(weights, &e, err));
    LB_GO(lb_embedding_look_up(s->kernels, &e, samples->ids, s->tokens, s->original.x, err));
    memcpy(s->quantized.x, s->original.x, s->tokens * s->config->hidden * sizeof(float));
done:
    lb_embedding_free(&e);
    return st;
}

/* The tokens that one step is about. */
typedef struct part {
    const lb_streams *all;
    lb_stream *stream;
    size_t at, sequences, tokens;
} part;

static lb_status advance_to_qkv(const part *p, float **inputs, lb_error *err)
{
    const lb_stage_context c = lb_stream_context(p->all, p->stream);
    *inputs = p->stream->ws.h;
    return lb_block_attention_input(&c, p->stream->x + p->at * c.config->hidden, p->tokens, err);
}

static lb_status advance_to_o(const part *p, float **inputs, lb_error *err)
{
    lb_stream *s = p->stream;
    const lb_stage_context c = lb_stream_context(p->all, s);
    const size_t width = c.config->heads * c.config->head_dim;
    float *x = s->x + p->at * c.config->hidden;
    LB_TRY(lb_block_attention_input(&c, x, p->tokens, err));
    LB_TRY(lb_block_attend(&c, p->sequences, p->all->samples->length, err));
    *inputs = s->ws.a;
    if (!s->attended)
        return lb_block_attention_output(&c, s->ws.a, x, p->tokens, err);
    memcpy(s->attended + p->at * width, s->ws.a, p->tokens * width * sizeof(float));
    return LB_OK;
}

static lb_status advance_to_gate_up(const part *p, float **inputs, lb_error *err)
{
    lb_stream *s = p->stream;
    const lb_stage_context c = lb_stream_context(p->all, s);
    const size_t width = c.config->heads * c.config->head_dim;
    float *x = s->x + p->at * c.config->hidden;
    if (s->attended)
        LB_TRY(lb_block_attention_output(&c, s->attended + p->at * width, x, p->tokens, err));
    *inputs = s->ws.h;
    return lb_block_ffn_input(&c, x, p->tokens, err);
}

static lb_status advance_to_down(const part *p, float **inputs, lb_error *err)
{
    lb_stream *s = p->stream;
    const lb_stage_context c = lb_stream_context(p->all, s);
    float *x = s->x + p->at * c.config->hidden;
    LB_TRY(lb_block_ffn_input(&c, x, p->tokens, err));
    LB_TRY(lb_block_ffn_inner(&c, p->tokens, err));
    *inputs = s->ws.m;
    return s->attended ? LB_OK : lb_block_ffn_output(&c, x, p->tokens, err);
}

/* The inputs of down are wide and there are many: the quantized stream's are computed twice rather than
 * kept. */
static lb_status advance_to_end(const part *p, float **inputs, lb_error *err)
{
    lb_stream *s = p->stream;
    *inputs = s->ws.m;
    if (!s->attended)
        return LB_OK;
    LB_TRY(advance_to_down(p, inputs, err));
    const lb_stage_context c = lb_stream_context(p->all, s);
    return lb_block_ffn_output(&c, s->x + p->at * c.config->hidden, p->tokens, err);
}

lb_status lb_stream_advance(const lb_streams *s, lb_stream *stream, unsigned stage, size_t first,
                            size_t sequences, float **inputs, lb_error *err)
{
    static lb_status (*const steps[LB_STAGE_COUNT + 1])(const part *, float **, lb_error *) = {
        [LB_STAGE_QKV] = advance_to_qkv,         [LB_STAGE_O] = advance_to_o,
        [LB_STAGE_GATE_UP] = advance_to_gate_up, [LB_STAGE_DOWN] = advance_to_down,
        [LB_STAGE_COUNT] = advance_to_end,
    };
    const size_t length = s->samples->length;
    const part p = {s, stream, first * length, sequences, sequences * length};
    return steps[stage](&p, inputs, err);
}

size_t lb_streams_bytes(const lb_config *c, size_t samples, size_t seqlen)
{
    const size_t chunk = seqlen < CHUNK_TOKENS ? CHUNK_TOKENS / seqlen * seqlen : seqlen;
    return samples * seqlen * (2 * c->hidden + c->heads * c->head_dim) * sizeof(float) +
           2 * lb_workspace_bytes(c, chunk) + c->vocab * c->hidden * sizeof(float);
}
