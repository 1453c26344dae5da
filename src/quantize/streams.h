/* SPDX-License-Identifier: MIT
 * The two streams of activations that run through a model while it is quantized: one as the original model
 * computes them, and one as the already quantized blocks do. */
#ifndef LB_QUANTIZE_STREAMS_H
#define LB_QUANTIZE_STREAMS_H

#include "calibrate/samples.h"
#include "model/block.h"

/* One of them, with the weights that drive it. */
typedef struct lb_stream {
    float *x; /* [tokens, hidden] */
    float *attended; /* [tokens, heads * head_dim] inputs of o, kept between two stages */
    lb_block block;
    lb_inputs inputs; /* the original stream's are rotated too, but never rounded */
    lb_workspace ws;
} lb_stream;

typedef struct lb_streams {
    const lb_kernels *kernels;
    const lb_config *config;
    const lb_samples *samples;
    bool whole_blocks; /* the quantized stream's weights are all chosen before it enters a block */
    lb_rope rope;
    size_t tokens, chunk_sequences; /* sequences that go through a stage at a time */
    lb_stream original, quantized;
} lb_streams;

/* Both streams at the embeddings of the samples. kernels, config, samples and whole_blocks are set; inputs may be. */
lb_status lb_streams_start(lb_streams *streams, const lb_weights *weights, lb_error *err);
void lb_streams_free(lb_streams *streams);

lb_stage_context lb_stream_context(const lb_streams *streams, lb_stream *stream);

/* Brings one stream, for `sequences` (at most chunk_sequences) from the first-th on, to the inputs of a
 * stage's layers, or to the block's end (LB_STAGE_COUNT); stages are to be taken in order. *inputs [tokens,
 * width of the stage] is where those of this stage, or of the last one, are. The weights of the original
 * stream must not change within a block: it does not wait for a stage's to be chosen; nor, where it enters whole
 * blocks, does the quantized one. */
lb_status lb_stream_advance(const lb_streams *streams, lb_stream *stream, unsigned stage, size_t first,
                            size_t sequences, float **inputs, lb_error *err);

size_t lb_streams_bytes(const lb_config *config, size_t samples, size_t seqlen);

#endif
