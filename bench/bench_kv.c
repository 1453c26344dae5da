/* SPDX-License-Identifier: MIT
 * What types of keys and values cost and gain: KL divergence and perplexity of a text read token by token, against
 * float32's, and the time of a decoded token at a few depths, of all types in turn.
 *
 *   bench_kv MODEL TEXT [TOKENS [DEPTH...]]
 *
 * Times are the process's own processor time (one thread), so that neighbours matter less. */
#define _GNU_SOURCE
#include <math.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/file.h"
#include "base/thread.h"
#include "bench.h"
#include "infer/runner.h"
#include "lowbit/tokenizer.h"

enum { REPEATS = 5, TOKENS_A_TIME = 8, MOST_DEPTHS = 8 };

typedef struct cache_bench {
    const lb_kernels *kernels;
    lb_resident model;
    lb_runner *runner;
    uint32_t *ids;
    size_t count;
    lb_error err;
} cache_bench;

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void to_log_probabilities(const float *logits, size_t n, double *out)
{
    double largest = -HUGE_VAL, sum = 0;
    for (size_t i = 0; i < n; i++)
        largest = fmax(largest, (double)logits[i]);
    for (size_t i = 0; i < n; i++)
        sum += exp((double)logits[i] - largest);
    for (size_t i = 0; i < n; i++)
        out[i] = (double)logits[i] - largest - log(sum);
}

/* All types read the text side by side; the first is float32. */
static void quality(cache_bench *b, size_t tokens)
{
    const size_t vocab = b->model.config.vocab;
    lb_sequence *sequences[LB_KV_TYPES];
    double kl[LB_KV_TYPES] = {0}, nll[LB_KV_TYPES] = {0};
    double *p = lb_alloc(vocab, sizeof *p), *q = lb_alloc(vocab, sizeof *q);
    float *logits;
    for (unsigned t = 0; t < LB_KV_TYPES; t++)
        stop_on(lb_sequence_create(&b->model.config, (lb_kv_type)t, tokens, &sequences[t], &b->err), &b->err);
    for (size_t i = 0; i + 1 < tokens; i++) {
        for (unsigned t = 0; t < LB_KV_TYPES; t++) {
            stop_on(lb_runner_feed(b->runner, sequences[t], &b->ids[i], 1, NULL, &logits, &b->err), &b->err);
            to_log_probabilities(logits, vocab, t ? q : p);
            nll[t] -= (t ? q : p)[b->ids[i + 1]];
            for (size_t k = 0; t > 0 && k < vocab; k++)
                kl[t] += exp(p[k]) * (p[k] - q[k]);
        }
    }
    printf("%-8s %12s %12s %12s %14s\n", "type", "bytes/token", "perplexity", "change", "KL, nats");
    for (unsigned t = 0; t < LB_KV_TYPES; t++) {
        const double n = (double)(tokens - 1);
        printf("%-8s %12zu %12.4f %11.4f%% %14.3e\n", lb_kv_type_name((lb_kv_type)t),
               lb_sequence_token_bytes(&b->model.config, (lb_kv_type)t), exp(nll[t] / n),
               100 * (exp((nll[t] - nll[0]) / n) - 1), kl[t] / n);
        lb_sequence_destroy(sequences[t]);
    }
    lb_free(p);
    lb_free(q);
}

static void speed(cache_bench *b, size_t depth)
{
    lb_sequence *sequences[LB_KV_TYPES];
    double times[LB_KV_TYPES][REPEATS];
    float *logits;
    for (unsigned t = 0; t < LB_KV_TYPES; t++) {
        stop_on(lb_sequence_create(&b->model.config, (lb_kv_type)t, depth + TOKENS_A_TIME, &sequences[t],
                                   &b->err),
                &b->err);
        stop_on(lb_runner_feed(b->runner, sequences[t], b->ids, depth, NULL, NULL, &b->err), &b->err);
    }
    for (size_t repeat = 0; repeat < REPEATS; repeat++) {
        for (unsigned t = 0; t < LB_KV_TYPES; t++) {
            sequences[t]->past = depth;
            const double begin = seconds();
            for (size_t i = 0; i < TOKENS_A_TIME; i++)
                stop_on(lb_runner_feed(b->runner, sequences[t], &b->ids[i], 1, NULL, &logits, &b->err),
                        &b->err);
            times[t][repeat] = (seconds() - begin) / TOKENS_A_TIME;
        }
    }
    printf("depth %5zu, ms a token:", depth);
    for (unsigned t = 0; t < LB_KV_TYPES; t++) {
        printf("  %s %.2f", lb_kv_type_name((lb_kv_type)t), 1e3 * median(times[t], REPEATS));
        lb_sequence_destroy(sequences[t]);
    }
    printf("\n");
}

int main(int argc, char **argv)
{
    cache_bench b = {.kernels = lb_kernels_get(LB_CPU_BEST)};
    lb_tokenizer *tokenizer;
    char *text;
    size_t bytes, depths[MOST_DEPTHS] = {64, 512, 2048}, depth_count = 3, most = 0;
    if (argc < 3)
        return fprintf(stderr, "bench_kv MODEL TEXT [TOKENS [DEPTH...]]\n"), 2;
    size_t tokens = argc > 3 ? (size_t)strtoul(argv[3], NULL, 10) : 512;
    if (argc > 4)
        for (depth_count = 0; depth_count < MOST_DEPTHS && (int)depth_count + 4 < argc; depth_count++)
            depths[depth_count] = (size_t)strtoul(argv[4 + depth_count], NULL, 10);
    lb_thread_set_count(1);
    stop_on(lb_resident_load(argv[1], NULL, &b.model, &b.err), &b.err);
    stop_on(lb_tokenizer_open(argv[1], &tokenizer, &b.err), &b.err);
    stop_on(lb_file_read_text(argv[2], 64 << 20, &text, &bytes, &b.err), &b.err);
    stop_on(lb_tokenizer_encode(tokenizer, text, bytes < 400000 ? bytes : 400000, LB_ENCODE_DEFAULT_BOS,
                                &b.ids, &b.count, &b.err),
            &b.err);
    for (size_t i = 0; i < depth_count; i++)
        most = depths[i] + TOKENS_A_TIME > most ? depths[i] + TOKENS_A_TIME : most;
    most = tokens > most ? tokens : most;
    if (most > b.count || most > b.model.config.max_context)
        return fprintf(stderr, "bench_kv: wanted %zu tokens of text and of context\n", most), 1;
    stop_on(lb_runner_create(b.kernels, &b.model, most, 0, 1, &b.runner, &b.err), &b.err);
    quality(&b, tokens);
    for (size_t i = 0; i < depth_count; i++)
        speed(&b, depths[i]);
    return 0;
}
