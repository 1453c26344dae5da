/* SPDX-License-Identifier: MIT
 * The one place where lowbit starts threads.
 *
 * Work is cut into chunks whose bounds depend on `n` and `grain` only, never on the number of
 * threads, so a loop whose chunks write to disjoint places gives the same bits at any thread count.
 * Partial sums are stored per chunk by the caller and joined in chunk order. */
#ifndef LB_BASE_THREAD_H
#define LB_BASE_THREAD_H

#include <stddef.h>

/* Handles indices [begin, end); `chunk` is begin / grain. */
typedef void (*lb_chunk_fn)(void *arg, size_t begin, size_t end);

/* Calls fn for every chunk of [0, n), on up to lb_thread_count() threads. A call from inside fn runs
 * on the calling thread alone. */
void lb_parallel_for(size_t n, size_t grain, lb_chunk_fn fn, void *arg);

/* The cores that this process may use (its affinity mask). */
unsigned lb_thread_available(void);

/* How many threads lb_parallel_for uses: lb_thread_available() until set. 0 sets that default. */
void lb_thread_set_count(unsigned count);
unsigned lb_thread_count(void);

#endif
