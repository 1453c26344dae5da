/* SPDX-License-Identifier: MIT
 *
 * Layers that other tools packed, read where they lie: GPTQ, AWQ, AutoRound, compressed-tensors, and GGUF's
 * blocks. A layer whose groups, zeros and scales one of lowbit's integer formats can hold has that format,
 * code for code; any other has none (its format is f32) and is read as the values that its codes stand for.
 *
 * The layouts are described where they are written: export/gptq_layout.h, export/to_awq.c,
 * export/to_compressed.c, export/gguf_blocks.h. */
#ifndef LB_MODEL_FOREIGN_H
#define LB_MODEL_FOREIGN_H

#include "model/weights.h"

/* Reads quantization_config of a tool that is not lowbit; LB_EUNSUPPORTED for a method that is not known. */
lb_status lb_foreign_open(lb_weights *weights, const json_t *config, const char *method, lb_error *err);

/* Whether a weight ("model...q_proj.weight") is packed in a folder of another tool. */
bool lb_foreign_has(const lb_weights *weights, const char *name);

/* The parts of such a weight, checked, and its format. */
lb_status lb_foreign_find(const lb_weights *weights, lb_weight *w, lb_error *err);

/* A float weight of a GGUF file whose blocks are codes of one of lowbit's formats becomes one with that format; others
 * stay as they are. */
lb_status lb_foreign_from_gguf(lb_weight *w, lb_error *err);

/* lb_weight_unpack_row of such a weight that has a format. */
lb_status lb_foreign_row(const lb_weight *w, size_t row, uint8_t *codes, float *params, lb_error *err);
/* A row of one that has none. */
lb_status lb_foreign_values(const lb_weight *w, size_t row, float *out, lb_error *err);

/* AutoGPTQ wrote a bias of zeros for layers that have none. */
bool lb_foreign_is_empty_bias(const lb_weights *weights, const lb_tensor *tensor);

/* "gptq", "awq", ...: for listings. */
const char *lb_foreign_name(const lb_weight *w);

#endif
