/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "base/alloc.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ALIGN_BYTES = 64 };

static atomic_size_t fail_countdown;

static int must_fail(void)
{
    if (atomic_load_explicit(&fail_countdown, memory_order_relaxed) == 0)
        return 0;
    return atomic_fetch_sub(&fail_countdown, 1) == 1;
}

void lb_alloc_fail_at(size_t k)
{
    atomic_store(&fail_countdown, k);
}

void *lb_alloc(size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > SIZE_MAX / 2 || must_fail())
        return NULL;
    size_t rounded = (bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
    return aligned_alloc(ALIGN_BYTES, rounded ? rounded : ALIGN_BYTES);
}

void *lb_alloc_zero(size_t count, size_t size)
{
    void *ptr = lb_alloc(count, size);
    if (ptr)
        memset(ptr, 0, count * size);
    return ptr;
}

void *lb_grow(void *ptr, size_t old_count, size_t new_count, size_t size)
{
    void *bigger = lb_alloc(new_count, size);
    if (!bigger)
        return NULL;
    size_t keep = old_count < new_count ? old_count : new_count;
    if (keep)
        memcpy(bigger, ptr, keep * size);
    lb_free(ptr);
    return bigger;
}

lb_status lb_alloc_array(void *out_pointer, size_t count, size_t size, const char *what, lb_error *err)
{
    void *ptr = lb_alloc(count, size);
    if (!ptr)
        return lb_fail(err, LB_ENOMEM, "%s: no memory for %zu x %zu bytes", what, count, size);
    memcpy(out_pointer, &ptr, sizeof ptr);
    return LB_OK;
}

char *lb_strndup(const char *text, size_t length)
{
    char *copy = lb_alloc(length + 1, 1);
    if (copy) {
        memcpy(copy, text, length);
        copy[length] = '\0';
    }
    return copy;
}

char *lb_strdup(const char *text)
{
    return lb_strndup(text, strlen(text));
}

void lb_free(void *ptr)
{
    free(ptr);
}

void lb_advise_huge(void *ptr, size_t bytes)
{
    const uintptr_t page = (uintptr_t)2 << 20;
    uintptr_t begin = ((uintptr_t)ptr + page - 1) / page * page;
    uintptr_t end = ((uintptr_t)ptr + bytes) / page * page;
    if (begin < end)
        (void)madvise((void *)begin, end - begin, MADV_HUGEPAGE); /* only a hint */
}
