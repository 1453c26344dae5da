/* SPDX-License-Identifier: MIT
 *
 * Crest factors max |x| / rms(x) of the blocks of tensors: how many blocks have which, and how much energy
 * is in those. A histogram of 2048 bins an octave, so that any number of blocks takes the same memory.
 */
#ifndef LB_ANALYZE_CREST_H
#define LB_ANALYZE_CREST_H

#include <stddef.h>

#include "analyze/qsnr_theory.h"
#include "base/error.h"

typedef struct lb_crest_summary {
    double min, q1, median, q3, max, mean; /* quartiles to 0.02 %; all 0 without blocks */
    size_t blocks; /* those that are not all zeros */
} lb_crest_summary;

/* Where the mean is all that is wanted: sum / blocks. */
typedef struct lb_crest_mean {
    double sum;
    size_t blocks; /* those that are not all zeros */
} lb_crest_mean;

/* Adds the blocks of `block` values along the rows of x [rows, cols]; the last of a row may be short. */
lb_status lb_crest_mean_add(lb_crest_mean *mean, size_t block, const float *x, size_t rows, size_t cols,
                            lb_error *err);

typedef struct lb_crest lb_crest;

/* Blocks of `block` values along rows, the last of a row may be short; 0: whole rows. */
lb_status lb_crest_create(size_t block, lb_crest **out, lb_error *err);
void lb_crest_destroy(lb_crest *crest); /* NULL is allowed */

/* x [rows, cols], finite. */
lb_status lb_crest_add(lb_crest *crest, const float *x, size_t rows, size_t cols, lb_error *err);
lb_crest_summary lb_crest_summarize(const lb_crest *crest);

/* The QSNR in dB that the theory expects of all these blocks together: its noise at each block's crest
 * factor, weighted by the block's energy; LB_THEORY_PAPER as the paper does it, at the mean crest factor.
 * NaN where the theory has nothing to say of the format, and without blocks. */
double lb_crest_theory(const lb_crest *crest, lb_theory theory, const lb_format *format);

#endif
