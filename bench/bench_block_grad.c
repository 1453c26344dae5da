/* SPDX-License-Identifier: MIT
 *
 * Where the time of a block's forward and backward pass goes:
 *
 *   bench_block_grad [repeats [threads [sequences [tokens [hidden ffn heads kv_heads]]]]]
 *
 * The whole of it, with gradients of all weights (once without dx, as block reconstruction wants it, once with);
 * the products of the linear layers alone, as the passes make them; the same products by OpenBLAS as it comes,
 * one call and as many threads for each; and attention alone. Taken in turn, medians of the repeats, because
 * other programs share the machine. The default shape is a block of SmolLM2-135M. */
#define _GNU_SOURCE
#include <cblas.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/rng.h"
#include "base/thread.h"
#include "linalg/gemm.h"
#include "model/attention_grad.h"
#include "model/block_grad.h"

typedef struct bench {
    lb_config config;
    lb_block block;
    lb_rope rope;
    lb_stage_context c;
    lb_block_trace trace;
    lb_block_grads grads;
    size_t sequences, sequence_tokens, tokens;
    float *x, *dy, *out;
    bool wants_dx;
    unsigned threads;
} bench;

static float *random_floats(lb_rng *rng, size_t n, double size)
{
    float *x = NULL;
    lb_error err;
    stop_on(lb_alloc_array(&x, n, sizeof *x, "random numbers", &err), &err);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(size * lb_rng_normal(rng));
    return x;
}

static void make(bench *b)
{
    lb_rng rng;
    lb_error err;
    const lb_config *c = &b->config;
    lb_rng_seed(&rng, 1);
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        size_t rows, cols;
        lb_linear_shape(c, which, &rows, &cols);
        b->block.linear[which] =
            (lb_linear){.rows = rows,
                        .cols = cols,
                        .type = LB_DENSE_F32,
                        .dense = random_floats(&rng, rows * cols, 1.0 / sqrt((double)cols))};
        b->grads.weights[which] = random_floats(&rng, rows * cols, 0.0);
    }
    b->block.attn_norm = random_floats(&rng, c->hidden, 1.0);
    b->block.ffn_norm = random_floats(&rng, c->hidden, 1.0);
    b->tokens = b->sequences * b->sequence_tokens;
    b->x = random_floats(&rng, b->tokens * c->hidden, 1.0);
    b->dy = random_floats(&rng, b->tokens * c->hidden, 1.0);
    b->out = random_floats(&rng, b->tokens * c->hidden, 0.0);
    stop_on(lb_rope_create(c, b->sequence_tokens, &b->rope, &err), &err);
    stop_on(lb_block_trace_create(c, b->tokens, b->sequence_tokens, &b->trace, &err), &err);
    b->c = (lb_stage_context){
        .kernels = lb_kernels_get(LB_CPU_BEST), .config = c, .rope = &b->rope, .block = &b->block};
}

static void drop(bench *b)
{
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++)
        lb_free(b->grads.weights[which]);
    lb_block_free(&b->block);
    lb_rope_free(&b->rope);
    lb_block_trace_free(&b->trace);
    lb_free(b->x);
    lb_free(b->dy);
    lb_free(b->out);
}

/* ---- What is timed ----------------------------------------------------------------------------------- */

static void forward(bench *b)
{
    lb_error err;
    stop_on(lb_block_forward_traced(&b->c, b->x, b->sequences, b->sequence_tokens, &b->trace, b->out, &err),
            &err);
}

static void backward(bench *b)
{
    lb_error err;
    stop_on(lb_block_backward(&b->c, &b->trace, b->dy, &b->grads, b->wants_dx ? b->out : NULL, &err), &err);
}

static void attend(bench *b)
{
    const lb_block_trace *t = &b->trace;
    const lb_attention_input in = {
        .q = t->q, .k = t->k, .v = t->v, .sequences = b->sequences, .tokens = b->sequence_tokens};
    lb_error err;
    stop_on(lb_attention(b->c.kernels, &b->config, &in, t->scratch.heads[0], &err), &err);
}

static void attend_backward(bench *b)
{
    const lb_block_trace *t = &b->trace;
    const lb_attention_input in = {
        .q = t->q, .k = t->k, .v = t->v, .sequences = b->sequences, .tokens = b->sequence_tokens};
    const lb_attention_grad g = {.dout = t->inputs[LB_STAGE_O],
                                 .dq = t->scratch.heads[1],
                                 .dk = t->scratch.k,
                                 .dv = t->scratch.v,
                                 .head_dk = t->scratch.wide[0],
                                 .head_dv = t->scratch.wide[1],
                                 .scores = t->scratch.scores};
    lb_attention_backward(b->c.kernels, &b->config, &in, &g);
}

/* A layer's output and its gradient, somewhere wide enough. */
static float *output_of(const bench *b, unsigned which)
{
    return which % 2 ? b->trace.scratch.wide[0] : b->trace.scratch.wide[1];
}

static bool needs_input_gradient(const bench *b, unsigned which)
{
    return b->wants_dx || which > LB_LINEAR_V;
}

static void products(bench *b)
{
    lb_gemm_tn all[LB_BLOCK_LINEARS];
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        const lb_linear *l = &b->block.linear[which];
        const lb_stage stage = lb_block_linears[which].stage;
        lb_gemm_nt(b->tokens, l->rows, l->cols, b->trace.inputs[stage], l->cols, l->dense, l->cols, 0.0f,
                   output_of(b, which), l->rows);
        all[which] = (lb_gemm_tn){.m = l->rows,
                                  .n = l->cols,
                                  .k = b->tokens,
                                  .a = output_of(b, which),
                                  .b = b->trace.inputs[stage],
                                  .c = b->grads.weights[which]};
    }
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        unsigned count = 1;
        const lb_linear *l = &b->block.linear[which];
        if (needs_input_gradient(b, which))
            (which ? lb_gemm_nn_add : lb_gemm_nn)(b->tokens, l->cols, l->rows, output_of(b, which), l->rows,
                                                  l->dense, l->cols, output_of(b, which + 1), l->cols);
        while (which + 1 < LB_BLOCK_LINEARS &&
               lb_block_linears[which + 1].stage == lb_block_linears[which].stage) {
            which++;
            count++;
            l = &b->block.linear[which];
            if (needs_input_gradient(b, which))
                lb_gemm_nn_add(b->tokens, l->cols, l->rows, output_of(b, which), l->rows, l->dense, l->cols,
                               output_of(b, which + 1), l->cols);
        }
        lb_gemm_tn_add(all + which + 1 - count, count);
    }
}

static void plain_products(bench *b)
{
    openblas_set_num_threads((int)b->threads);
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        const lb_linear *l = &b->block.linear[which];
        const float *input = b->trace.inputs[lb_block_linears[which].stage];
        const int tokens = (int)b->tokens, rows = (int)l->rows, cols = (int)l->cols;
        float *out = output_of(b, which);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, tokens, rows, cols, 1.0f, input, cols, l->dense,
                    cols, 0.0f, out, rows);
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, rows, cols, tokens, 1.0f, out, rows, input, cols,
                    1.0f, b->grads.weights[which], cols);
        if (needs_input_gradient(b, which))
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, tokens, cols, rows, 1.0f, out, rows,
                        l->dense, cols, 1.0f, output_of(b, which + 1), cols);
    }
    openblas_set_num_threads(1);
}

/* ---- The report -------------------------------------------------------------------------------------- */

typedef struct part {
    const char *name;
    void (*run)(bench *b);
    double flop;
    double samples[MOST_REPEATS];
} part;

static double product_flop(const bench *b)
{
    double flop = 0.0;
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        const double one =
            2.0 * (double)b->tokens * (double)(b->block.linear[which].rows * b->block.linear[which].cols);
        flop += one * (needs_input_gradient(b, which) ? 3.0 : 2.0);
    }
    return flop;
}

static void run(bench *b, unsigned repeats)
{
    /* Two products forward and five backward of a triangle that is half of a square and the diagonal. */
    const double seen = (double)b->tokens * (double)(b->sequence_tokens + 1) / 2.0;
    const double attention = 2.0 * seen * (double)(b->config.heads * b->config.head_dim);
    enum { FORWARD, BACKWARD, PRODUCTS, PLAIN, ATTEND, ATTEND_BACK, PARTS };
    part parts[PARTS] = {{.name = "forward", .run = forward},
                         {.name = "backward", .run = backward},
                         {.name = "products of both", .run = products, .flop = product_flop(b)},
                         {.name = "  by OpenBLAS alone", .run = plain_products, .flop = product_flop(b)},
                         {.name = "attention, forward", .run = attend, .flop = 2.0 * attention},
                         {.name = "attention, backward", .run = attend_backward, .flop = 5.0 * attention}};
    double medians[PARTS];
    for (unsigned i = 0; i <= repeats; i++) {
        for (int p = 0; p < PARTS; p++) {
            const double begin = lb_now();
            parts[p].run(b);
            if (i > 0) /* the first round only touches the memory */
                parts[p].samples[i - 1] = lb_now() - begin;
        }
    }
    for (int p = 0; p < PARTS; p++)
        medians[p] = median(parts[p].samples, repeats);
    const double total = medians[FORWARD] + medians[BACKWARD];
    printf("%s: %.1f ms a step, %.0f tokens/s\n", b->wants_dx ? "with dx" : "weights only", total * 1e3,
           (double)b->tokens / total);
    for (int p = 0; p < PARTS; p++) {
        printf("  %-22s %8.1f ms  %5.1f %%", parts[p].name, medians[p] * 1e3, 100.0 * medians[p] / total);
        printf(parts[p].flop > 0.0 ? "  %6.1f GFLOP/s\n" : "\n", parts[p].flop / medians[p] / 1e9);
    }
    const double rest = total - medians[PRODUCTS] - medians[ATTEND] - medians[ATTEND_BACK];
    printf("  %-22s %8.1f ms  %5.1f %%\n", "everything else", rest * 1e3, 100.0 * rest / total);
}

static size_t number(int argc, char **argv, int at, size_t otherwise)
{
    const unsigned long n = argc > at ? strtoul(argv[at], NULL, 10) : otherwise;
    if (n < 1 || n > 1 << 20) {
        fprintf(stderr, "bench_block_grad: \"%s\" is not a number from 1 to %d\n", argv[at], 1 << 20);
        exit(2);
    }
    return n;
}

int main(int argc, char **argv)
{
    bench b = {0};
    const unsigned repeats = (unsigned)number(argc, argv, 1, 3);
    b.threads = (unsigned)number(argc, argv, 2, lb_thread_available());
    b.sequences = number(argc, argv, 3, 8);
    b.sequence_tokens = number(argc, argv, 4, 512);
    b.config = (lb_config){.hidden = number(argc, argv, 5, 576),
                           .ffn = number(argc, argv, 6, 1536),
                           .heads = number(argc, argv, 7, 9),
                           .kv_heads = number(argc, argv, 8, 3),
                           .norm_eps = 1e-5,
                           .rope_theta = 1e4};
    b.config.head_dim = b.config.hidden / b.config.heads;
    if (repeats > MOST_REPEATS || b.config.heads % b.config.kv_heads != 0 || b.config.head_dim < 2 ||
        b.config.head_dim % 2 != 0 || b.config.head_dim > LB_MAX_HEAD_DIM) {
        fprintf(stderr, "bench_block_grad: at most %d repeats; heads must share, and be even\n",
                MOST_REPEATS);
        return 2;
    }
    lb_thread_set_count(b.threads);
    make(&b);
    printf("%s, %u threads, medians of %u; %zu x %zu tokens, hidden %zu, ffn %zu, %zu heads of %zu, %zu of "
           "keys\n",
           lb_cpu_model(), b.threads, repeats, b.sequences, b.sequence_tokens, b.config.hidden, b.config.ffn,
           b.config.heads, b.config.head_dim, b.config.kv_heads);
    printf("%.1f MB of trace\n", (double)lb_block_trace_bytes(&b.config, b.tokens, b.sequence_tokens) / 1e6);
    for (int dx = 0; dx < 2; dx++) {
        b.wants_dx = dx;
        run(&b, repeats);
    }
    drop(&b);
    return 0;
}
