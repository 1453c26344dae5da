/* SPDX-License-Identifier: MIT
 * GGUF v2 and v3 (little-endian): typed metadata, then tensors. Read only. */
#ifndef LB_IO_GGUF_H
#define LB_IO_GGUF_H

#include <jansson.h>
#include <stdbool.h>

#include "io/tensor.h"

typedef struct lb_gguf lb_gguf;

/* A string inside the mapped file: not NUL-terminated. */
typedef struct lb_span {
    const char *data;
    size_t length;
} lb_span;

lb_status lb_gguf_open(const char *path, lb_gguf **out, lb_error *err);
/* The same on bytes that the caller keeps alive; the fuzzed entry point. `path` for messages. */
lb_status lb_gguf_parse(const uint8_t *data, size_t size, const char *path, lb_gguf **out, lb_error *err);
void lb_gguf_close(lb_gguf *gguf);

/* Metadata. A missing key gives `fallback`; a key of another type, or a value outside [low, high],
 * is LB_EFORMAT. Any integer width is accepted where an integer is wanted. */
bool lb_gguf_has(const lb_gguf *gguf, const char *key);
lb_status lb_gguf_size(const lb_gguf *gguf, const char *key, size_t low, size_t high, size_t fallback,
                       size_t *out, lb_error *err);
lb_status lb_gguf_double(const lb_gguf *gguf, const char *key, double fallback, double *out, lb_error *err);
lb_status lb_gguf_bool(const lb_gguf *gguf, const char *key, bool fallback, bool *out, lb_error *err);
lb_status lb_gguf_string(const lb_gguf *gguf, const char *key, lb_span fallback, lb_span *out, lb_error *err);

/* Arrays. *count is 0 for a missing key; an array of another element type is LB_EFORMAT. The
 * returned memory is the caller's (lb_free); spans point into the file. */
lb_status lb_gguf_strings(const lb_gguf *gguf, const char *key, lb_span **out, size_t *count, lb_error *err);
lb_status lb_gguf_doubles(const lb_gguf *gguf, const char *key, double **out, size_t *count, lb_error *err);

/* Moves the tensors into *out under Hugging Face names ("blk.0.attn_q.weight" becomes
 * "model.layers.0.self_attn.q_proj.weight") with interleaved_heads set where GGUF permutes rows, and
 * makes the config.json that Hugging Face would have (json_decref). The mapped file moves into *out
 * too: `gguf` keeps only its metadata, valid while *out lives. NVFP4's scale of a whole tensor
 * ("blk.0.attn_q.scale") goes into its weight's tensor.scale; tensors that hold nothing a model needs
 * (rope_freqs) become the config's rope_scaling or are dropped. An architecture that lowbit
 * does not handle is refused by name, with the list of those it does. */
lb_status lb_gguf_to_hf(lb_gguf *gguf, lb_tensor_set *out, json_t **config, lb_error *err);

/* The other way: GGUF's name of a tensor that Hugging Face calls `hf`; false where it has none. */
bool lb_gguf_name_of(const char *hf, char *out, size_t out_bytes);

#endif
