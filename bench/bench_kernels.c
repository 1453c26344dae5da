/* SPDX-License-Identifier: MIT
 *
 * How near to the speed of memory the decode kernels run:
 *
 *   bench_kernels [REPEATS [LEVEL [ROWSxCOLS [FORMAT...]]]]
 *
 * For each format the product of a matrix and a vector,
 *   memory  several matrices in turn, together far larger than the caches
 *   cache   a few rows again and again
 * in microseconds a product and 1e9 bytes (codes and scales) a second, beside a plain read of as many bytes of memory.
 * Reads and formats are taken in turn, and medians are printed, because other programs share the machine. Without
 * FORMAT also the dense types, rounding a vector and expanding a matrix. */
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
#include "kernels/qvec.h"

enum { SIDE = 4096, MOST_SIDE = 1 << 16, MOST_MATRICES = 64, MOST_FORMATS = 32, PATTERNS = 16 };
static const size_t MEMORY_BYTES = (size_t)160 << 20, CACHE_BYTES = 192 << 10;

static const char *const preset_formats[] = {"int2-g128-asym", "bp2-g256",  "int2-g128",       "int3-g128",
                                             "bp3-g256",       "int4-g128", "int5-g128",       "int6-g128",
                                             "int7-g128",      "int8-g128", "sq8/4-b64-s0.875"};

typedef struct subject {
    lb_format format;
    lb_qmat *matrices[MOST_MATRICES], *small;
    unsigned count;
    double memory[MOST_REPEATS], cache[MOST_REPEATS], ratios[MOST_REPEATS];
} subject;

typedef struct bench {
    const lb_kernels *kernels;
    unsigned repeats;
    size_t rows, cols, format_count;
    float *x, *y; /* [cols], [rows or SIDE] */
    float *w; /* [PATTERNS, cols] rows of weights, used over and over */
    lb_qvec *vector;
    subject subjects[MOST_FORMATS];
} bench;

static lb_qmat *make_matrix(const bench *b, const lb_format *format, size_t rows)
{
    lb_error err;
    lb_qmat *matrix = NULL;
    uint8_t *codes = NULL;
    float *params = NULL;
    const size_t count = lb_format_groups(format, b->cols) * format->params;
    stop_on(lb_qmat_create_format(rows, b->cols, format, &matrix, &err), &err);
    stop_on(lb_alloc_array(&codes, PATTERNS, b->cols, "codes", &err), &err);
    stop_on(lb_alloc_array(&params, PATTERNS, count * sizeof *params, "parameters", &err), &err);
    for (size_t i = 0; i < PATTERNS; i++)
        lb_format_encode_row(format, b->w + i * b->cols, NULL, b->cols, LB_FIT_RANGE, codes + i * b->cols,
                             params + i * count);
    for (size_t r = 0; r < rows; r++)
        lb_qmat_set_encoded(matrix, r, codes + r % PATTERNS * b->cols, params + r % PATTERNS * count);
    lb_free(codes);
    lb_free(params);
    return matrix;
}

static void make_subject(const bench *b, subject *s)
{
    s->matrices[0] = make_matrix(b, &s->format, b->rows);
    const size_t bytes = lb_qmat_bytes(s->matrices[0]);
    s->count =
        bytes * (MOST_MATRICES - 1) < MEMORY_BYTES ? MOST_MATRICES : 1 + (unsigned)(MEMORY_BYTES / bytes);
    for (unsigned i = 1; i < s->count; i++)
        s->matrices[i] = make_matrix(b, &s->format, b->rows);
    /* A multiple of all panels' rows. */
    const size_t rows = CACHE_BYTES / (bytes / b->rows) / 64 * 64;
    s->small = make_matrix(b, &s->format, rows ? rows : 64);
}

/* Seconds for one product, each of the matrices taken `rounds` times. */
static double time_products(const bench *b, lb_qmat *const *matrices, unsigned count, unsigned rounds)
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

static void bench_formats(bench *b, unsigned threads)
{
    double reads[MOST_REPEATS];
    lb_thread_set_count(threads);
    for (unsigned i = 0; i < b->repeats; i++) {
        reads[i] = time_reads(b);
        for (size_t f = 0; f < b->format_count; f++) {
            subject *s = &b->subjects[f];
            s->memory[i] = time_products(b, s->matrices, s->count, 1);
            s->ratios[i] = (double)lb_qmat_bytes(s->matrices[0]) / s->memory[i] / 1e9 / reads[i];
            s->cache[i] = time_products(b, &s->small, 1, 100);
        }
    }
    const double read = median(reads, b->repeats);
    for (size_t f = 0; f < b->format_count; f++) {
        subject *s = &b->subjects[f];
        const double m = median(s->memory, b->repeats), c = median(s->cache, b->repeats);
        printf("%5zu x %5zu  %-15s %u thread%s  %9.1f us  %6.2f GB/s  of read %6.2f GB/s  %4.2f  in cache "
               "%6.2f GB/s\n",
               b->rows, b->cols, s->format.name, threads, threads == 1 ? " " : "s", m * 1e6,
               (double)lb_qmat_bytes(s->matrices[0]) / m / 1e9, read, median(s->ratios, b->repeats),
               (double)lb_qmat_bytes(s->small) / c / 1e9);
    }
    fflush(stdout);
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
    enum { ROUNDS = 1000, TILE_ROWS = 64 };
    double encode[MOST_REPEATS], sums[MOST_REPEATS], expand[MOST_REPEATS];
    float *tile = NULL;
    lb_error err;
    const char *const names[] = {"int4-g128-asym", "bp2-g256"};
    stop_on(lb_alloc_array(&tile, TILE_ROWS * b->cols, sizeof *tile, "tile", &err), &err);
    for (size_t f = 0; f < 2; f++) {
        lb_format format;
        stop_on(lb_format_parse(names[f], &format, &err), &err);
        lb_qmat *matrix = make_matrix(b, &format, TILE_ROWS);
        for (unsigned i = 0; i < b->repeats; i++) {
            double begin = lb_now();
            for (unsigned round = 0; round < 10; round++)
                lb_qmat_dequantize(b->kernels, matrix, 0, TILE_ROWS, tile);
            expand[i] = (lb_now() - begin) / 10;
        }
        printf("dequantize  %s to f32: %.3f ns an element\n", names[f],
               median(expand, b->repeats) * 1e9 / (double)(TILE_ROWS * b->cols));
        lb_qmat_destroy(matrix);
    }
    for (unsigned i = 0; i < b->repeats; i++) {
        double begin = lb_now();
        for (unsigned round = 0; round < ROUNDS; round++)
            lb_qvec_set(b->kernels, b->vector, b->x, 1, b->cols);
        encode[i] = (lb_now() - begin) / ROUNDS;
        begin = lb_now();
        for (unsigned round = 0; round < ROUNDS; round++) {
            lb_qvec_set(b->kernels, b->vector, b->x, 1, b->cols);
            lb_qvec_make_sums(b->kernels, b->vector);
        }
        sums[i] = (lb_now() - begin) / ROUNDS;
    }
    printf("vector of %zu entries: %.0f ns to 8 bits, %.0f ns with tables of sums\n", b->cols,
           median(encode, b->repeats) * 1e9, median(sums, b->repeats) * 1e9);
    lb_free(tile);
}

/* What the arguments say; false: misused. */
static bool read_arguments(bench *b, int argc, char **argv)
{
    lb_error err;
    lb_cpu_level level = LB_CPU_BEST;
    int used = 0;
    b->repeats = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 7;
    b->rows = b->cols = SIDE;
    if (b->repeats < 1 || b->repeats > MOST_REPEATS || (argc > 2 && !lb_cpu_level_parse(argv[2], &level)))
        return false;
    if (argc > 3 && (sscanf(argv[3], "%zux%zu%n", &b->rows, &b->cols, &used) != 2 || argv[3][used] != '\0'))
        return false;
    b->kernels = lb_kernels_get(level);
    b->format_count = argc > 4 ? (size_t)argc - 4 : sizeof preset_formats / sizeof *preset_formats;
    if (b->format_count > MOST_FORMATS || b->rows < 64 || b->rows > MOST_SIDE || b->cols < 64 ||
        b->cols > MOST_SIDE)
        return false;
    for (size_t f = 0; f < b->format_count; f++) {
        lb_format *format = &b->subjects[f].format;
        stop_on(lb_format_parse(argc > 4 ? argv[4 + f] : preset_formats[f], format, &err), &err);
        if (!lb_qmat_holds(format))
            return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    static bench b;
    lb_error err;
    lb_rng rng;
    if (!read_arguments(&b, argc, argv)) {
        fprintf(stderr,
                "usage: bench_kernels [REPEATS, 1 to %d [" LB_CPU_NAMES " [ROWSxCOLS, 64 to %d "
                "[FORMAT...]]]]\n",
                MOST_REPEATS, MOST_SIDE);
        return 2;
    }
    printf("%s, kernels %s, medians of %u\n", lb_cpu_model(), lb_cpu_level_name(b.kernels->level), b.repeats);
    stop_on(lb_qvec_create(1, b.cols, &b.vector, &err), &err);
    stop_on(lb_alloc_array(&b.x, b.cols > SIDE ? b.cols : SIDE, sizeof *b.x, "x", &err), &err);
    stop_on(lb_alloc_array(&b.y, b.rows > SIDE ? b.rows : SIDE, sizeof *b.y, "y", &err), &err);
    stop_on(lb_alloc_array(&b.w, PATTERNS * b.cols, sizeof *b.w, "weights", &err), &err);
    lb_rng_seed(&rng, 1);
    for (size_t i = 0; i < (b.cols > SIDE ? b.cols : SIDE); i++)
        b.x[i] = (float)lb_rng_normal(&rng);
    for (size_t i = 0; i < PATTERNS * b.cols; i++)
        b.w[i] = (float)lb_rng_normal(&rng);
    lb_qvec_set(b.kernels, b.vector, b.x, 1, b.cols);
    for (size_t f = 0; f < b.format_count; f++)
        make_subject(&b, &b.subjects[f]);
    const unsigned most_threads = lb_thread_available() > 1 ? 2 : 1;
    for (unsigned threads = 1; threads <= most_threads; threads++)
        bench_formats(&b, threads);
    for (int type = LB_DENSE_F32; argc <= 4 && type <= LB_DENSE_BF16; type++)
        for (unsigned threads = 1; threads <= most_threads; threads++)
            bench_dense(&b, (lb_dense_type)type, threads);
    if (argc <= 4)
        bench_rest(&b);
    return 0; /* the matrices go with the process */
}
