/* SPDX-License-Identifier: MIT
 * A training pass (forward and backward of a micro-batch) beside the matrix products with weights that it cannot do
 * without, each a single call of BLAS: how much of the time training spends on anything else.
 *
 *     bench_training [HIDDEN LAYERS FFN VOCAB LENGTH TOKENS REPEATS]
 *
 * CPU time of one thread, medians, the two alternating, because other programs share the machine. */
#define _GNU_SOURCE
#include "bench.h"

#include <cblas.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "base/thread.h"
#include "linalg/gemm.h"
#include "train/training_pass.h"

typedef struct bench {
    lb_parameters parameters;
    float *values, *grads;
    lb_training_pass pass;
    uint32_t *ids, *targets;
    size_t tokens, length;
    float *x, *y; /* [tokens, widest] */
} bench;

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static size_t number(int argc, char **argv, int at, size_t preset)
{
    return argc > at ? (size_t)strtoull(argv[at], NULL, 10) : preset;
}

static void set_up(bench *b, int argc, char **argv)
{
    lb_error err;
    lb_config c = {.hidden = number(argc, argv, 1, 384),
                   .layers = number(argc, argv, 2, 6),
                   .ffn = number(argc, argv, 3, 1024),
                   .vocab = number(argc, argv, 4, 4096),
                   .max_context = number(argc, argv, 5, 256),
                   .norm_eps = 1e-5,
                   .rope_theta = 1e4,
                   .tied_embeddings = true};
    c.head_dim = 64;
    c.heads = c.kv_heads = c.hidden / c.head_dim;
    b->length = c.max_context;
    b->tokens = number(argc, argv, 6, 4096) / b->length * b->length;
    stop_on(lb_parameters_create(&c, &b->parameters, &err), &err);
    const size_t widest = c.ffn > c.vocab ? c.ffn : c.vocab;
    b->values = lb_alloc_zero(b->parameters.floats, sizeof(float));
    b->grads = lb_alloc_zero(b->parameters.floats, sizeof(float));
    b->ids = lb_alloc_zero(b->tokens, sizeof *b->ids);
    b->targets = lb_alloc_zero(b->tokens, sizeof *b->targets);
    b->x = lb_alloc_zero(b->tokens * widest, sizeof(float));
    b->y = lb_alloc_zero(b->tokens * widest, sizeof(float));
    if (!b->values || !b->grads || !b->ids || !b->targets || !b->x || !b->y)
        exit(1);
    lb_parameters_init(&b->parameters, 0.02, 1, b->values);
    lb_rng rng;
    lb_rng_seed(&rng, 7);
    for (size_t i = 0; i < b->tokens; i++) {
        b->ids[i] = (uint32_t)lb_rng_below(&rng, c.vocab);
        b->targets[i] = (uint32_t)lb_rng_below(&rng, c.vocab);
    }
    for (size_t i = 0; i < b->tokens * widest; i++)
        b->x[i] = (float)lb_rng_normal(&rng);
    stop_on(lb_training_pass_create(lb_kernels_get(LB_CPU_BEST), &b->parameters, b->values, b->grads,
                                    b->tokens, b->length, &b->pass, &err),
            &err);
}

/* Y = X W^T, dX = dY W, dW += dY^T X for every matrix and the head. */
static void products(const bench *b)
{
    const int t = (int)b->tokens;
    lb_blas_prepare();
    for (size_t i = 0; i < b->parameters.count; i++) {
        const lb_parameter *p = &b->parameters.list[i];
        const int n = (int)p->rows, k = (int)p->cols;
        const float *w = b->values + p->at;
        if (p->kind != LB_PARAMETER_MATRIX && p->kind != LB_PARAMETER_EMBEDDING)
            continue;
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, t, n, k, 1.0f, b->x, k, w, k, 0.0f, b->y, n);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, t, k, n, 1.0f, b->x, n, w, k, 0.0f, b->y, k);
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, n, k, t, 1.0f, b->x, n, b->y, k, 1.0f,
                    b->grads + p->at, k);
    }
}

int main(int argc, char **argv)
{
    static double training[MOST_REPEATS], blas[MOST_REPEATS];
    bench b = {0};
    lb_error err;
    const size_t repeats = number(argc, argv, 7, 5);
    lb_thread_set_count(1);
    set_up(&b, argc, argv);
    for (size_t i = 0; i <= repeats && i < MOST_REPEATS; i++) { /* the first is not counted */
        double loss, begin = cpu_seconds();
        stop_on(lb_training_pass_run(&b.pass, b.ids, b.targets, b.tokens / b.length, 1.0f / (float)b.tokens,
                                     &loss, &err),
                &err);
        const double end = cpu_seconds();
        products(&b);
        training[i ? i - 1 : 0] = end - begin;
        blas[i ? i - 1 : 0] = cpu_seconds() - end;
    }
    const double t = median(training, (unsigned)repeats), g = median(blas, (unsigned)repeats);
    const lb_config *c = &b.parameters.config;
    const double flops = 6.0 * (double)b.parameters.weights * (double)b.tokens +
                         12.0 * (double)(c->layers * c->hidden * b.length) * (double)b.tokens;
    printf("%zu parameters, %zu tokens: pass %.3f s (%.0f tokens/s, %.1f GFLOP/s), its products alone %.3f s "
           "(%.1f GFLOP/s): ratio %.2f\n",
           b.parameters.weights, b.tokens, t, (double)b.tokens / t, flops / t / 1e9, g,
           6.0 * (double)b.parameters.weights * (double)b.tokens / g / 1e9, t / g);
    return 0;
}
