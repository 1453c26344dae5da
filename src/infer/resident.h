/* SPDX-License-Identifier: MIT
 * A whole model in memory, as small as it is on disk: what sessions (session.h) generate from. Immutable
 * once loaded, so several sessions may share one. */
#ifndef LB_INFER_RESIDENT_H
#define LB_INFER_RESIDENT_H

#include "model/block.h"
#include "model/embedding.h"

typedef struct lb_resident {
    lb_config config;
    lb_embedding ends;
    lb_block *blocks; /* [config.layers] */
    lb_inputs inputs; /* what its linear layers see of their inputs */
    bool borrows; /* only matrices that lb_resident_round made are its own */
    bool rounded_head;
} lb_resident;

/* Loads MODEL and closes its files again. progress may be NULL. */
lb_status lb_resident_load(const char *path, const lb_progress *progress, lb_resident *out, lb_error *err);

/* The same model with its blocks' linear layers rounded to a format with codes (rtn, from each group's
 * range), and its head to another one (NULL: left alone). Everything else is borrowed from `from`,
 * whose matrices must not be quantized, and which must outlive the result. */
lb_status lb_resident_round(const lb_resident *from, const lb_format *layers, const lb_format *head,
                            lb_resident *out, lb_error *err);

void lb_resident_free(lb_resident *resident);

/* Whether any layer of a block is quantized. (Of some GGUF files the embedding alone is.) */
bool lb_resident_is_quantized(const lb_resident *resident);

/* Bytes of weights that decoding one token reads: all layers, norms, biases and the head; of the
 * embedding only one row. */
size_t lb_resident_token_bytes(const lb_resident *resident);

/* Bytes of all weights in memory. */
size_t lb_resident_bytes(const lb_resident *resident);

/* Bits per weight of the blocks' linear layers, as they lie in memory. */
double lb_resident_layer_bits(const lb_resident *resident);

#endif
