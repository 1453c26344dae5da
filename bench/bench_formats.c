/* SPDX-License-Identifier: MIT
 *
 * How fast values become codes and codes values: bench_formats [repeats [level [format...]]]
 *
 * Per block format, one thread, normally distributed values in rows of 4096:
 *   memory  arrays far larger than the caches
 *   cache   a few rows again and again
 * in 1e9 bytes of floats a second for encode (values to codes and scales), decode (back) and cast (values to
 * values in place), each with the time beside that of a memcpy of the same floats, taken in turn with it.
 * Medians, because other programs share the machine. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/rng.h"
#include "formats/format.h"
#include "kernels/kernels.h"

enum { COLS = 4096, CACHE_ROWS = 8, MEMORY_ROWS = 8192 };
enum { COPY, ENCODE, DECODE, CAST, KINDS };

typedef struct bench {
    const lb_kernels *kernels;
    unsigned repeats;
    float *x, *y; /* [MEMORY_ROWS, COLS] */
    uint8_t *codes, *scales; /* as much as any format needs */
} bench;

static void run(bench *b, const lb_format *format, int kind, size_t rows)
{
    lb_format_part parts[LB_FORMAT_MAX_PARTS];
    (void)format->ops->parts(format, COLS, parts);
    if (kind == COPY) {
        memcpy(b->y, b->x, rows * COLS * sizeof *b->x);
        return;
    }
    for (size_t r = 0; r < rows; r++) {
        float *x = b->x + r * COLS, *y = b->y + r * COLS;
        uint8_t *codes = b->codes + r * parts[0].row_bytes, *scales = b->scales + r * parts[1].row_bytes;
        if (kind == ENCODE)
            b->kernels->block_encode(format, x, COLS, codes, scales);
        else if (kind == DECODE)
            b->kernels->block_decode(format, codes, scales, COLS, y);
        else
            b->kernels->block_cast(format, y, COLS);
    }
}

static void measure(bench *b, const lb_format *format, size_t rows, const char *where)
{
    static const char *const names[] = {[ENCODE] = "encode", [DECODE] = "decode", [CAST] = "cast"};
    const double bytes = (double)(rows * COLS * sizeof(float));
    const unsigned rounds = (unsigned)(MEMORY_ROWS / 4 / rows) + 1;
    double seconds[KINDS][MOST_REPEATS], ratios[KINDS][MOST_REPEATS];
    run(b, format, ENCODE, rows); /* first touch, and codes for decoding */
    for (unsigned i = 0; i < b->repeats; i++) {
        for (int kind = COPY; kind < KINDS; kind++) {
            const double begin = lb_now();
            for (unsigned round = 0; round < rounds; round++)
                run(b, format, kind, rows);
            seconds[kind][i] = (lb_now() - begin) / rounds;
            ratios[kind][i] = seconds[kind][i] / seconds[COPY][i];
        }
    }
    printf("%-11s %s  memcpy %5.1f", format->name, where, bytes / median(seconds[COPY], b->repeats) * 1e-9);
    for (int kind = ENCODE; kind < KINDS; kind++)
        printf("   %s %5.2f (%4.2fx)", names[kind], bytes / median(seconds[kind], b->repeats) * 1e-9,
               median(ratios[kind], b->repeats));
    printf("\n");
    fflush(stdout);
}

static bool wanted(const char *name, int argc, char **argv)
{
    for (int i = 3; i < argc; i++) {
        if (strcmp(argv[i], name) == 0)
            return true;
    }
    return argc <= 3;
}

int main(int argc, char **argv)
{
    static const char *const names[] = {"mxfp8-e4m3", "mxfp8-e5m2", "mxfp6-e2m3", "mxfp6-e3m2", "mxfp4",
                                        "mxint8",     "mxint6",     "mxint4",     "nvfp4",      "nvint4"};
    const size_t n = (size_t)MEMORY_ROWS * COLS;
    lb_rng rng;
    lb_cpu_level level = LB_CPU_BEST;
    bench b = {.repeats = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 7};
    if (b.repeats < 1 || b.repeats > MOST_REPEATS || (argc > 2 && !lb_cpu_level_parse(argv[2], &level))) {
        fprintf(stderr, "usage: bench_formats [repeats, 1 to %d [" LB_CPU_NAMES " [format...]]]\n",
                MOST_REPEATS);
        return 2;
    }
    b.kernels = lb_kernels_get(level);
    b.x = lb_alloc(n, sizeof *b.x);
    b.y = lb_alloc_zero(n, sizeof *b.y);
    b.codes = lb_alloc_zero(n, 1);
    b.scales = lb_alloc_zero(n / 16, 4);
    if (!b.x || !b.y || !b.codes || !b.scales) {
        fprintf(stderr, "bench_formats: no memory\n");
        return 1;
    }
    printf("%s, kernels %s, %d x %d floats (cache: %d x %d), 1e9 bytes of floats/s, medians of %u\n",
           lb_cpu_model(), lb_cpu_level_name(b.kernels->level), MEMORY_ROWS, COLS, CACHE_ROWS, COLS,
           b.repeats);
    lb_rng_seed(&rng, 1);
    for (size_t i = 0; i < n; i++) /* a million different ones are enough */
        b.x[i] = i < 1 << 20 ? (float)lb_rng_normal(&rng) : b.x[i - (1 << 20)];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        lb_format format;
        lb_error err;
        if (!wanted(names[i], argc, argv))
            continue;
        stop_on(lb_format_parse(names[i], &format, &err), &err);
        lb_format_bind(&format, b.x, n);
        measure(&b, &format, MEMORY_ROWS, "memory");
        measure(&b, &format, CACHE_ROWS, "cache ");
    }
    lb_free(b.x);
    lb_free(b.y);
    lb_free(b.codes);
    lb_free(b.scales);
    return 0;
}
