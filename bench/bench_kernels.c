/* SPDX-License-Identifier: MIT
 *
 * How near to the speed of memory the decode kernels run: bench_kernels [repeats [level [bits...]]]
 *
 * Per width of codes, with groups of 128: the product of a 4096 x 4096 matrix and a vector,
 *   memory  several matrices in turn, together far larger than the caches
 *   cache   a few rows again and again
 * in ns per product and 1e9 bytes (codes, scales and zeros) a second, beside a plain read of as many
 * bytes of memory taken in turn with it. Medians, because other programs share the machine. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/rng.h"
#include "base/thread.h"
#include "kernels/bandwidth.h"
#include "kernels/dense.h"
#include "kernels/qmat.h"

enum { SIDE = 4096, GROUP = 128, MOST_MATRICES = 64, CACHE_BYTES = 256 << 10 };
static const size_t MEMORY_BYTES = (size_t)256 << 20;

typedef struct bench {
    const lb_kernels *kernels;
    unsigned repeats;
    float x[SIDE], y[SIDE];
    uint8_t codes[16][SIDE];
    lb_qvec *vector;
} bench;

static lb_qmat *make_matrix(const bench *b, size_t rows, unsigned bits, bool symmetric)
{
    lb_error err;
    lb_qmat *matrix = NULL;
    float scales[SIDE / GROUP], zeros[SIDE / GROUP];
    for (size_t g = 0; g < SIDE / GROUP; g++) {
        scales[g] = 0.0078125f;
        zeros[g] = (float)((1u << (bits - 1)) - g % 2);
    }
    stop_on(lb_qmat_create(rows, SIDE, bits, GROUP, symmetric, &matrix, &err), &err);
    for (size_t r = 0; r < rows; r++)
        lb_qmat_set_row(matrix, r, b->codes[r % 16], scales, zeros);
    return matrix;
}

/* Seconds for one product, each of the matrices taken `rounds` times. */
static double time_products(bench *b, lb_qmat *const *matrices, unsigned count, unsigned rounds)
{
    double begin = lb_now();
    for (unsigned round = 0; round < rounds; round++)
        for (unsigned i = 0; i < count; i++)
            lb_qmat_times(b->kernels, matrices[i], b->vector, b->y);
    return (lb_now() - begin) / ((double)count * rounds);
}

static double time_reads(const bench *b)
{
    double rate;
    lb_error err;
    stop_on(lb_read_bandwidth(b->kernels, MEMORY_BYTES, 3, &rate, &err), &err);
    return rate;
}

static void bench_qmat(bench *b, unsigned bits, bool symmetric, unsigned threads)
{
    lb_qmat *matrices[MOST_MATRICES];
    double memory[MOST_REPEATS], cache[MOST_REPEATS], reads[MOST_REPEATS], ratios[MOST_REPEATS];
    lb_thread_set_count(threads);
    matrices[0] = make_matrix(b, SIDE, bits, symmetric);
    const double bytes = (double)lb_qmat_bytes(matrices[0]);
    unsigned count = 1 + (unsigned)(MEMORY_BYTES / lb_qmat_bytes(matrices[0]));
    if (count > MOST_MATRICES)
        count = MOST_MATRICES;
    for (unsigned i = 1; i < count; i++)
        matrices[i] = make_matrix(b, SIDE, bits, symmetric);
    lb_qmat *small = make_matrix(b, CACHE_BYTES / (SIDE * bits / 8) / 32 * 32, bits, symmetric);
    const double small_bytes = (double)lb_qmat_bytes(small);

    for (unsigned i = 0; i < b->repeats; i++) {
        reads[i] = time_reads(b);
        memory[i] = time_products(b, matrices, count, 1);
        ratios[i] = bytes / memory[i] / 1e9 / reads[i];
        cache[i] = time_products(b, &small, 1, 200);
    }
    double m = median(memory, b->repeats), c = median(cache, b->repeats);
    printf("qmat_times  int%u %-10s %u thread%s  memory %8.0f ns %6.2f GB/s  read %6.2f GB/s  ratio %4.2f"
           "  cache %6.2f GB/s\n",
           bits, symmetric ? "symmetric" : "asymmetric", threads, threads == 1 ? " " : "s", m * 1e9,
           bytes / m / 1e9, median(reads, b->repeats), median(ratios, b->repeats), small_bytes / c / 1e9);
    fflush(stdout);
    for (unsigned i = 0; i < count; i++)
        lb_qmat_destroy(matrices[i]);
    lb_qmat_destroy(small);
}

static void bench_dense(bench *b, lb_dense_type type, unsigned threads)
{
    static const char *const names[] = {"f32", "f16", "bf16"};
    double memory[MOST_REPEATS], reads[MOST_REPEATS], ratios[MOST_REPEATS];
    lb_error err;
    uint8_t *weights = NULL;
    const size_t rows = MEMORY_BYTES / (SIDE * lb_dense_size(type));
    lb_thread_set_count(threads);
    stop_on(lb_alloc_array(&weights, MEMORY_BYTES, 1, "weights", &err), &err);
    lb_advise_huge(weights, MEMORY_BYTES);
    memset(weights, 0, MEMORY_BYTES);
    for (unsigned i = 0; i < b->repeats; i++) {
        reads[i] = time_reads(b);
        double begin = lb_now();
        for (size_t done = 0; done < rows; done += SIDE)
            lb_dense_times(b->kernels, type, weights + done * SIDE * lb_dense_size(type), SIDE, SIDE, b->x,
                           b->y);
        memory[i] = (lb_now() - begin) / ((double)rows / SIDE);
        ratios[i] = (double)(SIDE * SIDE * lb_dense_size(type)) / memory[i] / 1e9 / reads[i];
    }
    double m = median(memory, b->repeats);
    printf("dense_times %-15s %u thread%s  memory %8.0f ns %6.2f GB/s  read %6.2f GB/s  ratio %4.2f\n",
           names[type], threads, threads == 1 ? " " : "s", m * 1e9,
           (double)(SIDE * SIDE * lb_dense_size(type)) / m / 1e9, median(reads, b->repeats),
           median(ratios, b->repeats));
    fflush(stdout);
    lb_free(weights);
}

static void bench_rest(bench *b)
{
    enum { ROUNDS = 20000, TILE_ROWS = 64 };
    double encode[MOST_REPEATS], expand[MOST_REPEATS];
    static float tile[TILE_ROWS * SIDE];
    lb_qmat *matrix = make_matrix(b, TILE_ROWS, 4, false);
    for (unsigned i = 0; i < b->repeats; i++) {
        double begin = lb_now();
        for (unsigned round = 0; round < ROUNDS / 20; round++)
            lb_qvec_set(b->kernels, b->vector, b->x, SIDE);
        encode[i] = (lb_now() - begin) / (ROUNDS / 20);
        begin = lb_now();
        for (unsigned round = 0; round < 10; round++)
            lb_qmat_dequantize(b->kernels, matrix, 0, TILE_ROWS, tile);
        expand[i] = (lb_now() - begin) / 10;
    }
    printf("qvec_set    %d entries: %.0f ns\n", SIDE, median(encode, b->repeats) * 1e9);
    printf("dequantize  int4 to f32: %.3f ns an element\n",
           median(expand, b->repeats) * 1e9 / (TILE_ROWS * SIDE));
    lb_qmat_destroy(matrix);
}

int main(int argc, char **argv)
{
    static bench b;
    lb_error err;
    lb_rng rng;
    lb_cpu_level level = LB_CPU_BEST;
    b.repeats = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 7;
    if (b.repeats < 1 || b.repeats > MOST_REPEATS || (argc > 2 && !lb_cpu_level_parse(argv[2], &level))) {
        fprintf(stderr, "usage: bench_kernels [repeats, 1 to %d [ref|avx2|avx512|avx512vnni [bits...]]]\n",
                MOST_REPEATS);
        return 2;
    }
    b.kernels = lb_kernels_get(level);
    printf("%s, kernels %s, %d x %d, group %d, medians of %u\n", lb_cpu_model(),
           lb_cpu_level_name(b.kernels->level), SIDE, SIDE, GROUP, b.repeats);
    stop_on(lb_qvec_create(SIDE, &b.vector, &err), &err);
    lb_rng_seed(&rng, 1);
    for (size_t i = 0; i < SIDE; i++) {
        b.x[i] = (float)lb_rng_normal(&rng);
        for (size_t r = 0; r < 16; r++)
            b.codes[r][i] = (uint8_t)lb_rng_u64(&rng);
    }
    lb_qvec_set(b.kernels, b.vector, b.x, SIDE);
    const unsigned most_threads = lb_thread_available() > 1 ? 2 : 1;
    for (unsigned bits = 2; bits <= 8; bits++) {
        int wanted = argc <= 3;
        for (int i = 3; i < argc; i++)
            wanted |= strtoul(argv[i], NULL, 10) == bits;
        for (unsigned threads = 1; wanted && threads <= most_threads; threads++)
            for (int symmetric = 1; symmetric >= 0; symmetric--)
                bench_qmat(&b, bits, symmetric, threads);
    }
    for (int type = LB_DENSE_F32; argc <= 3 && type <= LB_DENSE_BF16; type++)
        for (unsigned threads = 1; threads <= most_threads; threads++)
            bench_dense(&b, (lb_dense_type)type, threads);
    bench_rest(&b);
    lb_qvec_destroy(b.vector);
    return 0;
}
