/* SPDX-License-Identifier: MIT
 *
 * What happens to the input of a linear layer before it is multiplied: it may be rotated, where the
 * weights were rotated too, so that the product is the same,
 *
 *   x W^T = (x R)(W R)^T,   R orthogonal (kernels/hadamard.h),
 *
 * and it may be rounded to a number format. Layers of a stage share their input, and so its rotation.
 */
#ifndef LB_MODEL_INPUTS_H
#define LB_MODEL_INPUTS_H

#include "formats/act_format.h"
#include "kernels/hadamard.h"
#include "model/weights.h"

enum { LB_TRANSFORM_NAME_BYTES = 32 };

/* "none"; "hadamard": a rotation in chunks of the format's group, what is left over in smaller ones;
 * "hadamard-N": in chunks of N, which must divide every layer's input; "hadamard-full": of the whole input;
 * "smooth" and "awq": channels rescaled, alone or before a rotation ("smooth+hadamard").
 * A new transform is resolved (lb_transform_resolve) before it is used or named. */
lb_status lb_transform_parse(const char *name, lb_transform *out, lb_error *err);
/* Settles "hadamard" for weights of `format`, and checks that every stage's input can be rotated so. */
lb_status lb_transform_resolve(lb_transform *transform, const lb_format *format, const lb_config *config,
                               lb_error *err);
/* "none", "hadamard-32", "hadamard-full", "smooth+hadamard-32". */
void lb_transform_name(const lb_transform *transform, char out[LB_TRANSFORM_NAME_BYTES]);

/* How many numbers the inputs of a stage's layers have. */
size_t lb_stage_width(const lb_config *config, lb_stage stage);
/* Of the widest of all stages. */
size_t lb_widest_input(const lb_config *config);

/* Whether inputs of every stage can be rounded so, after that transform. */
lb_status lb_act_check(const lb_act *act, const lb_transform *transform, const lb_config *config,
                       lb_error *err);

typedef struct lb_inputs {
    lb_act act; /* f32: not rounded */
    lb_rotation *rotations[LB_STAGE_COUNT]; /* NULL: not rotated */
    size_t widths[LB_STAGE_COUNT];
} lb_inputs;

/* `act` may be NULL. */
lb_status lb_inputs_create(const lb_config *config, const lb_transform *transform, const lb_act *act,
                           lb_inputs *out, lb_error *err);
void lb_inputs_free(lb_inputs *inputs);

bool lb_inputs_round(const lb_inputs *inputs);

/* x [tokens, width of the stage] in place: rotated. */
void lb_inputs_rotate(const lb_kernels *kernels, const lb_inputs *inputs, lb_stage stage, float *x,
                      size_t tokens);
/* Rotated and rounded; each token is a tensor of its own to formats with a tensor scale. */
lb_status lb_inputs_prepare(const lb_kernels *kernels, const lb_inputs *inputs, lb_stage stage, float *x,
                            size_t tokens, lb_error *err);

#endif
