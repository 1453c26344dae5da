/* SPDX-License-Identifier: MIT
 *
 * What a quantization method is, to the pipeline: a function that chooses codes, in one of two ways.
 *
 * quantize: of the linear layers which share one input. The pipeline feeds it stage after stage of a
 * block, each time with the inputs that the already quantized part of the model produces ("true
 * sequential" order).
 *
 * reconstruct: of a whole block, such that from what the quantized model feeds it, it puts out what the
 * original model's block does.
 */
#ifndef LB_QUANTIZE_METHOD_H
#define LB_QUANTIZE_METHOD_H

#include "base/error.h"
#include "calibrate/hessian.h"
#include "model/block.h"
#include "quantize/recipe.h"

/* One linear layer on its way. */
typedef struct lb_layer {
    char name[128]; /* "model.layers.0.mlp.up_proj" */
    size_t rows, cols;
    lb_format format;
    float *w; /* [rows, cols] in: the weights. The pipeline puts their rounded values here after */
    uint8_t *codes; /* [rows, cols] out */
    float *params; /* [rows, groups * format.params] out */
    double relative_error; /* set by the pipeline: output energy of the error over that of the layer */
} lb_layer;

/* A block to be reconstructed. */
typedef struct lb_reconstruction {
    const lb_kernels *kernels;
    const lb_config *config;
    const lb_rope *rope;
    const lb_inputs *inputs; /* of the quantized stream: rotated and rounded */
    const lb_block *block; /* the original weights, rotated; float32 */
    const float *x; /* [sequences * length, hidden]: the quantized stream's inputs of the block */
    const float *target; /* as x: the original block's outputs on the original stream */
    size_t sequences, length;
    const float *importance[LB_STAGE_COUNT]; /* mean square of each input channel in the original stream */
    size_t index; /* of the block */
    const char *label; /* what progress is told */
    const lb_progress *progress;
} lb_reconstruction;

struct lb_method {
    const char *name, *summary;
    bool needs_calibration; /* works only with it */
    bool needs_hessian; /* and with the inputs' second moments */
    bool alternates; /* between codes and coefficients: lb_recipe.alternation counts */
    /* Whether it can choose codes of this format; NULL: of all. */
    bool (*takes)(const lb_format *format);
    const char *wants; /* the formats it takes, in words */
    /* One of the two. */
    /* Fills codes and params of every layer; `hessian` (finished) is NULL without calibration. */
    lb_status (*quantize)(const lb_recipe *recipe, const lb_hessian *hessian, lb_layer *layers, size_t count,
                          lb_error *err);
    /* Fills codes and params of those of the layers [LB_BLOCK_LINEARS] whose format is not a float one. */
    lb_status (*reconstruct)(const lb_recipe *recipe, const lb_reconstruction *job, lb_layer *layers,
                             lb_error *err);
    /* Bytes that reconstruct takes; NULL: not worth counting. */
    size_t (*memory)(const lb_recipe *recipe, const lb_config *config, size_t samples, size_t seqlen);
};

extern const lb_method lb_method_rtn, lb_method_gptq, lb_method_signround, lb_method_bpdq;

/* The method of that name; LB_EINVAL with the list of those there are. */
lb_status lb_method_find(const char *name, const lb_method **out, lb_error *err);
/* For listings: NULL past the end. */
const lb_method *lb_method_at(size_t index);

#endif
