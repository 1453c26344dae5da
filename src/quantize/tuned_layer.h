/* SPDX-License-Identifier: MIT
 * One linear layer while its rounding is learned: an offset for each weight and factors for each group
 * (formats/tune.h), and signed gradient steps on them (arXiv:2309.05516). */
#ifndef LB_QUANTIZE_TUNED_LAYER_H
#define LB_QUANTIZE_TUNED_LAYER_H

#include "quantize/method.h"

typedef struct lb_tuned_layer {
    lb_layer *layer;
    size_t groups; /* of a row */
    float *v; /* [rows, cols] offsets */
    unsigned factor_count; /* of a group */
    float *factors; /* [rows, groups, factor_count] */
    float *start; /* [rows, groups * format.params] that factors multiply, or NULL */
    float *rounded; /* [rows, cols] values as of now */
    float *grad; /* [rows, cols] gradient with respect to them, added to by the backward pass */
    double lr; /* of the first step */
    float largest_factor;
    bool trains_factors;
} lb_tuned_layer;

/* Offsets 0, factors 1: `rounded` is what rounding to nearest gives. importance [cols] is for the scale
 * search. */
lb_status lb_tuned_layer_create(const lb_recipe *recipe, lb_layer *layer, const float *importance,
                                lb_tuned_layer *out, lb_error *err);
void lb_tuned_layer_free(lb_tuned_layer *tuned);
size_t lb_tuned_layer_bytes(size_t rows, size_t cols);

/* A step of lr * `share` against the signs of the gradients that follow from grad, which it sets to zero;
 * then `rounded` anew. */
void lb_tuned_layer_step(lb_tuned_layer *tuned, double share);

/* The layer's codes and params as of now. */
void lb_tuned_layer_store(const lb_tuned_layer *tuned);

#endif
