/* SPDX-License-Identifier: MIT
 * What the tests of rescaled channels share: a tiny model of an architecture, opened, and what its first block is
 * fed. */
#ifndef LB_TESTS_RESCALE_CASE_H
#define LB_TESTS_RESCALE_CASE_H

#include "scratch.h"

#include "base/alloc.h"
#include "model/block_trace.h"
#include "model/embedding.h"
#include "quantize/awq.h"
#include "tiny_kinds.h"

enum { SEQUENCES = 3, LENGTH = 8, TOKENS = SEQUENCES * LENGTH };

typedef struct whole {
    lb_weights *weights;
    lb_embedding ends;
    lb_rope rope;
    lb_workspace ws;
    const lb_config *config;
} whole;

static inline void ok(lb_status st, const lb_error *err)
{
    if (st != LB_OK)
        fail_msg("%s", err->msg);
}

static inline void open_whole(whole *w, const tiny_model_options *options)
{
    lb_error err;
    char *folder = scratch_make("lb_rescale");
    assert_int_equal(tiny_model_write(folder, options), 0);
    ok(lb_weights_open(folder, &w->weights, &err), &err);
    scratch_remove(folder);
    free(folder);
    w->config = &w->weights->config;
    ok(lb_embedding_load(w->weights, &w->ends, &err), &err);
    ok(lb_rope_create(w->config, LENGTH, &w->rope, &err), &err);
    ok(lb_workspace_create(w->config, TOKENS, &w->ws, &err), &err);
}

static inline void close_whole(whole *w)
{
    lb_embedding_free(&w->ends);
    lb_rope_free(&w->rope);
    lb_workspace_free(&w->ws);
    lb_weights_close(w->weights);
}

static inline void feed(const whole *w, float *x)
{
    uint32_t ids[TOKENS];
    lb_error err;
    for (size_t t = 0; t < TOKENS; t++)
        ids[t] = (uint32_t)((7 * t + t * t) % w->config->vocab);
    ok(lb_embedding_look_up(lb_kernels_get(LB_CPU_BEST), &w->ends, ids, TOKENS, x, &err), &err);
}

/* For the first block; x [TOKENS, hidden] is what it is fed. */
static inline lb_channel_scaler scaler_for(whole *w, const lb_recipe *recipe, const lb_block *block,
                                           const lb_layer *layers, const float *x)
{
    static const lb_progress silent;
    return (lb_channel_scaler){.kernels = lb_kernels_get(LB_CPU_BEST),
                               .config = w->config,
                               .rope = &w->rope,
                               .recipe = recipe,
                               .block = block,
                               .layers = layers,
                               .x = x,
                               .sequences = SEQUENCES,
                               .length = LENGTH,
                               .chunk_sequences = SEQUENCES,
                               .ws = &w->ws,
                               .label = "",
                               .progress = &silent};
}

#endif
