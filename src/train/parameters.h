/* SPDX-License-Identifier: MIT
 *
 * All weights of a model that is being trained: one array of floats, so that zeroing, clipping and AdamW are loops
 * over one array, and views of it (or of another array of the same layout, such as gradients) as the model's parts.
 */
#ifndef LB_TRAIN_PARAMETERS_H
#define LB_TRAIN_PARAMETERS_H

#include "model/block.h"
#include "model/block_grad.h"
#include "model/embedding.h"

typedef enum lb_parameter_kind {
    LB_PARAMETER_EMBEDDING, /* or the head */
    LB_PARAMETER_MATRIX,
    LB_PARAMETER_NORM,
    LB_PARAMETER_BIAS
} lb_parameter_kind;

typedef struct lb_parameter {
    char name[128];
    lb_parameter_kind kind;
    size_t rows, cols; /* of a vector: rows 1 */
    size_t at; /* in the array */
    bool is_last_of_branch; /* o or down, whose output is added to the stream */
} lb_parameter;

typedef struct lb_parameters {
    lb_config config;
    lb_parameter *list; /* in the order of the array */
    size_t count;
    size_t floats; /* of the array, a multiple of 16; what no parameter has is 0 */
    size_t weights; /* numbers that are parameters */
} lb_parameters;

lb_status lb_parameters_create(const lb_config *config, lb_parameters *out, lb_error *err);
void lb_parameters_free(lb_parameters *parameters);
/* NULL when there is none of that name. */
const lb_parameter *lb_parameter_find(const lb_parameters *parameters, const char *name);

/* Views of `values` [floats]; nothing is to be freed. */
void lb_parameters_block(const lb_parameters *parameters, float *values, size_t layer, lb_block *out);
void lb_parameters_ends(const lb_parameters *parameters, float *values, lb_embedding *out);
void lb_parameters_grads(const lb_parameters *parameters, float *values, size_t layer, lb_block_grads *out);

/* Matrices and embeddings from N(0, std^2), those that end a branch with std / sqrt(2 layers) [GPT-2], norms 1, biases
 * 0. Each parameter has random numbers of its own, from the seed and its place in the list. */
void lb_parameters_init(const lb_parameters *parameters, double std, uint64_t seed, float *values);

#endif
