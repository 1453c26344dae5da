/* SPDX-License-Identifier: MIT
 * The safetensors file format: 8 bytes little-endian header length, a JSON header
 * {"name": {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__": {...}}, then the data.
 * Reading maps the file; writing streams. */
#ifndef LB_IO_SAFETENSORS_H
#define LB_IO_SAFETENSORS_H

#include <jansson.h>

#include "io/tensor.h"

/* A header longer than this is refused (the reference implementation's own limit). */
enum { LB_SAFETENSORS_MAX_HEADER_BYTES = 100000000 };

/* Parses the header in `data` (a whole file's bytes, `size` of them) and appends one lb_tensor each
 * to set->tensors with .file = file. Checked: header length and JSON, dtype, rank, overflow-free
 * shapes, offsets inside the data, byte counts that match, no overlap, no holes, no duplicate names
 * (within the set too). `path` is only for messages. On failure the set is unchanged. This is the
 * entry point that is fuzzed. */
lb_status lb_safetensors_parse(const uint8_t *data, size_t size, const char *path, size_t file,
                               lb_tensor_set *set, lb_error *err);

/* Opens one file, or several shards into one sorted set. */
lb_status lb_safetensors_open(const char *const *paths, size_t count, lb_tensor_set *out, lb_error *err);

/* One tensor to be written. `data` holds `bytes` bytes in dtype's layout. */
typedef struct lb_tensor_out {
    const char *name;
    lb_dtype dtype; /* F32, F16, BF16, F8_E4M3, F8_E5M2, U8, I8, I32 or I64 */
    unsigned rank;
    size_t shape[LB_TENSOR_MAX_RANK];
    const void *data;
    size_t bytes;
} lb_tensor_out;

/* Writes a complete file, atomically (base/file.h's writer): header padded with spaces to a multiple
 * of 8, tensors in the order given, "__metadata__" {"format": "lowbit"}. The same input gives the
 * same bytes. */
lb_status lb_safetensors_write(const char *path, const lb_tensor_out *tensors, size_t count, lb_error *err);

/* The same of tensors whose data is asked for one by one, in order: *data has to stay until the next call. */
typedef lb_status (*lb_tensor_source)(void *user, size_t index, const void **data, lb_error *err);
lb_status lb_safetensors_stream(const char *path, const lb_tensor_out *tensors, size_t count,
                                lb_tensor_source source, void *user, lb_error *err);

/* And with other "__metadata__": an object of strings. */
lb_status lb_safetensors_stream_with(const char *path, const json_t *metadata, const lb_tensor_out *tensors,
                                     size_t count, lb_tensor_source source, void *user, lb_error *err);

#endif
