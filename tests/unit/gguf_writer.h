/* SPDX-License-Identifier: MIT
 * A small writer of GGUF files for tests: keys first, then tensors, then gguf_finish. */
#ifndef LB_TESTS_GGUF_WRITER_H
#define LB_TESTS_GGUF_WRITER_H

#include "near.h"

#include <stdlib.h>

typedef struct gguf_bytes {
    uint8_t *data;
    size_t size;
} gguf_bytes;

static inline void gguf_put(gguf_bytes *b, const void *data, size_t size)
{
    b->data = realloc(b->data, b->size + size + 1);
    assert_non_null(b->data);
    if (size)
        memcpy(b->data + b->size, data, size);
    b->size += size;
}

static inline void gguf_put_number(gguf_bytes *b, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        gguf_put(b, &(uint8_t){(uint8_t)(value >> (8 * i))}, 1);
}

static inline void gguf_put_string(gguf_bytes *b, const char *text)
{
    gguf_put_number(b, strlen(text), 8);
    gguf_put(b, text, strlen(text));
}

typedef struct gguf_writer {
    gguf_bytes keys, infos, data;
    size_t key_count, tensor_count;
} gguf_writer;

/* `type` is GGUF's number of the value's type; `bytes` of `value` are written little-endian. */
static inline void gguf_key(gguf_writer *w, const char *key, uint32_t type, uint64_t value, size_t bytes)
{
    gguf_put_string(&w->keys, key);
    gguf_put_number(&w->keys, type, 4);
    gguf_put_number(&w->keys, value, bytes);
    w->key_count++;
}

static inline void gguf_key_u32(gguf_writer *w, const char *key, uint32_t value)
{
    gguf_key(w, key, 4, value, 4);
}

static inline void gguf_key_float(gguf_writer *w, const char *key, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    gguf_key(w, key, 6, bits, 4);
}

static inline void gguf_key_string(gguf_writer *w, const char *key, const char *value)
{
    gguf_key(w, key, 8, 0, 0);
    gguf_put_string(&w->keys, value);
}

static inline void gguf_key_strings(gguf_writer *w, const char *key, const char *const *values, size_t count)
{
    gguf_key(w, key, 9, 8, 4);
    gguf_put_number(&w->keys, count, 8);
    for (size_t i = 0; i < count; i++)
        gguf_put_string(&w->keys, values[i]);
}

/* rows = 0 makes a vector of `cols`; `bytes` of data in the layout of GGUF's tensor type `type`. */
static inline void gguf_tensor(gguf_writer *w, const char *name, uint32_t type, size_t rows, size_t cols,
                               const void *data, size_t bytes)
{
    gguf_put_string(&w->infos, name);
    gguf_put_number(&w->infos, rows ? 2 : 1, 4);
    gguf_put_number(&w->infos, cols, 8);
    if (rows)
        gguf_put_number(&w->infos, rows, 8);
    gguf_put_number(&w->infos, type, 4);
    gguf_put_number(&w->infos, w->data.size, 8);
    gguf_put(&w->data, data, bytes);
    while (w->data.size % 32)
        gguf_put(&w->data, "", 1);
    w->tensor_count++;
}

/* An F32 tensor whose element i is i + start. */
static inline void gguf_tensor_ramp(gguf_writer *w, const char *name, size_t rows, size_t cols, float start)
{
    size_t n = (rows ? rows : 1) * cols;
    float *values = malloc(n * sizeof *values);
    assert_non_null(values);
    for (size_t i = 0; i < n; i++)
        values[i] = start + (float)i;
    gguf_tensor(w, name, 0, rows, cols, values, n * sizeof *values);
    free(values);
}

/* The whole file (free its data); the writer is empty again. */
static inline gguf_bytes gguf_finish(gguf_writer *w)
{
    gguf_bytes b = {0};
    gguf_put(&b, "GGUF", 4);
    gguf_put_number(&b, 3, 4);
    gguf_put_number(&b, w->tensor_count, 8);
    gguf_put_number(&b, w->key_count, 8);
    gguf_put(&b, w->keys.data, w->keys.size);
    gguf_put(&b, w->infos.data, w->infos.size);
    while (b.size % 32)
        gguf_put(&b, "", 1);
    gguf_put(&b, w->data.data, w->data.size);
    free(w->keys.data);
    free(w->infos.data);
    free(w->data.data);
    *w = (gguf_writer){0};
    return b;
}

#endif
