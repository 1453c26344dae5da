/* SPDX-License-Identifier: MIT
 *
 * Random tensors for measuring number formats:
 *
 *   gaussian[:SIGMA]      normal values (1)
 *   laplace[:SIGMA]       density ~ exp(-sqrt(2) |x| / SIGMA); SIGMA is the standard deviation (1)
 *   student-t[:DOF]       Student's t with DOF degrees of freedom (5), not rescaled
 *   uniform[:WIDTH]       uniform in (-WIDTH, WIDTH) (1)
 *   gaussian-crest:CREST  blocks of normal values whose crest factor max|x| / rms is CREST
 *
 * A block of the last kind is drawn as normal values; its largest is then set so that the crest factor comes
 * out, or, where another value is larger than that, the block is drawn anew. It is scaled to the rms
 * a = 1 / sqrt(1 - 3u/4), u uniform in [0, 1): a spreads over an octave, and every part of the octave has the
 * same energy in total, so that a QSNR measured over the tensor is the mean over all positions that a block
 * can have between two powers of two.
 */
#ifndef LB_ANALYZE_DISTRIBUTION_H
#define LB_ANALYZE_DISTRIBUTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef enum lb_shape {
    LB_SHAPE_GAUSSIAN,
    LB_SHAPE_LAPLACE,
    LB_SHAPE_STUDENT_T,
    LB_SHAPE_UNIFORM,
    LB_SHAPE_GAUSSIAN_CREST
} lb_shape;

typedef struct lb_distribution {
    lb_shape shape;
    double parameter;
    char name[48]; /* as given */
} lb_distribution;

/* LB_EINVAL with what there is. */
lb_status lb_distribution_parse(const char *text, lb_distribution *out, lb_error *err);

/* Whether values depend on the size of blocks. */
bool lb_distribution_has_blocks(const lb_distribution *distribution);

/* LB_EINVAL when blocks of that size (where they matter) cannot have the crest factor, or hardly ever do. */
lb_status lb_distribution_check(const lb_distribution *distribution, size_t block, lb_error *err);

/* x [n], the same for the same seed everywhere. The distribution must have been checked. */
void lb_distribution_fill(const lb_distribution *distribution, uint64_t seed, size_t block, float *x,
                          size_t n);

#endif
