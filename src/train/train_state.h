/* SPDX-License-Identifier: MIT
 *
 * Where a run is, bit for bit: training-state.bin in a checkpoint's folder. A header of 96 bytes, then three arrays of
 * f32: weights (parameters.h has their layout), first and second moments. All little endian.
 *
 *    0  "LBTRAIN1"              8 u64 step            16 u64 windows seen      24 u64 tokens seen
 *   32  u64 floats of an array 40 u64 fingerprint of the model (names and shapes of its parameters)
 *   48  f64 sum of the losses since the last row of the log                    56 u64 how many they are
 *   64  f64 the last loss measured on held-out text, or NaN                    72 u64 checksum of everything else
 *   80  zeros
 */
#ifndef LB_TRAIN_TRAIN_STATE_H
#define LB_TRAIN_TRAIN_STATE_H

#include "train/parameters.h"

#define LB_STATE_NAME "training-state.bin"

typedef struct lb_train_position {
    uint64_t step, windows, tokens;
    double loss_sum; /* of steps since the last row of the log */
    uint64_t loss_count;
    double valid_loss;
} lb_train_position;

typedef struct lb_train_state {
    lb_train_position position;
    float *weights, *first, *second; /* [parameters->floats] each */
} lb_train_state;

/* A file's bytes: its position, and where its arrays begin. This is the entry point that is fuzzed. */
lb_status lb_train_state_parse(const uint8_t *data, size_t size, const char *path, uint64_t fingerprint,
                               size_t floats, lb_train_position *position, const uint8_t **arrays,
                               lb_error *err);

uint64_t lb_parameters_fingerprint(const lb_parameters *parameters);

lb_status lb_train_state_create(const lb_parameters *parameters, lb_train_state *out, lb_error *err);
void lb_train_state_free(lb_train_state *state);
lb_status lb_train_state_read(const char *path, const lb_parameters *parameters, lb_train_state *state,
                              lb_error *err);
lb_status lb_train_state_write(const char *path, const lb_parameters *parameters, const lb_train_state *state,
                               lb_error *err);

#endif
