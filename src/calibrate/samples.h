/* SPDX-License-Identifier: MIT
 * Calibration samples: windows of a text, as token ids. */
#ifndef LB_CALIBRATE_SAMPLES_H
#define LB_CALIBRATE_SAMPLES_H

#include <stdint.h>

#include "lowbit/tokenizer.h"

typedef struct lb_samples {
    uint32_t *ids; /* [count, length] */
    size_t count, length;
} lb_samples;

/* Cuts text [bytes] into consecutive windows and picks `count` of them at random (seed), kept in text
 * order; where there are fewer, all of them. Each window begins with BOS where the tokenizer adds one.
 * A text of less than one window is LB_EINVAL. */
lb_status lb_samples_create(const lb_tokenizer *tokenizer, const char *text, size_t bytes, size_t count,
                            size_t length, uint64_t seed, lb_samples *out, lb_error *err);
void lb_samples_free(lb_samples *samples);

#endif
