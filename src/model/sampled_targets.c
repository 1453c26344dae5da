/* SPDX-License-Identifier: MIT */
#include "model/sampled_targets.h"

#include "base/alloc.h"
#include "base/rng.h"
#include "base/thread.h"
#include "model/head_grad.h"

enum { CHUNK_TOKENS = 64 };

typedef struct draw_job {
    const lb_kernels *kernels;
    size_t vocab, first; /* token of the chunk */
    uint64_t seed;
    float *logits; /* [tokens of the chunk, vocab] */
    uint32_t *targets; /* of the chunk */
} draw_job;

static uint32_t draw(const float *p, size_t vocab, double u)
{
    double sum = 0.0;
    uint32_t last = 0; /* that can come at all: sums of floats may end a little below 1 */
    for (size_t i = 0; i < vocab; i++) {
        sum += (double)p[i];
        if (p[i] > 0.0f)
            last = (uint32_t)i;
        if (u < sum)
            break;
    }
    return last;
}

static void draw_rows(void *arg, size_t begin, size_t end)
{
    const draw_job *j = arg;
    for (size_t t = begin; t < end; t++) {
        lb_rng rng;
        if (j->targets[t] == LB_NO_TARGET)
            continue;
        lb_rng_seed(&rng, j->seed + 0x9e3779b97f4a7c15u * (uint64_t)(j->first + t + 1));
        j->kernels->softmax(j->logits + t * j->vocab, j->vocab);
        j->targets[t] = draw(j->logits + t * j->vocab, j->vocab, lb_rng_uniform(&rng));
    }
}

lb_status lb_sample_targets(const lb_kernels *kernels, const lb_embedding *ends, uint64_t seed,
                            const float *x, size_t tokens, uint32_t *targets, lb_error *err)
{
    float *logits = NULL, *scratch = NULL;
    lb_status st = LB_OK;
    LB_GO(lb_alloc_array(&logits, CHUNK_TOKENS, ends->vocab * sizeof *logits, "logits", err));
    LB_GO(lb_alloc_array(&scratch, CHUNK_TOKENS, ends->hidden * sizeof *scratch, "logits", err));
    for (size_t at = 0; at < tokens; at += CHUNK_TOKENS) {
        const size_t count = tokens - at < CHUNK_TOKENS ? tokens - at : CHUNK_TOKENS;
        draw_job j = {.kernels = kernels,
                      .vocab = ends->vocab,
                      .first = at,
                      .seed = seed,
                      .logits = logits,
                      .targets = targets + at};
        LB_GO(lb_embedding_logits(kernels, ends, x + at * ends->hidden, count, scratch, logits, err));
        lb_parallel_for(count, 1, draw_rows, &j);
    }
done:
    lb_free(logits);
    lb_free(scratch);
    return st;
}
