/* SPDX-License-Identifier: MIT
 *
 * What is left to learn once all codes are chosen: the scales of integers and the coefficients of bit planes, of the
 * whole model at once, by gradients of what counts,
 *
 *   mean over tokens of KL(original's p | p),
 *
 * through all blocks, where every method looks at one layer or one block. Codes stay, so that the result is as large
 * as before. (Ours. Training scales end to end after blocks are done is known from EfficientQAT, arXiv:2407.11062.)
 *
 * Coefficients move by Adam in units in which a step changes a group's values by the same share everywhere; values
 * are those of coefficients as storage rounds them, gradients pass through that rounding. Samples that are held
 * aside say whether the end is better than the beginning, and if it is not, or is no number, the beginning stays.
 */
#ifndef LB_QUANTIZE_POLISH_H
#define LB_QUANTIZE_POLISH_H

#include "quantize/pipeline.h"

typedef struct lb_polish {
    const lb_weights *weights;
    const lb_recipe *recipe;
    const lb_samples *samples; /* at least 2 */
    const lb_kernels *kernels;
    const float *teacher; /* [samples, length, hidden]: what the original's last block puts out */
    const lb_sink *sink; /* has every block */
    const lb_progress *progress;
} lb_polish;

/* Whether there is something to learn in layers of this format. */
bool lb_polish_takes(const lb_format *format);

/* layers [config.layers * LB_BLOCK_LINEARS] with names and formats, bound where they are to be. params of those that
 * have something to learn are allocated, and hold what was learned: the caller frees them, also after an error. */
lb_status lb_polish_run(const lb_polish *job, lb_layer *layers, lb_polish_report *report, lb_error *err);

/* Bytes that it takes. */
size_t lb_polish_bytes(const lb_config *config, const lb_recipe *recipe, size_t samples, size_t seqlen);

#endif
