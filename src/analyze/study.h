/* SPDX-License-Identifier: MIT
 * Integer against floating point, tensor by tensor: the QSNR that the formats of four pairs reach on every
 * weight of a model's linear layers and on everything that these layers are fed, as it is and rotated
 * (arXiv:2510.25602 section 4, figure 4). */
#ifndef LB_ANALYZE_STUDY_H
#define LB_ANALYZE_STUDY_H

#include "analyze/walk.h"

enum { LB_STUDY_PAIRS = 4, LB_STUDY_WAYS = 2 /* plain, rotated */ };

typedef struct lb_study_pair {
    const char *name; /* "8-bit MX" */
    const char *formats[2]; /* the integer one, the floating one */
} lb_study_pair;

extern const lb_study_pair lb_study_pairs[LB_STUDY_PAIRS];
extern const char *const lb_study_ways[LB_STUDY_WAYS]; /* transforms: "none", "hadamard" */

/* One tensor. */
typedef struct lb_study_tensor {
    size_t block;
    bool is_input;
    unsigned which; /* LB_LINEAR_* of a weight, LB_STAGE_* of an input */
    /* By pair and way: QSNR in dB of the integer and the floating format (HUGE_VAL: exact), and the mean
     * crest factor of the blocks. */
    double db[LB_STUDY_PAIRS][LB_STUDY_WAYS][2];
    double crest[LB_STUDY_PAIRS][LB_STUDY_WAYS];
} lb_study_tensor;

typedef struct lb_study {
    lb_study_tensor *tensors;
    size_t count;
} lb_study;

/* Inputs are those of the model as it is, over all of `text`; a token's inputs are one tensor to formats with a
 * tensor scale, and rotations are those that a direct cast with this seed uses. */
lb_status lb_study_run(const lb_weights *weights, const lb_kernels *kernels, const lb_walk_text *text,
                       uint64_t seed, const lb_progress *progress, lb_study *out, lb_error *err);
void lb_study_free(lb_study *study);

/* What the tensors of a pair have in common. */
typedef struct lb_study_tally {
    size_t tensors, integer_wins;
    double db[2]; /* means over tensors; NAN without any */
    double crest;
} lb_study_tally;

enum { LB_STUDY_WEIGHTS = 1, LB_STUDY_INPUTS = 2 }; /* kinds, to be combined */

lb_study_tally lb_study_sum(const lb_study *study, unsigned pair, unsigned way, unsigned kinds);

#endif
