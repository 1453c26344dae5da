/* SPDX-License-Identifier: MIT
 *
 * A pool of helpers that claim chunks of the caller's loop.
 *
 * The caller works too, and at the end it waits only for helpers that are inside a chunk: one that the
 * system did not get to run has claimed nothing and delays nothing. That is why this is not OpenMP,
 * whose loops end only when every thread has arrived: beside one busy neighbour on two cores that made
 * two threads many times slower than one (docs/experiments.md). Helpers look for new work for some
 * microseconds after a loop, which covers the gaps between the loops of a token, and then sleep.
 */
#define _GNU_SOURCE
#include "base/thread.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>

enum { MAX_HELPERS = 255, SPIN_TURNS = 1500 };

typedef struct loop {
    size_t n, grain, chunks;
    lb_chunk_fn fn;
    void *arg;
    atomic_size_t next;
} loop;

static struct {
    pthread_mutex_t owner; /* held by the thread whose loop runs */
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t work, rest;
    loop *current; /* NULL: nothing to join */
    unsigned started, wanted;
    unsigned inside; /* helpers that joined the current loop */
    atomic_uint announced; /* counts loops: what idle helpers watch */
    atomic_uint inside_hint; /* `inside`, for looking without the lock */
} pool = {.owner = PTHREAD_MUTEX_INITIALIZER,
          .lock = PTHREAD_MUTEX_INITIALIZER,
          .work = PTHREAD_COND_INITIALIZER,
          .rest = PTHREAD_COND_INITIALIZER};

static atomic_uint wanted_threads;
static _Thread_local bool inside_loop;

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

static void pause_briefly(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

static void claim_chunks(loop *l)
{
    for (;;) {
        size_t chunk = atomic_fetch_add_explicit(&l->next, 1, memory_order_relaxed);
        if (chunk >= l->chunks)
            return;
        size_t begin = chunk * l->grain;
        l->fn(l->arg, begin, l->n - begin < l->grain ? l->n : begin + l->grain);
    }
}

static void run_serial(const loop *l)
{
    for (size_t begin = 0; begin < l->n; begin += l->grain)
        l->fn(l->arg, begin, l->n - begin < l->grain ? l->n : begin + l->grain);
}

/* Waits for a loop that was announced after `seen`; returns with pool.lock held. */
static void await_work(unsigned seen)
{
    for (int turn = 0; turn < SPIN_TURNS; turn++) {
        if (atomic_load_explicit(&pool.announced, memory_order_acquire) != seen)
            break;
        pause_briefly();
    }
    pthread_mutex_lock(&pool.lock);
    while (atomic_load(&pool.announced) == seen)
        pthread_cond_wait(&pool.work, &pool.lock);
}

static void *helper_main(void *arg)
{
    const unsigned index = (unsigned)(size_t)arg;
    unsigned seen = 0;
    inside_loop = true;
    for (;;) {
        await_work(seen);
        seen = atomic_load(&pool.announced);
        loop *l = index < pool.wanted ? pool.current : NULL;
        if (l)
            atomic_store(&pool.inside_hint, ++pool.inside);
        pthread_mutex_unlock(&pool.lock);
        if (!l)
            continue;
        claim_chunks(l);
        pthread_mutex_lock(&pool.lock);
        atomic_store_explicit(&pool.inside_hint, --pool.inside, memory_order_release);
        if (pool.inside == 0)
            pthread_cond_signal(&pool.rest);
        pthread_mutex_unlock(&pool.lock);
    }
    return NULL;
}

/* Helpers live as long as the process. Where no more can be started there are simply fewer. */
static void start_helpers(unsigned count)
{
    pthread_attr_t attributes;
    if (pool.started >= count || pthread_attr_init(&attributes) != 0)
        return;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    while (pool.started < count) {
        pthread_t thread;
        if (pthread_create(&thread, &attributes, helper_main, (void *)(size_t)pool.started) != 0)
            break;
        pool.started++;
    }
    pthread_attr_destroy(&attributes);
}

static void announce(loop *l, unsigned helpers)
{
    pthread_mutex_lock(&pool.lock);
    start_helpers(helpers);
    pool.current = l;
    pool.wanted = helpers;
    atomic_fetch_add_explicit(&pool.announced, 1, memory_order_release);
    pthread_cond_broadcast(&pool.work);
    pthread_mutex_unlock(&pool.lock);
}

/* Nobody joins any more, and those who did are done. */
static void conclude(void)
{
    pthread_mutex_lock(&pool.lock);
    pool.current = NULL;
    pthread_mutex_unlock(&pool.lock);
    for (int turn = 0; turn < SPIN_TURNS; turn++) {
        if (atomic_load_explicit(&pool.inside_hint, memory_order_acquire) == 0)
            break;
        pause_briefly();
    }
    pthread_mutex_lock(&pool.lock);
    while (pool.inside > 0)
        pthread_cond_wait(&pool.rest, &pool.lock);
    pthread_mutex_unlock(&pool.lock);
}

void lb_parallel_for(size_t n, size_t grain, lb_chunk_fn fn, void *arg)
{
    loop l = {.n = n, .grain = grain ? grain : 1, .fn = fn, .arg = arg};
    l.chunks = n / l.grain + (n % l.grain != 0);
    unsigned threads = lb_thread_count();
    if (threads > l.chunks)
        threads = (unsigned)l.chunks;
    if (threads > MAX_HELPERS + 1)
        threads = MAX_HELPERS + 1;
    /* A loop inside a loop, or beside another thread's, runs on its own thread. */
    if (threads <= 1 || inside_loop || pthread_mutex_trylock(&pool.owner) != 0) {
        run_serial(&l);
        return;
    }
    inside_loop = true;
    announce(&l, threads - 1);
    claim_chunks(&l);
    conclude();
    inside_loop = false;
    pthread_mutex_unlock(&pool.owner);
}
