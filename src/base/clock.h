/* SPDX-License-Identifier: MIT
 * Time, memory use, and how much of both there is. */
#ifndef LB_BASE_CLOCK_H
#define LB_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

/* Seconds on a clock that never jumps. */
double lb_now(void);

/* The largest resident set of this process so far, and the one of now with what of it lies in 2 MiB pages, in bytes; 0
 * where the system does not tell. */
size_t lb_peak_rss_bytes(void);
size_t lb_rss_bytes(size_t *in_huge_pages);

/* Memory that can be had without swapping (MemAvailable, capped by the cgroup's limit); SIZE_MAX
 * when the system does not tell. */
size_t lb_available_memory_bytes(void);

#endif
