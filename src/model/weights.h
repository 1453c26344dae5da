/* SPDX-License-Identifier: MIT
 *
 * The named weights of an opened model, float or quantized, under one roof: callers read rows as
 * floats and need not know how they are stored.
 *
 * A quantized checkpoint stores weight NAME as the tensors NAME.codes, NAME.scales, ... (the parts of
 * its format, formats/format.h; NAME.tensor_scale where all groups share one) and names the format in
 * config.json's quantization_config.layers.
 */
#ifndef LB_MODEL_WEIGHTS_H
#define LB_MODEL_WEIGHTS_H

#include "formats/act_format.h"
#include "io/checkpoint.h"
#include "lowbit/tokenizer.h"
#include "model/config.h"

/* The layout that lowbit writes: quantization_config.format_version. Version 1, which has no "inputs", is
 * read too. */
enum { LB_QUANTIZED_VERSION = 2, LB_INPUTS_SINCE_VERSION = 2 };

/* How layers are rewritten before they are quantized, without changing what they compute (inputs.h). */
typedef enum lb_transform_kind { LB_TRANSFORM_NONE, LB_TRANSFORM_HADAMARD } lb_transform_kind;

/* How channels are rescaled before that; of it nothing is left to do at run time (transform/rescale.h). */
typedef enum lb_rescale { LB_RESCALE_NONE, LB_RESCALE_SMOOTH, LB_RESCALE_AWQ } lb_rescale;

typedef struct lb_transform {
    lb_transform_kind kind;
    size_t block; /* numbers that a rotation mixes; 0: a whole row */
    bool by_format; /* the block is that of the format, not yet looked up */
    bool strict; /* the block must divide every row */
    uint64_t seed;
    lb_rescale rescale;
    double strength; /* of SmoothQuant, 0..1 */
    bool clip; /* AWQ: and weights clipped */
} lb_transform;

/* Which tool packed a folder's layers (foreign.h). */
typedef enum lb_foreign_tool {
    LB_FOREIGN_NONE,
    LB_FOREIGN_GPTQ,
    LB_FOREIGN_AWQ,
    LB_FOREIGN_COMPRESSED
} lb_foreign_tool;

typedef struct lb_weights {
    lb_checkpoint checkpoint;
    lb_config config;
    const json_t *layer_formats; /* {"model.layers.0.self_attn.q_proj": "int4-g128"}; NULL: all float */
    lb_foreign_tool foreign; /* NONE: none but lowbit */
    bool foreign_zeros_less_one; /* GPTQ, version 1 */
    size_t foreign_group; /* 0: a row */
    lb_transform transform; /* that the stored weights have gone through: their inputs must too */
    lb_act act; /* that the layers' inputs are rounded to; f32: they are not */
} lb_weights;

/* How a layer that lowbit did not pack lies in its tensors. */
typedef enum lb_foreign_kind {
    LB_PACKED_HERE,
    LB_PACKED_GPTQ,
    LB_PACKED_AWQ,
    LB_PACKED_STREAM, /* compressed-tensors' pack-quantized */
    LB_PACKED_BYTES, /* its naive-quantized */
    LB_PACKED_GGUF
} lb_foreign_kind;

typedef struct lb_foreign_layer {
    lb_foreign_kind kind;
    unsigned bits;
    size_t group, groups;
    unsigned zero_offset; /* zero = stored + this */
    const lb_tensor *codes, *scales;
    const lb_tensor *zeros; /* NULL: all are 2^(bits-1) */
    const lb_tensor *order; /* the group of each column; NULL: column / group */
} lb_foreign_layer;

/* One weight matrix (or vector: rows = 1). */
typedef struct lb_weight {
    char name[160];
    size_t rows, cols;
    lb_format format; /* a float format when it is not quantized; bound (formats/format.h) when it is */
    const lb_tensor *tensor; /* not quantized */
    const lb_tensor *parts[LB_FORMAT_MAX_PARTS + 1]; /* quantized; the tensor's scale comes last */
    unsigned part_count;
    lb_foreign_layer foreign;
} lb_weight;

/* Opens MODEL of any kind and checks that every tensor of the architecture is there with the shape
 * that the configuration implies, so that later stages can only fail for lack of memory or disk. */
lb_status lb_weights_open(const char *path, lb_weights **out, lb_error *err);
void lb_weights_close(lb_weights *weights);

/* Whether some layers are codes, whoever packed them. */
bool lb_weights_quantized(const lb_weights *weights);

/* The model's tokenizer, whose every id the embedding has a row for; LB_EFORMAT where there is none. */
lb_status lb_weights_tokenizer(const lb_weights *weights, lb_tokenizer **out, lb_error *err);

/* The weight `name` (with ".weight" or ".bias"), which must be [rows, cols]. */
lb_status lb_weights_find(const lb_weights *weights, const char *name, size_t rows, size_t cols,
                          lb_weight *out, lb_error *err);

/* Rows [first, first + count) as floats, out [count, cols]. Values that are not finite are LB_EFORMAT
 * with the place of the first one. */
lb_status lb_weight_read(const lb_weight *weight, size_t first, size_t count, float *out, lb_error *err);

/* One row of a quantized weight: codes [cols], params [groups * format.params]. */
lb_status lb_weight_unpack_row(const lb_weight *weight, size_t row, uint8_t *codes, float *params,
                               lb_error *err);

/* How the elements of a part of a packed row are stored. */
lb_dtype lb_part_dtype(const lb_format_part *part);
/* "NAME.weight.tensor_scale" is this after the weight's name. */
#define LB_TENSOR_SCALE_SUFFIX ".tensor_scale"

/* The whole weight's pages will not be needed again soon. */
void lb_weight_forget(const lb_weights *weights, const lb_weight *weight);

/* Bytes on disk. */
size_t lb_weight_bytes(const lb_weight *weight);

/* The linear layers of a block, in the order in which data flows through them. Those of one stage
 * share their input. */
typedef enum lb_stage { LB_STAGE_QKV, LB_STAGE_O, LB_STAGE_GATE_UP, LB_STAGE_DOWN, LB_STAGE_COUNT } lb_stage;

enum {
    LB_LINEAR_Q,
    LB_LINEAR_K,
    LB_LINEAR_V,
    LB_LINEAR_O,
    LB_LINEAR_GATE,
    LB_LINEAR_UP,
    LB_LINEAR_DOWN,
    LB_BLOCK_LINEARS
};

typedef struct lb_linear_info {
    const char *suffix; /* "self_attn.q_proj" */
    lb_stage stage;
} lb_linear_info;

extern const lb_linear_info lb_block_linears[LB_BLOCK_LINEARS];

void lb_linear_shape(const lb_config *config, unsigned which, size_t *rows, size_t *cols);
bool lb_linear_has_bias(const lb_config *config, unsigned which);
/* "model.layers.3.self_attn.q_proj": the layer's name, without ".weight". */
void lb_linear_name(size_t layer, unsigned which, char *out, size_t out_bytes);

/* Tensors of a block besides its linear weights ("model.layers.3.input_layernorm.weight", biases);
 * index counts from 0, false past the end. */
bool lb_block_vector(const lb_config *config, size_t layer, size_t index, char *name, size_t name_bytes,
                     size_t *n);

#endif
