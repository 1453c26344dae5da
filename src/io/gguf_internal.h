/* SPDX-License-Identifier: MIT
 * What io/gguf.c reads and io/gguf_model.c turns into a Hugging Face model. */
#ifndef LB_IO_GGUF_INTERNAL_H
#define LB_IO_GGUF_INTERNAL_H

#include "io/gguf.h"

/* The numbers that the format gives to types of metadata values. */
typedef enum gguf_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_TYPE_COUNT
} gguf_type;

/* One key with its value. A scalar is kept as an array of one. */
typedef struct gguf_entry {
    lb_span key;
    bool is_array;
    gguf_type type;      /* of the value, or of the array's elements */
    uint64_t count;      /* elements */
    const uint8_t *data; /* the first element; strings have their 8-byte length before them */
} gguf_entry;

struct lb_gguf {
    lb_mapping mapping; /* size 0 where the caller keeps the bytes alive */
    const uint8_t *data;
    size_t size;
    char *path;
    gguf_entry *entries; /* sorted by key */
    size_t entry_count;
    lb_tensor *tensors; /* under GGUF's own names, sorted by them */
    size_t tensor_count;
};

/* NULL when there is none. */
const gguf_entry *lb_gguf_find(const lb_gguf *gguf, const char *key);
const lb_tensor *lb_gguf_tensor(const lb_gguf *gguf, const char *name);

/* A span for messages: clipped to the buffer, bytes outside printable ASCII as '?'. Gives `shown`. */
enum { LB_GGUF_SHOWN_BYTES = 72 };
const char *lb_gguf_show(lb_span span, char shown[LB_GGUF_SHOWN_BYTES]);

#endif
