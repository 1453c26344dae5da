/* SPDX-License-Identifier: MIT
 *
 * Two engines behind one function. OpenMP is the real one. The plain pthread engine exists because
 * ThreadSanitizer cannot see into an uninstrumented OpenMP runtime and would report races that are
 * not there; it starts its threads anew for each loop. */
#define _GNU_SOURCE
#include "base/thread.h"

#include <sched.h>
#include <stdatomic.h>
#ifdef LB_USE_OPENMP
#include <omp.h>
#else
#include <pthread.h>
#endif

static atomic_uint wanted_threads;

unsigned lb_thread_available(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return 1;
    int count = CPU_COUNT(&set);
    return count > 0 ? (unsigned)count : 1;
}

void lb_thread_set_count(unsigned count)
{
    atomic_store(&wanted_threads, count);
}

unsigned lb_thread_count(void)
{
    unsigned count = atomic_load(&wanted_threads);
    return count ? count : lb_thread_available();
}

static void run_serial(size_t n, size_t grain, lb_chunk_fn fn, void *arg)
{
    for (size_t begin = 0; begin < n; begin += grain)
        fn(arg, begin, n - begin < grain ? n : begin + grain);
}

#ifdef LB_USE_OPENMP

void lb_parallel_for(size_t n, size_t grain, lb_chunk_fn fn, void *arg)
{
    if (grain == 0)
        grain = 1;
    size_t chunks = n / grain + (n % grain != 0);
    unsigned threads = lb_thread_count();
    if (threads > chunks)
        threads = (unsigned)chunks;
    if (threads <= 1 || omp_in_parallel()) {
        run_serial(n, grain, fn, arg);
        return;
    }
#pragma omp parallel for schedule(dynamic, 1) num_threads((int)threads)
    for (size_t chunk = 0; chunk < chunks; chunk++) {
        size_t begin = chunk * grain;
        fn(arg, begin, n - begin < grain ? n : begin + grain);
    }
}

#else

typedef struct loop {
    size_t n, grain, chunks;
    atomic_size_t next;
    lb_chunk_fn fn;
    void *arg;
} loop;

static _Thread_local int inside_loop;

static void *work(void *arg)
{
    loop *l = arg;
    inside_loop = 1;
    for (;;) {
        size_t chunk = atomic_fetch_add(&l->next, 1);
        if (chunk >= l->chunks)
            break;
        size_t begin = chunk * l->grain;
        l->fn(l->arg, begin, l->n - begin < l->grain ? l->n : begin + l->grain);
    }
    inside_loop = 0;
    return NULL;
}

void lb_parallel_for(size_t n, size_t grain, lb_chunk_fn fn, void *arg)
{
    enum { MAX_THREADS = 64 };
    if (grain == 0)
        grain = 1;
    loop l = {.n = n, .grain = grain, .chunks = n / grain + (n % grain != 0), .fn = fn, .arg = arg};
    unsigned threads = lb_thread_count();
    if (threads > l.chunks)
        threads = (unsigned)l.chunks;
    if (threads > MAX_THREADS)
        threads = MAX_THREADS;
    if (threads <= 1 || inside_loop) {
        run_serial(n, grain, fn, arg);
        return;
    }
    pthread_t helpers[MAX_THREADS];
    unsigned started = 0;
    while (started < threads - 1 && pthread_create(&helpers[started], NULL, work, &l) == 0)
        started++;
    work(&l);
    for (unsigned i = 0; i < started; i++)
        pthread_join(helpers[i], NULL);
}

#endif
