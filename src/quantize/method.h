/* SPDX-License-Identifier: MIT
 *
 * What a quantization method is, to the pipeline: a function that chooses the codes of the linear
 * layers which share one input. The pipeline feeds it stage after stage of a block, each time with
 * the inputs that the already quantized part of the model produces ("true sequential" order).
 */
#ifndef LB_QUANTIZE_METHOD_H
#define LB_QUANTIZE_METHOD_H

#include "base/error.h"
#include "calibrate/hessian.h"
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

struct lb_method {
    const char *name, *summary;
    bool needs_hessian; /* works only with calibration */
    /* Fills codes and params of every layer; `hessian` (finished) is NULL without calibration. */
    lb_status (*quantize)(const lb_recipe *recipe, const lb_hessian *hessian, lb_layer *layers, size_t count,
                          lb_error *err);
};

extern const lb_method lb_method_rtn, lb_method_gptq;

/* The method of that name; LB_EINVAL with the list of those there are. */
lb_status lb_method_find(const char *name, const lb_method **out, lb_error *err);
/* For listings: NULL past the end. */
const lb_method *lb_method_at(size_t index);

#endif
