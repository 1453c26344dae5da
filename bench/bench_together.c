/* SPDX-License-Identifier: MIT
 * Several sequences in one pass over the weights: tokens a second of 1, 2, 4 and 8 together, and how much of
 * a step is the head, all counts in turn.
 *
 *   bench_together MODEL [FORMAT [HEAD]]
 *
 * FORMAT rounds a float model's layers (-: leaves them), HEAD its head. Times are the process's own
 * processor time (one thread), so that neighbours matter less. */
#define _GNU_SOURCE
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "bench.h"
#include "infer/runner.h"

enum { MOST = 8, DEPTH = 32, STEPS = 6, REPEATS = 7, COUNTS = 4 };

static const size_t counts[COUNTS] = {1, 2, 4, MOST};

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double head_seconds(const lb_kernels *kernels, const lb_resident *model, size_t count, float *x,
                           float *logits)
{
    lb_qvec *vectors;
    lb_error err;
    stop_on(lb_qvec_create(MOST, model->config.hidden, &vectors, &err), &err);
    const double begin = seconds();
    lb_linear_decode(kernels, &model->ends.head, x, count, vectors, false, logits);
    const double taken = seconds() - begin;
    lb_qvec_destroy(vectors);
    return taken;
}

static void run(const lb_kernels *kernels, const lb_resident *model)
{
    lb_sequence *sequences[MOST];
    lb_runner *runner;
    lb_error err;
    uint32_t ids[MOST];
    double steps[COUNTS][REPEATS], heads[COUNTS][REPEATS];
    float *logits, *x = lb_alloc_zero(MOST * model->config.hidden, sizeof *x);
    stop_on(lb_runner_create(kernels, model, DEPTH + STEPS, 0, MOST, &runner, &err), &err);
    for (size_t i = 0; i < MOST; i++) {
        ids[i] = (uint32_t)(i + 1);
        stop_on(
            lb_sequence_create(&model->config, (lb_kv_type)LB_KV_DEFAULT, DEPTH + STEPS, &sequences[i], &err),
            &err);
        for (size_t t = 0; t < DEPTH; t += MOST)
            stop_on(lb_runner_feed(runner, sequences[i], ids, MOST, NULL, NULL, &err), &err);
    }
    for (size_t repeat = 0; repeat < REPEATS; repeat++) {
        for (size_t c = 0; c < COUNTS; c++) {
            const double begin = seconds();
            for (size_t step = 0; step < STEPS; step++)
                stop_on(lb_runner_step(runner, sequences, ids, counts[c], &logits, &err), &err);
            steps[c][repeat] = (seconds() - begin) / STEPS;
            for (size_t i = 0; i < MOST; i++)
                sequences[i]->past = DEPTH;
            heads[c][repeat] = head_seconds(kernels, model, counts[c], x, logits);
        }
    }
    for (size_t c = 0; c < COUNTS; c++) {
        const double step = median(steps[c], REPEATS), one = steps[0][REPEATS / 2];
        printf("%zu together: %7.2f ms a step, %6.1f tokens/s (x %.2f), head %6.2f ms\n", counts[c],
               1e3 * step, (double)counts[c] / step, (double)counts[c] * one / step,
               1e3 * median(heads[c], REPEATS));
    }
    for (size_t i = 0; i < MOST; i++)
        lb_sequence_destroy(sequences[i]);
    lb_runner_destroy(runner);
    lb_free(x);
}

int main(int argc, char **argv)
{
    lb_resident model, rounded;
    lb_format layers, head;
    lb_error err;
    if (argc < 2)
        return fprintf(stderr, "bench_together MODEL [FORMAT [HEAD]]\n"), 2;
    lb_thread_set_count(1);
    stop_on(lb_resident_load(argv[1], NULL, &model, &err), &err);
    if (argc == 2 || strcmp(argv[2], "-") == 0) {
        run(lb_kernels_get(LB_CPU_BEST), &model);
        return 0;
    }
    stop_on(lb_format_parse(argv[2], &layers, &err), &err);
    if (argc > 3)
        stop_on(lb_format_parse(argv[3], &head, &err), &err);
    stop_on(lb_resident_round(&model, &layers, argc > 3 ? &head : NULL, &rounded, &err), &err);
    run(lb_kernels_get(LB_CPU_BEST), &rounded);
    return 0;
}
