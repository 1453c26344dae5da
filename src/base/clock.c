/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "base/clock.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

double lb_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

size_t lb_peak_rss_bytes(void)
{
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0)
        return 0;
    return (size_t)usage.ru_maxrss * 1024;
}

size_t lb_rss_bytes(size_t *in_huge_pages)
{
    FILE *f = fopen("/proc/self/smaps_rollup", "r");
    unsigned long long kib, rss = 0, huge = 0;
    char line[128];
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "Rss: %llu", &kib) == 1)
            rss = kib;
        else if (sscanf(line, "AnonHugePages: %llu", &kib) == 1)
            huge = kib;
    }
    if (f)
        fclose(f);
    *in_huge_pages = (size_t)huge * 1024;
    return (size_t)rss * 1024;
}

static size_t read_number(const char *path)
{
    FILE *f = fopen(path, "r");
    unsigned long long value = 0;
    if (!f)
        return SIZE_MAX;
    int got = fscanf(f, "%llu", &value);
    fclose(f);
    return got == 1 ? (size_t)value : SIZE_MAX;
}

size_t lb_available_memory_bytes(void)
{
    size_t available = SIZE_MAX;
    FILE *f = fopen("/proc/meminfo", "r");
    if (f) {
        char line[128];
        unsigned long long kib;
        while (fgets(line, sizeof line, f)) {
            if (sscanf(line, "MemAvailable: %llu", &kib) == 1)
                available = (size_t)kib * 1024;
        }
        fclose(f);
    }
    size_t limit = read_number("/sys/fs/cgroup/memory.max");
    size_t used = read_number("/sys/fs/cgroup/memory.current");
    if (limit != SIZE_MAX && used != SIZE_MAX && limit > used && limit - used < available)
        available = limit - used;
    return available;
}
