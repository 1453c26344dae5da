/* SPDX-License-Identifier: MIT
 * Memory: the only place in lowbit that calls malloc. Every block is 64-byte aligned, which is one
 * cache line and one AVX-512 register. */
#ifndef LB_BASE_ALLOC_H
#define LB_BASE_ALLOC_H

#include <stddef.h>

#include "base/error.h"

/* `count * size` bytes, overflow-checked, uninitialised; NULL when it cannot be had. A zero-sized
 * request gives a valid pointer. The owner calls lb_free. */
void *lb_alloc(size_t count, size_t size);

/* The same, zeroed. */
void *lb_alloc_zero(size_t count, size_t size);

/* Grows `ptr` (from lb_alloc, or NULL) from old_count to new_count elements and keeps its content.
 * NULL when it cannot be had; `ptr` is then still valid. */
void *lb_grow(void *ptr, size_t old_count, size_t new_count, size_t size);

/* The same as lb_alloc, with the sentence: LB_ENOMEM "WHAT: no memory for N bytes". *out is set
 * only on success. */
lb_status lb_alloc_array(void *out_pointer, size_t count, size_t size, const char *what, lb_error *err);

/* A copy of text; NULL when there is no memory. */
char *lb_strdup(const char *text);
char *lb_strndup(const char *text, size_t length);

/* NULL is allowed. */
void lb_free(void *ptr);

/* Asks the kernel for 2 MiB pages on a large block that is read from end to end again and again. */
void lb_advise_huge(void *ptr, size_t bytes);

/* For tests: the k-th allocation from now on fails (k = 1 is the next); 0 turns it off. */
void lb_alloc_fail_at(size_t k);

#endif
