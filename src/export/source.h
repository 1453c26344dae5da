/* SPDX-License-Identifier: MIT
 * What is exported: a model's weights in order, and rows of them as integers with scales. */
#ifndef LB_EXPORT_SOURCE_H
#define LB_EXPORT_SOURCE_H

#include "lowbit/export.h"
#include "model/weights.h"

/* One weight: a matrix or a vector. */
typedef struct lb_export_item {
    lb_weight weight;
    bool matrix;
    size_t layer; /* of a linear layer of a block: which one; */
    unsigned which; /* LB_BLOCK_LINEARS for all others */
    size_t heads; /* of the rows that rotary positions turn (q, k and their biases); 0: none */
} lb_export_item;

typedef struct lb_export_list {
    lb_export_item *items;
    size_t count;
} lb_export_list;

/* Embedding, blocks in order, final norm, head where it is not tied. lb_export_list_free. */
lb_status lb_export_list_make(const lb_weights *weights, lb_export_list *out, lb_error *err);
void lb_export_list_free(lb_export_list *list);

/* Whether a weight consists of codes: of a format, or (read as the values that they stand for) of a block type
 * of GGUF or a layer of another tool that no format has. */
bool lb_export_has_codes(const lb_weight *weight);
/* Whether they are such a block type. */
bool lb_export_is_gguf_block(const lb_weight *weight);
/* What they are called, for messages. */
const char *lb_export_codes_name(const lb_weight *weight);
/* "; --to KIND holds it" where another kind does and integers with scales do not, or "". */
const char *lb_export_advice(const lb_weight *weight);

/* Whether its values are scale * integer, with integers of at most 9 bits. */
bool lb_export_is_integer(const lb_format *format);

/* A row of such a weight: n [cols] the integers, scales [groups]. The zeros that were subtracted go to zeros
 * [groups] (may be NULL): code = n + zero. */
void lb_export_integers(const lb_format *format, const uint8_t *codes, const float *params, size_t cols,
                        int16_t *n, float *scales, uint8_t *zeros);

/* Memory for one row of a weight. lb_export_row_free. */
typedef struct lb_export_row {
    uint8_t *codes, *zeros;
    float *params, *scales, *values;
    int16_t *n;
} lb_export_row;

lb_status lb_export_row_make(const lb_weight *weight, lb_export_row *out, lb_error *err);
void lb_export_row_free(lb_export_row *row);
/* codes, params and, where the format is one of integers, n, scales and zeros of a row. */
lb_status lb_export_row_read(const lb_weight *weight, size_t index, lb_export_row *row, lb_error *err);

/* "bf16" -> the type; LB_EINVAL for other words. NULL gives `fallback`. */
lb_status lb_export_dtype(const char *name, lb_dtype fallback, lb_dtype *out, lb_error *err);

/* The type in which a weight without codes is written where nobody said one: its own, f16 for block types; 0..cols
 * values of it. */
lb_dtype lb_export_stored_dtype(const lb_weight *weight);

/* values [n] as `dtype` (F32, F16 or BF16), little-endian. LB_EINVAL for a value that f16 cannot hold. */
lb_status lb_export_narrow(const char *name, const float *values, size_t n, lb_dtype dtype, uint8_t *out,
                           lb_error *err);

/* What was written, by type: adds one to the count of `type`. */
typedef struct lb_export_tally {
    struct {
        const char *type;
        size_t count;
    } rows[16];
    size_t count;
} lb_export_tally;

void lb_export_count(lb_export_tally *tally, const char *type);
void lb_export_tell(const lb_export_tally *tally, char *out, size_t out_bytes);

#endif
