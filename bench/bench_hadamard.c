/* SPDX-License-Identifier: MIT
 *
 * What a Hadamard rotation costs: bench_hadamard [repeats [level [n[/block]...]]]
 *
 * Rows that stay in the cache, one thread: ns for a row, and 1e9 bytes a second (each float read and written)
 * beside a memcpy of as many bytes in the same cache, taken in turn with it. Medians of the repeats, because
 * other programs share the machine. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/rng.h"
#include "base/thread.h"
#include "kernels/hadamard.h"

enum { MOST_N = 1 << 20, ROUNDS_FLOATS = 1 << 21 };

/* What is measured when nothing is asked for: the paper's chunks of 32 and 16, and whole rows. */
static const char *const usual[] = {"576/32",  "576/16", "576",  "1536/32", "1536",
                                    "4096/32", "4096",   "5120", "14336"};

/* The transform grows no entry on average, so that rounds of it neither overflow nor become denormal. */
static void bench(const lb_kernels *kernels, size_t n, size_t block, unsigned repeats)
{
    double rotate[MOST_REPEATS], copy[MOST_REPEATS];
    float *x = NULL, *y = NULL;
    lb_rotation *rotation = NULL;
    lb_error err;
    lb_rng rng;
    stop_on(lb_rotation_create(n, block, false, 1, &rotation, &err), &err);
    stop_on(lb_alloc_array(&x, n, sizeof *x, "a row", &err), &err);
    stop_on(lb_alloc_array(&y, n, sizeof *y, "a row", &err), &err);
    lb_rng_seed(&rng, 1);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)lb_rng_normal(&rng);
    const size_t rounds = ROUNDS_FLOATS / n + 1;
    for (unsigned i = 0; i < repeats; i++) {
        double begin = lb_now();
        for (size_t round = 0; round < rounds; round++)
            lb_rotation_apply(kernels, rotation, x, 1);
        rotate[i] = (lb_now() - begin) / (double)rounds;
        begin = lb_now();
        for (size_t round = 0; round < rounds; round++) {
            memcpy(y, x, n * sizeof *x);
            __asm__ volatile("" : : "r"(y) : "memory"); /* it is wanted, each time */
        }
        copy[i] = (lb_now() - begin) / (double)rounds;
    }
    const double r = median(rotate, repeats), c = median(copy, repeats), bytes = 2.0 * sizeof *x * (double)n;
    printf("rotate %7zu in chunks of %5zu  %9.0f ns  %6.1f GB/s  memcpy %9.0f ns %6.1f GB/s  ratio %5.1f\n",
           n, block ? block : n, r * 1e9, bytes / r / 1e9, c * 1e9, bytes / c / 1e9, r / c);
    fflush(stdout);
    lb_rotation_destroy(rotation);
    lb_free(x);
    lb_free(y);
}

static void bench_named(const lb_kernels *kernels, const char *name, unsigned repeats)
{
    char *rest;
    unsigned long n = strtoul(name, &rest, 10), block = *rest == '/' ? strtoul(rest + 1, &rest, 10) : 0;
    if (*rest != '\0' || n < 1 || n > MOST_N) {
        fprintf(stderr, "bench_hadamard: \"%s\" is not n or n/block with n from 1 to %d\n", name, MOST_N);
        exit(2);
    }
    bench(kernels, n, block, repeats);
}

int main(int argc, char **argv)
{
    lb_cpu_level level = LB_CPU_BEST;
    unsigned repeats = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 9;
    if (repeats < 1 || repeats > MOST_REPEATS || (argc > 2 && !lb_cpu_level_parse(argv[2], &level))) {
        fprintf(stderr,
                "usage: bench_hadamard [repeats, 1 to %d [" LB_CPU_NAMES " [n[/block]...]]]\n",
                MOST_REPEATS);
        return 2;
    }
    const lb_kernels *kernels = lb_kernels_get(level);
    printf("%s, kernels %s, medians of %u\n", lb_cpu_model(), lb_cpu_level_name(kernels->level), repeats);
    lb_thread_set_count(1);
    for (size_t i = 0; argc <= 3 && i < sizeof usual / sizeof *usual; i++)
        bench_named(kernels, usual[i], repeats);
    for (int i = 3; i < argc; i++)
        bench_named(kernels, argv[i], repeats);
    return 0;
}
