/* SPDX-License-Identifier: MIT
 * Clipping before rounding (AWQ, arXiv:2306.00978, released code): a group's largest weights may be worth giving up
 * for a finer grid. For each group of each row the clamp among 1, 0.95 ... 0.55 of its largest magnitude is taken
 * after which rounding changes what the group adds to the layer's output the least. */
#ifndef LB_QUANTIZE_CLIP_WEIGHTS_H
#define LB_QUANTIZE_CLIP_WEIGHTS_H

#include "formats/format.h"

/* w [rows, cols] in place, fed x [tokens, cols]; `format` (bound) has codes. The same bits at any thread count. */
lb_status lb_clip_weights(const lb_format *format, const float *x, size_t tokens, float *w, size_t rows,
                          size_t cols, lb_error *err);

#endif
