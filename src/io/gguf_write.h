/* SPDX-License-Identifier: MIT
 * Writing GGUF v3 files: keys are collected, then the file is streamed out, complete or absent. */
#ifndef LB_IO_GGUF_WRITE_H
#define LB_IO_GGUF_WRITE_H

#include <stdbool.h>

#include "base/text.h"
#include "io/tensor.h"

/* The keys and values of a file in the making, as they will lie in it. Zero-initialise; lb_gguf_keys_free. What
 * runs out of memory shows when the file is written. */
typedef struct lb_gguf_keys {
    lb_text bytes;
    uint64_t count;
} lb_gguf_keys;

void lb_gguf_put_u32(lb_gguf_keys *keys, const char *key, uint32_t value);
void lb_gguf_put_f32(lb_gguf_keys *keys, const char *key, float value);
void lb_gguf_put_bool(lb_gguf_keys *keys, const char *key, bool value);
void lb_gguf_put_string(lb_gguf_keys *keys, const char *key, const char *text, size_t length);
/* An array's head; its `count` elements follow in any of the functions below. */
void lb_gguf_begin_strings(lb_gguf_keys *keys, const char *key, size_t count);
void lb_gguf_begin_f32s(lb_gguf_keys *keys, const char *key, size_t count);
void lb_gguf_begin_i32s(lb_gguf_keys *keys, const char *key, size_t count);
void lb_gguf_add_string(lb_gguf_keys *keys, const char *text, size_t length);
void lb_gguf_add_f32(lb_gguf_keys *keys, float value);
void lb_gguf_add_i32(lb_gguf_keys *keys, int32_t value);
void lb_gguf_keys_free(lb_gguf_keys *keys);

/* A tensor to be written: shape with the outermost dimension first, as everywhere here (the file has it the other
 * way round). */
typedef struct lb_gguf_tensor_out {
    char name[64]; /* the most that ggml takes, NUL included */
    lb_dtype dtype;
    unsigned rank;
    size_t shape[LB_TENSOR_MAX_RANK];
} lb_gguf_tensor_out;

/* Puts the bytes of tensor `index`, all of them, through lb_writer_put; asked for in order. */
typedef lb_status (*lb_gguf_body)(void *user, size_t index, lb_writer *writer, lb_error *err);

/* The number that GGUF gives to a type; -1 where it has none. */
int lb_gguf_type_number(lb_dtype dtype);

/* Writes the file. A body of another size than its shape implies is LB_EINVAL. The same input gives the same
 * bytes. */
lb_status lb_gguf_write(const char *path, const lb_gguf_keys *keys, const lb_gguf_tensor_out *tensors,
                        size_t count, lb_gguf_body body, void *user, lb_error *err);

#endif
